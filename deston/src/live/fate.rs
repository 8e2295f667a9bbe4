//! What becomes of a server's connections when it goes down.

use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::model::OnDown;

/// Whether a server is down, and what its connections do then. `control` tells, workers ask.
#[derive(Debug, Default)]
pub struct Fate {
    down: AtomicBool,
    /// `on_down` is `reset`.
    resets: AtomicBool,
    /// `on_down` is not `drain`.
    moves: AtomicBool,
    went_down: Notify,
}

impl Fate {
    /// Sets what connections do when the server goes down. Relays that are under way keep to what
    /// was set when they began.
    pub fn set_on_down(&self, on_down: OnDown) {
        let (resets, moves) = match on_down {
            OnDown::Drain => (false, false),
            OnDown::Rehash => (false, true),
            OnDown::Reset => (true, true),
        };
        self.resets.store(resets, Ordering::SeqCst);
        self.moves.store(moves, Ordering::SeqCst);
    }

    /// Sets whether the server is down.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
        if down {
            self.went_down.notify_waiters();
        }
    }

    /// Whether flows that can be moved, those of UDP, are to be given to another server.
    pub fn moves_flows(&self) -> bool {
        self.down.load(Ordering::SeqCst) && self.moves.load(Ordering::SeqCst)
    }

    /// Waits until the server's connections are to be reset; for ever, unless `on_down` is `reset`.
    pub async fn resets(&self) {
        // Waiting costs a shared lock for every wake of the relay: those that need not, do not.
        if !self.resets.load(Ordering::SeqCst) {
            return pending().await;
        }
        loop {
            let mut went_down = pin!(self.went_down.notified());
            // Registered before looking, so that no change between look and wait is missed.
            went_down.as_mut().enable();
            if self.down.load(Ordering::SeqCst) {
                return;
            }
            went_down.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn fate(on_down: OnDown) -> Fate {
        let fate = Fate::default();
        fate.set_on_down(on_down);
        fate
    }

    #[test]
    fn connections_are_reset_when_the_server_goes_down_and_only_if_told_so() {
        for (on_down, expected) in
            [(OnDown::Reset, true), (OnDown::Drain, false), (OnDown::Rehash, false)]
        {
            let fate = fate(on_down);
            let mut waiting = pin!(fate.resets());
            assert!(waiting.as_mut().now_or_never().is_none());
            fate.set_down(true);
            assert_eq!(waiting.now_or_never().is_some(), expected, "{on_down:?}");
        }
    }

    #[test]
    fn a_connection_that_comes_too_late_is_reset_too() {
        let fate = fate(OnDown::Reset);
        fate.set_down(true);
        assert!(fate.resets().now_or_never().is_some());
        fate.set_down(false);
        assert!(fate.resets().now_or_never().is_none());
    }

    #[test]
    fn flows_are_moved_unless_they_drain_and_only_from_a_server_that_is_down() {
        for (on_down, expected) in
            [(OnDown::Reset, true), (OnDown::Drain, false), (OnDown::Rehash, true)]
        {
            let fate = fate(on_down);
            assert!(!fate.moves_flows());
            fate.set_down(true);
            assert_eq!(fate.moves_flows(), expected, "{on_down:?}");
        }
    }
}
