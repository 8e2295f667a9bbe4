//! Who a request is from, where proxies stand before Deston.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use deston::model::{Algorithm, ForwardedFields, Guard, L7, Layer, Listener, Origin};
use deston_tests::http::{Message, Peer, Server, Setup, Streams, get};
use deston_tests::live::{listener, live_pool, server};
use deston_tests::proxied::{ANY_PORT, NAME, Proxied};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Trusts these prefixes.
fn trusting(prefixes: &[&str]) -> Origin {
    let trusted = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    Origin { trusted_proxies: trusted, ..Origin::default() }
}

/// What a server gets of a request with these fields, from a peer at 127.0.0.1.
async fn forwarded(origin: Origin, kind: ForwardedFields, fields: &str) -> Message {
    let server = Server::start().await;
    let lab = Setup::default().start_as(|l7| l7.forwarded = kind, &[server.address]);
    lab.set_listener(|listener| listener.origin = origin);
    let mut client = lab.client().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).await;
    let mut upstream = server.accept().await;
    let request = upstream.message().await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
    request
}

const SAID: &str = "X-Forwarded-For: 203.0.113.66, 192.0.2.1\r\nX-Forwarded-For: 10.1.1.1\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\nX-Real-IP: 203.0.113.66\r\n\
    Forwarded: for=203.0.113.66, for=\"[2001:db8::1]:80\";proto=https\r\n";

/// P3
#[tokio::test]
async fn fields_of_a_peer_that_is_not_trusted_are_replaced() {
    let request = forwarded(trusting(&["10.0.0.0/8"]), ForwardedFields::Both, SAID).await;
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(request.field("x-forwarded-host").as_deref(), Some("a.example"));
    assert_eq!(request.field("x-real-ip").as_deref(), Some("127.0.0.1"));
    let expected = "for=127.0.0.1;host=\"a.example\";proto=http";
    assert_eq!(request.field("forwarded").as_deref(), Some(expected));
}

/// P3
#[tokio::test]
async fn fields_of_a_trusted_peer_are_added_to() {
    let request =
        forwarded(trusting(&["127.0.0.1/32", "10.0.0.0/8"]), ForwardedFields::X, SAID).await;
    let expected = "203.0.113.66, 192.0.2.1, 10.1.1.1, 127.0.0.1";
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some(expected));
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(request.field("x-forwarded-host").as_deref(), Some("b.example"));
    assert_eq!(request.field("x-real-ip").as_deref(), Some("192.0.2.1"));
    assert_eq!(request.field("forwarded"), None, "it is not what this listener believes");
}

/// P3
#[tokio::test]
async fn forwarded_of_rfc_7239_is_written_in_place_of_the_others() {
    let request = forwarded(trusting(&["127.0.0.1/32"]), ForwardedFields::Rfc7239, SAID).await;
    let expected = "for=203.0.113.66, for=\"[2001:db8::1]:80\";proto=https, \
                    for=127.0.0.1;host=\"a.example\";proto=http";
    assert_eq!(request.field("forwarded").as_deref(), Some(expected));
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"] {
        assert_eq!(request.field(name), None, "{name}");
    }
}

/// P3
#[tokio::test]
async fn an_ipv6_client_is_bracketed_and_quoted_in_forwarded() {
    let upstream = Server::start().await;
    let pool = live_pool(Algorithm::RoundRobin, [server(upstream.address)]);
    let l7 = L7 { forwarded: ForwardedFields::Both, ..L7::default() };
    let anywhere = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0));
    let proxied = Proxied::start(1, anywhere, Layer::L7(l7), &pool);
    let mut client = Peer::connect(proxied.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    let request = upstream.accept().await.message().await;
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("::1"));
    let expected = "for=\"[::1]\";host=\"a.example\";proto=http";
    assert_eq!(request.field("forwarded").as_deref(), Some(expected));
}

