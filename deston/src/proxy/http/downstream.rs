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

use super::access::Log;
use super::clock::Clock;
use super::forwarded::Step;
use super::http2::Open;
use super::scan::Heads;
use super::upgrade::Tunnel;
use crate::live;
use crate::model::{ForwardedFields, HttpTimeouts, Layer, Limits, Protocol};
use crate::proxy::stream::Stream;
use crate::proxy::tls::Presented;
use crate::proxy::worker::Worker;

/// What the requests of one client connection share.
pub(super) struct Client {
    /// The client; IPv4 as such, also on a dual-stack socket.
    pub(super) address: IpAddr,
    /// The tuple of the connection.
    pub(super) key: FlowKey<Ipv6Be>,
    /// The client as a header value.
    pub(super) header: HeaderValue,
    /// The certificate that the client was shown; `None`: the connection is in clear.
    pub(super) presented: Option<Presented>,
    /// What serves it, read anew for each request.
    pub(super) listener: Arc<live::Listener>,
    /// The worker it lives on.
    pub(super) worker: Rc<Worker>,
}

impl Client {
    /// A connection of `peer` to `reached`.
    pub(super) fn new(
        peer: SocketAddr,
        reached: SocketAddr,
        presented: Option<Presented>,
        listener: Arc<live::Listener>,
        worker: Rc<Worker>,
    ) -> Self {
        let address = peer.ip().to_canonical();
        Self {
            address,
            key: live::flow_key(peer, reached, Protocol::Tcp),
            header: header_value(address),
            presented,
            listener,
            worker,
        }
    }

    /// How its requests have come here.
    pub(super) fn step(&self, fields: ForwardedFields) -> Step<'_> {
        Step { peer: self.address, value: &self.header, scheme: self.scheme(), fields }
    }

    /// How much its requests may ask for, as it is now.
    pub(super) fn limits(&self) -> Limits {
        match &self.listener.serving().listener.layer {
            Layer::L7(l7) => l7.limits,
            Layer::L4(_) => Limits::default(),
        }
    }

    /// The scheme of its requests.
    pub(super) fn scheme(&self) -> &'static str {
        if self.presented.is_some() { "https" } else { "http" }
    }
}

/// What carries one request at a time: a connection of HTTP/1, or a stream of HTTP/2.
pub(super) struct Downstream {
    /// Whose it is.
    pub(super) client: Rc<Client>,
    /// Its deadlines.
    pub(super) clock: Clock,
    /// What the heads of a connection of HTTP/1 had.
    pub(super) heads: Heads,
    /// What is told of the request under way.
    pub(super) log: Log,
    /// What the connection is to become once hyper has written a 101.
    pub(super) tunnel: Cell<Option<Tunnel>>,
    /// The client that the request is of: the connection's, or one that a trusted proxy names.
    named: Cell<IpAddr>,
    /// Of a stream: then no socket tells the clock what passes, but the bodies do.
    open: Option<Open>,
}

impl Downstream {
    /// A connection that has just been accepted.
    pub(super) fn connection(client: &Rc<Client>, timeouts: HttpTimeouts) -> Self {
        Self::new(client, Clock::new(timeouts), None)
    }

    /// A stream that has just been opened, by a whole head.
    pub(super) fn stream(client: &Rc<Client>, timeouts: HttpTimeouts, open: Open) -> Self {
        Self::new(client, Clock::new(timeouts), Some(open))
    }

    fn new(client: &Rc<Client>, clock: Clock, open: Option<Open>) -> Self {
        let (heads, log, tunnel) = (Heads::new(), Log::default(), Cell::new(None));
        let named = Cell::new(client.address);
        Self { client: Rc::clone(client), clock, heads, log, tunnel, named, open }
    }

    /// Takes note of the client that the request is of.
    pub(super) fn set_named(&self, client: IpAddr) {
        self.named.set(client);
    }

    /// The client that the request is of.
    pub(super) fn named(&self) -> IpAddr {
        self.named.get()
    }

    /// The client that the request is of, and a tuple that stands for it: of one that a trusted
    /// proxy names, the port is the proxy's.
    pub(super) fn origin(&self) -> (IpAddr, FlowKey<Ipv6Be>) {
        let (client, key) = (self.named.get(), self.client.key);
        if client == self.client.address {
            return (client, key);
        }
        (client, FlowKey { source: live::wide(client), ..key })
    }

    /// Whether it is a stream of HTTP/2.
    pub(super) fn is_stream(&self) -> bool {
        self.open.is_some()
    }

    /// A piece of the request's body has come.
    pub(super) fn received(&self, bytes: usize) {
        if self.is_stream() && bytes > 0 {
            self.clock.read(bytes);
        }
    }

    /// A piece of the response's body is on its way.
    pub(super) fn sent(&self) {
        if self.is_stream() {
            self.clock.wrote();
        }
    }
}

/// An address as a header value.
pub(super) fn header_value(address: impl std::fmt::Display) -> HeaderValue {
    // Digits, dots, colons and brackets: always valid.
    HeaderValue::try_from(address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The socket of a connection of HTTP/1, which reports to its clock what passes.
pub(super) struct Socket {
    stream: Stream,
    downstream: Rc<Downstream>,
}

impl Socket {
    /// Wraps a client's socket.
    pub(super) fn new(stream: Stream, downstream: Rc<Downstream>) -> Self {
        Self { stream, downstream }
    }

    /// The socket itself.
    pub(super) fn into_stream(self) -> Stream {
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
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.downstream.clock.read(read.len());
        self.downstream.heads.read(read);
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
