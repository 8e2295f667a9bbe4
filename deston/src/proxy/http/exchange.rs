//! Sending a request: which server, on which connection, and what if that fails.
//!
//! A request that was never written may go to any server. One that was written is sent again only
//! if that is harmless: no body, an idempotent method, a pooled connection that died without a
//! byte of a response (RFC 9110 9.2.2), and only once.

use std::rc::Rc;

use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::error::Error;
use super::upstream::{Failure, Upstream};
use crate::live::Pool;
use crate::proxy::connect::{Dialect, Found, Refused, Search};

/// One request's way to a server.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    search: Search<'a>,
    /// Whether a pooled connection may be used.
    pooled: bool,
    /// Whether that may be one of HTTP/2.
    may_share: bool,
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
    let client = &downstream.client;
    let search = Search::new(pool, client.address, &client.key, dialect);
    let exchange = Exchange { downstream, search, pooled: true, may_share };
    exchange.run(request).await
}

impl Exchange<'_> {
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Upstream), Error> {
        let (mut last, mut retries) = (None, 0);
        loop {
            let mut upstream = match self.connection().await {
                Ok(upstream) => upstream,
                Err(error) => {
                    if let Error::Unserved(Refused::Unreachable { server, .. }) = &error {
                        self.downstream.log.asks(server, retries);
                    }
                    return Err(last.unwrap_or(error));
                }
            };
            upstream.set_idle_limit(self.search.timeouts().server_idle);
            let replay = if upstream.is_reused() { replay(&request) } else { None };
            let server = upstream.server().address();
            self.downstream.log.asks(upstream.server().name(), retries);
            self.start_clock(&request);
            let error = match upstream.send(request, &self.downstream.clock).await {
                Ok(response) => {
                    upstream.server().streaks().answered();
                    self.downstream.log.answered();
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
            retries += 1;
        }
    }

    /// An idle connection of this worker to the next server, or a fresh one.
    async fn connection(&mut self) -> Result<Upstream, Error> {
        let upstreams = &self.downstream.client.worker.upstreams;
        let pooled = self.pooled.then_some(upstreams);
        match self.search.next(|server| pooled?.take(server, self.may_share)).await? {
            Found::Taken(upstream) => Ok(upstream),
            Found::Fresh(connected) => {
                let server = connected.slot.server().address();
                let spoken = Upstream::new(connected).await;
                let (upstream, shared) =
                    spoken.map_err(|source| Error::NotSent { server, source })?;
                shared.into_iter().for_each(|shared| upstreams.keep(shared));
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
