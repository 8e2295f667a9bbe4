//! Which header fields pass, both ways (RFC 9110 section 7.6.1).
//!
//! Fields that concern one connection are removed and derived again; those that say for whom a
//! request is forwarded are `forwarded`'s.

use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::{self, Step, Told};
use crate::model::Underscores;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Fields in which servers believe a proxy, and which this one does not write: whatever a request
/// holds is the client's claim. `Proxy` becomes `HTTP_PROXY` behind CGI-like interfaces.
const CLAIMS: [&str; 13] = [
    "front-end-https",
    "proxy",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded-by",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-url-scheme",
];

/// Whether a message ends its connection's life as HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// The fields that ask for an upgrade are removed.
    None,
    /// A tunnel of this protocol is asked for, or granted.
    To(HeaderValue),
}

/// A field that is not simply passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Connection,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Http2Settings,
    Expect,
    Forwarded,
    RealIp,
    Claim,
    Underscore,
}

/// The special fields of a head, found in one pass: most heads have one or two of them, and
/// a removal for each is a hash for each.
#[derive(Clone, Copy, Default)]
struct Found(u16);

impl Found {
    fn of(headers: &HeaderMap) -> Self {
        headers
            .keys()
            .filter_map(special)
            .fold(Self(0), |Self(bits), special| Self(bits | 1 << special as u16))
    }

    fn has(self, special: Special) -> bool {
        self.0 & 1 << special as u16 != 0
    }

    /// Removes a field if it is there.
    fn remove(self, special: Special, name: HeaderName, headers: &mut HeaderMap) {
        if self.has(special) {
            headers.remove(name);
        }
    }
}

fn special(name: &HeaderName) -> Option<Special> {
    Some(match *name {
        CONNECTION => Special::Connection,
        PROXY_AUTHENTICATE => Special::ProxyAuthenticate,
        PROXY_AUTHORIZATION => Special::ProxyAuthorization,
        TE => Special::Te,
        TRAILER => Special::Trailer,
        TRANSFER_ENCODING => Special::TransferEncoding,
        UPGRADE => Special::Upgrade,
        EXPECT => Special::Expect,
        FORWARDED => Special::Forwarded,
        _ => match name.as_str() {
            "keep-alive" => Special::KeepAlive,
            "proxy-connection" => Special::ProxyConnection,
            "http2-settings" => Special::Http2Settings,
            "x-real-ip" => Special::RealIp,
            other if CLAIMS.contains(&other) => Special::Claim,
            other if has_underscore(other) => Special::Underscore,
            _ => return None,
        },
    })
}

/// The tunnel that a request asks to become: one of `tokens`, which are in lower case. No other
/// upgrade is offered.
pub(super) fn asked(headers: &HeaderMap, tokens: &[String]) -> Upgrade {
    if !headers.contains_key(UPGRADE) {
        return Upgrade::None;
    }
    let token = tokens.iter().find(|token| names(headers, token.as_bytes()));
    match token.map(|token| HeaderValue::from_str(token)) {
        Some(Ok(token)) => Upgrade::To(token),
        Some(Err(_)) | None => Upgrade::None,
    }
}

/// Whether a response becomes the tunnel that was asked for.
pub(super) fn grants(headers: &HeaderMap, asked: &Upgrade) -> bool {
    match asked {
        Upgrade::None => false,
        Upgrade::To(token) => names(headers, token.as_bytes()),
    }
}

/// Whether `Upgrade` names exactly `token`, and `Connection` nominates it (RFC 9110 7.8).
fn names(headers: &HeaderMap, token: &[u8]) -> bool {
    let mut tokens = headers.get_all(UPGRADE).iter();
    let named = tokens.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(token))
        && tokens.next().is_none();
    named && nominees(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"))
}

