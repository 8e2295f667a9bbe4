//! The PROXY protocol: from a proxy before Deston, and to servers behind it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use deston::live;
use deston::model::{
    AcceptProxyProtocol, Algorithm, Guard, Layer, Listener, Origin, Protocol, ProxyProtocol,
    RateLimit, Speech,
};
use deston_tests::http::{Authority, Peer, Server, Setup};
use deston_tests::live::{l4, l7, listener, live_pool, server};
use deston_tests::proxied::{ANY_PORT, NAME, Proxied};
use deston_tests::wait::soon;
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 80\r\n";
const V1_6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 8080 80\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x1f\x90\0\x50";
const V2_6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
    \x1f\x90\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Believes the loopback.
fn origin(accept: AcceptProxyProtocol) -> Origin {
    let trusted_proxies = ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    Origin { trusted_proxies, accept, ..Origin::default() }
}

fn required() -> Origin {
    origin(AcceptProxyProtocol::Require)
}

fn optional() -> Origin {
    origin(AcceptProxyProtocol::Optional)
}

/// Believes somebody else.
fn elsewhere(accept: AcceptProxyProtocol) -> Origin {
    let trusted_proxies = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
    Origin { trusted_proxies, ..origin(accept) }
}

/// A pool of one server, which is told of clients in `version`.
fn pool(address: SocketAddr, version: Option<ProxyProtocol>) -> Arc<live::Pool> {
    let pool = live_pool(Algorithm::RoundRobin, [server(address)]);
    let speech = Speech { proxy_protocol: version, ..Speech::default() };
    pool.view().servers[0].set_speech(speech);
    pool
}

/// A listener before `pool`.
fn start(
    layer: Layer,
    origin: Origin,
    guard: Guard,
    pool: &Arc<live::Pool>,
) -> (Proxied, Arc<live::Listener>) {
    let plain = listener(NAME, ANY_PORT, layer);
    let listener = Listener { origin, guard, ..Listener::clone(&plain) };
    Proxied::start_as(2, listener.into(), pool)
}

fn start_tcp(origin: Origin, pool: &Arc<live::Pool>) -> (Proxied, Arc<live::Listener>) {
    start(l4(Protocol::Tcp), origin, Guard::default(), pool)
}

/// Asserts that a connection which sends `bytes` is reset, and that nobody was connected to.
async fn assert_reset(origin: Origin, bytes: &[u8]) {
    for layer in [l4(Protocol::Tcp), l7()] {
        let server = Server::start().await.answering(|_| OK.to_owned());
        let (proxied, live) =
            start(layer, origin.clone(), Guard::default(), &pool(server.address, None));
        let mut client = Peer::connect(proxied.address).await;
        // The reset may come while it sends.
        let _ = client.try_send(bytes).await;
        let error = client.rest().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{bytes:?}");
        assert_eq!(server.connections(), 0);
        assert_eq!(live.unnamed(), 1);
    }
}

