//! How fast clients make requests: a bucket for each, as for connections.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use deston_common::guard::Bucket;
use tokio::time::Instant;

use super::recent::{Recent, subscriber};
use crate::model::{RateLimit, nanoseconds};

/// Who makes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requester<'a> {
    /// A client by its address.
    Address(IpAddr),
    /// A client by what it says in a field or cookie.
    Value(&'a [u8]),
}

/// The buckets of a listener.
pub(super) struct Requests {
    /// By the hash of the requester, so that what clients say takes no room.
    buckets: Recent<Bucket, u64>,
    hasher: RandomState,
    began: Instant,
}

impl Requests {
    /// Nobody has asked anything.
    pub(super) fn new() -> Self {
        Self { buckets: Recent::new(), hasher: RandomState::new(), began: Instant::now() }
    }

    /// Takes a token; if there is none, says after what time there will be one.
    pub(super) fn take(&self, limit: &RateLimit, who: Requester<'_>) -> Result<(), Duration> {
        let who = match who {
            Requester::Address(client) => Requester::Address(subscriber(client)),
            Requester::Value(_) => who,
        };
        let (interval, tolerance) = (limit.interval_ns(), limit.tolerance_ns());
        let now = nanoseconds(self.began.elapsed());
        self.buckets.with(self.hasher.hash_one(who), |bucket| {
            let bucket = bucket.unwrap_or_default();
            let early = bucket.due_ns.saturating_sub(now.saturating_add(tolerance));
            let taken = bucket.take(now, interval, tolerance);
            (taken, taken.map(drop).ok_or(Duration::from_nanos(early)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use tokio::time::advance;

    use super::*;

    /// One request each ten seconds, two at once.
    const LIMIT: RateLimit =
        RateLimit { interval: Duration::from_secs(10), burst: NonZeroU32::MIN.saturating_add(1) };

    #[tokio::test(start_paused = true)]
    async fn who_asks_too_often_is_told_when_to_come_again() {
        let requests = Requests::new();
        let who = Requester::Value(b"alice");
        assert_eq!([requests.take(&LIMIT, who), requests.take(&LIMIT, who)], [Ok(()); 2]);
        assert_eq!(requests.take(&LIMIT, who), Err(Duration::from_secs(10)));
        advance(Duration::from_secs(4)).await;
        assert_eq!(requests.take(&LIMIT, who), Err(Duration::from_secs(6)));
        advance(Duration::from_secs(6)).await;
        assert_eq!(requests.take(&LIMIT, who), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn requesters_are_counted_apart_and_an_ipv6_64_together() {
        let requests = Requests::new();
        let address = |text: &str| Requester::Address(text.parse().unwrap());
        let once = RateLimit { burst: NonZeroU32::MIN, ..LIMIT };
        for who in [
            address("192.0.2.1"),
            address("192.0.2.2"),
            address("2001:db8::1"),
            Requester::Value(b"192.0.2.1"),
            Requester::Value(b""),
        ] {
            assert_eq!(requests.take(&once, who), Ok(()), "{who:?}");
        }
        assert!(requests.take(&once, address("2001:db8::2")).is_err());
    }
}
