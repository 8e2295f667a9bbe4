//! A client's connection as its requests see it, and its socket as hyper sees it.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use deston_common::flow::FlowKey;
use deston_common::net::Ipv6Be;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::clock::Clock;
use super::upgrade::Tunnel;
use crate::live;
use crate::model::{HttpTimeouts, Protocol};
use crate::proxy::worker::Worker;

/// What the requests of one client connection share.
pub(super) struct Downstream {
    /// The client; IPv4 as such, also on a dual-stack socket.
    pub(super) client: IpAddr,
    /// The tuple of the connection.
    pub(super) key: FlowKey<Ipv6Be>,
    /// The client as a header value.
    pub(super) client_header: HeaderValue,
    /// What serves it, read anew for each request.
    pub(super) listener: Arc<live::Listener>,
    /// The worker it lives on.
    pub(super) worker: Rc<Worker>,
    /// Its deadlines.
    pub(super) clock: Clock,
    /// What the connection is to become once hyper has written a 101.
    pub(super) tunnel: Cell<Option<Tunnel>>,
}

impl Downstream {
    /// A connection of `peer` to `reached` that has just been accepted.
    pub(super) fn new(
        peer: SocketAddr,
        reached: SocketAddr,
        timeouts: HttpTimeouts,
        listener: Arc<live::Listener>,
        worker: Rc<Worker>,
    ) -> Self {
        let client = peer.ip().to_canonical();
        Self {
            client,
            key: live::flow_key(peer, reached, Protocol::Tcp),
            client_header: header_value(client),
            listener,
            worker,
            clock: Clock::new(timeouts),
            tunnel: Cell::new(None),
        }
    }
}

/// An address as a header value.
pub(super) fn header_value(address: impl std::fmt::Display) -> HeaderValue {
    // Digits, dots, colons and brackets: always valid.
    HeaderValue::try_from(address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// A client's socket, which reports to the clock what passes.
pub(super) struct Socket {
    stream: TcpStream,
    downstream: Rc<Downstream>,
}

impl Socket {
    /// Wraps a client's socket.
    pub(super) fn new(stream: TcpStream, downstream: Rc<Downstream>) -> Self {
        Self { stream, downstream }
    }

    /// The socket itself.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.downstream.clock.read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.downstream.clock.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.downstream.clock.wrote();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Left to `serve`, which closes in the way the end asks for.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
