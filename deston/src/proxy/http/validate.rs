//! What a request head must be before anything of it is forwarded (RFC 9112 sections 3 and 6, RFC
//! 9110 sections 7.2, 9.3 and 10.1.1).
//!
//! hyper refuses what is no HTTP at all: bad framing, obs-fold, a space before a colon, heads over
//! the limit, `Transfer-Encoding` in HTTP/1.0 or not ending in `chunked`. Here is refused what it
//! lets through. What its types do not show stays as it normalises it: a parser of our own beside
//! hyper's could differ from it, which is how requests are smuggled.

use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

/// Longest request head, in bytes; hyper answers 431 beyond it.
pub(super) const HEADER_BYTES: usize = 32 * 1024;

/// Longest request target, in bytes.
pub(super) const URI_BYTES: usize = 8 * 1024;

/// Why a request was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// CONNECT and TRACE.
    #[error("method is not allowed")]
    Method,
    /// Over `URI_BYTES`.
    #[error("request target is too long")]
    TargetTooLong,
    /// Not a path, nor an absolute http URI, nor `*` of an OPTIONS request.
    #[error("request target is malformed")]
    Target,
    /// HTTP/1.1 needs one.
    #[error("Host is missing")]
    HostMissing,
    /// Two parties could each believe another one.
    #[error("Host is repeated")]
    HostRepeated,
    /// Empty, or not a host and port.
    #[error("Host is malformed")]
    HostMalformed,
    /// The target names another host.
    #[error("Host differs from the request target")]
    HostDiffers,
    /// `chunked` twice.
    #[error("Transfer-Encoding is repeated")]
    CodingRepeated,
    /// A coding before `chunked`.
    #[error("Transfer-Encoding is not supported")]
    CodingUnknown,
    /// The connection's certificate is for other hosts.
    #[error("Host is not one that the certificate is for")]
    Misdirected,
    /// Something else than `100-continue`.
    #[error("expectation is not supported")]
    Expectation,
}

impl Refusal {
    /// The status it is answered with.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Target
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostMalformed
            | Self::HostDiffers
            | Self::CodingRepeated => StatusCode::BAD_REQUEST,
            Self::CodingUnknown => StatusCode::NOT_IMPLEMENTED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
        }
    }

    /// What the access log is told.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::TargetTooLong => "target_too_long",
            Self::Target => "target",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostMalformed => "host_malformed",
            Self::HostDiffers => "host_differs",
            Self::CodingRepeated => "coding_repeated",
            Self::CodingUnknown => "coding_unknown",
            Self::Misdirected => "misdirected",
            Self::Expectation => "expectation",
        }
    }
}

/// Refuses a head that must not be forwarded, and brings its target to origin form.
pub(super) fn head(head: &mut Parts) -> Result<(), Refusal> {
    method(&head.method)?;
    let named = head.version == Version::HTTP_2 && head.uri.authority().is_some();
    let optional = named || head.version == Version::HTTP_10;
    let host = host(&head.headers, optional)?;
    let origin = target(&head.method, &head.uri, host)?;
    coding(&head.headers)?;
    expectation(&head.headers)?;
    if let Some(path) = origin {
        let target = std::mem::replace(&mut head.uri, Uri::from(path));
        // RFC 9112 3.2.2: what the target names, also where HTTP/1.0 has no Host.
        if let (false, Some(named)) = (head.headers.contains_key(HOST), target.authority()) {
            let named = HeaderValue::from_str(named.as_str()).map_err(|_| Refusal::Target)?;
            head.headers.insert(HOST, named);
        }
    }
    Ok(())
}

/// RFC 9110 9.3.6 and 9.3.8: a tunnel to anywhere, and a reflection of credentials.
fn method(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::CONNECT | Method::TRACE => Err(Refusal::Method),
        _ => Ok(()),
    }
}

/// RFC 9112 3.2: exactly one valid Host; HTTP/1.0 may have none, nor need HTTP/2 where `:authority`
/// names the host (RFC 9113 8.3.1).
fn host(headers: &HeaderMap, optional: bool) -> Result<Option<&[u8]>, Refusal> {
    let mut values = headers.get_all(HOST).iter();
    let Some(host) = values.next() else {
        return if optional { Ok(None) } else { Err(Refusal::HostMissing) };
    };
    if values.next().is_some() {
        return Err(Refusal::HostRepeated);
    }
    let host = host.as_bytes();
    if is_host(host) { Ok(Some(host)) } else { Err(Refusal::HostMalformed) }
}

