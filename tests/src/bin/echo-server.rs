//! An echo server in a process of its own, for tests that would run out of descriptors otherwise.
//! Prints its address; ends with its standard input.

use std::io::{Read, Write};

use anyhow::Context;
use deston_tests::server::Server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn main() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::echo().await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", server.address)?;
        out.flush()?;
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await?.context("waiting for the end of standard input")?;
        Ok(())
    })
}
