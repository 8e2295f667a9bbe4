//! Sending a request: which server, on which connection, and what if that fails.
//!
//! A request that was never written may go to any server. One that was written is sent again only
//! if that is harmless (RFC 9110 9.2.2): its method is idempotent, and its body can be sent from its
//! beginning. Once if a pooled connection died without a byte of a response, which says nothing of
//! the server; beyond that as often as `[pool.retry]` and its budget allow, to other servers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::RequestBody;
use super::downstream::Downstream;
use super::error::Error;
use super::hashed;
use super::replay::{Spare, keep};
use super::sticky::Stickiness;
use super::upstream::{Failure, Upstream};
use crate::live::{Pool, Server};
use crate::model::{Limits, Retry};
use crate::proxy::connect::{Dialect, Found, Refused, Search};

/// One request's way to a server.
struct Exchange<'a> {
    downstream: &'a Rc<Downstream>,
    pool: &'a Pool,
    search: Search<'a>,
    limits: &'a Limits,
    /// Whether a pooled connection may be used.
    pooled: bool,
    /// Whether that may be one of HTTP/2.
    may_share: bool,
    /// Whether the server of the last connection was told of its client: no other may have it.
    is_told: bool,
    /// How often it was sent again for what a server did.
    retries: u32,
    /// How often it was sent.
    sent: u32,
}

/// What became of an attempt that brought no response for the client.
struct Failed {
    error: Error,
    /// The request, if it may be sent again.
    again: Option<Request<RequestBody>>,
}

/// Sends a request to a server of `pool` and returns the response's head, with the connection its
/// body comes on.
pub(super) async fn exchange(
    mut request: Request<RequestBody>,
    pool: &Pool,
    downstream: &Rc<Downstream>,
    limits: &Limits,
) -> Result<(Response<Incoming>, Upstream), Error> {
    pool.budget().request();
    // A connection that is to be switched cannot be shared (RFC 9113 8.6).
    let may_share = !request.headers().contains_key(UPGRADE);
    let dialect = if may_share { Dialect::Http } else { Dialect::Http1 };
    let (client, key) = downstream.origin();
    let mut search = Search::new(pool, client, &key, dialect);
    if let Some((key, seed)) = search.hash_key()
        && let Some(hash) = hashed::hash(seed, key, &request)
    {
        search.enter_at(hash);
    }
    let stickiness = search.cookie().map(|(cookie, seed)| {
        Stickiness::read(cookie, seed, downstream.client.presented.is_some(), &mut request)
    });
    if let Some(stickiness) = &stickiness {
        search.keep(|servers| stickiness.server(servers));
    }
    let total = search.timeouts().total;
    let exchange = Exchange {
        downstream,
        pool,
        search,
        limits,
        pooled: true,
        may_share,
        is_told: false,
        retries: 0,
        sent: 0,
    };
    let answered = exchange.run(request);
    let (mut response, upstream) = if total == Duration::ZERO {
        answered.await?
    } else {
        timeout(total, answered).await.unwrap_or(Err(Error::Overdue))?
    };
    if let Some(stickiness) = stickiness {
        stickiness.tell(upstream.server(), response.headers_mut());
    }
    Ok((response, upstream))
}

