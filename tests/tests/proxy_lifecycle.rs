//! Listeners come and go; the proxy ends: what becomes of connections.

#![expect(clippy::unwrap_used, reason = "a specification fails by panicking")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use deston::live::Pool;
use deston::model::{Algorithm, Protocol};
use deston::proxy::{BindError, Drained, Proxy};
use deston_tests::live::{l4, listener, live_listener, live_pool, server};
use deston_tests::proxied::{ANY_PORT, NAME, Proxied};
use deston_tests::server::{Server, answer};
use deston_tests::wait::soon;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn pool_of(server_: &Server) -> Arc<Pool> {
    live_pool(Algorithm::RoundRobin, [server(server_.address)])
}

/// A connection that is served.
async fn connected(address: SocketAddr) -> TcpStream {
    let mut stream = soon(TcpStream::connect(address)).await.unwrap();
    assert!(echoes(&mut stream).await);
    stream
}

async fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").await.is_ok() && soon(stream.read_u8()).await.is_ok()
}

#[tokio::test]
async fn a_closed_listener_refuses_new_connections_and_finishes_old_ones() {
    let echo = Server::echo().await;
    let proxied = Proxied::tcp(&pool_of(&echo));
    let mut old = connected(proxied.address).await;
    proxied.proxy.close(NAME);
    let refusal = soon(async {
        loop {
            match TcpStream::connect(proxied.address).await {
                // Workers close one after the other. What arrives at a socket between its last
                // accept and its close, the kernel resets.
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => break error.kind(),
            }
        }
    });
    assert_eq!(refusal.await, ErrorKind::ConnectionRefused);
    assert!(echoes(&mut old).await);
    old.shutdown().await.unwrap();
    assert_eq!(soon(old.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test]
async fn connections_that_are_queued_when_a_listener_closes_are_served() {
    let echo = Server::echo().await;
    let proxy = Proxy::start(2).unwrap();
    let listener = listener(NAME, ANY_PORT, l4(Protocol::Tcp));
    let bound = proxy.bind(&listener).unwrap();
    let address = bound.address();
    let mut queued = Vec::new();
    for _ in 0..20 {
        queued.push(soon(TcpStream::connect(address)).await.unwrap());
    }
    proxy.open(bound, live_listener(listener, &pool_of(&echo)));
    proxy.close(NAME);
    for stream in &mut queued {
        assert!(echoes(stream).await);
    }
}

#[tokio::test]
async fn a_listener_opened_under_the_same_name_takes_over() {
    let (a, b) = (Server::named("a").await, Server::named("b").await);
    let proxied = Proxied::tcp(&pool_of(&a));
    assert_eq!(soon(answer(proxied.address)).await.unwrap(), "a");
    let other = listener(NAME, proxied.address, l4(Protocol::Tcp));
    let bound = proxied.proxy.bind(&other).expect("the address is the proxy's own");
    proxied.proxy.open(bound, live_listener(other, &pool_of(&b)));
    // Each worker takes over by itself; until then some answers are of the old pool.
    let mut in_turn = 0;
    soon(async {
        while in_turn < 30 {
            let of_b = answer(proxied.address).await.is_ok_and(|name| name == "b");
            in_turn = if of_b { in_turn + 1 } else { 0 };
        }
    })
    .await;
}

#[tokio::test]
async fn draining_lets_connections_finish() {
    let echo = Server::echo().await;
    let proxied = Proxied::tcp(&pool_of(&echo));
    let mut client = connected(proxied.address).await;
    let drain = proxied.proxy.drain(Duration::from_secs(60));
    let finish = async {
        assert!(echoes(&mut client).await);
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    let (drained, ()) = soon(async { tokio::join!(drain, finish) }).await;
    assert_eq!(drained, Drained { finished: 1, aborted: 0 });
}

#[tokio::test]
async fn draining_resets_what_is_left_at_the_deadline() {
    let echo = Server::echo().await;
    let pool = pool_of(&echo);
    let proxied = Proxied::tcp(&pool);
    let mut client = connected(proxied.address).await;
    let drained = soon(proxied.proxy.drain(Duration::from_millis(50))).await;
    assert_eq!(drained, Drained { finished: 0, aborted: 1 });
    let error = soon(client.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(pool.view().servers[0].open(), 0);
}

#[tokio::test]
async fn draining_an_idle_proxy_takes_no_time() {
    let echo = Server::udp("").await;
    let proxied = Proxied::udp(&pool_of(&echo));
    let drained = soon(proxied.proxy.drain(Duration::from_secs(3_600))).await;
    assert_eq!(drained, Drained::default());
}

#[tokio::test]
async fn a_dropped_proxy_resets_its_connections() {
    let echo = Server::echo().await;
    let proxied = Proxied::tcp(&pool_of(&echo));
    let mut client = connected(proxied.address).await;
    drop(proxied);
    let error = soon(client.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_port_that_is_in_use_is_an_error_that_says_so() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap();
    let proxy = Proxy::start(1).unwrap();
    let error = proxy.bind(&listener("web", address, l4(Protocol::Tcp))).unwrap_err();
    let text = format!(
        "listener web: {address}/tcp is in use by another process; \
         stop that process or choose another port"
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_udp_port_that_is_in_use_is_an_error() {
    let taken = UdpSocket::bind(ANY_PORT).unwrap();
    let proxy = Proxy::start(1).unwrap();
    let listener = listener("dns", taken.local_addr().unwrap(), l4(Protocol::Udp));
    assert!(matches!(proxy.bind(&listener), Err(BindError::InUse { .. })));
}

#[test]
fn two_proxies_do_not_share_a_port_unnoticed() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let (first, second) = (Proxy::start(2).unwrap(), Proxy::start(2).unwrap());
        let bound = first.bind(&listener("web", ANY_PORT, l4(protocol))).unwrap();
        for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let address = SocketAddr::from((host, bound.address().port()));
            let refused = second.bind(&listener("web", address, l4(protocol)));
            assert!(matches!(refused, Err(BindError::InUse { .. })), "{protocol:?} {address}");
        }
        drop(bound);
        second.bind(&listener("web", ANY_PORT, l4(protocol))).unwrap();
    }
}

#[tokio::test]
async fn a_named_address_goes_before_every_address_whichever_is_bound_first() {
    for named_first in [false, true] {
        let (every_server, named_server) =
            (Server::named("every").await, Server::named("named").await);
        let (every_pool, named_pool) = (pool_of(&every_server), pool_of(&named_server));
        let proxy = Proxy::start(2).unwrap();
        let loopback = |last, port| SocketAddr::from(([127, 0, 0, last], port));
        let every_address = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let open = |name, address, pool| {
            let listener = listener(name, address, l4(Protocol::Tcp));
            let bound = proxy.bind(&listener).unwrap();
            let port = bound.address().port();
            proxy.open(bound, live_listener(listener, pool));
            port
        };
        let port = if named_first {
            let port = open("named", loopback(2, 0), &named_pool);
            open("every", every_address(port), &every_pool)
        } else {
            let port = open("every", every_address(0), &every_pool);
            open("named", loopback(2, port), &named_pool)
        };
        for (last, expected) in [(1, "every"), (2, "named"), (3, "every")] {
            assert_eq!(soon(answer(loopback(last, port))).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn a_port_whose_connections_are_still_closing_can_be_bound() {
    let closing = Server::named("closes first").await;
    let proxied = Proxied::tcp(&pool_of(&closing));
    let address = proxied.address;
    // The server's end comes first, so the proxy's socket is the one that waits in TIME_WAIT.
    assert_eq!(soon(answer(address)).await.unwrap(), "closes first");
    drop(proxied);
    let again = Proxy::start(1).unwrap();
    again.bind(&listener("web", address, l4(Protocol::Tcp))).unwrap();
}

#[test]
fn an_address_of_another_host_is_an_error_that_says_so() {
    let proxy = Proxy::start(1).unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 8080));
    let error = proxy.bind(&listener("web", elsewhere, l4(Protocol::Tcp))).unwrap_err();
    assert!(matches!(error, BindError::NotOfThisHost { .. }), "{error}");
    assert!(error.to_string().contains("no interface of this host has the address 192.0.2.1"));
}
