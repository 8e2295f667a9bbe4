//! `[log]`.

use toml::de::DeValue;

use crate::config::names::{ACCESS, AccessForm};
use crate::config::problem::Span;
use crate::config::section::{Field, Section};
use crate::config::value::{self, Fault};
use crate::model::{LogField, Template};

/// `[log]`.
pub(in crate::config) struct Log {
    pub(in crate::config) header: Option<Span>,
    pub(in crate::config) access: Field<AccessForm>,
    pub(in crate::config) template: Field<Template>,
    pub(in crate::config) sample: Field<u32>,
    pub(in crate::config) errors_always: Field<bool>,
}

impl Log {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        section.later(&["level"]);
        Self {
            header: section.header(),
            access: section.get("access", value::one_of(&ACCESS)),
            template: section.get("template", template),
            sample: section.get("sample", value::millionths),
            errors_always: section.get("errors_always", value::flag),
        }
    }
}

/// A line with `$` before each field.
fn template(key: &str, value: &DeValue<'_>) -> Result<Template, Fault> {
    let text = value::text(key, value)?;
    Template::parse(&text).map_err(|error| {
        let names: Vec<&str> = LogField::ALL.iter().map(|field| field.name()).collect();
        let help = format!(
            "fields are written `$name` or `${{name}}`, a dollar `$$`; they are {}",
            value::list(&names, "and")
        );
        Fault::new(format!("`{key}` is no template: {error}")).help(help)
    })
}
