//! Reading the values of a route.

use http::{HeaderValue, Method, StatusCode};
use toml::de::DeValue;

use super::fields::{entries, text};
use super::problem::Span;
use super::section::At;
use super::value::{self, Fault, must_be};
use crate::model::route::{HostPattern, PathPattern, PathRegex, Template};

/// A pool and its weight in `split`.
#[derive(Clone, Debug)]
pub(super) struct PoolShare {
    pub(super) pool: At<String>,
    pub(super) weight: u16,
}

/// `host`.
pub(super) fn host(key: &str, value: &DeValue<'_>) -> Result<HostPattern, Fault> {
    let text = value::text(key, value)?;
    HostPattern::parse(&text).ok_or_else(|| {
        let what = "a host without a port, such as \"example.com\" or \"*.example.com\"";
        let fault = Fault::new(format!("`{key}` must be {what}, not {text:?}"));
        match text.is_ascii() {
            true => fault,
            false => fault.help("write an international name as clients send it: `xn--..`"),
        }
    })
}

/// `path`.
pub(super) fn path(key: &str, value: &DeValue<'_>) -> Result<PathPattern, Fault> {
    let text = value::text(key, value)?;
    PathPattern::parse(&text).map_err(|why| {
        Fault::new(format!("`{key}` must {why}, not be {text:?}"))
            .help("write a path such as \"/a\", all below it as \"/a/*\", or use `path_regex`")
    })
}

/// `path_regex`.
pub(super) fn path_regex(key: &str, value: &DeValue<'_>) -> Result<PathPattern, Fault> {
    let text = value::text(key, value)?;
    PathRegex::parse(&text).map(PathPattern::Regex).map_err(|error| {
        // The last line is the reason; those before it draw the place.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Fault::new(format!("`{key}` is no regular expression: {reason}"))
    })
}

/// `methods`.
pub(super) fn methods(key: &str, value: &DeValue<'_>) -> Result<Vec<Method>, Fault> {
    let what = "a list of methods such as [\"GET\", \"HEAD\"]";
    let list = value.as_array().ok_or_else(|| must_be(key, what, value))?;
    let method = |value: &DeValue<'_>| {
        let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
        let method = Method::from_bytes(text.as_bytes())
            .map_err(|_| Fault::new(format!("{text:?} is no method")))?;
        let upper = text.to_ascii_uppercase();
        if Method::from_bytes(upper.as_bytes()).is_ok_and(|upper| is_registered(&upper))
            && upper != text
        {
            let fault = Fault::new(format!("unknown method `{text}`, did you mean `{upper}`?"));
            return Err(fault.help("case matters in methods"));
        }
        match method {
            Method::CONNECT | Method::TRACE => {
                Err(Fault::new(format!("`{method}` is answered with 405: no route sees it")))
            }
            _ => Ok(method),
        }
    };
    value::each(list, method)
}

fn is_registered(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::OPTIONS
            | Method::PATCH
            | Method::CONNECT
            | Method::TRACE
    )
}

/// `query`.
pub(super) fn query(key: &str, value: &DeValue<'_>) -> Result<Vec<(String, String)>, Fault> {
    entries(key, "a table such as { v = \"2\" }", value)?
        .iter()
        .map(|entry| Ok((entry.name.to_owned(), text(entry)?.to_owned())))
        .collect()
}

/// `split`.
pub(super) fn split(key: &str, value: &DeValue<'_>) -> Result<Vec<PoolShare>, Fault> {
    let what = "a table of pools and weights such as { app = 90, canary = 10 }";
    let mut shares = Vec::new();
    for entry in entries(key, what, value)? {
        let at = |span: &Span| span.clone();
        let weight = value::number(0..=u16::MAX)(entry.name, entry.value)
            .map_err(|fault| fault.within(at(&entry.value_at)))?;
        let pool = At { value: entry.name.to_owned(), key: at(&entry.at), span: at(&entry.at) };
        shares.push(PoolShare { pool, weight });
    }
    if shares.iter().all(|share| share.weight == 0) {
        return Err(Fault::new(format!("`{key}` must have a pool whose weight is not 0")));
    }
    Ok(shares)
}

/// A text with variables.
pub(super) fn template(key: &str, value: &DeValue<'_>) -> Result<Template, Fault> {
    let text = value::text(key, value)?;
    Template::parse(&text).map_err(|unknown| {
        Fault::new(format!("{unknown} in `{key}`")).help(
            "the variables are `$path`, `$host` and `$query` (the last two in redirects), and `$1`, \
             `$2` .. for what `*` or the groups of `path_regex` matched; `$$` is a dollar sign",
        )
    })
}

/// `status` of `redirect`.
pub(super) fn redirect_status(key: &str, value: &DeValue<'_>) -> Result<StatusCode, Fault> {
    let status = value::number(0..=u16::MAX)(key, value)?;
    let known = [301, 302, 303, 307, 308].contains(&status);
    StatusCode::from_u16(status).ok().filter(|_| known).ok_or_else(|| {
        Fault::new(format!("`{key}` of a redirect must be 301, 302, 303, 307 or 308, not {status}"))
    })
}

/// `status` of `respond`: a final one (RFC 9110 15.2).
pub(super) fn response_status(key: &str, value: &DeValue<'_>) -> Result<StatusCode, Fault> {
    let status = value::number(200..=599_u16)(key, value)?;
    StatusCode::from_u16(status).map_err(|_| Fault::new(format!("`{key}` is no status: {status}")))
}

/// `content_type`.
pub(super) fn content_type(key: &str, value: &DeValue<'_>) -> Result<HeaderValue, Fault> {
    let text = value::text(key, value)?;
    let valid =
        text.trim() == text && text.split_once('/').is_some_and(|(kind, _)| !kind.is_empty());
    HeaderValue::from_str(&text).ok().filter(|_| valid).ok_or_else(|| {
        Fault::new(format!("`{key}` must be a media type such as \"text/html\", not {text:?}"))
    })
}
