//! Reading header fields: those that a route asks for, and those that are changed.

use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use super::problem::Span;
use super::value::{self, Fault, must_be};

/// The direction of a message whose fields are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

/// What a change does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Setting,
    Adding,
    Removing,
}

/// One entry of a table that is a value.
pub(super) struct Entry<'v> {
    pub(super) name: &'v str,
    pub(super) at: Span,
    pub(super) value: &'v DeValue<'v>,
    pub(super) value_at: Span,
}

/// The entries of a table that is a value, in file order.
pub(super) fn entries<'v>(
    key: &str,
    what: &str,
    value: &'v DeValue<'_>,
) -> Result<Vec<Entry<'v>>, Fault> {
    let table = value.as_table().ok_or_else(|| must_be(key, what, value))?;
    let mut entries: Vec<Entry<'v>> = table
        .iter()
        .map(|(name, value)| Entry {
            name: name.get_ref(),
            at: name.span(),
            value: value.get_ref(),
            value_at: value.span(),
        })
        .collect();
    entries.sort_by_key(|entry| entry.at.start);
    Ok(entries)
}

/// The text of an entry.
pub(super) fn text<'v>(entry: &Entry<'v>) -> Result<&'v str, Fault> {
    entry.value.as_str().ok_or_else(|| {
        must_be(entry.name, "text in quotes", entry.value).within(entry.value_at.clone())
    })
}

/// Fields and values that a request is asked for.
pub(super) fn asked(
    key: &str,
    value: &DeValue<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let fields = pairs(key, value)?;
    if let Some((_, _, at)) = fields.iter().find(|(name, ..)| *name == http::header::HOST) {
        let fault = Fault::new("`Host` is asked for by `host`, which ignores case and port");
        return Err(fault.within(at.clone()));
    }
    Ok(fields.into_iter().map(|(name, value, _)| (name, value)).collect())
}

/// Fields and values that a message is given.
pub(super) fn given(
    message: Message,
    doing: Doing,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    move |key, value| {
        let mut fields = Vec::new();
        for (name, value, at) in pairs(key, value)? {
            refuse(&name, message, doing).map_err(|fault| fault.within(at.clone()))?;
            let is_host = name == http::header::HOST && message == Message::Request;
            if is_host && !names_a_host(&value) {
                let fault = "`Host` must be a host name or address, perhaps with a port";
                return Err(Fault::new(fault).within(at));
            }
            fields.push((name, value));
        }
        Ok(fields)
    }
}

/// Names of fields that a message loses.
pub(super) fn removed(
    message: Message,
) -> impl FnOnce(&str, &DeValue<'_>) -> Result<Vec<HeaderName>, Fault> {
    move |key, value| {
        let what = "a list of field names such as [\"Server\"]";
        let list = value.as_array().ok_or_else(|| must_be(key, what, value))?;
        value::each(list, |item| {
            let name = name(item.as_str().ok_or_else(|| must_be(key, what, item))?)?;
            refuse(&name, message, Doing::Removing).map(|()| name)
        })
    }
}

fn pairs(key: &str, value: &DeValue<'_>) -> Result<Vec<(HeaderName, HeaderValue, Span)>, Fault> {
    let what = "a table of fields such as { X-Env = \"prod\" }";
    let mut fields: Vec<(HeaderName, HeaderValue, Span)> = Vec::new();
    for entry in entries(key, what, value)? {
        let name = name(entry.name).map_err(|fault| fault.within(entry.at.clone()))?;
        if fields.iter().any(|(other, ..)| *other == name) {
            let fault =
                Fault::new(format!("`{}` is here already: case does not matter", entry.name));
            return Err(fault.within(entry.at));
        }
        let text = text(&entry)?;
        let value = HeaderValue::from_str(text).ok().filter(|_| text.trim() == text);
        let Some(value) = value else {
            let what = "visible ASCII characters, with spaces and tabs only between them";
            let fault = Fault::new(format!("`{}` must be {what}, not {text:?}", entry.name));
            return Err(fault.within(entry.value_at));
        };
        fields.push((name, value, entry.at));
    }
    Ok(fields)
}

fn name(text: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Fault::new(format!("{text:?} is no name of a header field")))
}

fn names_a_host(value: &HeaderValue) -> bool {
    let authority = value.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
    authority.is_some_and(|authority| !authority.as_str().contains(['@', ',']))
}

/// What messages are delimited by, and what belongs to one connection, is not for a file to change.
fn refuse(name: &HeaderName, message: Message, doing: Doing) -> Result<(), Fault> {
    let why = match name.as_str() {
        "content-length" | "transfer-encoding" => {
            "it says where the body ends, which Deston derives"
        }
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "upgrade"
        | "http2-settings"
        | "proxy-authenticate"
        | "proxy-authorization" => "it concerns one connection, and is not passed on",
        "expect" if message == Message::Request => "it is answered before the request is passed on",
        "host" if message == Message::Request && doing != Doing::Setting => {
            "a request has exactly one: use `set`"
        }
        _ => return Ok(()),
    };
    Err(Fault::new(format!("`{name}` cannot be changed: {why}")))
}
