//! Who a connection comes from: the peer of its socket, or whom a trusted peer names in a header of
//! the PROXY protocol.
//!
//! Comes after accept, before TLS and before anything is read. The header is looked at in the
//! socket's buffer and taken from it once it is whole, so that nothing behind it is read too early
//! and what is no header is left for whoever reads next.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::listen;
use super::proxy_protocol::{Ends, Header, LONGEST, Malformed, Progress, parse};
use super::worker::Worker;
use crate::live::{self, Serving};
use crate::model::AcceptProxyProtocol;

/// Bytes that are looked at first: nearly every header is shorter.
const FIRST: usize = 256;

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("only trusted proxies may connect")]
    Untrusted,
    #[error("it does not begin with a header of the PROXY protocol")]
    NoHeader,
    #[error("its header of the PROXY protocol is malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("it ended, or took too long, before a header of the PROXY protocol was there: {0}")]
    Broken(#[from] io::Error),
}

/// The ends of a connection whose socket is connected to `peer`. `None`: it is not to be served,
/// and was made to end with a reset.
pub(super) async fn find(
    stream: &TcpStream,
    peer: SocketAddr,
    listener: &live::Listener,
    serving: &Serving,
    worker: &Worker,
) -> Option<Ends> {
    let reached = listen::reached(stream, &serving.listener);
    let own = Ends { client: peer, reached };
    let origin = &serving.listener.origin;
    let required = match origin.accept {
        AcceptProxyProtocol::Off => return Some(own),
        AcceptProxyProtocol::Optional => false,
        AcceptProxyProtocol::Require => true,
    };
    let told = match (origin.trusts(peer.ip()), required) {
        (false, false) => return Some(own),
        (false, true) => Err(Refused::Untrusted),
        (true, _) => {
            let mut closing = worker.closing.clone();
            tokio::select! {
                biased;
                told = read(stream, origin.deadline) => told,
                () = closing.draining() => return None,
            }
        }
    };
    let name = &serving.listener.name;
    let refused = match told {
        Ok(Some(Header::Proxied(ends))) => {
            match listener.admit(&serving.listener, ends.client.ip()) {
                Ok(()) => return Some(ends),
                Err(refusal) => {
                    let client = ends.client;
                    tracing::debug!(listener = name, %peer, %client, "a connection was refused: {refusal}");
                    let _ = stream.set_zero_linger();
                    return None;
                }
            }
        }
        Ok(Some(Header::Own)) => return Some(own),
        Ok(None) if !required => return Some(own),
        Ok(None) => Refused::NoHeader,
        Err(refused) => refused,
    };
    listener.refuse_origin();
    tracing::debug!(listener = name, %peer, "a connection was refused: {refused}");
    // Fails only for a connection that is over already.
    let _ = stream.set_zero_linger();
    None
}

/// Waits for a header and takes it from the socket. `None`: the connection begins with something
/// else, all of which is left, or with nothing for as long as a header may take.
async fn read(stream: &TcpStream, deadline: Duration) -> Result<Option<Header>, Refused> {
    let reading = take(stream);
    if deadline.is_zero() {
        return reading.await;
    }
    match timeout(deadline, reading).await {
        Ok(told) => told,
        // Some servers speak first, and some clients connect before they have a request.
        Err(_) if look(stream, &mut [0]) == Err(Errno::EAGAIN) => Ok(None),
        Err(elapsed) => Err(Refused::Broken(elapsed.into())),
    }
}

async fn take(stream: &TcpStream) -> Result<Option<Header>, Refused> {
    let mut buffer = vec![0; FIRST];
    // Most headers are there at once. Where they are, a worker that closes loses no connection.
    let mut seen = look(stream, &mut buffer).unwrap_or(0);
    loop {
        match parse(buffer.get(..seen).unwrap_or_default())? {
            Progress::Absent => return Ok(None),
            Progress::Partial => {
                if seen == buffer.len() {
                    buffer.resize(LONGEST, 0);
                }
                seen = peek(stream, &mut buffer, seen).await?;
            }
            Progress::Whole { header, length } => {
                // All of it is there, so that reading does not wait.
                let header_bytes = buffer.get_mut(..length).unwrap_or_default();
                return match recv(stream.as_raw_fd(), header_bytes, MsgFlags::empty()) {
                    Ok(taken) if taken == length => Ok(Some(header)),
                    Ok(_) => Err(Refused::Broken(io::ErrorKind::UnexpectedEof.into())),
                    Err(error) => Err(Refused::Broken(error.into())),
                };
            }
        }
    }
}

/// Looks at what has come.
fn look(stream: &TcpStream, buffer: &mut [u8]) -> nix::Result<usize> {
    recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)
}

/// Looks at what has come, once it is more than `seen`; gives how much there is.
async fn peek(stream: &TcpStream, buffer: &mut [u8], seen: usize) -> io::Result<usize> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let peeked = stream.try_io(Interest::READABLE, || {
            match look(stream, buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                there if there > seen => Ok(there),
                _ if ready.is_read_closed() => Err(io::ErrorKind::UnexpectedEof.into()),
                // What is there counts as readable: the next byte is to wake us, not these.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match peeked {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}
