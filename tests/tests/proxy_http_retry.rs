//! Requests that are sent again because of what a server did.

use std::net::SocketAddr;
use std::time::Duration;

use deston::model::{Queue, Retry, Treatment};
use deston_tests::http::{Lab, Peer, Server, Setup};
use deston_tests::server::refusing_tcp;
use deston_tests::wait::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

/// Everything is retried, and the budget is no bound.
const EVERYTHING: Retry =
    Retry { on_5xx: true, floor: 1_000, attempts: 1, budget: 0, replay_bytes: 0, ..DEFAULT };
const DEFAULT: Retry = Retry { on_connect: true, on_reset: true, ..Retry::NONE };

fn lab(retry: Retry, servers: &[SocketAddr]) -> Lab {
    let treatment = Treatment { retry, ..Treatment::NONE };
    Setup { treatment, ..Setup::default() }.start(servers)
}

/// A client's request, and the connection on which the server has got its head.
async fn asked(lab: &Lab, server: &Server, request: &str) -> (Peer, Peer) {
    let mut client = lab.client().await;
    client.send(request).await;
    let mut upstream = server.accept().await;
    upstream.head().await;
    (client, upstream)
}

/// Answers the next request on the next connection; returns its body.
async fn answer(server: &Server, response: &str) -> String {
    let mut upstream = server.accept().await;
    let message = upstream.message().await;
    upstream.send(response).await;
    message.text()
}

#[tokio::test]
async fn a_get_whose_connection_breaks_is_sent_to_another_server() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let (mut client, upstream) = asked(&lab, &a, GET).await;
    drop(upstream);
    answer(&b, OK).await;
    assert_eq!(client.message().await.text(), "ok");
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn the_only_server_is_asked_again() {
    let server = Server::start().await;
    let lab = lab(EVERYTHING, &[server.address]);
    let (mut client, upstream) = asked(&lab, &server, GET).await;
    drop(upstream);
    answer(&server, OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn a_request_is_sent_again_as_often_as_is_set() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let addresses = servers.each_ref().map(|server| server.address);
    let lab = lab(Retry { attempts: 2, ..EVERYTHING }, &addresses);
    let mut client = lab.client().await;
    client.send(GET).await;
    for server in &servers {
        server.accept().await.message().await;
    }
    assert_eq!(client.message().await.status(), 502);
    assert!(lab.servers.iter().all(|server| server.opened() == 1));
}

#[tokio::test]
async fn a_post_is_never_sent_again_once_bytes_of_it_were() {
    let (a, b) = (Server::start().await, Server::start().await);
    let kept = Retry { replay_bytes: 1_000, ..EVERYTHING };
    for response in ["", BUSY] {
        let lab = lab(kept, &[a.address, b.address]);
        let (mut client, mut upstream) = asked(&lab, &a, POST).await;
        upstream.send(response).await;
        drop(upstream);
        assert_eq!(client.message().await.status(), if response.is_empty() { 502 } else { 503 });
        assert_eq!(lab.servers[1].opened(), 0);
    }
}

#[tokio::test]
async fn nothing_is_sent_again_once_a_byte_of_a_response_came() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, GET).await;
    upstream.send("HTTP/1.1 20").await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[1].opened(), 0);
}

#[tokio::test]
async fn an_error_of_a_server_is_asked_of_another() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, GET).await;
    upstream.send(BUSY).await;
    answer(&b, OK).await;
    assert_eq!(client.message().await.text(), "ok");
    // The answer that nobody reads is not waited for.
    upstream.ended().await;
}

#[tokio::test]
async fn an_error_without_a_body_keeps_its_connection() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, GET).await;
    upstream.send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    answer(&b, OK).await;
    assert_eq!(client.message().await.text(), "ok");
    assert_eq!((lab.servers[0].idle(), lab.servers[0].opened()), (1, 1));
}

#[tokio::test]
async fn the_last_error_is_the_clients() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    answer(&a, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    answer(&b, BUSY).await;
    let told = client.message().await;
    assert_eq!((told.status(), told.text().as_str()), (503, "busy"));
}

#[tokio::test]
async fn an_error_stands_if_nobody_else_can_be_asked() {
    let server = Server::start().await;
    let (dead, _held) = refusing_tcp();
    let lab = lab(EVERYTHING, &[server.address, dead]);
    let (mut client, mut upstream) = asked(&lab, &server, GET).await;
    upstream.send("HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull").await;
    assert_eq!(client.message().await.status(), 507);
}

#[tokio::test]
async fn errors_are_the_clients_unless_set_otherwise() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(Retry { on_5xx: false, ..EVERYTHING }, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, GET).await;
    upstream.send(BUSY).await;
    assert_eq!(client.message().await.text(), "busy");
    assert_eq!(lab.servers[1].opened(), 0);
}

