//! Thousands of clients at once.

use deston_tests::http::{Server, Setup};
use tokio::task::JoinSet;

const CLIENTS: usize = 5_000;
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
    let setup = Setup { workers: 2, max_connections: 10_000, ..Setup::default() };
    let lab = setup.start(&[server.address]);
    // Clients and their sockets are in this process too: connected first, they are not counted.
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        clients.push(lab.client().await);
    }
    let before = resident();
    for round in 1..=2 {
        let mut asking = JoinSet::new();
        for mut client in clients.drain(..) {
            asking.spawn(async move {
                assert_eq!(client.ask(GET).await.text(), "ok");
                client
            });
        }
        while let Some(client) = asking.join_next().await {
            clients.push(client.unwrap());
        }
        assert_eq!(server.requests(), round * CLIENTS);
    }
    let each = resident().saturating_sub(before) / CLIENTS;
    println!("{CLIENTS} connections: {each} bytes each, with the test's own buffers");
}
