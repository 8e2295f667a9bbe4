//! Which servers are ejected for failing connections, and for how long.
//!
//! Probes say whether a server answers; this says whether traffic succeeds. Pure: what is counted
//! and what the time is are told.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Outlier;

/// Repeated ejections last longer, up to so many times the first.
const LONGEST: u32 = 30;

/// A server's ejections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ejection {
    /// The one that is on.
    until: Option<Instant>,
    /// How often in a row, the last one included.
    times: u32,
    /// Ejected again before this, it is one more in a row.
    probation: Option<Instant>,
}

impl Ejection {
    /// Whether the server is ejected.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// Ejects from `now` on; returns for how long.
    pub(super) fn begin(&mut self, now: Instant, settings: &Outlier) -> Duration {
        let again = self.probation.is_some_and(|until| now < until);
        self.times = if again { (self.times + 1).min(LONGEST) } else { 1 };
        let length = settings.eject.saturating_mul(self.times);
        let until = now.checked_add(length).unwrap_or(now);
        self.until = Some(until);
        self.probation = until.checked_add(length);
        length
    }

    /// Ends an ejection whose time is over; whether there was one.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            self.until = None;
        }
        over
    }
}

/// How many of `servers` may be ejected at once.
pub(super) fn most(settings: &Outlier, servers: usize) -> usize {
    servers * usize::from(settings.max_ejected) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_ejection_ends_after_its_time() {
        let (mut ejection, now) = (Ejection::default(), Instant::now());
        assert_eq!(ejection.begin(now, &Outlier::default()), TEN);
        assert!(ejection.is_on() && !ejection.end(now + TEN / 2));
        assert!(ejection.end(now + TEN) && !ejection.is_on());
        assert!(!ejection.end(now + TEN));
    }

    #[tokio::test(start_paused = true)]
    async fn ejections_grow_with_each_repeat_and_start_anew_after_a_good_while() {
        let (mut ejection, mut now) = (Ejection::default(), Instant::now());
        for times in 1..=3 {
            let length = ejection.begin(now, &Outlier::default());
            assert_eq!(length, TEN * times);
            now += length;
            assert!(ejection.end(now));
        }
        now += TEN * 3;
        assert_eq!(ejection.begin(now, &Outlier::default()), TEN);
    }

    #[test]
    fn no_more_than_a_share_of_the_servers_is_ejected() {
        let most =
            |share, servers| most(&Outlier { max_ejected: share, ..Outlier::default() }, servers);
        assert_eq!([most(50, 1), most(50, 2), most(50, 5)], [0, 1, 2]);
        assert_eq!([most(0, 9), most(100, 9)], [0, 9]);
    }
}
