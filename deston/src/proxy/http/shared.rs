//! One HTTP/2 connection to a server, which requests share: each is a stream of it.
//!
//! Unlike one of HTTP/1, it has a task of its own on its worker, since no request could poll it for
//! all of them.

use std::cell::Cell;
use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::body::RequestBody;
use super::clock::Clock;
use super::upstream::Failure;
use crate::live::Server;
use crate::model::Limits;
use crate::proxy::stream::Stream;

/// Streams that one connection is given at once, whatever the server allows: RFC 9113 6.5.2 advises
/// servers to allow as many. More wait for the server within hyper.
const STREAMS: u32 = 100;

/// A connection that requests share.
pub(super) struct Shared {
    sender: SendRequest<RequestBody>,
    server: Arc<Server>,
    streams: Rc<Streams>,
}

/// The streams of a connection.
struct Streams {
    open: Cell<u32>,
    /// When it may be closed, if it has no stream.
    expires: Cell<Option<Instant>>,
}

/// One stream.
pub(super) struct Lease {
    sender: SendRequest<RequestBody>,
    streams: Rc<Streams>,
    /// How long the connection may be without a stream after this one.
    idle_limit: Duration,
}

impl Shared {
    /// Speaks HTTP/2 on a connected socket.
    pub(super) async fn new(
        stream: Stream,
        server: Arc<Server>,
        limits: &Limits,
    ) -> Result<Self, hyper::Error> {
        let (sender, connection) = http2::Builder::new(Spawn)
            .max_header_list_size(limits.header_bytes)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a server broke");
            }
        });
        let streams = Rc::new(Streams { open: Cell::new(0), expires: Cell::new(None) });
        Ok(Self { sender, server, streams })
    }

    /// The server at the other end.
    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether another stream can be opened.
    pub(super) fn has_room(&self) -> bool {
        self.is_alive() && self.streams.open.get() < STREAMS
    }

    /// Whether the server has closed it, or has said that it will.
    pub(super) fn is_alive(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it is of no more use: it is closed, or has had no stream for too long.
    pub(super) fn is_spent(&self, now: Instant) -> bool {
        let expired = self.streams.expires.get().is_some_and(|expires| expires <= now);
        !self.is_alive() || self.streams.open.get() == 0 && expired
    }

    /// Opens a stream.
    pub(super) fn lease(&self) -> Lease {
        self.streams.open.set(self.streams.open.get() + 1);
        let (sender, streams) = (self.sender.clone(), Rc::clone(&self.streams));
        Lease { sender, streams, idle_limit: Duration::ZERO }
    }
}

impl Lease {
    /// Sends a request; returns once the response's head is there.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        clock: &Clock,
    ) -> Result<Response<Incoming>, Failure> {
        let mut response = pin!(self.sender.try_send_request(request));
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = response.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            if clock.is_overdue() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut failure)) => Err(match failure.take_message() {
                Some(request) => Failure::NotSent(request, failure.into_error()),
                // What was heard of other streams says nothing of this one.
                None => Failure::Lost { error: failure.into_error(), heard: false },
            }),
            None => Err(Failure::Overdue),
        }
    }

    /// Sets how long the connection may be without a stream after this one.
    pub(super) fn set_idle_limit(&mut self, limit: Duration) {
        self.idle_limit = limit;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get().saturating_sub(1));
        self.streams.expires.set(Instant::now().checked_add(self.idle_limit));
    }
}

/// Runs hyper's tasks on the worker's thread.
#[derive(Clone)]
struct Spawn;

impl<F> Executor<F> for Spawn
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move { drop(task.await) });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("server", &self.server).finish_non_exhaustive()
    }
}
