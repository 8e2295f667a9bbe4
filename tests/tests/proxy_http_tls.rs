//! TLS towards clients.

use std::io;
use std::time::Duration;

use deston::model::{Alpn, ClientAuth, HttpTimeouts, Tls, TlsSettings, TlsVersion};
use deston_tests::http::{Authority, Lab, Peer, Server, Setup, Streams, get};
use deston_tests::wait::soon;
use rustls::HandshakeKind;
use tokio::net::TcpStream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const H1: &[&[u8]] = &[b"http/1.1"];
const H2: &[&[u8]] = &[b"h2", b"http/1.1"];
const SOON: Duration = Duration::from_millis(200);

fn ask(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn start(tls: Tls, server: &Server) -> Lab {
    Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address])
}

/// The names of the certificate that a client which names `host` is shown.
async fn shown(authority: &Authority, lab: &Lab, host: &str) -> io::Result<()> {
    authority.client(H1, None).try_connect(lab.address, host).await.map(drop)
}

#[tokio::test]
async fn a_request_under_tls_reaches_the_server_in_clear_and_says_https() {
    let server = Server::start().await;
    let authority = Authority::new();
    let lab = start(authority.serve(&[&["a.example"]]), &server);
    let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
    client.send(ask("a.example")).await;
    let mut upstream = server.accept().await;
    let request = upstream.message().await;
    assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn alpn_chooses_http_2_for_who_offers_it() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    let stream = authority.client(H2, None).try_connect(lab.address, "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Streams::over(stream).await;
    assert_eq!(client.ask(get("https://a.example/")).await.status(), 200);
}

#[tokio::test]
async fn a_client_without_alpn_speaks_http_1() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    let mut client = authority.client(&[], None).connect(lab.address, "a.example").await;
    assert_eq!(client.ask(ask("a.example")).await.status(), 200);
}

#[tokio::test]
async fn a_client_whose_protocols_are_not_offered_is_refused() {
    let server = Server::start().await;
    let authority = Authority::new();
    let settings =
        TlsSettings { alpn: vec![Alpn::Http11], ..authority.settings(&[&["a.example"]]) };
    let lab = start(Tls::new(settings).unwrap(), &server);
    let client = authority.client(&[b"h2"], None);
    assert!(client.try_connect(lab.address, "a.example").await.is_err());
}

#[tokio::test]
async fn each_host_is_shown_its_certificate() {
    let server = Server::start().await;
    let authority = Authority::new();
    let names: &[&[&str]] = &[&["a.example"], &["b.example", "*.c.example"], &["x.c.example"]];
    let lab = start(authority.serve(names), &server);
    for host in ["a.example", "b.example", "y.c.example", "x.c.example", "X.C.EXAMPLE"] {
        // The client verifies that the certificate is for the host.
        assert!(shown(&authority, &lab, host).await.is_ok(), "{host}");
    }
    for host in ["d.example", "c.example", "x.y.c.example"] {
        let error = shown(&authority, &lab, host).await.expect_err(host);
        assert!(error.to_string().contains("certificate"), "{host}: {error}");
    }
}

/// T1
#[tokio::test]
async fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example", "*.b.example", "192.0.2.1"], &["c.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    for (host, status) in [
        ("a.example", 200),
        ("A.EXAMPLE:8443", 200),
        ("x.b.example", 200),
        ("192.0.2.1", 200),
        ("c.example", 421),
        ("b.example", 421),
        ("192.0.2.2", 421),
        ("[2001:db8::1]", 421),
    ] {
        let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
        assert_eq!(client.ask(ask(host)).await.status(), status, "{host}");
        let stream = authority.client(H2, None).try_connect(lab.address, "a.example").await;
        let mut client = Streams::over(stream.unwrap()).await;
        let uri = format!("https://{host}/");
        assert_eq!(client.ask(get(&uri)).await.status(), status, "{host} by HTTP/2");
    }
}

/// T1
#[tokio::test]
async fn any_host_is_served_where_that_is_not_strict() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let settings = TlsSettings { strict_sni: false, ..authority.settings(&[&["a.example"]]) };
    let tls = Tls::new(settings).unwrap();
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
    assert_eq!(client.ask(ask("b.example")).await.status(), 200);
}

/// A listener that asks for certificates of an authority.
fn with_client_auth(authority: &Authority, clients: &Authority, required: bool) -> Tls {
    let client_auth = Some(ClientAuth { roots: vec![clients.root()], required });
    let settings = authority.settings(&[&["a.example"]]);
    Tls::new(TlsSettings { client_auth, ..settings }).unwrap()
}

/// Whether a request is answered; TLS 1.3 tells of a refused certificate only then.
async fn is_served(client: deston_tests::http::Client, lab: &Lab) -> bool {
    let Ok(stream) = client.try_connect(lab.address, "a.example").await else { return false };
    let mut client = Peer::tls(stream);
    client.send(ask("a.example")).await;
    soon(client.next()).await.is_some()
}

#[tokio::test]
async fn a_client_must_show_a_certificate_where_that_is_required() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (ours, theirs) = (clients.issue(&["client"]), strangers.issue(&["client"]));
    for (required, without) in [(true, false), (false, true)] {
        let tls = with_client_auth(&authority, &clients, required);
        let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
        assert!(is_served(authority.client(H1, Some(&ours)), &lab).await);
        assert!(!is_served(authority.client(H1, Some(&theirs)), &lab).await);
        assert_eq!(is_served(authority.client(H1, None), &lab).await, without);
    }
}

