//! The echo server in a process of its own, as tests start it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// The process; dropping it ends it.
#[derive(Debug)]
pub struct EchoProcess {
    /// Where it listens.
    pub address: SocketAddr,
    process: Child,
}

impl EchoProcess {
    /// Starts `program`: `env!("CARGO_BIN_EXE_echo-server")`.
    pub fn start(program: &str) -> Self {
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo server starts");
        let out = process.stdout.take().expect("its output is piped");
        let mut address = String::new();
        BufReader::new(out).read_line(&mut address).expect("the echo server speaks");
        Self { address: address.trim().parse().expect("it says its address"), process }
    }
}

impl Drop for EchoProcess {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
