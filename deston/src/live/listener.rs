//! A live listener: what its connections are served by, replaced whole, and who may open them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use deston_common::guard::Bucket;
use tokio::time::Instant;

use super::connections::{Connection, Connections};
use super::recent::{Recent, subscriber};
use super::requests::{Requester, Requests};
use super::verified::Verified;
use super::{Pool, Route};
use crate::model::{self, nanoseconds};

/// A listener in use. Its name, address, layer and protocol never change; a reload that changes one
/// of them makes another listener.
pub struct Listener {
    serving: ArcSwap<Serving>,
    /// A bucket for each client, while there is a rate limit.
    buckets: Recent<Bucket>,
    /// The same for requests.
    requests: Requests,
    verified: Verified,
    /// What the buckets' times count from.
    began: Instant,
    denied: AtomicU64,
    rate_limited: AtomicU64,
    unnamed: AtomicU64,
    over_limit: AtomicU64,
    connections: Arc<Connections>,
}

/// What a new connection or request of a listener is served by.
pub struct Serving {
    /// Settings.
    pub listener: Arc<model::Listener>,
    /// The listener's pool.
    pub pool: Arc<Pool>,
    /// Routes that come before it, in order; only layer 7 has them.
    pub routes: Vec<Route>,
}

impl Serving {
    /// A listener served by its pool alone.
    pub fn new(listener: Arc<model::Listener>, pool: Arc<Pool>) -> Self {
        Self { listener, pool, routes: Vec::new() }
    }

    /// A listener served by its pool and by those of its routes, which `find` knows by name; `None`
    /// if it does not know one of them.
    pub fn with_routes(
        listener: Arc<model::Listener>,
        find: impl Fn(&str) -> Option<Arc<Pool>>,
    ) -> Option<Self> {
        let pool = find(&listener.pool)?;
        let routes = match &listener.layer {
            model::Layer::L4(_) => Vec::new(),
            model::Layer::L7(l7) => {
                let routes = l7.routes.iter().map(|route| Route::new(Arc::clone(route), &find));
                routes.collect::<Option<_>>()?
            }
        };
        Some(Self { listener, pool, routes })
    }
}

/// Why the guard refuses a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The source lists say so.
    #[error("denied")]
    Denied,
    /// The client opens connections faster than it may.
    #[error("rate limited")]
    RateLimited,
    /// The listener has as many connections as it may (`[listener.limits] connections`).
    #[error("too many connections")]
    Connections,
    /// The client has as many connections as it may (`connections_per_ip`).
    #[error("too many connections of this client")]
    ClientConnections,
}

/// Connections, and flows of UDP, that were refused in userspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// By the source lists. Of UDP, datagrams.
    pub denied: u64,
    /// By the rate limit. Of UDP, datagrams.
    pub rate_limited: u64,
    /// By the limits of open connections.
    pub over_limit: u64,
}

impl Listener {
    /// A listener with its first settings.
    pub fn new(serving: Serving) -> Self {
        Self {
            serving: ArcSwap::from_pointee(serving),
            buckets: Recent::new(),
            requests: Requests::new(),
            verified: Verified::new(),
            began: Instant::now(),
            denied: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
            unnamed: AtomicU64::new(0),
            over_limit: AtomicU64::new(0),
            connections: Arc::default(),
        }
    }

    /// The current settings; read once for each connection (layer 4) or request (layer 7).
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Replaces the settings; connections and requests under way keep the old ones.
    pub fn publish(&self, serving: Serving) {
        self.serving.store(Arc::new(serving));
    }

