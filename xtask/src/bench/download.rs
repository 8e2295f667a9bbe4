//! Bulk: connections that read a large body as fast as it comes, and throw it away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::contest::Client;
use super::load::Report;
use crate::{command, wait};

/// The path of the large body at the servers.
pub(crate) const PATH: &str = "/bulk";

/// Its length.
pub(crate) const BYTES: u64 = 1 << 30;

/// Bytes of one read: a client that asks for less is what is measured.
const BUFFER: usize = 1 << 18;

/// Bulk clients as a process of their own, for a namespace
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The address to read from
    to: SocketAddr,
    /// How many connections at once
    connections: u32,
    /// For how long
    seconds: u32,
}

/// Reads and prints how many bytes came, in how many microseconds, and how many connections failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (to, began) = (arguments.to, wait::now());
    let limit = Duration::from_secs(arguments.seconds.into());
    let threads: Vec<_> = (0..arguments.connections)
        .map(|_| {
            std::thread::spawn(move || {
                let (mut bytes, mut failed) = (0_u64, 0_u32);
                while began.elapsed() < limit {
                    if let Err(error) = read(to, &mut bytes, || began.elapsed() < limit) {
                        eprintln!("{error:#}");
                        failed += 1;
                        break;
                    }
                }
                (bytes, failed)
            })
        })
        .collect();
    let (mut bytes, mut failed) = (0, 0);
    for thread in threads {
        let (its, faults) = thread.join().ok().context("a client panicked")?;
        bytes += its;
        failed += faults;
    }
    println!("{bytes} {} {failed}", began.elapsed().as_micros());
    Ok(())
}

/// Reads one body to its end, which must be whole, or while it shall go on.
fn read(to: SocketAddr, bytes: &mut u64, goes_on: impl Fn() -> bool) -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    let mut connection = TcpStream::connect_timeout(&to, LIMIT)?;
    connection.set_read_timeout(Some(LIMIT))?;
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut buffer = vec![0; BUFFER];
    let first = connection.read(&mut buffer)?;
    let head = String::from_utf8_lossy(buffer.get(..first.min(64)).unwrap_or_default());
    ensure!(head.starts_with("HTTP/1.1 200 "), "answered `{}`", head.lines().next().unwrap_or(""));
    let mut whole = first as u64;
    while goes_on() {
        match connection.read(&mut buffer)? {
            0 => {
                ensure!(whole > BYTES, "the body ended after {whole} bytes");
                break;
            }
            read => whole += read as u64,
        }
    }
    *bytes += whole;
    Ok(())
}

/// Runs such clients in the client's place.
pub(crate) fn measure(
    client: Client<'_>,
    to: SocketAddr,
    connections: u32,
    seconds: u32,
) -> Result<Report> {
    let xtask = std::env::current_exe().context("finding this program")?;
    let mut clients = client(&xtask);
    clients.args(["download", &to.to_string(), &connections.to_string(), &seconds.to_string()]);
    let text = command::text(&mut clients)?;
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[bytes, microseconds, errors] = figures.as_slice() else {
        anyhow::bail!("the clients said:\n{text}")
    };
    let gigabytes = bytes / 1e9;
    Ok(Report {
        amount: gigabytes,
        per_second: gigabytes / (microseconds / 1e6),
        errors,
        ..Report::default()
    })
}
