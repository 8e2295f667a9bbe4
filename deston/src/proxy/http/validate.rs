//! What a request head must be before anything of it is forwarded (RFC 9112 sections 3 and 6, RFC
//! 9110 sections 7.2, 9.3 and 10.1.1).
//!
//! hyper refuses what is no HTTP at all: bad framing, obs-fold, a space before a colon, heads over
//! the limit, `Transfer-Encoding` in HTTP/1.0 or not ending in `chunked`. Here is refused what it
//! lets through. What its types do not show stays as it normalises it: a parser of our own beside
//! hyper's could differ from it, which is how requests are smuggled.

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use crate::model::{Limits, Mode, Rules};

/// Why a request was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// CONNECT, TRACE unless it is allowed, and what `methods` does not have.
    #[error("method is not allowed")]
    Method,
    /// Over `uri_bytes`.
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
    /// A WebSocket where a route answers by itself.
    #[error("no WebSocket is served here")]
    NoTunnel,
    /// Not one number.
    #[error("Content-Length is malformed")]
    Length,
    /// With `Content-Length` and `Transfer-Encoding`.
    #[error("Content-Length stands beside Transfer-Encoding")]
    FramedTwice,
    /// Chunked, and sent before the body ahead of it had been taken.
    #[error("a chunked request was sent too early")]
    Unseen,
    /// Over `headers`.
    #[error("there are too many fields")]
    TooManyFields,
    /// Over `body_bytes`, as `Content-Length` says.
    #[error("the body is too large")]
    BodyTooLarge,
    /// No number.
    #[error("Max-Forwards is malformed")]
    MaxForwards,
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
            | Self::NoTunnel
            | Self::CodingRepeated
            | Self::Length
            | Self::FramedTwice
            | Self::Unseen
            | Self::MaxForwards => StatusCode::BAD_REQUEST,
            Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
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
            Self::NoTunnel => "no_tunnel",
            Self::Length => "length",
            Self::FramedTwice => "framed_twice",
            Self::Unseen => "unseen",
            Self::TooManyFields => "too_many_fields",
            Self::BodyTooLarge => "body_too_large",
            Self::MaxForwards => "max_forwards",
            Self::Expectation => "expectation",
        }
    }
}

/// Refuses a head that must not be forwarded, and brings its target to origin form.
pub(super) fn head(head: &mut Parts, rules: &Rules, limits: &Limits) -> Result<(), Refusal> {
    method(&head.method, rules)?;
    if head.headers.len() > usize::from(limits.headers) {
        return Err(Refusal::TooManyFields);
    }
    let named = head.version == Version::HTTP_2 && head.uri.authority().is_some();
    let optional = named || head.version == Version::HTTP_10;
    let host = host(&head.headers, optional)?;
    let mut differs = false;
    let origin = match target(&head.method, &head.uri, host, limits) {
        Err(Refusal::HostDiffers) if rules.mode == Mode::Lenient => {
            // RFC 9112 3.2.2: the target counts.
            differs = true;
            target(&head.method, &head.uri, None, limits)?
        }
        other => other?,
    };
    coding(&head.headers)?;
    expectation(&head.headers)?;
    if let Some(path) = origin {
        let target = std::mem::replace(&mut head.uri, Uri::from(path));
        // RFC 9112 3.2.2: what the target names, also where HTTP/1.0 has no Host.
        let has_host = head.headers.contains_key(HOST) && !differs;
        if let (false, Some(named)) = (has_host, target.authority()) {
            let named = HeaderValue::from_str(named.as_str()).map_err(|_| Refusal::Target)?;
            head.headers.insert(HOST, named);
        }
    }
    Ok(())
}

/// RFC 9110 9.3.6 and 9.3.8: a tunnel to anywhere, and a reflection of credentials.
fn method(method: &Method, rules: &Rules) -> Result<(), Refusal> {
    let is_taken = match *method {
        Method::CONNECT => false,
        Method::TRACE if !rules.trace => false,
        _ => rules.methods.is_empty() || rules.methods.contains(method),
    };
    if is_taken { Ok(()) } else { Err(Refusal::Method) }
}

