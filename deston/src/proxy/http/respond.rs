//! Answers of our own: small, plain, and naming the status.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use super::body::ReplyBody;
use super::error::{Error, Side};
use crate::model::{ErrorPages, Rules};

/// Seconds after which a client may try again when servers are full or down: health checks and
/// finished requests change that within about a second.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Methods that are forwarded, as far as they are registered (RFC 9110 10.2.1 asks for them).
const METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// What is asked of whoever shows no password (RFC 7617 2 and 2.1).
const CHALLENGE: HeaderValue =
    HeaderValue::from_static("Basic realm=\"restricted\", charset=\"UTF-8\"");

/// Answered by hand when hyper has not parsed a request, so cannot respond.
pub(super) const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    connection: close\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 20\r\n\
    \r\n\
    408 Request Timeout\n";

/// What `Allow` says: the methods of the listener, or those that are registered and forwarded.
pub(super) fn allow(rules: &Rules) -> HeaderValue {
    if rules.methods.is_empty() {
        return METHODS;
    }
    let names: Vec<&str> = rules.methods.iter().map(http::Method::as_str).collect();
    // Tokens and commas are valid.
    HeaderValue::try_from(names.join(", ")).unwrap_or(METHODS)
}

/// The answer to a request that no server answered.
pub(super) fn error(error: &Error, pages: Option<&ErrorPages>) -> Response<ReplyBody> {
    let status = error.status();
    let (body, content_type) = match pages.and_then(|pages| pages.0.get(&status.as_u16())) {
        Some(page) => (page.body.clone(), page.content_type),
        None => (Bytes::from(format!("{status}\n")), "text/plain; charset=utf-8"),
    };
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_SECONDS);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, METHODS);
    }
    if let Error::Unauthorized = error {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        return response;
    }
    if let Error::TooManyRequests { after } = error {
        // Whole seconds, and never too early.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        return response;
    }
    match error.side() {
        // What follows a request that was not understood is not to be trusted either.
        Side::Downstream => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Side::Upstream | Side::Internal => {}
    }
    response
}

#[cfg(test)]
mod tests {
    use super::super::validate::Refusal;
    use super::*;
    use crate::proxy::connect::Refused;

    #[test]
    fn an_overload_says_when_to_come_back() {
        let response = error(&Error::Unserved(Refused::Full { pool: "web".to_owned() }), None);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[test]
    fn who_asks_too_often_is_told_in_whole_seconds_when_to_come_back() {
        for (milliseconds, seconds) in [(1, "1"), (1_000, "1"), (1_001, "2"), (0, "1")] {
            let after = std::time::Duration::from_millis(milliseconds);
            let response = error(&Error::TooManyRequests { after }, None);
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()["retry-after"], seconds);
            assert!(!response.headers().contains_key("connection"), "it may go on");
        }
    }

    #[test]
    fn a_refused_request_ends_its_connection() {
        let response = error(&Error::Refused(Refusal::HostMissing), None);
        assert_eq!(response.headers()["connection"], "close");
    }

    #[test]
    fn a_refused_method_names_those_allowed() {
        let response = error(&Error::Refused(Refusal::Method), None);
        assert!(response.headers().contains_key("allow"));
    }

    #[test]
    fn the_answer_by_hand_has_the_length_it_claims() {
        let text = std::str::from_utf8(REQUEST_TIMEOUT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }
}
