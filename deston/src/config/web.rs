//! Reading values of HTTP: targets, hosts, statuses.

use std::ops::RangeInclusive;

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
