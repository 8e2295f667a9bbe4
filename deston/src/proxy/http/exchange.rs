//! Sending a request: which server, on which connection, and what if that fails.
//!
//! A request that was never written may go to any server. One that was written is sent again only
//! if that is harmless: no body, an idempotent method, a pooled connection that died without a
//! byte of a response (RFC 9110 9.2.2), and only once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::error::Error;
use super::upstream::{Failure, Upstream};
use crate::live::{Pool, Server};
use crate::proxy::connect::{Dialect, Found, Search};

/// One request's way to a server.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    search: Search<'a>,
    /// Whether a pooled connection may be used.
    pooled: bool,
    /// Whether that may be one of HTTP/2.
    may_share: bool,
    /// Whether the server of the last connection was told of its client: no other may have it.
    is_told: bool,
}

/// Sends a request to a server of `pool` and returns the response's head, with the connection its
/// body comes on.
pub(super) async fn exchange(
    request: Request<RequestBody>,
    pool: &Pool,
    downstream: &Rc<Downstream>,
) -> Result<(Response<Incoming>, Upstream), Error> {
    // A connection that is to be switched cannot be shared (RFC 9113 8.6).
    let may_share = !request.headers().contains_key(UPGRADE);
    let dialect = if may_share { Dialect::Http } else { Dialect::Http1 };
    let (client, key) = downstream.origin();
    let search = Search::new(pool, client, &key, dialect);
    let exchange = Exchange { downstream, search, pooled: true, may_share, is_told: false };
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
            let kept = !self.is_told;
            let idle = if kept { self.search.timeouts().server_idle } else { Duration::ZERO };
            upstream.set_idle_limit(idle);
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
        let upstreams = &self.downstream.client.worker.upstreams;
        let pooled = self.pooled.then_some(upstreams);
        let take = |server: &Arc<Server>| {
            pooled.filter(|_| !server.tells_client())?.take(server, self.may_share)
        };
        match self.search.next(take).await? {
            Found::Taken(upstream) => {
                self.is_told = false;
                Ok(upstream)
            }
            Found::Fresh(connected) => {
                let server = connected.slot.server().address();
                self.is_told = connected.is_told;
                let spoken = Upstream::new(connected).await;
                let (upstream, shared) =
                    spoken.map_err(|source| Error::NotSent { server, source })?;
                let to_share = shared.filter(|_| !self.is_told);
                to_share.into_iter().for_each(|shared| upstreams.keep(shared));
                Ok(upstream)
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
