//! The limit on requests: who makes one, and whether it comes too soon.

use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use super::downstream::Downstream;
use super::error::Error;
use crate::live::Requester;
use crate::model::{LimitKey, RequestLimit};

/// Refuses a request that comes too soon.
pub(super) fn admit(
    limit: Option<&RequestLimit>,
    headers: &HeaderMap,
    downstream: &Downstream,
) -> Result<(), Error> {
    let Some(limit) = limit else { return Ok(()) };
    let value = match &limit.key {
        LimitKey::Ip => None,
        LimitKey::Header(name) => only(headers, name),
        LimitKey::Cookie(name) => cookie(headers, name),
    };
    let who = value.map_or(Requester::Address(downstream.named()), Requester::Value);
    let admitted = downstream.client.listener.admit_request(&limit.rate, who);
    admitted.map_err(|after| Error::TooManyRequests { after })
}

/// The value of a field, unless it is repeated or empty: then nobody is known by it.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes()).filter(|value| !value.is_empty())
}

/// The value of the first cookie of that name (RFC 6265 5.4).
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs =
        headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    pairs
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .next()
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; session=abc;b=2"));
        headers.append(COOKIE, HeaderValue::from_static("last=x=y"));
        assert_eq!(cookie(&headers, "session"), Some(&b"abc"[..]));
        assert_eq!(cookie(&headers, "b"), Some(&b"2"[..]));
        assert_eq!(cookie(&headers, "last"), Some(&b"x=y"[..]));
        assert_eq!(cookie(&headers, "ession"), None);
        assert_eq!(cookie(&headers, "Session"), None);
    }

    #[test]
    fn a_field_that_is_repeated_or_empty_names_nobody() {
        let name = HeaderName::from_static("x-key");
        let mut headers = HeaderMap::new();
        headers.append(&name, HeaderValue::from_static(""));
        assert_eq!(only(&headers, &name), None);
        headers.insert(&name, HeaderValue::from_static("k"));
        assert_eq!(only(&headers, &name), Some(&b"k"[..]));
        headers.append(&name, HeaderValue::from_static("l"));
        assert_eq!(only(&headers, &name), None);
    }
}
