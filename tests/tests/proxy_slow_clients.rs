//! A thousand clients that are as slow as they can be: memory stays bounded, and others are served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deston_tests::http::Peer;
use deston_tests::lab::Deston;
use deston_tests::tools::tool;

/// Slow clients of one kind, all at once.
const CLIENTS: &str = "1000";
/// How long they try.
const SECONDS: &str = "12";
/// Most memory that the process may ever have had, in kB.
const MEMORY: u64 = 100_000;
/// Requests of another client meanwhile, at least.
const REQUESTS: usize = 100;

/// A server whose answer is longer than what sockets hold.
async fn server() -> deston_tests::http::Answering {
    let body = "x".repeat(256 * 1024);
    deston_tests::http::Server::start().await.answering(move |request| {
        let body = if request.start().contains("/large") { &body[..] } else { "ok" };
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    })
}

fn started(server: SocketAddr) -> (Deston, SocketAddr) {
    loop {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        drop(socket);
        let config = format!(
            "[load_balancer]\naddress = \"127.0.0.1\"\nport = {}\nlayer = \"L7\"\n\
             [[server]]\naddress = \"127.0.0.1\"\nport = {}\nmax_connections = 2000\n",
            address.port(),
            server.port()
        );
        if let Some(deston) = Deston::local(&config) {
            return (deston, address);
        }
    }
}

/// The most memory that the process has had, in kB.
fn most_memory(deston: &Deston) -> u64 {
    let path = format!("/proc/{}/status", deston.pid());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
}

/// Asks one request after the other for as long as `until` is not over; the median of their times.
async fn served(address: SocketAddr, until: impl Future<Output = String>) -> (String, Duration) {
    let mut until = std::pin::pin!(until);
    let mut times = Vec::new();
    let mut client = Peer::connect(address).await;
    loop {
        let began = Instant::now();
        let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.status(), 200);
        times.push(began.elapsed());
        let pause = tokio::time::timeout(Duration::from_millis(20), until.as_mut());
        if let Ok(printed) = pause.await {
            assert!(times.len() >= REQUESTS, "{} requests were served meanwhile", times.len());
            times.sort();
            return (printed, times[times.len() / 2]);
        }
    }
}

async fn alone(address: SocketAddr) -> Duration {
    let enough = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        String::new()
    };
    served(address, enough).await.1
}

/// Runs slowhttptest in one of its modes, and asserts what must hold.
async fn slow(mode: &str, more: &[&str]) {
    let server = server().await;
    let (deston, address) = started(server.address);
    let before = alone(address).await;
    let url = format!("http://{address}/large");
    let told = [mode, "-c", CLIENTS, "-r", "500", "-l", SECONDS, "-i", "5", "-u", &url];
    let (printed, during) =
        served(address, tool("slowhttptest", &[&told[..], more].concat())).await;
    // Between colours; said again every few seconds.
    let available = printed.rsplit("service available:").next().unwrap_or_default();
    assert!(available.contains("YES"), "{printed}");
    let memory = most_memory(&deston);
    println!(
        "slowhttptest {mode}: at most {memory} kB, p50 of others {during:?}, alone {before:?}"
    );
    assert!(memory < MEMORY, "{memory} kB with slowhttptest {mode}");
}

#[tokio::test]
async fn slow_heads_cost_little_and_hold_nobody_up() {
    slow("-H", &[]).await;
}

#[tokio::test]
async fn slow_bodies_cost_little_and_hold_nobody_up() {
    slow("-B", &["-s", "8192"]).await;
}

#[tokio::test]
async fn slow_readers_cost_little_and_hold_nobody_up() {
    slow("-X", &["-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"]).await;
}
