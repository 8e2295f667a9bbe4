//! Sending a request: which server, on which connection, and what if that fails.
//!
//! A request that was never written may go to any server. One that was written is sent again only
//! if that is harmless: no body, an idempotent method, a pooled connection that died without a
//! byte of a response (RFC 9110 9.2.2), and only once.

use std::rc::Rc;
use std::sync::Arc;

use deston_common::server::ServerId;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::RequestBody;
use super::connect::connect;
use super::downstream::Downstream;
use super::error::Error;
use super::wire::{Failure, Upstream};
use crate::live::{Pool, Server, Slot, View};

/// Connect attempts that may take their full time; after that the client has waited enough.
const TIMEOUTS: u32 = 2;

/// One request's way to a server.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    view: Arc<View>,
    /// Where the request entered the table.
    start: u64,
    /// Servers that failed it. Never allocates as long as none does.
    failed: Vec<ServerId>,
    /// Whether a pooled connection may be used.
    pooled: bool,
    timeouts: u32,
}

/// A claim on a server that is as good as a connection.
enum Claim {
    /// An idle connection of this worker.
    Pooled(Upstream),
    /// A place for a fresh one.
    Place(Slot),
    /// All places are taken, some of them by idle connections, which give way.
    Awaited(Arc<Server>),
}

/// Sends a request to a server of `pool` and returns the response's head, with the connection its
/// body comes on.
pub(super) async fn exchange(
    request: Request<RequestBody>,
    pool: &Pool,
    downstream: &Rc<Downstream>,
) -> Result<(Response<Incoming>, Upstream), Error> {
    let view = pool.view();
    let start = pool.enter(&view, downstream.client);
    let exchange =
        Exchange { downstream, view, start, failed: Vec::new(), pooled: true, timeouts: 0 };
    exchange.run(request).await
}

impl Exchange<'_> {
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Upstream), Error> {
        let mut last = None;
        loop {
            let mut upstream = match self.connection(&mut last).await {
                Some(upstream) => upstream,
                None => return Err(last.unwrap_or_else(|| self.none_left())),
            };
            upstream.set_idle_limit(self.view.timeouts.server_idle);
            let replay = if upstream.is_reused() { replay(&request) } else { None };
            let server = upstream.server().address();
            self.start_clock(&request);
            let error = match upstream.send(request, &self.downstream.clock).await {
                Ok(response) => return Ok((response, upstream)),
                Err(Failure::NotSent(unsent, source)) => {
                    request = unsent;
                    Error::NotSent { server, source }
                }
                Err(Failure::Lost { error, .. }) if error.is_user() => {
                    return Err(Error::RequestBody(error));
                }
                Err(Failure::Lost { error, heard }) => match replay {
                    Some(again) if !heard => {
                        request = again;
                        Error::Response { server, source: error }
                    }
                    Some(_) | None => return Err(Error::Response { server, source: error }),
                },
                Err(Failure::Overdue) => return Err(Error::ResponseOverdue { server }),
            };
            tracing::debug!(server = upstream.server().name(), %error, "sending a request again");
            if upstream.is_reused() {
                // Others may be as stale. The server itself may well be fine.
                self.pooled = false;
            } else {
                self.failed.push(upstream.server().id());
            }
            self.downstream.clock.routing();
            last = Some(error);
        }
    }

    /// A connection to the next server that has one to give.
    async fn connection(&mut self, last: &mut Option<Error>) -> Option<Upstream> {
        while self.timeouts < TIMEOUTS {
            let slot = match self.claim()? {
                Claim::Pooled(upstream) => return Some(upstream),
                Claim::Place(slot) => slot,
                Claim::Awaited(server) => match self.wait_for(&server).await {
                    Some(slot) => slot,
                    None => {
                        self.failed.push(server.id());
                        continue;
                    }
                },
            };
            let server = Arc::clone(slot.server());
            match connect(slot, self.view.timeouts.connect).await {
                Ok(upstream) => return Some(upstream),
                Err(error) if error.is_retryable() => {
                    tracing::debug!(server = server.name(), %error, "trying another server");
                    if matches!(error, Error::ConnectOverdue { .. }) {
                        self.timeouts += 1;
                    }
                    self.failed.push(server.id());
                    *last = Some(error);
                }
                Err(error) => {
                    *last = Some(error);
                    return None;
                }
            }
        }
        None
    }

    /// For each server in the pool's order: this worker's idle connection, else a free place, else
    /// the place of an idle connection elsewhere, else the next server.
    fn claim(&self) -> Option<Claim> {
        let mut claim = None;
        self.view.choose(self.start, |server| {
            if self.failed.contains(&server.id()) {
                return false;
            }
            claim = self
                .pooled
                .then(|| self.downstream.worker.upstreams.take(server))
                .flatten()
                .map(Claim::Pooled)
                .or_else(|| server.claim().map(Claim::Place))
                .or_else(|| server.may_free_a_slot().then(|| Claim::Awaited(Arc::clone(server))));
            claim.is_some()
        })?;
        claim
    }

    /// A place that an idle connection gives up. That takes moments: the deadline is for a worker
    /// that hangs.
    async fn wait_for(&self, server: &Arc<Server>) -> Option<Slot> {
        timeout(self.view.timeouts.connect, server.claim_from_idle()).await.ok().flatten()
    }

    fn start_clock(&self, request: &Request<RequestBody>) {
        let limit = self.view.timeouts.response_head;
        if request.body().is_none() {
            self.downstream.clock.awaiting(limit);
        } else {
            self.downstream.clock.uploading(limit);
        }
    }

    fn none_left(&self) -> Error {
        if self.view.servers.is_empty() { Error::NoServer } else { Error::Full }
    }
}

/// A copy to send if the pooled connection dies silently, where sending twice is harmless.
fn replay(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() || !request.body().is_none() {
        return None;
    }
    let mut copy = Request::new(RequestBody::None);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
