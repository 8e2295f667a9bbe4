//! Passive health: servers that fail their clients are taken out for a while.
//!
//! Whoever carries connections tells of failures in a row; here it is decided what follows, by the
//! time that is given. A server that is ejected gets nothing new, and keeps what it has.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::servers::ServerKey;
use crate::model::Outlier;

/// The longest ejection, as a multiple of the first.
const LONGEST: u32 = 32;

/// The servers that were ejected.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    by_server: BTreeMap<ServerKey, Ejection>,
}

#[derive(Clone, Copy, Debug)]
struct Ejection {
    /// Whether it still is.
    is_out: bool,
    until: Instant,
    lasts: Duration,
}

/// What a pool is like at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Servers it has.
    pub(super) servers: usize,
    /// Servers that take new connections.
    pub(super) eligible: usize,
}

impl Ejections {
    /// Takes a server out that has failed `failures` times in a row; for how long. `None` if it
    /// stays: too few failures, or too few servers would be left.
    pub(super) fn eject(
        &mut self,
        key: &ServerKey,
        failures: u64,
        outlier: &Outlier,
        pool: Standing,
        now: Instant,
    ) -> Option<Duration> {
        let record = self.by_server.get(key).copied();
        let out = |(of, record): (&ServerKey, &Ejection)| of.pool == key.pool && record.is_out;
        let out = self.by_server.iter().filter(|entry| out(*entry)).count();
        let too_many = (out + 1) * 100 > pool.servers * usize::from(outlier.max_ejected);
        let is_out = record.is_some_and(|record| record.is_out);
        if failures < u64::from(outlier.failures) || is_out || too_many || pool.eligible < 2 {
            return None;
        }
        let lasts = match record {
            // One that behaved for as long as it was out begins anew.
            Some(last) if now < last.until + last.lasts => last.lasts * 2,
            Some(_) | None => outlier.eject,
        };
        let lasts = lasts.min(outlier.eject * LONGEST);
        self.by_server.insert(key.clone(), Ejection { is_out: true, until: now + lasts, lasts });
        Some(lasts)
    }

    /// When the next server comes back.
    pub(super) fn next_return(&self) -> Option<Instant> {
        let out = self.by_server.values().filter(|record| record.is_out);
        out.map(|record| record.until).min()
    }

    /// The servers that come back by now.
    pub(super) fn returned(&mut self, now: Instant) -> Vec<ServerKey> {
        let mut back = Vec::new();
        for (key, record) in &mut self.by_server {
            if record.is_out && record.until <= now {
                record.is_out = false;
                back.push(key.clone());
            }
        }
        // What is forgiven need not be remembered.
        self.by_server.retain(|_, record| record.is_out || now < record.until + record.lasts);
        back
    }

    /// Forgets servers that are gone.
    pub(super) fn retain(&mut self, mut is_known: impl FnMut(&ServerKey) -> bool) {
        self.by_server.retain(|key, _| is_known(key));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const OUTLIER: Outlier =
        Outlier { failures: 3, eject: Duration::from_secs(10), max_ejected: 50 };

    const FOUR: Standing = Standing { servers: 4, eligible: 4 };

    fn key(port: u16) -> ServerKey {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        ServerKey { pool: "p".to_owned(), address }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_eject_and_time_brings_back() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        let eject = |ejections: &mut Ejections, failures| {
            ejections.eject(&key(1), failures, &OUTLIER, FOUR, now)
        };
        assert_eq!(eject(&mut ejections, 2), None);
        assert_eq!(ejections.next_return(), None);
        assert_eq!(eject(&mut ejections, 3), Some(seconds(10)));
        assert_eq!(eject(&mut ejections, 3), None, "it is out already");
        assert_eq!(ejections.next_return(), Some(now + seconds(10)));
        assert_eq!(ejections.returned(now + seconds(9)), []);
        assert_eq!(ejections.returned(now + seconds(10)), [key(1)]);
        assert_eq!(ejections.returned(now + seconds(11)), []);
    }

    #[tokio::test(start_paused = true)]
    async fn each_repeat_lasts_longer_up_to_a_bound() {
        let (mut ejections, mut now) = (Ejections::default(), Instant::now());
        let mut lasted = Vec::new();
        for _ in 0..8 {
            let lasts = ejections.eject(&key(1), 3, &OUTLIER, FOUR, now).unwrap();
            lasted.push(lasts.as_secs());
            now += lasts;
            ejections.returned(now);
        }
        assert_eq!(lasted, [10, 20, 40, 80, 160, 320, 320, 320]);
        now += seconds(320);
        ejections.returned(now);
        assert_eq!(ejections.eject(&key(1), 3, &OUTLIER, FOUR, now), Some(seconds(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_its_share_of_a_pool_is_out() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        let mut eject = |port, pool| ejections.eject(&key(port), 9, &OUTLIER, pool, now).is_some();
        let standing = |servers, eligible| Standing { servers, eligible };
        assert!(!eject(1, standing(1, 1)));
        assert!(!eject(1, standing(2, 1)), "the last that is up stays");
        assert!(eject(1, standing(4, 4)));
        assert!(eject(2, standing(4, 3)));
        assert!(!eject(3, standing(4, 2)), "half of four are out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_gone_is_forgotten() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        ejections.eject(&key(1), 3, &OUTLIER, FOUR, now).unwrap();
        ejections.retain(|_| false);
        assert_eq!(ejections.next_return(), None);
    }
}
