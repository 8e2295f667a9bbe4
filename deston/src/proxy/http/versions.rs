//! What differs between a request of HTTP/1.1 and one of HTTP/2. Between client and server it is one of
//! HTTP/1.1.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};

use super::body::RequestBody;

/// Makes a request's fields those of HTTP/1.1, where they differ.
pub(super) fn downgrade(headers: &mut HeaderMap, bodiless: bool) {
    // RFC 9113 8.2.3: a client may send each cookie in a field of its own.
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let all: Vec<&[u8]> =
            [first, second].into_iter().chain(cookies).map(HeaderValue::as_bytes).collect();
        // Bytes of valid values are valid together.
        if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
    // The end of a stream is the end of the body, which HTTP/1.1 has to be told (RFC 9112 6.3).
    if !bodiless && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes a request one of HTTP/2 (RFC 9113 8.3.1), for a server under TLS or not.
pub(super) fn to_http2(request: &mut Request<RequestBody>, encrypted: bool) {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder()
            .scheme(if encrypted { Scheme::HTTPS } else { Scheme::HTTP })
            .authority(authority)
            .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        // Valid parts make a valid whole.
        if let Ok(uri) = uri.build() {
            *request.uri_mut() = uri;
        }
    }
    // RFC 9113 8.2.2: the framing is HTTP/2's own.
    request.headers_mut().remove(CONNECTION);
    request.headers_mut().remove(TRANSFER_ENCODING);
    *request.version_mut() = Version::HTTP_2;
}

/// Makes a request that was one of HTTP/2 one of HTTP/1.1 again.
pub(super) fn to_http1(request: &mut Request<RequestBody>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    *request.version_mut() = Version::HTTP_11;
    let uri = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = uri.authority
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = uri.path_and_query {
        *request.uri_mut() = Uri::from(path);
    }
    let bodiless = request.body().is_none();
    downgrade(request.headers_mut(), bodiless);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request<RequestBody> {
        let request = Request::builder().uri(target).header(HOST, "a.example:8080");
        request.header(CONNECTION, "te").header("te", "trailers").body(RequestBody::None).unwrap()
    }

    #[test]
    fn a_request_of_http_2_names_its_host_in_the_target_and_nothing_of_a_connection() {
        let mut asked = request("/x?y");
        to_http2(&mut asked, true);
        assert_eq!(asked.uri(), "https://a.example:8080/x?y");
        assert!(!asked.headers().contains_key(HOST) && !asked.headers().contains_key(CONNECTION));
        assert_eq!(asked.headers()["te"], "trailers");
    }

    #[test]
    fn a_request_that_was_not_sent_can_be_sent_as_one_of_http_1_1() {
        for target in ["/x?y", "*"] {
            let mut asked = request(target);
            to_http2(&mut asked, false);
            to_http1(&mut asked);
            assert_eq!(asked.uri(), target);
            assert_eq!(asked.headers()[HOST], "a.example:8080");
            assert_eq!(asked.version(), Version::HTTP_11);
        }
    }

    #[test]
    fn cookies_of_several_fields_become_one() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2"] {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
        }
        downgrade(&mut headers, true);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert!(!headers.contains_key(TRANSFER_ENCODING));
    }
}
