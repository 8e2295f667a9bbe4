//! The limit on requests: who makes one, and whether it comes too soon.

use http::{HeaderMap, HeaderName};

use super::downstream::Downstream;
use super::error::Error;
use super::hashed::cookie;
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
        LimitKey::Cookie(name) => cookie(headers, name).filter(|value| !value.is_empty()),
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

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
