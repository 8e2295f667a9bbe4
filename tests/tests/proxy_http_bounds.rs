//! `[listener.limits]`: how much a client may ask for.

use deston::model::Limits;
use deston_tests::http::{Lab, Peer, Server, Setup};
use deston_tests::wait::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn lab(workers: usize, limits: Limits) -> (Lab, impl Sized) {
    let server = Server::start().await.answering(|_| OK.to_owned());
    (Setup { workers, limits, ..Setup::default() }.start(&[server.address]), server)
}

/// As many clients as are served, each with an answer.
async fn served(lab: &Lab, count: usize) -> Vec<Peer> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = lab.client().await;
        assert_eq!(client.ask(GET).await.status(), 200);
        clients.push(client);
    }
    clients
}

async fn connections_are_limited(limits: Limits) {
    let (lab, _server) = lab(4, limits).await;
    let mut clients = served(&lab, 3).await;
    for refused in 1..=5 {
        // Without a byte, whichever worker takes it.
        lab.client().await.ended().await;
        assert_eq!(lab.refusals().over_limit, refused);
    }
    assert_eq!(clients[0].ask(GET).await.status(), 200, "those there are go on");
    clients.pop();
    // That a worker has seen the end of a connection nothing tells.
    loop {
        let mut client = lab.client().await;
        if client.try_send(GET).await.is_ok() && client.next().await.is_some() {
            return;
        }
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_whichever_worker_has_them() {
    connections_are_limited(Limits { connections: 3, ..Limits::default() }).await;
}

#[tokio::test]
async fn connections_of_one_client_beyond_its_limit_are_closed() {
    connections_are_limited(Limits { connections_per_ip: 3, ..Limits::default() }).await;
}

#[tokio::test]
async fn connections_that_come_and_go_are_never_too_many() {
    let (lab, _server) = lab(1, Limits { connections_per_ip: 2, ..Limits::default() }).await;
    for _ in 0..20 {
        let before = lab.refusals().over_limit;
        drop(served(&lab, 1).await);
        until("closed", || lab.open_connections() == 0).await;
        assert_eq!(lab.refusals().over_limit, before);
    }
}

async fn status(lab: &Lab, request: &str) -> u16 {
    lab.client().await.ask(request).await.status()
}

/// S5
#[tokio::test]
async fn a_target_over_the_limit_is_too_long() {
    let (lab, _server) = lab(1, Limits { uri_bytes: 100, ..Limits::default() }).await;
    for (length, expected) in [(99, 200), (100, 414)] {
        let path = "a".repeat(length);
        assert_eq!(
            status(&lab, &format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).await,
            expected
        );
    }
}

/// S5
#[tokio::test]
async fn a_head_over_the_limit_is_too_large() {
    for header_bytes in [2_048, 65_536] {
        let (lab, _server) = lab(1, Limits { header_bytes, ..Limits::default() }).await;
        for (length, expected) in [(header_bytes - 200, 200), (header_bytes + 1, 431)] {
            let value = "a".repeat(length as usize);
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {value}\r\n\r\n");
            assert_eq!(status(&lab, &request).await, expected, "{length}");
        }
    }
}

/// S5
#[tokio::test]
async fn more_fields_than_the_limit_are_too_many() {
    for headers in [10_u16, 100, 300] {
        let (lab, _server) = lab(1, Limits { headers, ..Limits::default() }).await;
        for (count, expected) in [(headers - 1, 200), (headers, 431)] {
            let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(status(&lab, &request).await, expected, "{count}");
        }
    }
}

/// S5
#[tokio::test]
async fn a_response_with_more_fields_than_the_limit_is_a_bad_gateway() {
    for headers in [10_u16, 300] {
        for (count, expected) in [(headers - 1, 200), (headers, 502)] {
            let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{fields}\r\n");
            let server = Server::start().await.answering(move |_| answer.clone());
            let limits = Limits { headers, ..Limits::default() };
            let lab = Setup { limits, ..Setup::default() }.start(&[server.address]);
            assert_eq!(status(&lab, GET).await, expected, "{count}");
        }
    }
}

/// S5
#[tokio::test]
async fn a_response_head_over_the_limit_is_a_bad_gateway() {
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n", "a".repeat(3_000));
    let server = Server::start().await.answering(move |_| answer.clone());
    for (header_bytes, expected) in [(2_048, 502), (4_096, 200)] {
        let limits = Limits { header_bytes, ..Limits::default() };
        let lab = Setup { limits, ..Setup::default() }.start(&[server.address]);
        assert_eq!(status(&lab, GET).await, expected);
    }
}

#[tokio::test]
async fn a_body_that_says_to_be_too_long_is_refused_at_once() {
    let server = Server::start().await;
    let limits = Limits { body_bytes: 10, ..Limits::default() };
    let lab = Setup { limits, ..Setup::default() }.start(&[server.address]);
    let mut client = lab.client().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
        .await;
    assert_eq!(client.message().await.status(), 413);
    client.ended().await;
    assert_eq!(lab.servers[0].opened(), 0);
}

#[tokio::test]
async fn a_chunked_body_is_refused_when_it_has_become_too_long() {
    let server = Server::start().await;
    let limits = Limits { body_bytes: 10, ..Limits::default() };
    let lab = Setup { limits, ..Setup::default() }.start(&[server.address]);
    let mut client = lab.client().await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("a\r\n0123456789\r\n").await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    client.send("1\r\n0\r\n").await;
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "413 Payload Too Large\n"));
    client.ended().await;
    assert_eq!(lab.servers[0].streaks().longest(), 0, "no server is to blame");
}

#[tokio::test]
async fn a_body_of_the_longest_length_passes() {
    let (lab, _server) = lab(1, Limits { body_bytes: 10, ..Limits::default() }).await;
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(status(&lab, request).await, 200);
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(status(&lab, request).await, 200);
}
