//! One HTTP/1 connection to a server, polled by whoever holds it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::RequestBody;
use super::clock::Clock;
use crate::live::{IdleSlot, Server, Slot};
use crate::model::{DEFAULT_HEADERS, Limits};
use crate::proxy::connect;
use crate::proxy::stream::Stream;

/// hyper's two ends of a connection, joined again: neither does anything unless `Wire` is polled.
struct Wire {
    sender: SendRequest<RequestBody>,
    connection: Option<http1::Connection<TokioIo<Socket>, RequestBody>>,
    heard: Rc<Cell<bool>>,
    /// hyper is done with it; it must not be polled again.
    ended: bool,
}

/// A busy connection to a server.
pub(super) struct Upstream {
    // Boxed: it is moved with every request, and is some hundred bytes long.
    wire: Box<Wire>,
    /// It has served a request before.
    reused: bool,
    /// How long it may stay unused after this request.
    idle_limit: Duration,
    // After `wire`: the slot is free once the socket is closed.
    slot: Slot,
}

/// A connection to a server that waits for a request.
pub(super) struct IdleUpstream {
    wire: Box<Wire>,
    // After `wire`, as in `Upstream`.
    slot: IdleSlot,
}

/// Why a request got no response.
#[expect(clippy::large_enum_variant, reason = "moved once, on a path that is not hot")]
pub(super) enum Failure {
    /// No byte of it was written; here it is.
    NotSent(Request<RequestBody>, hyper::Error),
    /// Some of it may have been written.
    Lost {
        /// Why.
        error: hyper::Error,
        /// Whether a byte of a response came.
        heard: bool,
    },
    /// The clock says that the response is overdue.
    Overdue,
}

/// What is left of a connection that switched protocols.
pub(super) struct Switched {
    /// The socket, with what the server sent after its 101 put back.
    pub(super) stream: Stream,
    /// The server's slot; to be dropped after the socket.
    pub(super) slot: Slot,
}

impl Upstream {
    /// Speaks HTTP/1 on a connected socket.
    pub(super) async fn new(
        connected: connect::Upstream,
        limits: &Limits,
    ) -> Result<Self, hyper::Error> {
        let connect::Upstream { stream, slot } = connected;
        let heard = Rc::new(Cell::new(false));
        let socket = Socket { stream, heard: Rc::clone(&heard) };
        let mut builder = http1::Builder::new();
        builder.max_header_size(limits.header_bytes as usize);
        if limits.headers > DEFAULT_HEADERS {
            builder.max_headers(limits.headers.into());
        }
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
        let wire = Box::new(Wire { sender, connection: Some(connection), heard, ended: false });
        Ok(Self { wire, reused: false, idle_limit: Duration::ZERO, slot })
    }

    /// The server at the other end.
    pub(super) fn server(&self) -> &Arc<Server> {
        self.slot.server()
    }

    /// Whether it has served a request before, so that it may have been closed meanwhile.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// How long it may stay unused after this request; zero: not at all.
    pub(super) fn idle_limit(&self) -> Duration {
        self.idle_limit
    }

    /// Sets how long it may stay unused after this request.
    pub(super) fn set_idle_limit(&mut self, limit: Duration) {
        self.idle_limit = limit;
    }

    /// Sends a request; returns once the response's head is there.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        clock: &Clock,
    ) -> Result<Response<Incoming>, Failure> {
        self.wire.heard.set(false);
        let mut response = pin!(self.wire.sender.try_send_request(request));
        // Only polling the wire brings the response, so that it has nobody to wake.
        let mut unwoken = Context::from_waker(Waker::noop());
        let outcome = std::future::poll_fn(|cx| {
            let ended = self.wire.poll(cx).is_ready();
            if let Poll::Ready(outcome) = response.as_mut().poll(&mut unwoken) {
                return Poll::Ready(Some(outcome));
            }
            if ended {
                // A request that hyper has not begun to write comes back when hyper is gone.
                self.wire.connection = None;
                return response.as_mut().poll(&mut unwoken).map(Some);
            }
            if clock.is_overdue() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failure)) => Err(match failure.take_message() {
                Some(request) => Failure::NotSent(request, failure.into_error()),
                None => {
                    let heard = self.wire.heard.get();
                    Failure::Lost { error: failure.into_error(), heard }
                }
            }),
            None => Err(Failure::Overdue),
        }
    }

    /// Moves bytes both ways. Ready once the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll(cx)
    }

    /// Makes it wait for another request. `None` if it cannot: it is closed then, or its server
    /// needs the slot.
    pub(super) fn park(mut self) -> Option<IdleUpstream> {
        self.wire.is_reusable().then_some(())?;
        let Self { wire, slot, .. } = self;
        match slot.park() {
            Ok(slot) => Some(IdleUpstream { wire, slot }),
            Err(slot) => {
                drop(wire);
                drop(slot);
                None
            }
        }
    }

    /// Takes the socket back after a 101. `None` if the server has closed it meanwhile.
    pub(super) fn switch(mut self) -> Option<Switched> {
        // hyper lets go of the socket when polled next, without waiting for anything.
        let ended = self.wire.poll(&mut Context::from_waker(Waker::noop()));
        ended.is_ready().then_some(())?;
        let Self { wire, slot, .. } = self;
        let parts = wire.connection?.into_parts();
        let mut stream = parts.io.into_inner().stream;
        stream.put_back(parts.read_buf);
        Some(Switched { stream, slot })
    }
}

impl IdleUpstream {
    /// The server at the other end.
    pub(super) fn server(&self) -> &Arc<Server> {
        self.slot.server()
    }

    /// Whether the server has neither closed it nor sent anything.
    pub(super) fn is_alive(&mut self) -> bool {
        self.wire.is_reusable()
    }

    /// Takes it into use.
    pub(super) fn wake(self) -> Upstream {
        let Self { wire, slot } = self;
        Upstream { wire, reused: true, idle_limit: Duration::ZERO, slot: slot.wake() }
    }
}

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection
            && !self.ended
        {
            // How it ended is told to the request, or to the reader of its response's body.
            let _ = ready!(Pin::new(connection).poll(cx));
            self.ended = true;
        }
        Poll::Ready(())
    }

    /// Lets hyper notice what has arrived, a FIN above all, then asks it. Nobody is to be woken.
    fn is_reusable(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }
}

impl fmt::Debug for IdleUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleUpstream").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// A server's socket, which remembers whether anything came.
struct Socket {
    stream: Stream,
    heard: Rc<Cell<bool>>,
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.heard.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Dropping the socket closes it, without a half-closed moment.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