/// `uri-host [ ":" port ]` (RFC 9110 7.2). A comma, though a sub-delimiter, is refused: the value
/// could be read as a list.
fn is_host(host: &[u8]) -> bool {
    let port = if let Some(literal) = host.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|&byte| byte == b']') else { return false };
        let (address, rest) = literal.split_at(end);
        let address = std::str::from_utf8(address).unwrap_or_default();
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        rest.get(1..).unwrap_or_default()
    } else {
        let end = host.iter().position(|&byte| byte == b':').unwrap_or(host.len());
        let (name, rest) = host.split_at(end);
        if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) {
            return false;
        }
        rest
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// `reg-name` of RFC 3986 3.2.2, without the comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

/// RFC 9112 3.2; the path to send when the target is not in origin form yet.
fn target(
    method: &Method,
    uri: &Uri,
    host: Option<&[u8]>,
) -> Result<Option<PathAndQuery>, Refusal> {
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if path.len() + authority.len() > URI_BYTES {
        return Err(Refusal::TargetTooLong);
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::Target);
    }
    match uri.scheme_str() {
        Some(scheme @ ("http" | "https")) => {
            let named = without_default_port(authority.as_bytes(), scheme);
            let agrees = |host| without_default_port(host, scheme).eq_ignore_ascii_case(named);
            if !host.is_none_or(agrees) || !is_host(authority.as_bytes()) {
                return Err(Refusal::HostDiffers);
            }
            match path.as_bytes() {
                [b'/', ..] => Ok(uri.path_and_query().cloned()),
                // HTTP/2: the asterisk is the path, and the authority stands beside it.
                b"*" if method == Method::OPTIONS => Ok(uri.path_and_query().cloned()),
                // RFC 9112 3.2.1: an empty path is sent as "/".
                [b'?', ..] => {
                    let path = PathAndQuery::try_from(format!("/{path}"));
                    path.map(Some).map_err(|_| Refusal::Target)
                }
                _ => Err(Refusal::Target),
            }
        }
        Some(_) => Err(Refusal::Target),
        None if !authority.is_empty() => Err(Refusal::Target),
        None if path == "*" && method == Method::OPTIONS => Ok(None),
        None if path.starts_with('/') => Ok(None),
        None => Err(Refusal::Target),
    }
}

/// RFC 9110 4.2.3: a default or empty port says as much as none.
fn without_default_port<'a>(authority: &'a [u8], scheme: &str) -> &'a [u8] {
    let default: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let stripped = authority.strip_suffix(default).or_else(|| authority.strip_suffix(b":"));
    stripped.unwrap_or(authority)
}

/// RFC 9112 6.1: exactly `chunked`, once.
fn coding(headers: &HeaderMap) -> Result<(), Refusal> {
    match coding_of(headers) {
        Coding::None | Coding::Chunked => Ok(()),
        Coding::Repeated => Err(Refusal::CodingRepeated),
        Coding::Unknown => Err(Refusal::CodingUnknown),
    }
}

/// What a message's `Transfer-Encoding` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Absent.
    None,
    /// `chunked`, once.
    Chunked,
    /// `chunked`, several times.
    Repeated,
    /// Another coding.
    Unknown,
}

/// Reads `Transfer-Encoding`.
pub(super) fn coding_of(headers: &HeaderMap) -> Coding {
    let mut coding = Coding::None;
    for value in headers.get_all(TRANSFER_ENCODING) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            if !token.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Coding::Unknown;
            }
            coding = match coding {
                Coding::None => Coding::Chunked,
                Coding::Chunked | Coding::Repeated | Coding::Unknown => Coding::Repeated,
            };
        }
    }
    coding
}

