//! What a client is told when the process runs out of descriptors. Alone in its file, and thus in
//! its process, whose limit it lowers.

use std::time::Duration;

use deston::model::PoolTimeouts;
use deston_tests::http::{Server, Setup};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_host_without_descriptors_is_unavailable_and_no_server_is_blamed() {
    let servers = [
        Server::start().await.answering(|_| OK.to_owned()),
        Server::start().await.answering(|_| OK.to_owned()),
    ];
    let pool = PoolTimeouts { server_idle: Duration::ZERO, ..Setup::default().pool };
    let lab =
        Setup { pool, ..Setup::default() }.start(&servers.each_ref().map(|server| server.address));
    let mut client = lab.client().await;
    assert_eq!(client.ask(GET).await.status(), 200);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // What is open stays open; nothing more can be.
    setrlimit(Resource::RLIMIT_NOFILE, 1, hard).unwrap();
    let refused = client.ask(GET).await;
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(lab.servers.iter().map(|server| server.opened()).sum::<u64>(), 2);
    assert_eq!(client.ask(GET).await.status(), 200);
}