#[tokio::test]
async fn a_server_is_told_of_the_client_that_a_trusted_proxy_names() {
    for (sent, told) in [(V1, [V1, V2]), (V1_6, [V1_6, V2_6]), (V2, [V1, V2]), (V2_6, [V1_6, V2_6])]
    {
        for (version, expected) in [ProxyProtocol::V1, ProxyProtocol::V2].into_iter().zip(told) {
            let server = Server::start().await;
            let (proxied, _) = start_tcp(required(), &pool(server.address, Some(version)));
            let mut client = Peer::connect(proxied.address).await;
            client.send([sent, b"hello"].concat()).await;
            let mut upstream = server.accept().await;
            let both = [expected, b"hello"].concat();
            assert_eq!(upstream.exactly(both.len()).await, both);
            upstream.send("welcome").await;
            assert_eq!(client.exactly(7).await, b"welcome");
        }
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    for header in [V1, V1_6, V2, V2_6, UNKNOWN] {
        let server = Server::start().await;
        let (proxied, _) = start_tcp(optional(), &pool(server.address, None));
        let mut client = Peer::connect(proxied.address).await;
        for byte in [header, b"hello"].concat() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(server.accept().await.exactly(5).await, b"hello", "{header:?}");
    }
}

#[tokio::test]
async fn a_header_of_the_proxys_own_leaves_the_peer_as_client() {
    for header in [LOCAL, UNKNOWN] {
        let server = Server::start().await;
        let (proxied, _) = start_tcp(required(), &pool(server.address, Some(ProxyProtocol::V1)));
        let mut client = Peer::connect(proxied.address).await;
        client.send(header).await;
        let (from, to) = (client.address().port(), proxied.address.port());
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
        let told = server.accept().await.exactly(expected.len()).await;
        assert_eq!(String::from_utf8_lossy(&told), expected);
    }
}

#[tokio::test]
async fn further_fields_are_taken_with_the_header_however_many() {
    let server = Server::start().await;
    let (proxied, _) = start_tcp(required(), &pool(server.address, None));
    for room in [0, 300, 4_096 - 28 - 3] {
        let mut header = V2.to_vec();
        header[14..16].copy_from_slice(&(12 + 3 + room as u16).to_be_bytes());
        header.push(0x04);
        header.extend((room as u16).to_be_bytes());
        header.extend(vec![0; room]);
        let mut client = Peer::connect(proxied.address).await;
        client.send(&header[..20]).await;
        client.send([&header[20..], b"hello"].concat()).await;
        assert_eq!(server.accept().await.exactly(5).await, b"hello");
    }
}

#[tokio::test]
async fn where_a_header_is_required_everything_else_is_reset() {
    for bytes in [GET.as_bytes(), b"\x16\x03\x01", b"PROXYTCP4"] {
        assert_reset(required(), bytes).await;
    }
    assert_reset(elsewhere(AcceptProxyProtocol::Require), V1).await;
}

#[tokio::test]
async fn a_malformed_or_oversized_header_is_reset_even_where_none_is_required() {
    let mut oversized = V2.to_vec();
    oversized[14..16].copy_from_slice(&4_081_u16.to_be_bytes());
    let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
    let mut summed = V2.to_vec();
    summed[15] += 7;
    summed.extend([0x03, 0, 4, 1, 2, 3, 4]);
    for bytes in [
        &b"PROXY TCP4 192.0.2.7 198.51.100.1 8080\r\n"[..],
        b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 80\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        oversized.as_slice(),
        long.as_bytes(),
        summed.as_slice(),
    ] {
        assert_reset(required(), bytes).await;
        assert_reset(optional(), bytes).await;
    }
}

#[tokio::test]
async fn a_header_has_a_deadline() {
    for bytes in [&b""[..], b"PROXY TCP4 192", &V2[..15]] {
        let deadline = Duration::from_millis(50);
        assert_reset(Origin { deadline, ..required() }, bytes).await;
    }
}

#[tokio::test]
async fn where_a_header_is_optional_a_silent_client_may_wait_for_the_server() {
    let server = Server::start().await;
    let origin = Origin { deadline: Duration::from_millis(50), ..optional() };
    let (proxied, _) = start_tcp(origin, &pool(server.address, None));
    let mut client = Peer::connect(proxied.address).await;
    let mut upstream = server.accept().await;
    upstream.send("welcome").await;
    assert_eq!(client.exactly(7).await, b"welcome");
    client.send(V1).await;
    assert_eq!(upstream.exactly(V1.len()).await, V1, "it is too late for a header");
}

#[tokio::test]
async fn a_client_that_leaves_within_a_header_is_let_go() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let (proxied, live) = start_tcp(required(), &pool(server.address, None));
    for bytes in [&b""[..], b"PROXY TCP4 192", &V2[..15]] {
        let mut client = Peer::connect(proxied.address).await;
        client.send(bytes).await;
        client.finish().await;
        assert!(client.rest().await.is_err());
    }
    assert_eq!((live.unnamed(), server.connections()), (3, 0));
}

