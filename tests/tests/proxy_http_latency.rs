//! `peak_ewma`: servers that respond sooner get more.

use std::sync::Arc;
use std::time::Duration;

use deston::live::{Load, Pool, View};
use deston::model::Algorithm;
use deston_tests::http::{Peer, Server};
use deston_tests::live::{l7, live_pool, server};
use deston_tests::proxied::{ANY_PORT, Proxied};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn pool(addresses: [std::net::SocketAddr; 2]) -> Arc<Pool> {
    let pool = live_pool(Algorithm::PeakEwma, addresses.map(server));
    let view = pool.view();
    pool.publish(View { load: Load::Latency, ..View::clone(&view) });
    pool
}

#[tokio::test]
async fn a_server_that_is_slow_gets_no_more_while_another_is_quick() {
    let (slow, quick) = (Server::start().await, Server::start().await);
    let pool = pool([slow.address, quick.address]);
    let proxied = Proxied::start(1, ANY_PORT, l7(), &pool);
    pool.view().servers[1].latency().observe(Duration::from_micros(10));
    // What nobody knows is tried once.
    let mut client = Peer::connect(proxied.address).await;
    client.send(GET).await;
    let mut upstream = slow.accept().await;
    upstream.message().await;
    let quick = quick.answering(|_| OK.to_owned());
    let mut other = Peer::connect(proxied.address).await;
    for _ in 0..10 {
        assert_eq!(other.ask(GET).await.status(), 200);
    }
    assert_eq!(quick.requests(), 10);
    upstream.send(OK).await;
    client.message().await;
    // It has taken as long as ten requests to the other, and all else is equal.
    let costs = [0, 1].map(|at| pool.view().servers[at].latency().cost(0));
    assert!(costs[0] > costs[1], "{costs:?}");
}
