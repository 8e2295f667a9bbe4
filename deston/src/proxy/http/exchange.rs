//! Sending a request: which server, on which connection, and what if that fails.
//!
//! A request that was never written may go to any server. One that was written is sent again only
//! if that is harmless: no body, an idempotent method, a pooled connection that died without a
//! byte of a response (RFC 9110 9.2.2), and only once.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::error::Error;
use super::wire::{Failure, Upstream};
use crate::live::Pool;
use crate::model::Limits;
use crate::proxy::connect::{Found, Search};

/// One request's way to a server.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    search: Search<'a>,
    limits: &'a Limits,
    /// Whether a pooled connection may be used.
    pooled: bool,
}

/// Sends a request to a server of `pool` and returns the response's head, with the connection its
/// body comes on.
pub(super) async fn exchange(
    request: Request<RequestBody>,
    pool: &Pool,
    downstream: &Rc<Downstream>,
    limits: &Limits,
) -> Result<(Response<Incoming>, Upstream), Error> {
    let search = Search::new(pool, downstream.client.address, &downstream.client.key);
    let exchange = Exchange { downstream, search, limits, pooled: true };
    exchange.run(request).await
}

impl Exchange<'_> {
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Upstream), Error> {
        let mut last = None;
        loop {
            let mut upstream = match self.connection().await {
                Ok(upstream) => upstream,
                Err(error) => return Err(last.unwrap_or(error)),
            };
            upstream.set_idle_limit(self.search.timeouts().server_idle);
            let replay = if upstream.is_reused() { replay(&request) } else { None };
            let server = upstream.server().address();
            self.start_clock(&request);
            let error = match upstream.send(request, &self.downstream.clock).await {
                Ok(response) => {
                    upstream.server().streaks().answered();
                    return Ok((response, upstream));
                }
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
                    Some(_) | None => {
                        if !heard && !upstream.is_reused() {
                            upstream.server().streaks().reset();
                        }
                        return Err(Error::Response { server, source: error });
                    }
                },
                Err(Failure::Overdue) => return Err(Error::ResponseOverdue { server }),
            };
            tracing::debug!(server = upstream.server().name(), %error, "sending a request again");
            if upstream.is_reused() {
                // Others may be as stale. The server itself may well be fine.
                self.pooled = false;
            } else {
                self.search.pass(upstream.server());
            }
            self.downstream.clock.routing();
            last = Some(error);
        }
    }

    /// An idle connection of this worker to the next server, or a fresh one.
    async fn connection(&mut self) -> Result<Upstream, Error> {
        let idle = self.pooled.then_some(&self.downstream.client.worker.upstreams);
        match self.search.next(|server| idle?.take(server)).await? {
            Found::Taken(upstream) => Ok(upstream),
            Found::Fresh(connected) => {
                let server = connected.slot.server().address();
                let upstream = Upstream::new(connected, self.limits).await;
                upstream.map_err(|source| Error::NotSent { server, source })
            }
        }
    }

    fn start_clock(&self, request: &Request<RequestBody>) {
        let limit = self.search.timeouts().response_head;
        if request.body().is_none() {
            self.downstream.clock.awaiting(limit);
        } else {
            self.downstream.clock.uploading(limit);
        }
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
