//! Connections of layer 4 that wait for a slot of a server.

use std::sync::Arc;
use std::time::Duration;

use deston::live::{Pool, View};
use deston::model::{Algorithm, Queue, Treatment};
use deston_tests::live::{live_pool, server};
use deston_tests::proxied::Proxied;
use deston_tests::server::Server;
use deston_tests::wait::{soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A pool of one server with one slot, with a queue.
fn pool(echo: &Server, size: u32, timeout: Duration) -> Arc<Pool> {
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address).max_connections(1)]);
    let view = pool.view();
    let treatment = Treatment { queue: Queue { size, timeout }, ..Treatment::NONE };
    pool.publish(View { treatment, ..View::clone(&view) });
    pool
}

async fn echoes(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, text.as_bytes());
}

#[tokio::test]
async fn a_connection_waits_for_another_to_close() {
    let echo = Server::echo().await;
    let pool = pool(&echo, 9, Duration::from_secs(60));
    let proxied = Proxied::tcp(&pool);
    let mut first = TcpStream::connect(proxied.address).await.unwrap();
    echoes(&mut first, "first").await;
    let mut second = TcpStream::connect(proxied.address).await.unwrap();
    until("it waits", || pool.line().len() == 1).await;
    drop(first);
    echoes(&mut second, "second").await;
}

#[tokio::test]
async fn a_client_that_resets_frees_its_place() {
    let echo = Server::echo().await;
    let pool = pool(&echo, 9, Duration::from_secs(60));
    let proxied = Proxied::tcp(&pool);
    let mut first = TcpStream::connect(proxied.address).await.unwrap();
    echoes(&mut first, "first").await;
    let second = TcpStream::connect(proxied.address).await.unwrap();
    until("it waits", || pool.line().len() == 1).await;
    second.set_zero_linger().unwrap();
    drop(second);
    until("it no longer does", || pool.line().is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_has_waited_too_long_is_reset() {
    let echo = Server::echo().await;
    let pool = pool(&echo, 9, Duration::from_millis(100));
    let proxied = Proxied::tcp(&pool);
    let mut first = TcpStream::connect(proxied.address).await.unwrap();
    echoes(&mut first, "first").await;
    let mut second = TcpStream::connect(proxied.address).await.unwrap();
    let ended = soon(second.read(&mut [0])).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    echoes(&mut first, "still").await;
}
