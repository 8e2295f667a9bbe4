//! What happens when the process runs out of descriptors. Alone in its file, and thus in its
//! process, whose limit it lowers.

use std::net::SocketAddr;

use deston::model::Algorithm;
use deston_tests::echo_process::EchoProcess;
use deston_tests::live::{live_pool, server};
use deston_tests::proxied::Proxied;
use deston_tests::wait::soon;
use nix::sys::resource::{Resource, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Descriptors left when clients begin to come.
const LEFT: u64 = 100;

async fn echoes(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"x").await?;
    stream.read_u8().await?;
    Ok(())
}

#[tokio::test]
async fn accepting_goes_on_once_there_are_descriptors_again() {
    // In this process it would wait for descriptors that only its own answers set free.
    let echo = EchoProcess::start(env!("CARGO_BIN_EXE_echo-server"));
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    let proxied = Proxied::tcp(&pool);
    soon(echoes(proxied.address)).await.unwrap();
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, used + LEFT, used + LEFT).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) = soon(TcpStream::connect(proxied.address)).await {
        clients.push(client);
    }
    assert!(clients.len() > 10, "{} clients came", clients.len());
    drop(clients);
    // Without a descriptor for the client, trying does not even wait.
    soon(async {
        while echoes(proxied.address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