/// RFC 9110 10.1.1.
fn expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(is_continue) { Ok(()) } else { Err(Refusal::Expectation) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Parts, Refusal> {
        let mut parts = request(method, target, headers);
        head(&mut parts).map(|()| parts)
    }

    #[track_caller]
    fn refused(method: &str, target: &str, headers: &[(&str, &str)], expected: Refusal) {
        assert_eq!(check(method, target, headers).map(|parts| parts.uri), Err(expected));
    }

    #[test]
    fn a_plain_request_passes_with_its_target_as_it_is() {
        let head = check("GET", "/a?b=c", &[("host", "example.com")]).unwrap();
        assert_eq!(head.uri, "/a?b=c");
    }

    #[test]
    fn http_1_1_without_a_host_is_refused() {
        refused("GET", "/", &[], Refusal::HostMissing);
    }

    #[test]
    fn http_1_0_may_have_no_host() {
        let mut parts = request("GET", "/", &[]);
        parts.version = Version::HTTP_10;
        assert_eq!(head(&mut parts), Ok(()));
    }

    #[test]
    fn a_repeated_host_is_refused_even_when_equal() {
        refused("GET", "/", &[("host", "a"), ("host", "a")], Refusal::HostRepeated);
    }

    #[test]
    fn an_empty_or_invalid_host_is_refused() {
        for host in [
            "", ":80", "a b", "a/b", "a@b", "a,b", "a?b", "a#b", "a:b", "a:123456", "[::1",
            "[::1]x", "[fe80]", "[]", "a:80:80", "\"a\"", "<a>", "a\\b",
        ] {
            refused("GET", "/", &[("host", host)], Refusal::HostMalformed);
        }
    }

    #[test]
    fn names_addresses_and_ports_are_valid_hosts() {
        for host in ["a", "A.example", "a_b.example:8080", "192.0.2.1", "[2001:db8::1]:80", "a:"] {
            assert!(check("GET", "/", &[("host", host)]).is_ok(), "{host}");
        }
    }

    #[test]
    fn an_absolute_target_goes_on_in_origin_form() {
        let head = check("GET", "http://Example.com/a?b", &[("host", "example.com")]).unwrap();
        assert_eq!(head.uri, "/a?b");
        assert_eq!(head.uri.authority(), None);
        let head = check("GET", "http://example.com", &[("host", "example.com")]).unwrap();
        assert_eq!(head.uri, "/");
    }

    #[test]
    fn an_absolute_target_may_name_its_default_port_or_not() {
        for (target, host) in [
            ("http://a:80/", "a"),
            ("http://a/", "A:80"),
            ("http://a:/", "a"),
            ("https://a:443/", "a"),
            ("http://[::1]:80/", "[::1]"),
        ] {
            let head = check("GET", target, &[("host", host)]);
            assert_eq!(head.map(|head| head.headers[HOST] == host), Ok(true), "{target} {host}");
        }
    }

    #[test]
    fn an_absolute_target_with_a_query_alone_gets_a_path() {
        assert_eq!(check("GET", "http://a?y", &[("host", "a")]).unwrap().uri, "/?y");
    }

    #[test]
    fn an_absolute_target_of_another_host_is_refused() {
        for (target, host) in [
            ("http://a.example/", "b.example"),
            ("http://a.example:81/", "a.example:80"),
            ("http://a.example:443/", "a.example"),
            ("https://a.example:80/", "a.example"),
            ("http://user@a.example/", "a.example"),
        ] {
            refused("GET", target, &[("host", host)], Refusal::HostDiffers);
        }
    }

    #[test]
    fn targets_that_are_no_path_are_refused() {
        for target in ["example.com:80", "example", "ftp://a/", "*"] {
            refused("GET", target, &[("host", "a")], Refusal::Target);
        }
    }

    #[test]
    fn a_target_with_bytes_beyond_ascii_is_refused() {
        refused("GET", "/caf\u{e9}", &[("host", "a")], Refusal::Target);
    }

    #[test]
    fn an_asterisk_is_for_options_alone() {
        assert_eq!(check("OPTIONS", "*", &[("host", "a")]).unwrap().uri, "*");
        refused("POST", "*", &[("host", "a")], Refusal::Target);
    }

    #[test]
    fn connect_and_trace_are_not_allowed() {
        refused("CONNECT", "a:80", &[("host", "a:80")], Refusal::Method);
        refused("TRACE", "/", &[("host", "a")], Refusal::Method);
    }

    #[test]
    fn a_target_over_the_limit_is_refused() {
        let fits = format!("/{}", "a".repeat(URI_BYTES - 1));
        assert!(check("GET", &fits, &[("host", "a")]).is_ok());
        refused("GET", &format!("{fits}a"), &[("host", "a")], Refusal::TargetTooLong);
    }

    #[test]
    fn chunked_alone_passes() {
        let headers = [("host", "a"), ("transfer-encoding", "Chunked")];
        assert!(check("POST", "/", &headers).is_ok());
    }

    #[test]
    fn chunked_twice_is_refused() {
        for lines in [&["chunked, chunked"][..], &["chunked", "chunked"]] {
            let mut headers = vec![("host", "a")];
            headers.extend(lines.iter().map(|line| ("transfer-encoding", *line)));
            refused("POST", "/", &headers, Refusal::CodingRepeated);
        }
    }

    #[test]
    fn a_coding_before_chunked_is_not_implemented() {
        for coding in ["gzip, chunked", "identity, chunked", "xchunked", ", chunked"] {
            let headers = [("host", "a"), ("transfer-encoding", coding)];
            refused("POST", "/", &headers, Refusal::CodingUnknown);
        }
        assert_eq!(Refusal::CodingUnknown.status(), StatusCode::NOT_IMPLEMENTED);
    }

    #[test]
    fn only_100_continue_may_be_expected() {
        assert!(check("PUT", "/", &[("host", "a"), ("expect", "100-Continue")]).is_ok());
        refused("PUT", "/", &[("host", "a"), ("expect", "200-ok")], Refusal::Expectation);
        let both = [("host", "a"), ("expect", "100-continue"), ("expect", "x")];
        refused("PUT", "/", &both, Refusal::Expectation);
    }
}
