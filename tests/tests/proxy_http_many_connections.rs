//! Thousands of clients at once.

#![expect(clippy::unwrap_used, reason = "a specification fails by panicking")]

use deston_tests::http::{Server, Setup};
use tokio::task::JoinSet;

const CLIENTS: usize = 5_000;
/// Requests at once: each has a connection to the server, and all sockets are of this process.
const AT_ONCE: usize = 500;
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn five_thousand_keep_alive_connections_are_all_answered() {
    let server = Server::start().await.answering(|_| OK.to_owned());
    let lab = Setup { workers: 2, ..Setup::default() }.start(&[server.address]);
    let before = resident();
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(lab.client().await);
    }
    let silent = resident().saturating_sub(before) / CLIENTS;
    for round in 1..=2 {
        let mut asking = JoinSet::new();
        let mut answered = Vec::with_capacity(CLIENTS);
        for mut client in clients {
            asking.spawn(async move {
                assert_eq!(client.ask(GET).await.text(), "ok");
                client
            });
            if asking.len() == AT_ONCE {
                answered.extend(asking.join_next().await.map(Result::unwrap));
            }
        }
        answered.extend(asking.join_all().await);
        clients = answered;
        assert_eq!(server.requests(), round * CLIENTS);
    }
    let each = resident().saturating_sub(before) / CLIENTS;
    // The clients are in this process too: some hundred bytes each are theirs.
    println!(
        "{CLIENTS} connections: {silent} bytes each before the first request, {each} after it"
    );
}
