//! max_connections: a hard limit across workers, which idle connections do not waste.

use deston_tests::http::{Server, Setup, Strict};
use tokio::task::JoinSet;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_beyond_the_limit_is_told_to_come_back() {
    let server = Server::start().await;
    let setup = Setup { max_connections: 1, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    let (mut first, mut second) = (lab.client().await, lab.client().await);
    first.send(GET).await;
    let mut upstream = server.accept().await;
    upstream.message().await;
    let refused = second.ask(GET).await;
    assert_eq!((refused.status(), refused.text().as_str()), (503, "503 Service Unavailable\n"));
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    upstream.send(OK).await;
    assert_eq!(first.message().await.text(), "ok");
    // The same connection goes on, and the slot is free again.
    second.send(GET).await;
    upstream.message().await;
    upstream.send(OK).await;
    assert_eq!(second.message().await.text(), "ok");
}

#[tokio::test]
async fn a_full_server_passes_its_requests_to_the_next() {
    let (full, free) = (Server::start().await, Server::start().await);
    let setup = Setup { max_connections: 1, ..Setup::default() };
    let lab = setup.start(&[full.address, free.address]);
    let clients = [lab.client().await, lab.client().await];
    let mut upstreams = Vec::new();
    for (mut client, server) in clients.into_iter().zip([&full, &free]) {
        client.send(GET).await;
        let mut upstream = server.accept().await;
        upstream.message().await;
        upstreams.push((client, upstream));
    }
    assert_eq!(lab.client().await.ask(GET).await.status(), 503);
}

#[tokio::test]
async fn idle_connections_of_other_workers_give_way() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let setup = Setup { workers: 4, max_connections: 1, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    // The kernel spreads clients over the workers; each keeps the one slot while idle.
    for _ in 0..100 {
        let mut client = lab.client().await;
        for _ in 0..2 {
            assert_eq!(client.ask(GET).await.status(), 200);
        }
    }
    assert!(server.connections() > 1, "only one worker was asked");
}

#[tokio::test]
async fn as_many_clients_as_slots_are_all_served_by_four_workers() {
    const SLOTS: usize = 8;
    let server = Strict::start(SLOTS);
    let max_connections = SLOTS as u32;
    let setup = Setup { workers: 4, max_connections, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    let mut clients = JoinSet::new();
    for _ in 0..SLOTS {
        let address = lab.address;
        clients.spawn(async move {
            for _ in 0..100 {
                let mut client = deston_tests::http::Peer::connect(address).await;
                for _ in 0..3 {
                    assert_eq!(client.ask(GET).await.status(), 200);
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let most = server.most();
    assert!(most <= SLOTS, "{most} connections were open at once");
}

#[tokio::test]
async fn more_clients_than_slots_never_open_more_connections() {
    const SLOTS: usize = 3;
    let server = Strict::start(SLOTS);
    let setup = Setup { workers: 4, max_connections: SLOTS as u32, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    let mut clients = JoinSet::new();
    for _ in 0..32 {
        let address = lab.address;
        clients.spawn(async move {
            let mut client = deston_tests::http::Peer::connect(address).await;
            let mut served = 0;
            for _ in 0..100 {
                match client.ask(GET).await.status() {
                    200 => served += 1,
                    503 => {}
                    status => panic!("answered {status}"),
                }
            }
            served
        });
    }
    let mut served = 0;
    while let Some(ended) = clients.join_next().await {
        served += ended.unwrap();
    }
    let most = server.most();
    assert!(most <= SLOTS, "{most} connections were open at once");
    assert!(served > 0);
}