/// Prepares a request's fields for a server; `told` is what `forwarded::read` has made of them.
/// Returns whether the client takes trailers.
pub(super) fn forward(
    headers: &mut HeaderMap,
    step: &Step<'_>,
    told: Option<&Told>,
    upgrade: &Upgrade,
    underscores: Underscores,
) -> bool {
    let found = Found::of(headers);
    let trailers_wanted = found.has(Special::Te) && accepts_trailers(headers);
    let chunked = found.has(Special::TransferEncoding);
    remove_hop_by_hop(headers, found, chunked);
    found.remove(Special::Expect, EXPECT, headers);
    found.remove(Special::Forwarded, FORWARDED, headers);
    if found.has(Special::Claim) {
        for name in CLAIMS {
            headers.remove(name);
        }
    }
    if found.has(Special::Underscore) {
        remove_underscored(headers, underscores);
    }
    if chunked {
        // Explicit: hyper's client would send the body of a GET without any framing.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    match upgrade {
        Upgrade::To(token) => switch(headers, token),
        Upgrade::None if trailers_wanted => {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            // RFC 9110 10.1.4: TE concerns this connection, so Connection nominates it.
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
        Upgrade::None => {}
    }
    forwarded::write(headers, step, told, found.has(Special::RealIp));
    trailers_wanted
}

/// Prepares a response's fields for a client, who takes trailers or not. Returns how long the server keeps an unused
/// connection open, if it says so.
pub(super) fn reply(
    headers: &mut HeaderMap,
    upgrade: &Upgrade,
    trailers: bool,
) -> Option<Duration> {
    let found = Found::of(headers);
    let kept = if found.has(Special::KeepAlive) { keep_alive_timeout(headers) } else { None };
    let chunked = found.has(Special::TransferEncoding);
    remove_hop_by_hop(headers, found, chunked && trailers);
    if chunked {
        // RFC 9112 6.3: Transfer-Encoding overrides it, and hyper leaves it.
        headers.remove(CONTENT_LENGTH);
    }
    match upgrade {
        Upgrade::To(token) => switch(headers, token),
        Upgrade::None => {}
    }
    kept
}

fn switch(headers: &mut HeaderMap, token: &HeaderValue) {
    headers.insert(UPGRADE, token.clone());
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

fn remove_hop_by_hop(headers: &mut HeaderMap, found: Found, trailers: bool) {
    if found.has(Special::Connection) {
        remove_nominees(headers);
    }
    found.remove(Special::Connection, CONNECTION, headers);
    found.remove(Special::KeepAlive, KEEP_ALIVE, headers);
    found.remove(Special::ProxyConnection, PROXY_CONNECTION, headers);
    found.remove(Special::ProxyAuthenticate, PROXY_AUTHENTICATE, headers);
    found.remove(Special::ProxyAuthorization, PROXY_AUTHORIZATION, headers);
    found.remove(Special::Te, TE, headers);
    found.remove(Special::TransferEncoding, TRANSFER_ENCODING, headers);
    found.remove(Special::Upgrade, UPGRADE, headers);
    found.remove(Special::Http2Settings, HTTP2_SETTINGS, headers);
    if found.has(Special::Trailer) {
        let announced = if trailers { announced_trailers(headers) } else { None };
        match announced {
            Some(names) => headers.insert(TRAILER, names),
            None => headers.remove(TRAILER),
        };
    }
}

/// The names in `Connection`.
fn nominees(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Removes what `Connection` nominates, but nothing that routing, framing or trust rests on.
fn remove_nominees(headers: &mut HeaderMap) {
    let mut nominated = Vec::new();
    for nominee in nominees(headers) {
        // The two that nearly all heads carry name no field that is left by now.
        if nominee.eq_ignore_ascii_case(b"keep-alive") || nominee.eq_ignore_ascii_case(b"close") {
            continue;
        }
        if let Ok(name) = HeaderName::from_bytes(nominee)
            && !is_protected(&name)
        {
            nominated.push(name);
        }
    }
    for name in nominated {
        headers.remove(name);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    matches!(
        *name,
        HOST | FORWARDED
            | AUTHORIZATION
            | CONTENT_LENGTH
            | TRANSFER_ENCODING
            | TE
            | TRAILER
            | UPGRADE
    ) || name.as_str().starts_with("x-forwarded-")
        || *name == X_REAL_IP
}

/// Fields whose names hold `_`: programs behind CGI-like interfaces read `X_Forwarded_For` and
/// `X-Forwarded-For` alike.
fn remove_underscored(headers: &mut HeaderMap, underscores: Underscores) {
    let is_dropped = |name: &&HeaderName| match underscores {
        Underscores::Drop => has_underscore(name.as_str()),
        Underscores::Keep => has_underscore(name.as_str()) && is_taken_for_ours(name.as_str()),
    };
    let names: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether a program that takes `_` for `-` finds a field of a proxy, of framing or of routing.
fn is_taken_for_ours(name: &str) -> bool {
    let name = name.replace('_', "-");
    HeaderName::from_bytes(name.as_bytes())
        .is_ok_and(|name| special(&name).is_some() || is_protected(&name))
}

/// Looks at every byte: a name is too short for a search that may stop early to pay.
fn has_underscore(name: &str) -> bool {
    name.bytes().fold(false, |found, byte| found | (byte == b'_'))
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Whether a field may come after the content (RFC 9110 6.5.1).
pub(super) fn may_come_late(name: &HeaderName) -> bool {
    special(name).is_none() && !is_protected(name) && !is_early(name)
}

/// What `Trailer` announces, without fields that must not come late (RFC 9110 6.5.1).
fn announced_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut names = String::new();
    for value in headers.get_all(TRAILER) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) else { continue };
            if !may_come_late(&name) {
                continue;
            }
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(name.as_str());
        }
    }
    if names.is_empty() { None } else { HeaderValue::try_from(names).ok() }
}

/// Fields that route, authenticate or describe content: read before the content, so useless or
/// dangerous after it.
fn is_early(name: &HeaderName) -> bool {
    use http::header;
    matches!(
        *name,
        header::CACHE_CONTROL
            | header::CONTENT_ENCODING
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::COOKIE
            | header::MAX_FORWARDS
            | header::SET_COOKIE
            | header::WWW_AUTHENTICATE
    )
}

/// `Keep-Alive: timeout=N`, which many servers send though no RFC defines it.
fn keep_alive_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse().ok())?
    })?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    /// From a client that is not trusted.
    fn step() -> Step<'static> {
        static CLIENT: HeaderValue = HeaderValue::from_static("192.0.2.7");
        let peer = std::net::IpAddr::from([192, 0, 2, 7]);
        Step { peer, value: &CLIENT, scheme: "http", fields: crate::model::ForwardedFields::X }
    }

    fn forwarded_as(headers: &mut HeaderMap, upgrade: &Upgrade, underscores: Underscores) {
        forward(headers, &step(), None, upgrade, underscores);
    }

    fn forwarded(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = map(fields);
        forwarded_as(&mut headers, &Upgrade::None, Underscores::Drop);
        headers
    }

    fn replied(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = map(fields);
        reply(&mut headers, &Upgrade::None, true);
        headers
    }

    #[test]
    fn a_client_cannot_say_whom_it_forwards_for() {
        let headers = forwarded(&[
            ("host", "a.example"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ]);
        let expected = map(&[
            ("host", "a.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.example"),
            ("x-real-ip", "192.0.2.7"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_client_cannot_claim_what_only_a_proxy_knows() {
        for name in CLAIMS {
            let headers = forwarded(&[("host", "a"), (name, "1"), (name, "2")]);
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    /// S4
    #[test]
    fn a_client_cannot_name_forwarding_fields_with_underscores() {
        let headers = forwarded(&[("host", "a"), ("x_forwarded_for", "10.0.0.1"), ("a_b", "1")]);
        assert!(headers.keys().all(|name| !name.as_str().contains('_')));
    }

    /// S4
    #[test]
    fn kept_underscores_still_name_no_field_of_a_proxy() {
        let mut headers = map(&[
            ("a_b", "1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x_real-ip", "10.0.0.1"),
            ("content_length", "1"),
            ("true_client_ip", "1"),
        ]);
        forwarded_as(&mut headers, &Upgrade::None, Underscores::Keep);
        let kept: Vec<_> = headers.keys().filter(|name| has_underscore(name.as_str())).collect();
        assert_eq!(kept, ["a_b"]);
    }

    /// P1
    #[test]
    fn fields_of_the_connection_stay_on_it() {
        for fields in [forwarded, replied] {
            let headers = fields(&[
                ("host", "a"),
                ("connection", "keep-alive, X-Mine"),
                ("connection", "x-other"),
                ("x-mine", "1"),
                ("x-other", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authenticate", "basic"),
                ("proxy-authorization", "basic x"),
                ("te", "gzip"),
                ("trailer", "x-late"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABk"),
                ("accept", "text/html"),
            ]);
            let mut rest: Vec<_> = headers
                .keys()
                .map(HeaderName::as_str)
                .filter(|name| !name.starts_with("x-forwarded"))
                .collect();
            rest.sort_unstable();
            assert_eq!(rest, ["accept", "host"]);
        }
    }

    /// P2
    #[test]
    fn what_routing_framing_and_trust_rest_on_cannot_be_nominated_away() {
        let headers = forwarded(&[
            ("host", "a"),
            ("connection", "host, authorization, content-length, x-forwarded-for, forwarded"),
            ("connection", "x-forwarded-proto, x-forwarded-host"),
            ("authorization", "basic x"),
            ("content-length", "3"),
        ]);
        for name in ["host", "authorization", "content-length", "x-forwarded-for"] {
            assert!(headers.contains_key(name), "{name}");
        }
        assert!(!headers.contains_key("connection"));
    }

    #[test]
    fn a_wish_for_trailers_passes_and_no_other_te() {
        let headers = forwarded(&[("host", "a"), ("te", "gzip;q=0.5, trailers")]);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["connection"], "te");
        assert!(!forwarded(&[("host", "a"), ("te", "gzip")]).contains_key("te"));
    }

    /// P4
    #[test]
    fn announced_trailers_pass_but_not_those_that_must_come_early() {
        let fields = [
            ("transfer-encoding", "chunked"),
            ("trailer", "X-Sum, content-length, Authorization, transfer-encoding"),
            ("trailer", "host, X-More, set-cookie, connection"),
        ];
        assert_eq!(forwarded(&fields)["trailer"], "x-sum, x-more");
        assert_eq!(replied(&fields)["trailer"], "x-sum, x-more");
    }

    #[test]
    fn trailers_are_not_announced_without_chunks() {
        assert!(!replied(&[("content-length", "1"), ("trailer", "x-sum")]).contains_key("trailer"));
    }

    #[test]
    fn a_chunked_request_says_so_to_the_server() {
        let headers = forwarded(&[("host", "a"), ("transfer-encoding", "CHUNKED")]);
        assert_eq!(headers["transfer-encoding"], "chunked");
    }

    #[test]
    fn a_chunked_response_loses_its_content_length() {
        let headers = replied(&[("transfer-encoding", "chunked"), ("content-length", "3")]);
        assert!(headers.is_empty());
    }

    #[test]
    fn an_expectation_is_met_here_and_not_passed_on() {
        assert!(!forwarded(&[("host", "a"), ("expect", "100-continue")]).contains_key("expect"));
    }

    #[test]
    fn only_a_nominated_websocket_is_an_upgrade() {
        let tokens = ["websocket".to_owned()];
        let asks = |fields: &[_]| asked(&map(fields), &tokens) != Upgrade::None;
        assert!(asks(&[("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade")]));
        assert!(!asks(&[("upgrade", "websocket"), ("connection", "keep-alive")]));
        assert!(!asks(&[("upgrade", "h2c"), ("connection", "upgrade")]));
        assert!(!asks(&[("upgrade", "websocket, h2c"), ("connection", "upgrade")]));
        assert!(!asks(&[("connection", "upgrade")]));
    }

    #[test]
    fn a_websocket_keeps_the_fields_that_switch_and_no_other() {
        let mut headers = map(&[
            ("host", "a"),
            ("connection", "Upgrade, X-Mine"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "x"),
            ("x-mine", "1"),
        ]);
        let upgrade = asked(&headers, &["websocket".to_owned()]);
        forwarded_as(&mut headers, &upgrade, Underscores::Drop);
        assert_eq!(headers["connection"], "upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert!(headers.contains_key("sec-websocket-key"));
        assert!(!headers.contains_key("x-mine"));
    }

    #[test]
    fn the_servers_keep_alive_is_read() {
        let timeout = |value| reply(&mut map(&[("keep-alive", value)]), &Upgrade::None, true);
        assert_eq!(timeout("timeout=5, max=100"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("max=100, Timeout = 7"), Some(Duration::from_secs(7)));
        assert_eq!(timeout("timeout=soon"), None);
        assert_eq!(timeout("max=1"), None);
    }
}
