//! Reading values of HTTP: targets, hosts, statuses.

use std::ops::RangeInclusive;

use http::Method;
use http::uri::{Authority, PathAndQuery};
use toml::de::DeValue;

use super::value::{self, Fault, must_be};

/// The target of a request, in origin form.
pub(super) fn path(key: &str, value: &DeValue<'_>) -> Result<String, Fault> {
    let text = value::text(key, value)?;
    let valid = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok_and(|p| p == *text);
    if !valid {
        let what = "a path that begins with `/`";
        return Err(Fault::new(format!("`{key}` must be {what}, not {text:?}")));
    }
    Ok(text)
}

/// What goes into `Host`; empty: nothing is asked for.
pub(super) fn host(key: &str, value: &DeValue<'_>) -> Result<Option<String>, Fault> {
    let text = value::text(key, value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let valid = text.parse::<Authority>().is_ok_and(|authority| !authority.as_str().contains('@'));
    if !valid {
        let what = "a host name or address, perhaps with a port";
        return Err(Fault::new(format!("`{key}` must be {what}, not {text:?}")));
    }
    Ok(Some(text))
}

/// Methods of requests, in capitals or not as they are sent.
pub(super) fn methods(key: &str, value: &DeValue<'_>) -> Result<Vec<Method>, Fault> {
    let what = "a list of methods such as [\"GET\", \"HEAD\"]";
    each(key, what, value, |text| {
        if text == "CONNECT" {
            return Err(Fault::new("CONNECT is not available in this version"));
        }
        let method = Method::from_bytes(text.as_bytes());
        method.map_err(|_| Fault::new(format!("`{key}` has {text:?}, which is no method")))
    })
}

/// Tokens of `Upgrade`, in lower case.
pub(super) fn upgrades(key: &str, value: &DeValue<'_>) -> Result<Vec<String>, Fault> {
    let what = "a list of tokens such as [\"websocket\"]";
    each(key, what, value, |text| {
        let token = text.to_ascii_lowercase();
        if token == "h2c" || token.starts_with("http/") || token.starts_with("tls/") {
            let fault = format!("`{key}` has {text:?}, which is no tunnel but another way of HTTP");
            return Err(Fault::new(fault).help("`h2` lets clients speak HTTP/2 from the start"));
        }
        // A token, perhaps with a version: `name/2.0`.
        let fits = |part: &str| Method::from_bytes(part.as_bytes()).is_ok();
        if token.split('/').count() > 2 || !token.split('/').all(fits) {
            return Err(Fault::new(format!(
                "`{key}` has {text:?}, which is no token of `Upgrade`"
            )));
        }
        Ok(token)
    })
}

fn each<T>(
    key: &str,
    what: &str,
    value: &DeValue<'_>,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let items = value.as_array().ok_or_else(|| must_be(key, what, value))?;
    value::each(items, |item| read(item.as_str().ok_or_else(|| must_be(key, what, item))?))
}

/// Statuses such as `"200-399"` or `"200,204"`.
pub(super) fn statuses(key: &str, value: &DeValue<'_>) -> Result<Vec<RangeInclusive<u16>>, Fault> {
    let what = "statuses from 100 to 599 such as \"200-399\" or \"200,204\"";
    let text = value.as_str().ok_or_else(|| must_be(key, what, value))?;
    let status = |text: &str| text.trim().parse().ok().filter(|n| (100..=599_u16).contains(n));
    let range = |text: &str| match text.split_once('-') {
        Some((from, to)) => Some(status(from)?..=status(to)?).filter(|range| !range.is_empty()),
        None => status(text).map(|status| status..=status),
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    ranges.ok_or_else(|| Fault::new(format!("`{key}` must be {what}, not {text:?}")))
}
