//! The built-in server: answers every HTTP request with its own name.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};

/// A server as a process of its own, for a namespace
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The name it answers with
    name: String,
    /// The address it listens on
    listen: SocketAddr,
}

/// Serves until the process is stopped.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(arguments.listen)
        .with_context(|| format!("listening on {}", arguments.listen))?;
    serve(&listener, &arguments.name);
    Ok(())
}

/// Starts a server on a free port of this machine; it lives as long as the process.
pub(crate) fn start(name: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("starting a server")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || serve(&listener, name));
    Ok(address)
}

fn serve(listener: &TcpListener, name: &str) {
    for connection in listener.incoming().flatten() {
        let name = name.to_owned();
        // A client that goes away, a health probe for one, is no fault.
        std::thread::spawn(move || answer(&connection, &name).ok());
    }
}

/// Answers the requests of one connection, one after the other.
fn answer(mut connection: &TcpStream, name: &str) -> std::io::Result<()> {
    let body = format!("{name}\n");
    let mut requests = BufReader::new(connection);
    while read_head(&mut requests)? {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        connection.write_all((head + &body).as_bytes())?;
    }
    Ok(())
}

/// Reads up to the empty line; whether there was a request. The demonstration sends no bodies.
fn read_head(requests: &mut BufReader<&TcpStream>) -> std::io::Result<bool> {
    let mut line = String::new();
    let mut any = false;
    loop {
        line.clear();
        if requests.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        match line.trim_end() {
            // Empty lines before a request are allowed (RFC 9112, section 2.2).
            "" if any => return Ok(true),
            "" => {}
            _ => any = true,
        }
    }
}
