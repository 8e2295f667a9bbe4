//! `request_id` and `traceparent` of `[listener.headers]`.

use http::HeaderName;
use toml::de::DeValue;

use crate::config::section::{Field, Section};
use crate::config::value::{self, Fault};

/// What tells requests apart.
pub(in crate::config) struct Identity {
    pub(in crate::config) request_id: Field<Option<HeaderName>>,
    pub(in crate::config) traceparent: Field<bool>,
}

impl Identity {
    pub(super) fn read(headers: &mut Section<'_>) -> Self {
        Self {
            request_id: headers.get("request_id", request_id),
            traceparent: headers.get("traceparent", value::flag),
        }
    }
}

/// Fields with a meaning of their own, which an id would destroy.
const TAKEN: [&str; 24] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "proxy-connection",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The name of a field; empty: none.
fn request_id(key: &str, value: &DeValue<'_>) -> Result<Option<HeaderName>, Fault> {
    let text = value::text(key, value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let name = header_name(key, &text)?;
    if TAKEN.contains(&name.as_str()) {
        return Err(Fault::new(format!("`{key}` cannot be `{name}`, which has a meaning already"))
            .help("write a name of its own, such as \"x-request-id\""));
    }
    Ok(Some(name))
}

/// A field's name.
pub(super) fn header_name(key: &str, text: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| {
        Fault::new(format!(
            "`{key}` must name a header field such as \"x-request-id\", not {text:?}"
        ))
    })
}