    /// Asks the guard of `settings`, once for each connection or flow of UDP, and counts it. A
    /// trusted proxy may connect as often as it has clients: they are counted, if it names them.
    pub fn admit(&self, settings: &model::Listener, client: IpAddr) -> Result<(), Refusal> {
        let guard = &settings.guard;
        if !guard.admits(client) {
            self.denied.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Denied);
        }
        let limit = guard.rate_limit.as_ref().filter(|_| !settings.origin.trusts(client));
        if !limit.is_none_or(|limit| self.take_token(limit, client)) {
            self.rate_limited.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::RateLimited);
        }
        Ok(())
    }

    /// Asks the source lists of `settings` about a client that a trusted proxy names in a request,
    /// and counts it.
    pub fn admit_named(&self, settings: &model::Listener, client: IpAddr) -> Result<(), Refusal> {
        if settings.guard.admits(client) {
            return Ok(());
        }
        self.denied.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::Denied)
    }

    /// Counts a connection whose client is not known: the PROXY protocol is required, and its
    /// header was missing, late or malformed.
    pub fn refuse_origin(&self) {
        self.unnamed.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections refused because their client is not known.
    pub fn unnamed(&self) -> u64 {
        self.unnamed.load(Ordering::Relaxed)
    }

    /// Counts a connection that is open until the result is dropped, if `limits` have room for it.
    pub fn connection(
        &self,
        limits: &model::Limits,
        client: IpAddr,
    ) -> Result<Connection, Refusal> {
        self.connections.open(limits, client).inspect_err(|_| {
            self.over_limit.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// How many connections of layer 7 are open.
    pub fn open_connections(&self) -> u32 {
        self.connections.count()
    }

    /// Asks for a request of `who`; if it comes too soon, says after what time it would not.
    pub fn admit_request(
        &self,
        limit: &model::RateLimit,
        who: Requester<'_>,
    ) -> Result<(), Duration> {
        self.requests.take(limit, who)
    }

    /// Whether `password` was found to be the one of `hash` lately.
    pub fn knows_password(&self, hash: &str, password: &[u8]) -> bool {
        self.verified.knows(hash, password)
    }

    /// `password` is the one of `hash`.
    pub fn learn_password(&self, hash: &str, password: &[u8]) {
        self.verified.learn(hash, password);
    }

    /// What the guard has refused.
    pub fn refusals(&self) -> Refusals {
        Refusals {
            denied: self.denied.load(Ordering::Relaxed),
            rate_limited: self.rate_limited.load(Ordering::Relaxed),
            over_limit: self.over_limit.load(Ordering::Relaxed),
        }
    }

    fn take_token(&self, limit: &model::RateLimit, client: IpAddr) -> bool {
        let now = nanoseconds(self.began.elapsed());
        self.buckets.with(subscriber(client), |bucket| {
            let taken =
                bucket.unwrap_or_default().take(now, limit.interval_ns(), limit.tolerance_ns());
            (taken, taken.is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::config;
    use crate::live::View;

    /// A listener with a guard.
    fn guarded(guard: &str) -> Listener {
        let text = format!("[load_balancer]\n{guard}\n[[server]]\naddress = \"192.0.2.9\"");
        let model = config::parse("config.toml", &text).unwrap();
        let table = Box::new(deston_common::table::Table::EMPTY);
        let timeouts = model.pools[0].timeouts;
        let pool = Arc::new(Pool::new("p".to_owned(), View::new(table, Vec::new(), timeouts)));
        Listener::new(Serving::new(Arc::clone(&model.listeners[0]), pool))
    }

    /// Each client has 10 connections a second, 2 at once.
    fn limited() -> Listener {
        guarded("rate_limit = { rate = \"10/s\", burst = 2 }")
    }

    /// `None`: admitted.
    fn admit(listener: &Listener, client: &str) -> Option<Refusal> {
        listener.admit(&listener.serving().listener, client.parse().unwrap()).err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_burst_and_then_its_rate() {
        let listener = limited();
        let client = "192.0.2.1";
        assert_eq!([admit(&listener, client), admit(&listener, client)], [None, None]);
        assert_eq!(admit(&listener, client), Some(Refusal::RateLimited));
        advance(Duration::from_millis(100)).await;
        assert_eq!(admit(&listener, client), None);
        assert_eq!(admit(&listener, client), Some(Refusal::RateLimited));
        assert_eq!(listener.refusals(), Refusals { rate_limited: 2, ..Refusals::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_counted_apart_and_an_ipv6_64_together() {
        let listener = limited();
        for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"] {
            assert_eq!(admit(&listener, client), None, "{client}");
        }
        assert_eq!(admit(&listener, "192.0.2.1"), None);
        assert_eq!(admit(&listener, "2001:db8::3"), Some(Refusal::RateLimited));
        assert_eq!(admit(&listener, "2001:db8:0:1::3"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trusted_proxy_has_no_rate_and_may_be_denied() {
        let trusted =
            "layer = \"L7\"\ntrusted_proxies = [\"192.0.2.0/24\"]\ndeny = [\"192.0.2.66\"]";
        let listener = guarded(&format!("{trusted}\nrate_limit = {{ rate = \"1/h\" }}"));
        for _ in 0..3 {
            assert_eq!(admit(&listener, "192.0.2.1"), None);
        }
        assert_eq!(admit(&listener, "192.0.2.66"), Some(Refusal::Denied));
        assert_eq!(admit(&listener, "198.51.100.1"), None);
        assert_eq!(admit(&listener, "198.51.100.1"), Some(Refusal::RateLimited));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_denied_uses_up_no_token() {
        let listener = guarded("deny = [\"192.0.2.1\"]\nrate_limit = { rate = \"1/h\" }");
        assert_eq!(admit(&listener, "192.0.2.1"), Some(Refusal::Denied));
        assert_eq!(admit(&listener, "192.0.2.2"), None);
        assert_eq!(listener.refusals(), Refusals { denied: 1, ..Refusals::default() });
    }
}
