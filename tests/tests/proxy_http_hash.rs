//! Servers chosen by a part of the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use deston::live::{Pool, View};
use deston::model::{Algorithm, HashKey, HashOn, Treatment};
use deston_tests::http::{Answering, Peer, Server};
use deston_tests::live::{l7, live_pool, server};
use deston_tests::proxied::{ANY_PORT, Proxied};
use deston_tests::wait::until;

/// Path and field of the request whose part is `n`.
type Part = fn(usize) -> (String, String);

/// Servers that answer with their number.
async fn numbered(count: usize) -> Vec<Answering> {
    let mut servers = Vec::new();
    for number in 0..count {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
        servers.push(Server::start().await.answering(move |_| answer.clone()));
    }
    servers
}

fn pool(
    servers: impl IntoIterator<Item = std::net::SocketAddr>,
    key: HashKey,
    load_factor: u32,
) -> Arc<Pool> {
    let pool = live_pool(Algorithm::Maglev(HashOn::Ip), servers.into_iter().map(server));
    let view = pool.view();
    let treatment = Treatment { load_factor, ..Treatment::NONE };
    pool.publish(View { treatment, hash_key: Some(key), ..View::clone(&view) });
    pool
}

async fn asked(client: &mut Peer, path: &str, field: &str) -> String {
    let answer = client.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).await;
    assert_eq!(answer.status(), 200);
    answer.text()
}

#[tokio::test]
async fn requests_with_the_same_part_reach_the_same_server() {
    let cases: [(HashKey, Part); 4] = [
        (HashKey::Path, |n| (format!("/{n}"), "X: y".to_owned())),
        (HashKey::Query("k".to_owned()), |n| (format!("/?k={n}"), "X: y".to_owned())),
        (HashKey::Cookie("c".to_owned()), |n| ("/".to_owned(), format!("Cookie: c={n}"))),
        (HashKey::Header("x".parse().unwrap()), |n| ("/".to_owned(), format!("X: {n}"))),
    ];
    for (key, request) in cases {
        let servers = numbered(3).await;
        let pool = pool(servers.iter().map(|server| server.address), key.clone(), 0);
        let proxied = Proxied::start(2, ANY_PORT, l7(), &pool);
        let mut reached = BTreeMap::new();
        for round in 0..3 {
            let mut client = Peer::connect(proxied.address).await;
            for n in 0..20 {
                let (path, field) = request(n);
                let server = asked(&mut client, &path, &field).await;
                let first = reached.entry(n).or_insert_with(|| server.clone());
                assert_eq!(*first, server, "{key:?} {n} in round {round}");
            }
        }
        let used: std::collections::BTreeSet<_> = reached.values().collect();
        assert!(used.len() > 1, "{key:?} spreads requests");
    }
}

#[tokio::test]
async fn a_request_without_the_part_goes_where_its_client_does() {
    let servers = numbered(5).await;
    let key = HashKey::Header("x-user".parse().unwrap());
    let pool = pool(servers.iter().map(|server| server.address), key, 0);
    let proxied = Proxied::start(2, ANY_PORT, l7(), &pool);
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut client = Peer::connect(proxied.address).await;
        reached.insert(asked(&mut client, "/", "X: y").await);
    }
    assert_eq!(reached.len(), 1);
}

#[tokio::test]
async fn a_server_with_far_more_than_its_share_is_passed_over() {
    let silent = [Server::start().await, Server::start().await];
    let pool = pool(silent.iter().map(|server| server.address), HashKey::Path, 125);
    let proxied = Proxied::start(1, ANY_PORT, l7(), &pool);
    let mut clients = Vec::new();
    for total in 1..=8 {
        let mut client = Peer::connect(proxied.address).await;
        client.send("GET /hot HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
        let busy = || pool.view().servers.iter().map(|server| server.busy()).sum::<u32>();
        until("it is under way", || busy() == total).await;
    }
    let mut busy: Vec<u32> = pool.view().servers.iter().map(|server| server.busy()).collect();
    busy.sort_unstable();
    // 1.25 times half of 8.
    assert_eq!(busy, [3, 5]);
}
