//! `auth` of a listener: the file is read with the configuration.

use std::path::Path;

use toml::de::DeValue;

use crate::config::value::{self, Fault};
use crate::model::{Auth, AuthError};

/// The users of a file that is named from `base`; an empty name stands for none.
pub(super) fn auth(base: &Path) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Option<Auth>, Fault> {
    move |key, value| {
        let name = value::text(key, value)?;
        if name.is_empty() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(base.join(&name))
            .map_err(|error| Fault::new(format!("`{name}` cannot be read: {error}")))?;
        Auth::parse(&text).map(Some).map_err(|error| {
            let fault = Fault::new(format!("`{name}` is no list of users: {error}"));
            match error {
                AuthError::Hash(_, user) => {
                    fault.help(format!("`htpasswd -B {name} {user}` writes such a line"))
                }
                AuthError::Empty
                | AuthError::Line(_)
                | AuthError::Cost(..)
                | AuthError::Twice(..) => fault,
            }
        })
    }
}