#[tokio::test]
async fn where_a_header_is_optional_other_bytes_pass_as_they_are() {
    for (origin, bytes) in [
        (optional(), &b"hello"[..]),
        // Begins like a header, and does not go on like one.
        (optional(), b"POST / HTTP/1.1"),
        (optional(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (optional(), b"\r\n\r\n\0\r\nQUIt"),
        // Of a peer that is not trusted, nothing is parsed.
        (elsewhere(AcceptProxyProtocol::Optional), V1),
        (elsewhere(AcceptProxyProtocol::Optional), V2),
        (origin(AcceptProxyProtocol::Off), V1),
    ] {
        let server = Server::start().await;
        let (proxied, _) = start_tcp(origin, &pool(server.address, None));
        let mut client = Peer::connect(proxied.address).await;
        for byte in bytes {
            client.send([*byte]).await;
        }
        assert_eq!(server.accept().await.exactly(bytes.len()).await, bytes);
    }
}

#[tokio::test]
async fn a_request_is_of_the_client_that_the_header_names() {
    for (header, client) in [(V1, "192.0.2.7"), (V2_6, "2001:db8::7"), (LOCAL, "127.0.0.1")] {
        let server = Server::start().await;
        let (proxied, _) = start(l7(), required(), Guard::default(), &pool(server.address, None));
        let mut peer = Peer::connect(proxied.address).await;
        let fields = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.66\r\n\r\n";
        peer.send([header, fields.as_bytes()].concat()).await;
        let mut upstream = server.accept().await;
        let list = upstream.message().await.field("x-forwarded-for").unwrap();
        // The proxy itself is trusted, and the client that it names is not.
        let expected = if header == LOCAL { "203.0.113.66, 127.0.0.1" } else { client };
        assert_eq!(list, expected);
        upstream.send(OK).await;
        assert_eq!(peer.message().await.status(), 200);
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let server = Server::start().await;
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    lab.set_listener(|listener| listener.origin = required());
    let mut stream = soon(TcpStream::connect(lab.address)).await.unwrap();
    soon(tokio::io::AsyncWriteExt::write_all(&mut stream, V2)).await.unwrap();
    let mut peer = authority.client(&[b"http/1.1"], None).over(stream, "a.example").await;
    peer.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    let request = server.accept().await.message().await;
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("192.0.2.7"));
}

#[tokio::test]
async fn the_guard_judges_the_client_that_the_header_names() {
    for layer in [l4(Protocol::Tcp), l7()] {
        let server = Server::start().await.answering(|_| OK.to_owned());
        let deny = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let guard = Guard { deny, ..Guard::default() };
        let (proxied, live) = start(layer, required(), guard, &pool(server.address, None));
        let mut client = Peer::connect(proxied.address).await;
        client.send(V1).await;
        assert_eq!(client.rest().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!((live.refusals().denied, server.connections()), (1, 0));
        let mut client = Peer::connect(proxied.address).await;
        assert_eq!(client.ask([V2_6, GET.as_bytes()].concat()).await.status(), 200);
    }
}

#[tokio::test]
async fn a_trusted_proxy_connects_as_often_as_its_clients_may() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let once = RateLimit { interval: Duration::from_secs(3_600), burst: 1.try_into().unwrap() };
    let guard = Guard { rate_limit: Some(once), ..Guard::default() };
    let layer = l4(Protocol::Tcp);
    let (proxied, live) = start(layer, required(), guard, &pool(server.address, None));
    for header in [V1, V2_6] {
        let mut client = Peer::connect(proxied.address).await;
        assert_eq!(client.ask([header, GET.as_bytes()].concat()).await.status(), 200);
    }
    for header in [V2, V1_6] {
        let mut client = Peer::connect(proxied.address).await;
        client.send(header).await;
        assert!(client.rest().await.is_err());
    }
    assert_eq!(live.refusals().rate_limited, 2);
    // Its own connections are not counted.
    for _ in 0..3 {
        let mut client = Peer::connect(proxied.address).await;
        assert_eq!(client.ask([LOCAL, GET.as_bytes()].concat()).await.status(), 200);
    }
}

#[tokio::test]
async fn a_connection_that_names_its_client_carries_no_other_request() {
    let server = Server::start().await;
    let pool = pool(server.address, None);
    let (proxied, _) = start(l7(), required(), Guard::default(), &pool);
    let mut one = Peer::connect(proxied.address).await;
    one.send([V1, GET.as_bytes()].concat()).await;
    let mut pooled = server.accept().await;
    pooled.message().await;
    pooled.send(OK).await;
    assert_eq!(one.message().await.status(), 200);
    // From here on it is to be told: what is pooled was not.
    let speech = Speech { proxy_protocol: Some(ProxyProtocol::V2), ..Speech::default() };
    pool.view().servers[0].set_speech(speech);
    let mut other = Peer::connect(proxied.address).await;
    other.send(V2_6).await;
    for (client, header) in [(&mut one, V2), (&mut other, V2_6)] {
        for _ in 0..2 {
            client.send(GET).await;
            let mut upstream = server.accept().await;
            assert_eq!(upstream.exactly(header.len()).await, header);
            upstream.message().await;
            upstream.send(OK).await;
            assert_eq!(client.message().await.status(), 200);
            upstream.ended().await;
        }
    }
}

#[tokio::test]
async fn a_server_is_told_of_the_client_of_each_request() {
    let server = Server::start().await;
    let pool = pool(server.address, Some(ProxyProtocol::V1));
    let origin = origin(AcceptProxyProtocol::Off);
    let (proxied, _) = start(l7(), origin, Guard::default(), &pool);
    let mut client = Peer::connect(proxied.address).await;
    for named in ["192.0.2.7", "192.0.2.8"] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {named}\r\n\r\n")).await;
        let (from, to) = (client.address().port(), proxied.address.port());
        let expected = format!("PROXY TCP4 {named} 127.0.0.1 {from} {to}\r\n");
        let mut upstream = server.accept().await;
        let told = upstream.exactly(expected.len()).await;
        assert_eq!(String::from_utf8_lossy(&told), expected);
        upstream.message().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
    }
}
