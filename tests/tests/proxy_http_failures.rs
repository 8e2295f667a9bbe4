//! When servers or clients fail: what the client is told, and when.

use std::net::SocketAddr;
use std::time::Duration;

use deston::model::{HttpTimeouts, PoolTimeouts};
use deston_tests::http::{Lab, Message, Peer, Server, Setup};
use deston_tests::server::refusing_tcp;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Short enough to wait for, long enough not to pass by accident before it is asked for.
const SOON: Duration = Duration::from_millis(200);

/// The client's answer when the server answers `response` and closes.
async fn answered(response: &str) -> Message {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(response).await;
    drop(upstream);
    client.message().await
}

fn with_timeouts(server: SocketAddr, change: impl FnOnce(&mut HttpTimeouts)) -> Lab {
    let mut setup = Setup::default();
    change(&mut setup.timeouts);
    setup.start(&[server])
}

fn with_pool_timeouts(server: SocketAddr, change: impl FnOnce(&mut PoolTimeouts)) -> Lab {
    let mut setup = Setup::default();
    change(&mut setup.pool);
    setup.start(&[server])
}

/// A request under way, both ends.
async fn under_way(lab: &Lab, server: &Server, request: &str) -> (Peer, Peer) {
    let mut client = lab.client().await;
    client.send(request).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    (client, upstream)
}

#[tokio::test]
async fn a_server_that_refuses_connections_is_a_bad_gateway() {
    let (dead, _held) = refusing_tcp();
    let lab = Setup::default().start(&[dead]);
    let mut client = lab.client().await;
    let answer = client.ask(GET).await;
    assert_eq!((answer.status(), answer.text().as_str()), (502, "502 Bad Gateway\n"));
    // The client's connection is none the worse for it.
    assert_eq!(client.ask(GET).await.status(), 502);
}

#[tokio::test]
async fn a_server_that_does_not_answer_a_syn_is_a_timeout() {
    // TEST-NET-1 (RFC 5737) is routed nowhere; without a route at all it is a 502.
    let address = SocketAddr::from(([192, 0, 2, 1], 80));
    let lab = with_pool_timeouts(address, |pool| pool.connect = SOON);
    let status = lab.client().await.ask(GET).await.status();
    assert!([502, 504].contains(&status), "{status}");
}

#[tokio::test]
async fn a_pool_without_servers_is_unavailable() {
    let lab = Setup::default().start(&[]);
    let answer = lab.client().await.ask(GET).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
}

#[tokio::test]
async fn what_is_no_http_response_is_a_bad_gateway() {
    for response in ["", "HTTP/1.1 2", "SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nA b\r\n\r\n"]
    {
        assert_eq!(answered(response).await.status(), 502, "{response:?}");
    }
}

/// F5, F9
#[tokio::test]
async fn a_response_with_an_unknown_framing_is_a_bad_gateway() {
    for fields in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip",
        "Content-Length: x",
        "Content-Length: 1\r\nContent-Length: 2",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n0\r\n\r\n");
        assert_eq!(answered(&response).await.status(), 502, "{fields}");
    }
}

/// S5
#[tokio::test]
async fn a_response_head_over_32_kib_is_a_bad_gateway() {
    let field = "a".repeat(32 * 1024);
    assert_eq!(answered(&format!("HTTP/1.1 200 OK\r\nX: {field}\r\n\r\n")).await.status(), 502);
}

#[tokio::test]
async fn a_response_cut_short_is_a_reset_and_never_an_end() {
    for (head, part) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "zz\r\n"),
    ] {
        for version in ["1.0", "1.1"] {
            let server = Server::start().await;
            let lab = Setup::default().start(&[server.address]);
            let request = format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
            let (mut client, mut upstream) = under_way(&lab, &server, &request).await;
            upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
            client.head().await;
            upstream.send(part).await;
            drop(upstream);
            let end = client.rest().await;
            assert!(end.is_err(), "HTTP/{version} {part:?} ended with {end:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_does_not_respond_in_time_is_a_timeout() {
    let server = Server::start().await;
    let lab = with_pool_timeouts(server.address, |pool| pool.response_head = SOON);
    let (mut client, mut upstream) = under_way(&lab, &server, GET).await;
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text().as_str()), (504, "504 Gateway Timeout\n"));
    upstream.ended().await;
    // The next request has its own time.
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn the_response_is_due_once_the_whole_request_is_sent() {
    let server = Server::start().await;
    let lab = with_pool_timeouts(server.address, |pool| pool.response_head = SOON);
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
    let (mut client, mut upstream) = under_way(&lab, &server, request).await;
    // A body that takes longer than `response_head`.
    for byte in ["a", "b", "c", "d"] {
        tokio::time::sleep(SOON / 2).await;
        client.send(byte).await;
        assert_eq!(upstream.exactly(1).await, byte.as_bytes());
    }
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

/// F9
#[tokio::test]
async fn a_broken_request_body_is_the_clients_fault() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut upstream) = under_way(&lab, &server, head).await;
    client.send("3\r\nabc\r\n").await;
    assert_eq!(upstream.exactly(8).await, b"3\r\nabc\r\n");
    client.send("zz\r\n").await;
    assert_eq!(client.message().await.status(), 400);
    client.ended().await;
    assert_eq!(upstream.rest().await.unwrap_or_default(), b"", "the server saw an end of the body");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (client, mut upstream) = under_way(&lab, &server, GET).await;
    drop(client);
    upstream.ended().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_told_so() {
    let server = Server::start().await;
    let lab = with_timeouts(server.address, |timeouts| timeouts.request_head = SOON);
    let mut client = lab.client().await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!(client.message().await.status(), 408);
    client.ended().await;
}

#[tokio::test]
async fn a_second_head_has_the_same_time_as_the_first() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = with_timeouts(server.address, |timeouts| timeouts.request_head = SOON);
    let mut client = lab.client().await;
    assert_eq!(client.ask(GET).await.status(), 200);
    client.send("GET / HT").await;
    assert_eq!(client.message().await.status(), 408);
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_let_go() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = with_timeouts(server.address, |timeouts| timeouts.client_idle = SOON);
    let (mut silent, mut served) = (lab.client().await, lab.client().await);
    assert_eq!(served.ask(GET).await.status(), 200);
    silent.ended().await;
    served.ended().await;
}

#[tokio::test]
async fn a_request_body_that_stands_still_ends_the_connection() {
    let server = Server::start().await;
    let lab = with_timeouts(server.address, |timeouts| timeouts.stream_idle = SOON);
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na";
    let (mut client, mut upstream) = under_way(&lab, &server, request).await;
    assert!(client.rest().await.is_err());
    assert_eq!(upstream.rest().await.unwrap_or_default(), b"a");
}

#[tokio::test]
async fn a_server_that_stops_reading_a_request_body_is_a_timeout() {
    let server = Server::start().await;
    let lab = with_timeouts(server.address, |timeouts| timeouts.stream_idle = SOON * 5);
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    let (mut client, _upstream) = under_way(&lab, &server, request).await;
    client.fill_until_blocked().await;
    assert_eq!(client.message().await.status(), 504);
}

#[tokio::test]
async fn a_response_body_that_stands_still_ends_the_connection() {
    let server = Server::start().await;
    let lab = with_timeouts(server.address, |timeouts| timeouts.stream_idle = SOON);
    let (mut client, mut upstream) = under_way(&lab, &server, GET).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na").await;
    client.head().await;
    assert!(client.rest().await.is_err());
    upstream.ended().await;
}
