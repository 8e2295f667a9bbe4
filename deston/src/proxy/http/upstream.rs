//! A connection to a server as a request has it: of HTTP/1, its own for the time, or a stream of one
//! of HTTP/2 that requests share.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::RequestBody;
use super::clock::Clock;
use super::shared::Shared;
use super::wire::Wire;
use super::{shared, versions};
use crate::live::{IdleSlot, Server, Slot};
use crate::model::Limits;
use crate::proxy::connect;
use crate::proxy::stream::Stream;

/// A busy connection to a server.
pub(super) struct Upstream {
    link: Link,
    /// It has served a request before.
    reused: bool,
    /// How long it may stay unused after this request.
    idle_limit: Duration,
    // After `link`: the slot is free once the socket is closed.
    slot: Slot,
}

/// What carries a request.
enum Link {
    // Boxed: it is moved with every request, and is some hundred bytes long.
    Http1(Box<Wire>),
    Http2(shared::Lease),
}

/// A connection of HTTP/1 that waits for a request.
pub(super) struct IdleUpstream {
    wire: Box<Wire>,
    // After `wire`, as in `Upstream`.
    slot: IdleSlot,
}

/// What a response has left behind.
pub(super) enum Left {
    /// A connection that waits for another request.
    Idle(IdleUpstream),
    /// Nothing: it is closed, or shared and kept anyway.
    Nothing,
}

/// Why a request got no response.
#[expect(clippy::large_enum_variant, reason = "moved once, on a path that is not hot")]
pub(super) enum Failure {
    /// No byte of it was written, or the server has said that it was not looked at; here it is.
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
    /// Speaks HTTP on a connected socket. A connection of HTTP/2 comes with its shared side, to be
    /// kept for other requests.
    pub(super) async fn new(
        connected: connect::Upstream,
        limits: &Limits,
    ) -> Result<(Self, Option<Shared>), hyper::Error> {
        let connect::Upstream { stream, slot, is_h2, is_told: _ } = connected;
        let (link, shared) = if is_h2 {
            let shared = Shared::new(stream, Arc::clone(slot.server()), limits).await?;
            (Link::Http2(shared.lease()), Some(shared))
        } else {
            (Link::Http1(Box::new(Wire::new(stream, limits).await?)), None)
        };
        Ok((Self { link, reused: false, idle_limit: Duration::ZERO, slot }, shared))
    }

    /// A stream of a shared connection.
    pub(super) fn of_shared(lease: shared::Lease, slot: Slot) -> Self {
        Self { link: Link::Http2(lease), reused: true, idle_limit: Duration::ZERO, slot }
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
        if let Link::Http2(lease) = &mut self.link {
            lease.set_idle_limit(limit);
        }
    }

    /// Sends a request; returns once the response's head is there.
    pub(super) async fn send(
        &mut self,
        mut request: Request<RequestBody>,
        clock: &Clock,
    ) -> Result<Response<Incoming>, Failure> {
        match &mut self.link {
            Link::Http1(wire) => {
                versions::to_http1(&mut request);
                wire.send(request, clock).await
            }
            Link::Http2(lease) => {
                versions::to_http2(&mut request, self.slot.server().speech().tls.is_some());
                lease.send(request, clock).await
            }
        }
    }

    /// Whether responses come only while it is polled, by whoever reads them.
    pub(super) fn is_polled_by_its_reader(&self) -> bool {
        match self.link {
            Link::Http1(_) => true,
            Link::Http2(_) => false,
        }
    }

    /// Moves bytes both ways, if that is its reader's to do. Ready once the connection has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.link {
            Link::Http1(wire) => wire.poll(cx),
            Link::Http2(_) => Poll::Pending,
        }
    }

    /// Makes it wait for another request, unless it cannot or its server needs the slot: then it is
    /// closed.
    pub(super) fn park(self) -> Left {
        let Self { link, slot, .. } = self;
        let Link::Http1(mut wire) = link else { return Left::Nothing };
        if !wire.is_reusable() {
            return Left::Nothing;
        }
        match slot.park() {
            Ok(slot) => Left::Idle(IdleUpstream { wire, slot }),
            Err(slot) => {
                drop(wire);
                drop(slot);
                Left::Nothing
            }
        }
    }

    /// Takes the socket back after a 101. `None` if the server has closed it meanwhile.
    pub(super) fn switch(self) -> Option<Switched> {
        let Self { link, slot, .. } = self;
        let Link::Http1(wire) = link else { return None };
        Some(Switched { stream: wire.switch()?, slot })
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
        let link = Link::Http1(wire);
        Upstream { link, reused: true, idle_limit: Duration::ZERO, slot: slot.wake() }
    }
}

impl fmt::Debug for IdleUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdleUpstream").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// A context for what has nobody to wake: only polling the connection brings anything.
pub(super) fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
