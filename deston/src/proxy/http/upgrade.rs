//! WebSockets: once both sides have agreed to switch, bytes pass as they are.
//!
//! A tunnel holds its server's slot, counts as a connection of the worker, and knows nothing of
//! the configuration any more: a reload leaves it alone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::wire::{Switched, Upstream};
use crate::proxy::relay::relay;
use crate::proxy::worker::Worker;
use crate::proxy::{close, connect};

/// A server's end of a tunnel, waiting for the client's.
pub(super) struct Tunnel {
    server: Switched,
    /// `[listener.timeouts] tunnel_idle`.
    idle: Duration,
}

impl Tunnel {
    /// Takes over a connection whose response is a 101.
    pub(super) fn new(upstream: Upstream, idle: Duration) -> Option<Self> {
        upstream.switch().map(|server| Self { server, idle })
    }
}

/// Carries a tunnel until both sides have closed it, it stands idle too long, or the worker gives
/// up. `early` is what the client sent right after its request.
pub(super) async fn run(client: TcpStream, early: Bytes, tunnel: Tunnel, worker: &Worker) {
    let Switched { stream, early: replied, slot } = tunnel.server;
    let mut downstream = Preceded { early, stream: client };
    let mut upstream = Preceded { early: replied, stream };
    let mut closing = worker.closing.clone();
    let buffers = &worker.buffers;
    let cutting = closing.cutting(slot.server());
    let relayed = relay(&mut downstream, &mut upstream, buffers, tunnel.idle, cutting).await;
    let (forward, reply) = (relayed.forward_bytes, relayed.reply_bytes);
    tracing::trace!(server = slot.server().name(), forward, reply, end = ?relayed.end, "tunnelled");
    let upstream = connect::Upstream { stream: upstream.stream, slot };
    close::relayed(&relayed.end, downstream.stream, upstream, buffers, &mut closing).await;
}

/// A socket some of whose bytes hyper has read already.
struct Preceded {
    early: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Preceded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let take = self.early.len().min(buffer.remaining());
        buffer.put_slice(self.early.get(..take).unwrap_or_default());
        self.early.advance(take);
        if self.early.is_empty() {
            // Not to hold hyper's buffer for as long as the tunnel lives.
            self.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Preceded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
