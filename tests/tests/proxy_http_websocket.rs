//! WebSockets: agreed to by both sides, then carried as they are.

use std::time::Duration;

use deston::model::HttpTimeouts;
use deston_tests::http::{Lab, Peer, Server, Setup};
use deston_tests::server::refusing_tcp;
use deston_tests::wait::soon;
use tokio::net::TcpSocket;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// A text frame "Hello", as RFC 6455 5.7 masks it.
const FRAME: &[u8] = &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

/// Both ends of a WebSocket.
async fn open(lab: &Lab, server: &Server) -> (Peer, Peer) {
    let mut client = lab.client().await;
    client.send(ASK).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(SWITCH).await;
    assert_eq!(client.head().await.lines().next(), Some("HTTP/1.1 101 Switching Protocols"));
    (client, upstream)
}

async fn passes(from: &mut Peer, to: &mut Peer) {
    from.send(FRAME).await;
    assert_eq!(to.exactly(FRAME.len()).await, FRAME);
}

#[tokio::test]
async fn the_handshake_passes_with_its_fields() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(ASK).await;
    let mut upstream = server.accept().await;
    let request = upstream.message().await;
    assert_eq!(request.start(), "GET /chat HTTP/1.1");
    assert_eq!(request.field("connection").as_deref(), Some("upgrade"));
    assert_eq!(request.field("upgrade").as_deref(), Some("websocket"));
    assert!(request.field("sec-websocket-key").is_some());
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    upstream.send(SWITCH).await;
    let response = client.head().await;
    for field in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pPLM"] {
        assert!(response.contains(field), "{field} in {response}");
    }
}

#[tokio::test]
async fn a_switch_carries_no_length() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(ASK).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(SWITCH.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n")).await;
    let response = client.head().await;
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(!response.contains("content-length"), "{response}");
}

#[tokio::test]
async fn frames_pass_both_ways() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    for _ in 0..3 {
        passes(&mut client, &mut upstream).await;
        passes(&mut upstream, &mut client).await;
    }
}

#[tokio::test]
async fn bytes_sent_along_with_the_handshake_are_not_lost() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send([ASK.as_bytes(), FRAME].concat()).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    upstream.send([SWITCH.as_bytes(), FRAME].concat()).await;
    client.head().await;
    assert_eq!(client.exactly(FRAME.len()).await, FRAME);
    assert_eq!(upstream.exactly(FRAME.len()).await, FRAME);
    passes(&mut client, &mut upstream).await;
}

/// U2
#[tokio::test]
async fn either_side_may_end_its_half_first() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    for client_first in [true, false] {
        let (mut client, mut upstream) = open(&lab, &server).await;
        let (first, second) =
            if client_first { (&mut client, &mut upstream) } else { (&mut upstream, &mut client) };
        first.finish().await;
        second.ended().await;
        passes(second, first).await;
        second.finish().await;
        first.ended().await;
    }
}

#[tokio::test]
async fn a_client_that_reads_late_gets_all_that_a_server_said_before_it_left() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let socket = TcpSocket::new_v4().unwrap();
    // Nearly all of it has to wait in the proxy's socket.
    socket.set_recv_buffer_size(2_048).unwrap();
    let mut client = Peer::new(soon(socket.connect(lab.address)).await.unwrap());
    client.send(ASK).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(SWITCH).await;
    client.head().await;
    let said = FRAME.repeat(4_000);
    upstream.send(&said).await;
    drop(upstream);
    soon(async {
        while lab.servers[0].open() == 1 {
            client.send(FRAME).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(client.rest().await.unwrap() == said, "the server's last frames are lost");
}

#[tokio::test]
async fn a_tunnel_holds_its_servers_slot_until_it_ends() {
    let server = Server::start().await;
    let lab = Setup { max_connections: 1, ..Setup::default() }.start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    assert_eq!(lab.client().await.ask(ASK).await.status(), 503);
    client.finish().await;
    upstream.ended().await;
    upstream.finish().await;
    client.ended().await;
    // The proxy closes the server's socket a moment after it has passed the end on.
    let mut next = lab.client().await;
    let status = loop {
        next.send(ASK).await;
        let answered = tokio::select! {
            refused = next.message() => Some(refused.status()),
            mut upstream = server.accept() => { upstream.head().await; None }
        };
        if answered != Some(503) {
            break answered;
        }
    };
    assert_eq!(status, None);
}

/// U2
#[tokio::test]
async fn a_tunnel_without_traffic_is_closed() {
    let server = Server::start().await;
    let tunnel_idle = Duration::from_millis(100);
    let timeouts = HttpTimeouts { tunnel_idle, ..Setup::default().timeouts };
    let lab = Setup { timeouts, ..Setup::default() }.start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    assert!(client.rest().await.is_err());
    assert!(upstream.rest().await.is_err());
}

/// U2
#[tokio::test]
async fn a_tunnel_outlives_reloads() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    lab.use_servers(&[]);
    let (dead, _held) = refusing_tcp();
    lab.use_another_pool(dead);
    lab.close();
    passes(&mut client, &mut upstream).await;
    passes(&mut upstream, &mut client).await;
}

/// U2
#[tokio::test]
async fn draining_waits_for_a_tunnel() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    let talk = async move {
        passes(&mut client, &mut upstream).await;
        client.finish().await;
        upstream.ended().await;
        upstream.finish().await;
        client.ended().await;
    };
    let (drained, ()) = tokio::join!(lab.drain(Duration::from_secs(30)), talk);
    assert_eq!((drained.finished, drained.aborted), (1, 0));
}

#[tokio::test]
async fn a_tunnel_is_reset_at_the_end_of_draining() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (mut client, mut upstream) = open(&lab, &server).await;
    let drained = lab.drain(Duration::from_millis(50)).await;
    assert_eq!((drained.finished, drained.aborted), (0, 1));
    assert!(client.rest().await.is_err());
    assert!(upstream.rest().await.is_err());
}

#[tokio::test]
async fn a_server_may_decline() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    assert_eq!(client.ask(ASK).await.text(), "ok");
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.text(), "ok");
}

/// U1
#[tokio::test]
async fn a_switch_that_was_not_asked_for_is_a_bad_gateway() {
    let other = SWITCH.replace("websocket", "h2c");
    for (request, response) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", SWITCH),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", SWITCH),
        (ASK, &other),
    ] {
        let server = Server::start().await;
        let lab = Setup::default().start(&[server.address]);
        let mut client = lab.client().await;
        client.send(request).await;
        let mut upstream = server.accept().await;
        upstream.head().await;
        upstream.send(response).await;
        assert_eq!(client.message().await.status(), 502);
        upstream.ended().await;
    }
}

/// P1, U1
#[tokio::test]
async fn an_upgrade_to_anything_else_is_not_offered_to_the_server() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    let mut upstream = server.accept().await;
    assert_eq!(upstream.message().await.field("upgrade"), None);
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}
