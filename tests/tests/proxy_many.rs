//! Thousands of connections at once through a layer 4 listener, and what each costs.

#![expect(clippy::unwrap_used, reason = "a specification fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;

use deston::model::Algorithm;
use deston_tests::echo_process::EchoProcess;
use deston_tests::live::{live_pool, server};
use deston_tests::proxied::Proxied;
use deston_tests::wait::PATIENCE;

const CONNECTIONS: usize = 5_000;

#[test]
fn five_thousand_connections_are_answered_at_once() {
    // In this process its descriptors would be too many.
    let echo = EchoProcess::start(env!("CARGO_BIN_EXE_echo-server"));
    let pool = live_pool(Algorithm::RoundRobin, [server(echo.address)]);
    let proxied = Proxied::tcp(&pool);
    let before = resident_kib();
    let mut clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let client = TcpStream::connect(proxied.address).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client
        })
        .collect();
    for round in 0..3_u8 {
        for client in &mut clients {
            client.write_all(&[round]).unwrap();
        }
        for client in &mut clients {
            let mut answer = [0];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round]);
        }
    }
    assert_eq!(pool.view().servers[0].open() as usize, CONNECTIONS);
    let grown = resident_kib().saturating_sub(before);
    let each = grown as f64 / CONNECTIONS as f64;
    println!(
        "{CONNECTIONS} relayed connections: {grown} KiB, {each:.2} KiB each (without sockets)"
    );
    assert!(each < 16.0, "an idle connection holds no buffer, but {each} KiB");
}

/// Memory of this process: the proxy's, since the clients here are bare sockets.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
