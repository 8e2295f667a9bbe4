//! `error_pages` of `[listener.http]`: files are read with the configuration, so that a reload with
//! other contents is a change like any other.

use std::path::Path;

use toml::de::DeValue;

use crate::config::value::{self, Fault, must_be};
use crate::model::{ErrorPages, Page};

/// A page is kept in memory and sent to many.
const LARGEST: usize = 1024 * 1024;

/// The pages by status, of files that are named from `base`.
pub(super) fn error_pages(
    base: &Path,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<ErrorPages, Fault> {
    move |key, value| {
        let what = "a table such as { 503 = \"errors/503.html\" }";
        let table = value.as_table().ok_or_else(|| must_be(key, what, value))?;
        let page = |(status, file): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let name: &str = std::convert::AsRef::<str>::as_ref(status.get_ref());
            let status = self::status(key, name).map_err(|fault| fault.within(status.span()))?;
            let page = self::page(base, name, file.get_ref());
            Ok((status, page.map_err(|fault| fault.within(file.span()))?))
        };
        table.iter().map(page).collect::<Result<_, _>>().map(ErrorPages)
    }
}

/// A status that may be one of an error.
fn status(key: &str, text: &str) -> Result<u16, Fault> {
    text.parse().ok().filter(|status| (400..=599).contains(status)).ok_or_else(|| {
        Fault::new(format!("`{key}` has {text:?}, which is no status from 400 to 599"))
    })
}

fn page(base: &Path, key: &str, value: &DeValue<'_>) -> Result<Page, Fault> {
    let name = value::text(key, value)?;
    let body = std::fs::read(base.join(&name))
        .map_err(|error| Fault::new(format!("`{name}` cannot be read: {error}")))?;
    if body.len() > LARGEST {
        return Err(Fault::new(format!("`{name}` is larger than 1 MiB")));
    }
    let extension = Path::new(&name).extension().and_then(|end| end.to_str());
    let content_type = match extension {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some(_) | None => {
            return Err(Fault::new(format!("`{name}` has no type that is known"))
                .help("its name must end in .html, .json or .txt"));
        }
    };
    Ok(Page { body: body.into(), content_type })
}
