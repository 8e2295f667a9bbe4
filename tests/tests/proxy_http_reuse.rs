//! Connections to servers: kept, used again, and what happens when one has died meanwhile.

use std::time::Duration;

use deston::model::PoolTimeouts;
use deston_tests::http::{Lab, Peer, Server, Setup};
use deston_tests::server::refusing_tcp;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A client and a server's connection that has served it one request and is idle.
async fn idle_connection(server: &Server) -> (Lab, Peer, Peer) {
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
    (lab, client, upstream)
}

#[tokio::test]
async fn one_connection_serves_requests_of_many_clients() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    for _ in 0..10 {
        assert_eq!(lab.client().await.ask(GET).await.text(), "ok");
    }
    assert_eq!((server.requests(), server.connections()), (10, 1));
}

#[tokio::test]
async fn the_connection_used_last_is_used_first() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    one.send(GET).await;
    let mut first = server.accept().await;
    first.message().await;
    two.send(GET).await;
    let mut second = server.accept().await;
    second.message().await;
    for (client, upstream) in [(&mut two, &mut second), (&mut one, &mut first)] {
        upstream.send(OK).await;
        client.message().await;
    }
    two.send(GET).await;
    first.message().await;
    first.send(OK).await;
    assert_eq!(two.message().await.text(), "ok");
}

#[tokio::test]
async fn a_connection_that_the_server_closes_is_not_used_again() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    for _ in 0..3 {
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.message().await.text(), "ok");
        upstream.ended().await;
    }
}

#[tokio::test]
async fn a_server_that_closes_idle_connections_fails_no_request() {
    let server = Server::start().await;
    let (lab, mut client, upstream) = idle_connection(&server).await;
    drop(upstream);
    for request in [POST, GET, POST] {
        client.send(request).await;
        let mut upstream = server.accept().await;
        assert!(upstream.message().await.start().starts_with(&request[..4]));
        upstream.send(OK).await;
        assert_eq!(client.message().await.text(), "ok");
        drop(upstream);
    }
    assert_eq!(lab.servers[0].opened(), 4);
}

#[tokio::test]
async fn bytes_nobody_asked_for_end_an_idle_connection() {
    let server = Server::start().await;
    let (_lab, mut client, mut upstream) = idle_connection(&server).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
    client.send(GET).await;
    let mut fresh = server.accept().await;
    fresh.message().await;
    fresh.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn bytes_beyond_a_response_are_never_part_of_the_next() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!(client.message().await.text(), "ok");
    client.send(GET).await;
    let mut fresh = server.accept().await;
    fresh.message().await;
    fresh.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn a_get_that_died_silently_on_a_used_connection_is_sent_once_more() {
    let server = Server::start().await;
    let (_lab, mut client, mut upstream) = idle_connection(&server).await;
    client.send(GET).await;
    upstream.message().await;
    drop(upstream);
    let mut fresh = server.accept().await;
    fresh.message().await;
    fresh.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn a_get_that_died_on_a_fresh_connection_is_not_sent_again() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn a_get_is_not_sent_again_once_a_byte_of_a_response_came() {
    let server = Server::start().await;
    let (lab, mut client, mut upstream) = idle_connection(&server).await;
    client.send(GET).await;
    upstream.message().await;
    upstream.send("HTTP/1.1 20").await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn a_get_is_sent_at_most_twice() {
    let server = Server::start().await;
    let (lab, mut client, mut upstream) = idle_connection(&server).await;
    client.send(GET).await;
    upstream.message().await;
    drop(upstream);
    let mut fresh = server.accept().await;
    fresh.message().await;
    drop(fresh);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[0].opened(), 2);
}

#[tokio::test]
async fn a_post_whose_bytes_were_sent_is_never_sent_again() {
    let server = Server::start().await;
    let (lab, mut client, mut upstream) = idle_connection(&server).await;
    client.send(POST).await;
    assert_eq!(upstream.message().await.text(), "abc");
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn a_post_without_a_body_is_never_sent_again_either() {
    let server = Server::start().await;
    let (lab, mut client, mut upstream) = idle_connection(&server).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    upstream.message().await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn a_server_that_refuses_connections_costs_no_request() {
    let live = Server::start().await.answering(|_| OK.to_owned());
    let (dead, _held) = refusing_tcp();
    let lab = Setup::default().start(&[dead, live.address]);
    let mut client = lab.client().await;
    for _ in 0..4 {
        assert_eq!(client.ask(POST).await.text(), "ok");
    }
    assert_eq!(live.requests(), 4);
}

#[tokio::test]
async fn an_unused_connection_is_closed_in_time() {
    let server = Server::start().await;
    let idle = Duration::from_millis(50);
    let pool = PoolTimeouts { server_idle: idle, ..Setup::default().pool };
    let lab = Setup { pool, ..Setup::default() }.start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(OK).await;
    client.message().await;
    upstream.ended().await;
    client.send(GET).await;
    server.accept().await.message().await;
}

#[tokio::test]
async fn the_servers_own_keep_alive_limit_is_respected() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    let limited = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok";
    upstream.send(limited).await;
    client.message().await;
    // `server_idle` is a minute here.
    upstream.ended().await;
}

#[tokio::test]
async fn a_keep_alive_limit_of_ages_is_as_good_as_none() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    for _ in 0..2 {
        upstream.message().await;
        let ages = format!("Keep-Alive: timeout={}", u64::MAX);
        upstream.send(format!("HTTP/1.1 200 OK\r\n{ages}\r\nContent-Length: 2\r\n\r\nok")).await;
        assert_eq!(client.message().await.text(), "ok");
        client.send(GET).await;
    }
}

#[tokio::test]
async fn connections_are_not_kept_when_server_idle_is_off() {
    let server = Server::start().await;
    let pool = PoolTimeouts { server_idle: Duration::ZERO, ..Setup::default().pool };
    let lab = Setup { pool, ..Setup::default() }.start(&[server.address]);
    let mut client = lab.client().await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstream.send(OK).await;
        client.message().await;
        upstream.ended().await;
    }
}
