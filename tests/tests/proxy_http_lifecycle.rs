//! Reloads and the end: what is under way goes on.

use std::time::Duration;

use deston_tests::http::{Server, Setup};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn requests_take_turns_among_the_servers_whichever_worker_takes_them() {
    let servers = [
        Server::start().await.answering(|_| OK.replace("ok", "aa")),
        Server::start().await.answering(|_| OK.replace("ok", "bb")),
        Server::start().await.answering(|_| OK.replace("ok", "cc")),
    ];
    let setup = Setup { workers: 4, ..Setup::default() };
    let lab = setup.start(&servers.each_ref().map(|server| server.address));
    let mut answers = String::new();
    // The kernel spreads connections over the workers.
    for _ in 0..15 {
        let mut client = lab.client().await;
        for _ in 0..2 {
            answers += &client.ask(GET).await.text();
        }
    }
    assert_eq!(answers, "aabbcc".repeat(10));
}

#[tokio::test]
async fn a_removed_server_gets_no_new_request_from_an_old_connection() {
    let servers = [
        Server::start().await.answering(|_| OK.to_owned()),
        Server::start().await.answering(|_| OK.to_owned()),
    ];
    let lab = Setup::default().start(&servers.each_ref().map(|server| server.address));
    let mut client = lab.client().await;
    for _ in 0..4 {
        client.ask(GET).await;
    }
    lab.use_servers(&lab.servers[1..]);
    for _ in 0..4 {
        assert_eq!(client.ask(GET).await.status(), 200);
    }
    assert_eq!(servers.map(|server| server.requests()), [2, 6]);
}

#[tokio::test]
async fn a_request_under_way_finishes_on_a_removed_server() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    lab.use_servers(&[]);
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
    assert_eq!(client.ask(GET).await.status(), 503);
}

#[tokio::test]
async fn the_next_request_of_an_old_connection_sees_the_new_pool() {
    let old = Server::start().await.answering(|_| OK.to_owned());
    let new = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[old.address]);
    let mut client = lab.client().await;
    client.ask(GET).await;
    lab.use_another_pool(new.address);
    client.ask(GET).await;
    assert_eq!((old.requests(), new.requests()), (1, 1));
}

#[tokio::test]
async fn a_closed_listener_still_serves_its_connections() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.ask(GET).await;
    lab.close();
    assert_eq!(client.ask(GET).await.text(), "ok");
}

#[tokio::test]
async fn draining_closes_idle_connections_at_once() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup::default().start(&[server.address]);
    let (mut silent, mut served) = (lab.client().await, lab.client().await);
    served.ask(GET).await;
    // A connection that was accepted: its worker has served the one after it.
    let ends = async {
        silent.ended().await;
        served.ended().await;
    };
    let (drained, ()) = tokio::join!(lab.drain(LONG), ends);
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn draining_finishes_a_request_and_then_closes() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    let mut silent = lab.client().await;
    let rest = async {
        // Idle connections end first, so that draining has begun.
        silent.ended().await;
        upstream.send(OK).await;
        let response = client.message().await;
        assert_eq!(response.field("connection").as_deref(), Some("close"));
        assert_eq!(response.text(), "ok");
        client.ended().await;
    };
    let (drained, ()) = tokio::join!(lab.drain(LONG), rest);
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn draining_finishes_a_response_that_has_begun() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await;
    client.head().await;
    let mut silent = lab.client().await;
    let rest = async {
        silent.ended().await;
        upstream.send("def").await;
        assert_eq!(client.exactly(6).await, b"abcdef");
        client.ended().await;
    };
    let (drained, ()) = tokio::join!(lab.drain(LONG), rest);
    assert_eq!(drained.aborted, 0);
}

#[tokio::test]
async fn a_request_that_outlasts_the_deadline_is_reset() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    let drained = lab.drain(Duration::from_millis(50)).await;
    assert_eq!((drained.finished, drained.aborted), (0, 1));
    assert!(client.rest().await.is_err());
    upstream.ended().await;
}

#[tokio::test]
async fn no_connection_to_a_server_outlives_the_proxy() {
    let server = Server::start().await;
    let lab = Setup::default().start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    upstream.send(OK).await;
    client.message().await;
    drop(client);
    lab.drain(LONG).await;
    upstream.ended().await;
}