#[tokio::test]
async fn errors_count_against_a_server_where_the_pool_says_so() {
    let server = Server::start().await.answering(|asked| {
        let status = asked.start().split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
        format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n")
    });
    let get = |status: u16| format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (count_5xx, counted) in [(true, 2), (false, 0)] {
        let treatment = Treatment { count_5xx, ..Treatment::NONE };
        let lab = Setup { treatment, ..Setup::default() }.start(&[server.address]);
        let mut client = lab.client().await;
        for status in [500, 404, 503, 599] {
            assert_eq!(client.ask(get(status)).await.status(), status);
        }
        assert_eq!(lab.servers[0].streaks().longest(), counted);
    }
}

#[tokio::test]
async fn a_body_that_is_kept_is_sent_again_from_its_beginning() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(Retry { replay_bytes: 6, ..EVERYTHING }, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, PUT).await;
    client.send("abc").await;
    assert_eq!(upstream.exactly(3).await, b"abc");
    drop(upstream);
    let mut upstream = b.accept().await;
    upstream.head().await;
    assert_eq!(upstream.exactly(3).await, b"abc");
    client.send("def").await;
    assert_eq!(upstream.exactly(3).await, b"def");
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn a_chunked_body_that_is_kept_is_sent_again_with_its_trailers() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(Retry { replay_bytes: 100, ..EVERYTHING }, &[a.address, b.address]);
    let mut client = lab.client().await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n3\r\ndef\r\n0\r\nx: y\r\n\r\n",
        )
        .await;
    let first = a.accept().await.message().await;
    let mut second = b.accept().await;
    let again = second.message().await;
    assert_eq!((again.text().as_str(), again.trailers), ("abcdef", first.trailers));
    second.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_not_sent_again() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(Retry { replay_bytes: 5, ..EVERYTHING }, &[a.address, b.address]);
    let (mut client, mut upstream) = asked(&lab, &a, &format!("{PUT}abcdef")).await;
    assert_eq!(upstream.exactly(6).await, b"abcdef");
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[1].opened(), 0);
}

#[tokio::test]
async fn a_body_of_which_nothing_was_read_needs_no_room() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(EVERYTHING, &[a.address, b.address]);
    let (mut client, upstream) = asked(&lab, &a, PUT).await;
    drop(upstream);
    let mut upstream = b.accept().await;
    upstream.head().await;
    client.send("abcdef").await;
    assert_eq!(upstream.exactly(6).await, b"abcdef");
    upstream.send(OK).await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_again() {
    let (a, b) = (Server::start().await, Server::start().await);
    let lab = lab(Retry { floor: 0, ..EVERYTHING }, &[a.address, b.address]);
    let (mut client, upstream) = asked(&lab, &a, GET).await;
    drop(upstream);
    assert_eq!(client.message().await.status(), 502);
    assert_eq!(lab.servers[1].opened(), 0);
}

#[tokio::test]
async fn a_pool_has_one_budget_for_all_workers() {
    let server = Server::start().await.answering(|_| BUSY.to_owned());
    let treatment =
        Treatment { retry: Retry { floor: 5, ..EVERYTHING }, queue: NO_QUEUE, ..Treatment::NONE };
    let setup = Setup { workers: 3, treatment, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    let began = std::time::Instant::now();
    for _ in 0..40 {
        assert_eq!(lab.client().await.ask(GET).await.status(), 503);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    let retries = server.requests() - 40;
    assert!((5..=5 * seconds).contains(&retries), "{retries} in {seconds} s");
}

const NO_QUEUE: Queue = Queue { size: 0, timeout: Duration::ZERO };

#[tokio::test]
async fn a_server_that_refuses_is_the_end_where_connecting_is_not_tried_again() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let (dead, _held) = refusing_tcp();
    let lab = lab(Retry { on_connect: false, ..EVERYTHING }, &[dead, server.address]);
    let mut client = lab.client().await;
    assert_eq!(client.ask(GET).await.status(), 502);
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn all_attempts_together_have_a_deadline() {
    let server = Server::start().await;
    let mut setup = Setup::default();
    setup.pool.total = Duration::from_millis(100);
    let lab = setup.start(&[server.address]);
    let (mut client, mut upstream) = asked(&lab, &server, GET).await;
    assert_eq!(client.message().await.status(), 504);
    upstream.ended().await;
    until("the slot is free", || lab.servers[0].open() == 0).await;
}

#[tokio::test]
async fn a_response_that_has_begun_has_no_total_deadline() {
    let server = Server::start().await;
    let mut setup = Setup::default();
    setup.pool.total = Duration::from_millis(200);
    let lab = setup.start(&[server.address]);
    let (mut client, mut upstream) = asked(&lab, &server, GET).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
    client.head().await;
    // A second request of the same length of time shows that the first one's is over.
    let (mut other, _silent) = asked(&lab, &server, GET).await;
    assert_eq!(other.message().await.status(), 504);
    upstream.send("ok").await;
    assert_eq!(client.exactly(2).await, b"ok");
}
