//! Requests that wait for a slot of a server.

use std::time::Duration;

use deston::model::{Overflow, Queue, Treatment};
use deston_tests::http::{Lab, Peer, Server, Setup};
use deston_tests::wait::until;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// Longer than any test.
const LONG: Duration = Duration::from_secs(60);

fn setup(size: u32, timeout: Duration) -> Setup {
    let treatment = Treatment { queue: Queue { size, timeout }, ..Treatment::NONE };
    Setup { max_connections: 1, treatment, ..Setup::default() }
}

fn get(path: &str) -> String {
    format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A client whose request waits, as the `nth` in line.
async fn waiting(lab: &Lab, path: &str, nth: usize) -> Peer {
    let mut client = lab.client().await;
    client.send(get(path)).await;
    until("it waits", || lab.waiting() == nth).await;
    client
}

/// A lab whose one slot is taken, by whom, and the server's end of that.
async fn full(setup: Setup, server: &Server) -> (Lab, Peer, Peer) {
    let lab = setup.start(&[server.address]);
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    (lab, client, upstream)
}

#[tokio::test]
async fn requests_are_served_in_the_order_they_came() {
    for workers in [1, 3] {
        let server = Server::start().await;
        let (lab, _first, mut upstream) = full(Setup { workers, ..setup(9, LONG) }, &server).await;
        let mut clients = Vec::new();
        for nth in 1..=6 {
            clients.push(waiting(&lab, &nth.to_string(), nth).await);
        }
        for nth in 1..=6 {
            upstream.send(LAST).await;
            upstream = server.accept().await;
            let asked = upstream.message().await;
            assert!(asked.start().starts_with(&format!("GET /{nth} ")), "{}", asked.start());
        }
        upstream.send(LAST).await;
        for mut client in clients {
            assert_eq!(client.message().await.status(), 200);
        }
        assert_eq!(lab.waiting(), 0);
    }
}

#[tokio::test]
async fn a_connection_that_becomes_idle_serves_the_next_in_line() {
    let server = Server::start().await;
    let (lab, _first, mut upstream) = full(setup(9, LONG), &server).await;
    let mut client = waiting(&lab, "next", 1).await;
    upstream.send(OK).await;
    assert!(upstream.message().await.start().starts_with("GET /next "));
    upstream.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
    assert_eq!(lab.servers[0].opened(), 1);
}

#[tokio::test]
async fn a_newcomer_does_not_overtake() {
    let server = Server::start().await;
    let (lab, mut first, mut upstream) = full(setup(9, LONG), &server).await;
    let mut waits = waiting(&lab, "waits", 1).await;
    // The client of the answer that frees the slot asks again at once.
    upstream.send(OK).await;
    assert_eq!(first.message().await.status(), 200);
    first.send(get("again")).await;
    assert!(upstream.message().await.start().starts_with("GET /waits "));
    upstream.send(OK).await;
    assert!(upstream.message().await.start().starts_with("GET /again "));
    upstream.send(OK).await;
    assert_eq!((waits.message().await.status(), first.message().await.status()), (200, 200));
}

#[tokio::test]
async fn beyond_its_size_a_queue_refuses_at_once() {
    let server = Server::start().await;
    let (lab, _first, _upstream) = full(setup(2, LONG), &server).await;
    let _waiting = [waiting(&lab, "", 1).await, waiting(&lab, "", 2).await];
    let refused = lab.client().await.ask(GET).await;
    assert_eq!((refused.status(), refused.field("retry-after").as_deref()), (503, Some("1")));
}

#[tokio::test]
async fn who_has_waited_too_long_is_refused() {
    let server = Server::start().await;
    let (lab, _first, _upstream) = full(setup(9, Duration::from_millis(100)), &server).await;
    let mut client = lab.client().await;
    for _ in 0..2 {
        let refused = client.ask(GET).await;
        assert_eq!((refused.status(), refused.field("retry-after").as_deref()), (503, Some("1")));
    }
    assert_eq!(lab.waiting(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_place_and_loses_nobody_a_slot() {
    let server = Server::start().await;
    let (lab, _first, mut upstream) = full(setup(2, LONG), &server).await;
    let leaving = waiting(&lab, "leaving", 1).await;
    let mut stays = waiting(&lab, "stays", 2).await;
    drop(leaving);
    until("its place is free", || lab.waiting() == 1).await;
    let _newcomer = waiting(&lab, "newcomer", 2).await;
    upstream.send(OK).await;
    assert!(upstream.message().await.start().starts_with("GET /stays "));
    upstream.send(OK).await;
    assert_eq!(stays.message().await.status(), 200);
}

#[tokio::test]
async fn nobody_waits_for_a_pool_without_servers() {
    let lab = setup(9, LONG).start(&[]);
    assert_eq!(lab.client().await.ask(GET).await.status(), 503);
}

#[tokio::test]
async fn who_waits_is_refused_once_no_server_is_left() {
    let server = Server::start().await;
    let (lab, _first, _upstream) = full(setup(9, LONG), &server).await;
    let mut waits = [waiting(&lab, "", 1).await, waiting(&lab, "", 2).await];
    lab.use_servers(&[]);
    for client in &mut waits {
        assert_eq!(client.message().await.status(), 503);
    }
}

#[tokio::test]
async fn who_waits_is_served_once_a_limit_is_raised() {
    let server = Server::start().await;
    let (lab, _first, _upstream) = full(setup(9, LONG), &server).await;
    let _waits = [waiting(&lab, "1", 1).await, waiting(&lab, "2", 2).await];
    lab.servers[0].set_limit(3);
    let mut asked = Vec::new();
    for _ in 0..2 {
        asked.push(server.accept().await);
    }
    assert_eq!((lab.waiting(), lab.servers[0].open()), (0, 3));
}

#[tokio::test]
async fn who_waits_is_served_by_a_server_that_comes_up() {
    let (server, other) = (Server::start().await, Server::start().await);
    let setup = setup(9, LONG);
    let lab = setup.start(&[server.address, other.address]);
    let both = lab.servers.clone();
    lab.use_servers(&both[..1]);
    let mut first = lab.client().await;
    first.send(GET).await;
    let _upstream = server.accept().await;
    let _waits = waiting(&lab, "", 1).await;
    lab.use_servers(&both);
    other.accept().await.message().await;
}

#[tokio::test]
async fn a_dead_server_does_not_keep_others_from_waiting_for_a_full_one() {
    let server = Server::start().await;
    let (dead, _held) = deston_tests::server::refusing_tcp();
    let lab = setup(9, LONG).start(&[dead, server.address]);
    let mut first = lab.client().await;
    first.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    let mut waits = [waiting(&lab, "", 1).await, waiting(&lab, "", 2).await];
    for client in &mut waits {
        upstream.send(OK).await;
        upstream.message().await;
        upstream.send(OK).await;
        assert_eq!(client.message().await.status(), 200);
        client.send(GET).await;
    }
}

#[tokio::test]
async fn a_limit_may_be_exceeded_where_the_pool_says_so() {
    let server = Server::start().await;
    let mut setup = setup(0, LONG);
    setup.treatment.overflow = Overflow::Any;
    let (lab, _first, _upstream) = full(setup, &server).await;
    let mut client = lab.client().await;
    client.send(GET).await;
    let mut second = server.accept().await;
    second.message().await;
    assert_eq!(lab.servers[0].open(), 2);
    second.send(OK).await;
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test]
async fn many_clients_of_many_workers_are_all_served_within_the_limit() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let setup = Setup { workers: 3, max_connections: 2, ..setup(1_000, LONG) };
    let lab = setup.start(&[server.address]);
    let watched = std::sync::Arc::clone(&lab.servers[0]);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let mut client = lab.client().await;
        let watched = std::sync::Arc::clone(&watched);
        clients.spawn(async move {
            for _ in 0..25 {
                assert_eq!(client.ask(GET).await.status(), 200);
                assert!(watched.open() <= 2);
            }
        });
    }
    clients.join_all().await;
    assert_eq!((server.requests(), lab.waiting()), (1_000, 0));
}
