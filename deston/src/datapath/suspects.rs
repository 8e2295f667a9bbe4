//! Servers that do not take the SYNs they are given, by what the programs count of them.
//!
//! Failures are in a row until a flow is promoted that began after the first of them. Whether there
//! is such a flow costs a walk over all flows, so it is asked only when there are enough failures
//! for something to follow, and they are forgotten then.

use std::collections::BTreeMap;
use std::time::Duration;

use deston_common::server::ServerId;

/// A server fails its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The server.
    pub server: ServerId,
    /// SYNs in a row that were refused or left unanswered.
    pub failures: u64,
}

/// What was counted of each server.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    by_server: BTreeMap<ServerId, Suspect>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// Failures that were ever counted.
    counted: u64,
    /// Failures in a row.
    failures: u64,
    /// When the row began at the earliest, CLOCK_MONOTONIC.
    since: Duration,
    /// When it was counted last.
    looked: Duration,
}

impl Suspects {
    /// Takes note of a server's count of failures at `now`, CLOCK_MONOTONIC.
    pub(super) fn note(&mut self, server: ServerId, counted: u64, now: Duration) {
        let new = Suspect { counted, failures: 0, since: now, looked: now };
        let suspect = self.by_server.entry(server).or_insert(new);
        if suspect.failures == 0 {
            suspect.since = suspect.looked;
        }
        suspect.looked = now;
        suspect.failures += counted.saturating_sub(suspect.counted);
        suspect.counted = counted;
    }

    /// Servers with as many failures in a row as `enough` says, and when the row began.
    pub(super) fn due(&self, enough: impl Fn(ServerId) -> Option<u32>) -> Vec<(Failing, Duration)> {
        let mut due = Vec::new();
        for (server, suspect) in &self.by_server {
            let failures = suspect.failures;
            if enough(*server).is_some_and(|enough| failures >= u64::from(enough)) {
                due.push((Failing { server: *server, failures }, suspect.since));
            }
        }
        due
    }

    /// Counts a server's failures from 0 again: a flow was promoted since they began, or it was told
    /// of them.
    pub(super) fn forget(&mut self, server: ServerId) {
        if let Some(suspect) = self.by_server.get_mut(&server) {
            suspect.failures = 0;
        }
    }

    /// Forgets servers that are gone.
    pub(super) fn retain(&mut self, is_known: impl Fn(ServerId) -> bool) {
        self.by_server.retain(|server, _| is_known(*server));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(1);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn due(suspects: &Suspects) -> Vec<(u64, u64)> {
        let due = suspects.due(|_| Some(3));
        due.into_iter().map(|(failing, since)| (failing.failures, since.as_secs())).collect()
    }

    #[test]
    fn what_was_counted_before_the_first_look_is_no_failure() {
        let mut suspects = Suspects::default();
        suspects.note(SERVER, 100, at(1));
        assert_eq!(due(&suspects), []);
        suspects.note(SERVER, 103, at(2));
        assert_eq!(due(&suspects), [(3, 1)]);
    }

    #[test]
    fn failures_add_up_until_they_are_forgotten() {
        let mut suspects = Suspects::default();
        suspects.note(SERVER, 0, at(1));
        suspects.note(SERVER, 2, at(2));
        assert_eq!(due(&suspects), []);
        suspects.note(SERVER, 4, at(3));
        assert_eq!(due(&suspects), [(4, 1)]);
        suspects.forget(SERVER);
        suspects.note(SERVER, 6, at(4));
        assert_eq!(due(&suspects), []);
    }

    #[test]
    fn where_nothing_follows_nothing_is_looked_at() {
        let mut suspects = Suspects::default();
        suspects.note(SERVER, 0, at(1));
        suspects.note(SERVER, 9, at(2));
        assert_eq!(suspects.due(|_| None), []);
    }
}