/// P3
#[tokio::test]
async fn where_no_fields_are_written_those_that_came_are_removed() {
    for trusted in [&["127.0.0.1/32"][..], &[]] {
        let request = forwarded(trusting(trusted), ForwardedFields::Off, SAID).await;
        for name in
            ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"]
        {
            assert_eq!(request.field(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_a_trusted_peer_names_is_asked_of_the_lists() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    lab.set_listener(|listener| {
        listener.origin = trusting(&["127.0.0.1/32"]);
        let deny = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        listener.guard = Guard { deny, ..Guard::default() };
    });
    let ask = |client| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
    for (client, status) in [("198.51.100.1", 200), ("192.0.2.1", 403), ("198.51.100.1", 200)] {
        let response = lab.client().await.ask(ask(client)).await;
        assert_eq!(response.status(), status, "{client}");
    }
    assert_eq!(server.requests(), 2);
    assert_eq!(lab.listener().refusals().denied, 1);
    // Nobody else is believed.
    lab.set_listener(|listener| listener.origin = Origin::default());
    assert_eq!(lab.client().await.ask(ask("192.0.2.1")).await.status(), 200);
}

/// Two servers that say which of them they are, balanced by the client's address.
async fn hashed(origin: Origin) -> (Proxied, impl Sized) {
    let names = ["0", "1"];
    let mut servers = Vec::new();
    for name in names {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{name}");
        servers.push(Server::start().await.answering(move |_| answer.clone()));
    }
    let pool = live_pool(Algorithm::IpHashing, servers.iter().map(|s| server(s.address)));
    let listener = listener(NAME, ANY_PORT, Layer::L7(L7::default()));
    let listener = Listener { origin, ..Listener::clone(&listener) };
    let (proxied, _) = Proxied::start_as(2, listener.into(), &pool);
    (proxied, servers)
}

#[tokio::test]
async fn a_client_keeps_its_server_whichever_proxy_and_connection_it_comes_by() {
    let (proxied, _servers) = hashed(trusting(&["127.0.0.1/32", "10.0.0.0/8"])).await;
    let mut one = Peer::connect(proxied.address).await;
    let mut other = Peer::connect(proxied.address).await;
    let mut used = BTreeSet::new();
    for client in 0..40 {
        let ask = |way| {
            let list = format!("192.0.2.{client}{way}");
            format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {list}\r\n\r\n")
        };
        let first = one.ask(ask("")).await.text();
        assert_eq!(other.ask(ask(":4711, 10.1.1.1")).await.text(), first);
        used.insert(first);
    }
    assert_eq!(used.len(), 2, "forty clients are not all of one server");
}

#[tokio::test]
async fn a_client_that_nobody_trusted_names_is_its_peer() {
    let (proxied, _servers) = hashed(Origin::default()).await;
    let mut peer = Peer::connect(proxied.address).await;
    let mut used = BTreeSet::new();
    for client in 0..40 {
        let ask = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.{client}\r\n\r\n");
        used.insert(peer.ask(ask).await.text());
    }
    assert_eq!(used.len(), 1);
}

#[tokio::test]
async fn each_stream_of_a_connection_has_its_own_client() {
    let (proxied, _servers) = hashed(trusting(&["127.0.0.1/32"])).await;
    let mut streams = Streams::connect(proxied.address).await;
    let mut peer = Peer::connect(proxied.address).await;
    for client in 0..20 {
        let list = format!("192.0.2.{client}");
        let ask = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {list}\r\n\r\n");
        let expected = peer.ask(ask).await.text();
        let mut asked = get("http://a/");
        asked.headers_mut().insert("x-forwarded-for", list.parse().unwrap());
        assert_eq!(streams.ask(asked).await.body, expected);
    }
}

#[tokio::test]
async fn the_id_of_a_request_is_that_of_a_trusted_peer_and_of_nobody_else() {
    let fields = "X-Request-Id: of-the-proxy\r\n";
    let trusted = forwarded(trusting(&["127.0.0.1/32"]), ForwardedFields::X, fields).await;
    assert_eq!(trusted.field("x-request-id").as_deref(), Some("of-the-proxy"));
    let other = forwarded(trusting(&["10.0.0.0/8"]), ForwardedFields::X, fields).await;
    assert_eq!(other.field("x-request-id").map(|id| id.len()), Some(36));
    let too_long = format!("X-Request-Id: {}\r\n", "x".repeat(129));
    let fresh = forwarded(trusting(&["127.0.0.1/32"]), ForwardedFields::X, &too_long).await;
    assert_eq!(fresh.field("x-request-id").map(|id| id.len()), Some(36));
}
