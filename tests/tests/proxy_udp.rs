//! Layer 4 UDP in userspace. Real sockets on 127.0.0.1.

#![expect(clippy::unwrap_used, reason = "a specification fails by panicking")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use deston::model::{Algorithm, Protocol};
use deston::proxy::Proxy;
use deston_tests::live::{l4, listener, live_listener, live_pool, server};
use deston_tests::proxied::{ANY_PORT, NAME, Proxied};
use deston_tests::server::{Server, refusing_udp};
use deston_tests::wait::{PATIENCE, soon, until};
use tokio::net::UdpSocket;
use tokio::time::{Duration, Instant, timeout};

/// A client that takes datagrams from `to` alone.
async fn client(to: SocketAddr) -> UdpSocket {
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

/// The answer to a datagram.
async fn ask(client: &UdpSocket, question: &str) -> String {
    client.send(question.as_bytes()).await.unwrap();
    received(client).await
}

async fn received(client: &UdpSocket) -> String {
    let mut buffer = vec![0; 65_536];
    let length = soon(client.recv(&mut buffer)).await.unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test]
async fn datagrams_are_answered() {
    let echo = Server::udp("echo ").await;
    let proxied = Proxied::udp(&live_pool(Algorithm::RoundRobin, [server(echo.address)]));
    let client = client(proxied.address).await;
    assert_eq!(ask(&client, "hello").await, "echo hello");
    assert_eq!(ask(&client, "").await, "echo ", "an empty datagram is one");
    let large = "x".repeat(60_000);
    assert_eq!(ask(&client, &large).await, format!("echo {large}"));
}

#[tokio::test]
async fn a_flow_keeps_its_server_and_flows_go_to_each_server_in_turn() {
    let (a, b) = (Server::udp("a").await, Server::udp("b").await);
    let pool = live_pool(Algorithm::RoundRobin, [server(a.address), server(b.address)]);
    let proxied = Proxied::udp(&pool);
    let mut first = String::new();
    for _ in 0..6 {
        let client = client(proxied.address).await;
        let name = ask(&client, "").await;
        for _ in 0..5 {
            assert_eq!(ask(&client, "").await, name);
        }
        first += &name;
    }
    assert_eq!(first, "ababab");
}

#[tokio::test]
async fn a_flow_beyond_the_limit_is_dropped_and_takes_nothing_from_others() {
    let echo = Server::udp("").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address).max_connections(1)]);
    // One worker takes datagrams in the order they were sent.
    let proxied = Proxied::start(1, ANY_PORT, l4(Protocol::Udp), &pool);
    let (within, beyond) = (client(proxied.address).await, client(proxied.address).await);
    assert_eq!(ask(&within, "first").await, "first");
    beyond.send(b"dropped").await.unwrap();
    assert_eq!(ask(&within, "second").await, "second");
    assert_eq!(pool.view().servers[0].opened(), 1);
    assert!(beyond.try_recv(&mut [0; 16]).is_err());
}

#[tokio::test]
async fn a_listener_on_every_address_replies_from_the_one_the_client_wrote_to() {
    let echo = Server::udp("").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let proxied = Proxied::start(2, any, l4(Protocol::Udp), &pool);
    for host in [1, 2, 3] {
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), proxied.address.port()));
        let client = client(to).await;
        assert_eq!(ask(&client, "hello").await, "hello");
        assert_eq!(ask(&client, "again").await, "again");
    }
}

#[tokio::test]
async fn a_datagram_that_came_before_the_listener_opened_is_replied_to_from_its_address() {
    let echo = Server::udp("").await;
    let proxy = Proxy::start(1).unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let listener = listener(NAME, any, l4(Protocol::Udp));
    let bound = proxy.bind(&listener).unwrap();
    let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), bound.address().port()));
    let client = client(to).await;
    client.send(b"early").await.unwrap();
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    proxy.open(bound, live_listener(listener, &pool));
    assert_eq!(received(&client).await, "early");
}

#[tokio::test]
async fn an_ipv6_listener_on_every_address_replies() {
    let echo = Server::udp("").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let proxied = Proxied::start(2, any, l4(Protocol::Udp), &pool);
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, proxied.address.port()));
    assert_eq!(ask(&client(to).await, "hello").await, "hello");
}

#[tokio::test]
async fn a_client_of_a_server_that_refuses_reaches_another_with_a_later_datagram() {
    let (refusing, _taken) = refusing_udp();
    let up = Server::udp("up").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(refusing), server(up.address)]);
    let proxied = Proxied::udp(&pool);
    let client = client(proxied.address).await;
    let begin = Instant::now();
    let mut buffer = [0; 16];
    // As clients do: ask again until there is an answer.
    loop {
        client.send(b"?").await.unwrap();
        if timeout(Duration::from_millis(20), client.recv(&mut buffer)).await.is_ok() {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "no answer");
    }
    assert_eq!(&buffer[..3], b"up?");
}

#[tokio::test]
async fn a_refusing_server_does_not_end_the_listener() {
    let (refusing, _taken) = refusing_udp();
    let pool = live_pool(Algorithm::RoundRobin, [server(refusing)]);
    let proxied = Proxied::udp(&pool);
    let lost = client(proxied.address).await;
    for _ in 0..3 {
        lost.send(b"lost").await.unwrap();
    }
    until("the flow is open", || pool.view().servers[0].open() == 1).await;
    // The pool's server is another one from now on; new flows reach it.
    let up = Server::udp("up").await;
    let other = live_pool(Algorithm::RoundRobin, [server(up.address)]);
    pool.publish(deston::live::View::clone(&other.view()));
    assert_eq!(ask(&client(proxied.address).await, "?").await, "up?");
}

#[tokio::test]
async fn flows_end_with_their_listener() {
    let echo = Server::udp("").await;
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    let proxied = Proxied::udp(&pool);
    let client = client(proxied.address).await;
    assert_eq!(ask(&client, "hello").await, "hello");
    assert_eq!(pool.view().servers[0].open(), 1);
    proxied.proxy.close(NAME);
    until("the flow is over", || pool.view().servers[0].open() == 0).await;
}