#[tokio::test]
async fn an_older_version_than_the_lowest_is_refused() {
    let server = Server::start().await;
    let authority = Authority::new();
    for (min, accepted) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let settings = TlsSettings { min, ..authority.settings(&[&["a.example"]]) };
        let lab = start(Tls::new(settings).unwrap(), &server);
        let client = authority.client_of_1_2();
        assert_eq!(client.try_connect(lab.address, "a.example").await.is_ok(), accepted);
        assert!(shown(&authority, &lab, "a.example").await.is_ok());
    }
}

/// T2
#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let server = Server::start().await;
    let authority = Authority::new();
    let timeouts = HttpTimeouts { tls_handshake: SOON, ..Setup::default().timeouts };
    let tls = authority.serve(&[&["a.example"]]);
    let setup = Setup { timeouts, ..Setup::default() };
    let lab = setup.start_as(|l7| l7.tls = Some(tls), &[server.address]);
    for begun in [&b""[..], &[22, 3, 1]] {
        let mut client = Peer::new(TcpStream::connect(lab.address).await.unwrap());
        client.send(begun).await;
        // A FIN or a reset, where bytes were left unread.
        let _ = client.rest().await;
    }
}

/// T2
#[tokio::test]
async fn a_preface_has_a_deadline() {
    let server = Server::start().await;
    let timeouts = HttpTimeouts { tls_handshake: SOON, ..Setup::default().timeouts };
    let lab = Setup { timeouts, ..Setup::default() }.start(&[server.address]);
    let mut client = lab.client().await;
    client.send("PRI * HTTP").await;
    let _ = client.rest().await;
}

#[tokio::test]
async fn what_is_no_handshake_ends_the_connection() {
    let server = Server::start().await;
    let authority = Authority::new();
    let lab = start(authority.serve(&[&["a.example"]]), &server);
    let mut client = lab.client().await;
    client.send(ask("a.example")).await;
    let answer = client.rest().await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_open_ones_go_on() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let (old, new) = (Authority::new(), Authority::new());
    let tls = old.serve(&[&["a.example"]]);
    let lab = Setup::default().start_as(|l7| l7.tls = Some(tls), &[server.address]);
    let mut open = old.client(H1, None).connect(lab.address, "a.example").await;
    assert_eq!(open.ask(ask("a.example")).await.status(), 200);
    lab.set(|l7| l7.tls = Some(new.serve(&[&["a.example"]])));
    assert!(shown(&new, &lab, "a.example").await.is_ok());
    assert!(shown(&old, &lab, "a.example").await.is_err());
    assert_eq!(open.ask(ask("a.example")).await.status(), 200);
}

#[tokio::test]
async fn a_session_is_resumed_by_its_ticket() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let tls = authority.serve(&[&["a.example"]]);
    let lab = Setup { workers: 2, ..Setup::default() }
        .start_as(|l7| l7.tls = Some(tls), &[server.address]);
    for client in [authority.client(H1, None), authority.client_of_1_2()] {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = client.try_connect(lab.address, "a.example").await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind());
            // A ticket of TLS 1.3 comes behind the handshake.
            assert_eq!(Peer::tls(stream).ask(ask("a.example")).await.status(), 200);
        }
        let expected = [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)];
        assert_eq!(kinds, expected);
    }
}

#[tokio::test]
async fn an_end_is_told_so_that_nothing_can_be_cut_off_unseen() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let authority = Authority::new();
    let timeouts = HttpTimeouts { client_idle: SOON, ..Setup::default().timeouts };
    let tls = authority.serve(&[&["a.example"]]);
    let setup = Setup { timeouts, ..Setup::default() };
    let lab = setup.start_as(|l7| l7.tls = Some(tls), &[server.address]);
    for close in ["", "Connection: close\r\n"] {
        let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
        let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{close}\r\n");
        assert_eq!(client.ask(request).await.status(), 200);
        // rustls tells an end without close_notify as an error.
        client.ended().await;
    }
}

#[tokio::test]
async fn a_websocket_passes_under_tls() {
    let server = Server::start().await;
    let authority = Authority::new();
    let lab = start(authority.serve(&[&["a.example"]]), &server);
    let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    client.send(format!("GET / HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nearly")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101"));
    assert_eq!(client.exactly(5).await, b"early");
    client.send("hello").await;
    assert_eq!(upstream.exactly(5).await, b"hello");
    client.finish().await;
    upstream.ended().await;
    upstream.send("late").await;
    assert_eq!(client.exactly(4).await, b"late");
}

#[tokio::test]
async fn large_bodies_pass_under_tls() {
    let server = Server::start().await;
    let authority = Authority::new();
    let lab = start(authority.serve(&[&["a.example"]]), &server);
    let mut client = authority.client(H1, None).connect(lab.address, "a.example").await;
    let large = vec![b'x'; 3_000_000];
    let head =
        format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n", large.len());
    let (reply, ()) = tokio::join!(
        async {
            client.send(head).await;
            client.send(&large).await;
            client.message().await
        },
        async {
            let mut upstream = server.accept().await;
            let body = upstream.message().await.body;
            upstream
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))
                .await;
            upstream.send(&body).await;
        }
    );
    assert!(reply.body == large);
}