impl Exchange<'_> {
    async fn run(
        mut self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Upstream), Error> {
        let retry = self.search.retry();
        if retry.attempts > 0 && request.method().is_idempotent() {
            request = keep(request, retry.replay_bytes);
        }
        let mut last = None;
        loop {
            let mut upstream = match self.connection().await {
                Ok(upstream) => upstream,
                Err(error) => {
                    if let Error::Unserved(Refused::Unreachable { server, .. }) = &error {
                        self.downstream.log.asks(server, self.sent);
                    }
                    return Err(last.unwrap_or(error));
                }
            };
            let kept = !self.is_told;
            let idle = if kept { self.search.timeouts().server_idle } else { Duration::ZERO };
            upstream.set_idle_limit(idle);
            let failed = match self.attempt(request, &mut upstream).await {
                Ok((response, spare)) => match self.discarded(&response, &upstream, spare) {
                    None => return Ok((response, upstream)),
                    Some(failed) => {
                        self.discard(response, upstream);
                        failed
                    }
                },
                Err(failed) => failed,
            };
            let Some(again) = failed.again else { return Err(failed.error) };
            tracing::debug!(error = %failed.error, "sending a request again");
            request = again;
            self.downstream.clock.routing();
            last = Some(failed.error);
        }
    }

    /// Sends the request once. With the response comes the request once more, if it may be needed.
    async fn attempt(
        &mut self,
        request: Request<RequestBody>,
        upstream: &mut Upstream,
    ) -> Result<(Response<Incoming>, Option<Spare>), Failed> {
        let spare = self.spare(&request, upstream);
        let server = upstream.server().address();
        self.downstream.log.asks(upstream.server().name(), self.sent);
        self.sent += 1;
        self.start_clock(&request);
        match upstream.send(request, &self.downstream.clock).await {
            Ok(response) => {
                upstream.server().streaks().answered();
                self.downstream.log.answered();
                self.observe(upstream);
                if self.search.counts_5xx() {
                    let failed = response.status().is_server_error();
                    upstream.server().streaks().responded(failed);
                }
                Ok((response, spare))
            }
            Err(Failure::NotSent(unsent, source)) => {
                let error = Error::NotSent { server, source };
                let again = if upstream.is_reused() {
                    // Others may be as stale. The server itself may well be fine.
                    self.pooled = false;
                    Some(unsent)
                } else {
                    self.search.pass(upstream.server());
                    Some(unsent).filter(|_| self.search.retry().on_connect)
                };
                Err(Failed { error, again })
            }
            Err(Failure::Lost { error, .. }) if error.is_user() => {
                Err(Failed { error: Error::RequestBody(error), again: None })
            }
            Err(Failure::Lost { error, heard }) => {
                if !heard && !upstream.is_reused() {
                    upstream.server().streaks().reset();
                }
                let spare = spare.filter(|spare| !heard && spare.is_whole());
                let again = spare.filter(|_| self.may_follow_a_reset(upstream));
                let error = Error::Response { server, source: error };
                Err(Failed { error, again: again.map(Spare::request) })
            }
            Err(Failure::Overdue) => {
                self.observe(upstream);
                Err(Failed { error: Error::ResponseOverdue { server }, again: None })
            }
        }
    }

    /// Takes note of how long the server took.
    fn observe(&self, upstream: &Upstream) {
        if self.search.weighs_latency()
            && let Some(took) = self.downstream.clock.awaited()
        {
            upstream.server().latency().observe(took);
        }
    }

    /// A copy of the request, if it is harmless to send it twice and may come to that.
    fn spare(&self, request: &Request<RequestBody>, upstream: &Upstream) -> Option<Spare> {
        let Retry { attempts, on_reset, on_5xx, .. } = *self.search.retry();
        let left = self.retries < attempts && (on_reset || on_5xx);
        let wanted = left || upstream.is_reused();
        if wanted && request.method().is_idempotent() { Spare::of(request) } else { None }
    }

    /// Whether a request whose connection has ended without an answer may be sent again.
    fn may_follow_a_reset(&mut self, upstream: &Upstream) -> bool {
        if upstream.is_reused() {
            self.pooled = false;
            return true;
        }
        self.search.retry().on_reset && self.may_retry(upstream)
    }

    /// Whether a request may be sent again, to another server if there is one.
    fn may_retry(&mut self, upstream: &Upstream) -> bool {
        let retry = self.search.retry();
        if self.retries >= retry.attempts || !self.pool.budget().retry(retry) {
            return false;
        }
        self.retries += 1;
        self.search.prefer_others(upstream.server());
        true
    }

    /// What follows a response that is an error of the server, if that is not for the client.
    fn discarded(
        &mut self,
        response: &Response<Incoming>,
        upstream: &Upstream,
        spare: Option<Spare>,
    ) -> Option<Failed> {
        let status = response.status();
        if !status.is_server_error() || !self.search.retry().on_5xx {
            return None;
        }
        let spare = spare.filter(Spare::is_whole)?;
        if !self.may_retry(upstream) {
            return None;
        }
        let error = Error::Failed { server: upstream.server().address(), status };
        Some(Failed { error, again: Some(spare.request()) })
    }

    /// Forgets a response. Its connection is closed, unless no body is left on it.
    fn discard(&self, response: Response<Incoming>, upstream: Upstream) {
        if response.body().is_end_stream() {
            self.downstream.client.worker.upstreams.park(upstream);
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
                let spoken = Upstream::new(connected, self.limits).await;
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
