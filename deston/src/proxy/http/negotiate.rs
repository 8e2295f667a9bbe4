//! What a connection is before its first request: in clear or under TLS, HTTP/1 or HTTP/2.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::timer;
use crate::model::{self, L7};
use crate::proxy::stream::Stream;
use crate::proxy::tls::{self, Presented};
use crate::proxy::worker::Worker;

/// What a client of HTTP/2 says first (RFC 9113 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that is ready for requests.
pub(super) struct Negotiated {
    /// Its bytes.
    pub(super) stream: Stream,
    /// What it speaks.
    pub(super) version: Version,
    /// The certificate that the client was shown; `None`: the connection is in clear.
    pub(super) presented: Option<Presented>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// RFC 9112.
    Http1,
    /// RFC 9113.
    Http2,
}

/// Finds out what a connection is. `None` if it is over: the client left or took too long, or the
/// worker is closing. The buffers of a connection do not exist before.
pub(super) async fn negotiate(stream: TcpStream, l7: &L7, worker: &Worker) -> Option<Negotiated> {
    let mut closing = worker.closing.clone();
    tokio::select! {
        biased;
        negotiated = attempt(stream, l7) => negotiated,
        () = closing.draining() => None,
    }
}

async fn attempt(stream: TcpStream, l7: &L7) -> Option<Negotiated> {
    let done = match &l7.tls {
        None => in_clear(stream, l7).await,
        Some(tls) => under_tls(stream, tls, l7).await,
    };
    done.inspect_err(|error| tracing::debug!(%error, "a connection ended before its first request"))
        .ok()
}

/// The whole handshake has one deadline.
async fn under_tls(stream: TcpStream, tls: &model::Tls, l7: &L7) -> io::Result<Negotiated> {
    let handshake = tls::accept(stream, tls);
    let accepted = match timer::after(l7.timeouts.tls_handshake) {
        None => handshake.await?,
        Some(deadline) => timeout_at(deadline, handshake).await??,
    };
    let version = if accepted.is_h2 && l7.h2 { Version::Http2 } else { Version::Http1 };
    Ok(Negotiated { stream: accepted.stream, version, presented: Some(accepted.presented) })
}

/// A client in clear may be silent for as long as any that stands idle, but not in the middle of a
/// preface.
async fn in_clear(stream: TcpStream, l7: &L7) -> io::Result<Negotiated> {
    let mut first = [0; PREFACE.len()];
    // Looked at, not asked for: a fresh socket counts as readable until a read has failed.
    let peeking = stream.peek(&mut first);
    let peeked = match timer::after(l7.timeouts.client_idle) {
        None => peeking.await?,
        Some(deadline) => timeout_at(deadline, peeking).await??,
    };
    let begun = first.get(..peeked).unwrap_or_default();
    if begun.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stream = Stream::plain(stream);
    if !l7.h2 || !PREFACE.starts_with(begun) {
        return Ok(Negotiated { stream, version: Version::Http1, presented: None });
    }
    if begun.len() == PREFACE.len() {
        return Ok(Negotiated { stream, version: Version::Http2, presented: None });
    }
    let reading = preface(stream);
    let (stream, version) = match timer::after(l7.timeouts.tls_handshake) {
        None => reading.await?,
        Some(deadline) => timeout_at(deadline, reading).await??,
    };
    Ok(Negotiated { stream, version, presented: None })
}

/// Reads until it is clear whether a preface has come, and puts back what it has read.
async fn preface(mut stream: Stream) -> io::Result<(Stream, Version)> {
    let mut read = Vec::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        let left = PREFACE.len() - read.len();
        if (&mut stream).take(left as u64).read_buf(&mut read).await? == 0 {
            break;
        }
    }
    let version = if read == PREFACE { Version::Http2 } else { Version::Http1 };
    stream.put_back(read.into());
    Ok((stream, version))
}
