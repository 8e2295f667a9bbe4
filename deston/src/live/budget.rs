//! How many requests may be sent again, so that a pool in trouble is not given more of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Retry;

/// What a budget is for.
const PERIOD: Duration = Duration::from_secs(1);

/// The requests and retries of one pool, of all workers.
#[derive(Debug)]
pub struct Budget {
    requests: AtomicU64,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    /// The period under way.
    began: Instant,
    /// Requests before it.
    before: u64,
    /// Requests in a period, lately.
    rate: u64,
    retries: u64,
}

impl Budget {
    /// Nothing is spent.
    pub(super) fn new() -> Self {
        let spent = Spent { began: Instant::now(), before: 0, rate: 0, retries: 0 };
        Self { requests: AtomicU64::new(0), spent: Mutex::new(spent) }
    }

    /// Counts a request; those that are sent again count once.
    pub fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a request may be sent again; if so, that is counted.
    pub fn retry(&self, settings: &Retry) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.advance(requests);
        let rate = spent.rate.max(requests - spent.before);
        let share = u128::from(rate) * u128::from(settings.budget) / 1_000_000;
        if u128::from(spent.retries) >= share.max(settings.floor.into()) {
            return false;
        }
        spent.retries += 1;
        true
    }
}

impl Spent {
    /// Begins another period if this one is over.
    fn advance(&mut self, requests: u64) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.began);
        if elapsed < PERIOD {
            return;
        }
        let periods = elapsed.as_millis() / PERIOD.as_millis();
        let rate = u128::from(requests - self.before) / periods.max(1);
        self.rate = u64::try_from(rate).unwrap_or(u64::MAX);
        (self.began, self.before, self.retries) = (now, requests, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Retry = Retry { budget: 200_000, floor: 10, ..Retry::NONE };

    /// How many retries are granted now.
    fn granted(budget: &Budget) -> usize {
        (0..1_000).filter(|_| budget.retry(&SETTINGS)).count()
    }

    fn after(budget: &Budget, requests: u32) -> usize {
        (0..requests).for_each(|_| budget.request());
        granted(budget)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_retries_a_second_are_always_granted() {
        let budget = Budget::new();
        assert_eq!(granted(&budget), 10);
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!(granted(&budget), 0);
        tokio::time::advance(PERIOD / 2).await;
        assert_eq!(granted(&budget), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn under_load_a_share_of_the_requests_is_granted() {
        let budget = Budget::new();
        assert_eq!(after(&budget, 500), 100);
        assert_eq!(after(&budget, 100), 20, "of 600, 100 are spent");
        tokio::time::advance(PERIOD).await;
        assert_eq!(granted(&budget), 120, "of as many as in the period before");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_spent_is_not_saved() {
        let budget = Budget::new();
        (0..1_000).for_each(|_| budget.request());
        tokio::time::advance(PERIOD * 100).await;
        assert_eq!(granted(&budget), 10);
    }
}
