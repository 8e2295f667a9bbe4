//! How long a server takes to respond: a moving average that jumps to peaks and forgets slowly.
//!
//! Peak EWMA, after Finagle's balancer of that name. One atomic word, shared by all workers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After so long, an observation counts 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// What a server that has not responded yet, or not for long, is taken to need once it is busy.
const UNKNOWN: f32 = 1e6;

/// A server's average.
#[derive(Debug)]
pub struct Latency {
    /// What times count from.
    began: Instant,
    /// Microseconds (as the bits of an `f32`) and the milliseconds since `began` they are of.
    state: AtomicU64,
}

impl Latency {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), state: AtomicU64::new(0) }
    }

    /// Takes note of a response that took so long.
    pub fn observe(&self, took: Duration) {
        let (now, took) = (self.now(), took.as_secs_f32() * 1e6);
        let update = |state| {
            let (before, weight) = (average(state), remaining(state, now));
            let next =
                if took > before * weight { took } else { before * weight + took * (1.0 - weight) };
            Some(u64::from(next.to_bits()) << 32 | u64::from(now))
        };
        // Always updates.
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// What one more request would cost of a server with so many, to be compared with others.
    pub fn cost(&self, busy: u32) -> u64 {
        let state = self.state.load(Ordering::Relaxed);
        let average = average(state) * remaining(state, self.now());
        let average = match (average < 1.0, busy) {
            // Idle and unknown: to be tried.
            (true, 0) => 0.0,
            (true, _) => UNKNOWN,
            (false, _) => average,
        };
        average as u64 * (u64::from(busy) + 1)
    }

    fn now(&self) -> u32 {
        self.began.elapsed().as_millis() as u32
    }
}

fn average(state: u64) -> f32 {
    f32::from_bits((state >> 32) as u32)
}

/// The share of an average that is left by now.
fn remaining(state: u64, now: u32) -> f32 {
    // Two workers may look at the clock in one order and come here in the other.
    let elapsed = (now.wrapping_sub(state as u32) as i32).max(0);
    (-(elapsed as f32) / DECAY.as_millis() as f32).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = Latency::new();
        latency.observe(10 * MS);
        latency.observe(500 * MS);
        assert_eq!(latency.cost(0), 500_000);
        tokio::time::advance(DECAY).await;
        latency.observe(10 * MS);
        let cost = latency.cost(0);
        assert!((185_000..195_000).contains(&cost), "500 ms / e and 10 ms (1 - 1/e): {cost}");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_multiply_the_cost() {
        let latency = Latency::new();
        latency.observe(MS);
        assert_eq!([0, 1, 9].map(|busy| latency.cost(busy)), [1_000, 2_000, 10_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_of_which_nothing_is_known_is_tried_by_one_request() {
        let (unknown, known) = (Latency::new(), Latency::new());
        known.observe(100 * MS);
        assert!(unknown.cost(0) < known.cost(0));
        assert!(unknown.cost(1) > known.cost(1));
        tokio::time::advance(DECAY * 20).await;
        assert_eq!(known.cost(0), 0, "it is tried again");
    }
}