/// RFC 9110 8.6: one number, which may be repeated. hyper sees to that in HTTP/1, but h2 takes an
/// empty one for zero. Refuses a body that says to be too long.
pub(super) fn length(headers: &mut HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else { return Ok(()) };
    let digits = first.as_bytes();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let length = first.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    let Some(length) = length.filter(|_| is_number) else { return Err(Refusal::Length) };
    if limits.body_bytes > 0 && length > limits.body_bytes {
        return Err(Refusal::BodyTooLarge);
    }
    let mut repeated = false;
    for other in values {
        repeated = true;
        if other != first {
            return Err(Refusal::Length);
        }
    }
    if repeated {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
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
    limits: &Limits,
) -> Result<Option<PathAndQuery>, Refusal> {
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if path.len() + authority.len() > limits.uri_bytes as usize {
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

    fn take(parts: &mut Parts) -> Result<(), Refusal> {
        head(parts, &Rules::default(), &Limits::default())
    }

    fn check(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Parts, Refusal> {
        let mut parts = request(method, target, headers);
        take(&mut parts).map(|()| parts)
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

    /// H1
    #[test]
    fn http_1_1_without_a_host_is_refused() {
        refused("GET", "/", &[], Refusal::HostMissing);
    }

    #[test]
    fn http_1_0_may_have_no_host() {
        let mut parts = request("GET", "/", &[]);
        parts.version = Version::HTTP_10;
        assert_eq!(take(&mut parts), Ok(()));
    }

    /// H1
    #[test]
    fn a_repeated_host_is_refused_even_when_equal() {
        refused("GET", "/", &[("host", "a"), ("host", "a")], Refusal::HostRepeated);
    }

    /// H1
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

    /// H2
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

    /// H3
    #[test]
    fn targets_that_are_no_path_are_refused() {
        for target in ["example.com:80", "example", "ftp://a/", "*"] {
            refused("GET", target, &[("host", "a")], Refusal::Target);
        }
    }

    /// H3
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

    /// S5
    #[test]
    fn a_target_over_the_limit_is_refused() {
        let fits = format!("/{}", "a".repeat(8 * 1024 - 1));
        assert!(check("GET", &fits, &[("host", "a")]).is_ok());
        refused("GET", &format!("{fits}a"), &[("host", "a")], Refusal::TargetTooLong);
    }

    #[test]
    fn chunked_alone_passes() {
        let headers = [("host", "a"), ("transfer-encoding", "Chunked")];
        assert!(check("POST", "/", &headers).is_ok());
    }

    /// F3
    #[test]
    fn chunked_twice_is_refused() {
        for lines in [&["chunked, chunked"][..], &["chunked", "chunked"]] {
            let mut headers = vec![("host", "a")];
            headers.extend(lines.iter().map(|line| ("transfer-encoding", *line)));
            refused("POST", "/", &headers, Refusal::CodingRepeated);
        }
    }

    /// F3
    #[test]
    fn a_coding_before_chunked_is_not_implemented() {
        for coding in ["gzip, chunked", "identity, chunked", "xchunked", ", chunked"] {
            let headers = [("host", "a"), ("transfer-encoding", coding)];
            refused("POST", "/", &headers, Refusal::CodingUnknown);
        }
        assert_eq!(Refusal::CodingUnknown.status(), StatusCode::NOT_IMPLEMENTED);
    }

    fn under(rules: &Rules, method: &str, target: &str) -> Result<Parts, Refusal> {
        let mut parts = request(method, target, &[("host", "a")]);
        head(&mut parts, rules, &Limits::default()).map(|()| parts)
    }

    /// F4
    #[test]
    fn a_length_is_one_number_which_may_be_repeated() {
        let length = |lengths: &[&str]| {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            let mut headers = request("PUT", "/", &fields).headers;
            length(&mut headers, &Limits::default())
                .map(|()| headers.get_all(CONTENT_LENGTH).iter().count())
        };
        for lengths in [&["0"][..], &["12"], &["18446744073709551615"], &["3", "3", "3"]] {
            assert_eq!(length(lengths), Ok(1), "{lengths:?}");
        }
        assert_eq!(length(&[]), Ok(0));
        for lengths in
            [&[""][..], &["+1"], &["-1"], &["1, 1"], &["1", "2"], &["x"], &["18446744073709551616"]]
        {
            assert_eq!(length(lengths), Err(Refusal::Length), "{lengths:?}");
        }
    }

    /// M1
    #[test]
    fn only_listed_methods_pass_where_there_is_a_list() {
        let methods = vec![Method::GET, Method::from_bytes(b"PURGE").unwrap()];
        let rules = Rules { methods, ..Rules::default() };
        assert!(under(&rules, "GET", "/").is_ok() && under(&rules, "PURGE", "/").is_ok());
        for method in ["POST", "get", "TRACE", "CONNECT"] {
            assert_eq!(under(&rules, method, "/").err(), Some(Refusal::Method), "{method}");
        }
    }

    /// M2
    #[test]
    fn trace_passes_where_it_is_allowed() {
        assert!(under(&Rules { trace: true, ..Rules::default() }, "TRACE", "/").is_ok());
    }

    /// H2
    #[test]
    fn a_lenient_listener_believes_the_target() {
        let rules = Rules { mode: Mode::Lenient, ..Rules::default() };
        let head = under(&rules, "GET", "http://b.example/x").unwrap();
        assert_eq!((head.headers[HOST].as_bytes(), head.uri.path()), (&b"b.example"[..], "/x"));
        assert!(under(&rules, "GET", "http://user@a/").is_err());
    }

    /// S5
    #[test]
    fn fields_over_the_limit_are_too_many() {
        let mut parts = request("GET", "/", &[("host", "a"), ("x", "1"), ("x", "2")]);
        let limits = |headers| Limits { headers, ..Limits::default() };
        assert_eq!(head(&mut parts, &Rules::default(), &limits(3)), Ok(()));
        let refused = head(&mut parts, &Rules::default(), &limits(2));
        assert_eq!(refused, Err(Refusal::TooManyFields));
    }

    /// E1
    #[test]
    fn only_100_continue_may_be_expected() {
        assert!(check("PUT", "/", &[("host", "a"), ("expect", "100-Continue")]).is_ok());
        refused("PUT", "/", &[("host", "a"), ("expect", "200-ok")], Refusal::Expectation);
        let both = [("host", "a"), ("expect", "100-continue"), ("expect", "x")];
        refused("PUT", "/", &both, Refusal::Expectation);
    }
}
