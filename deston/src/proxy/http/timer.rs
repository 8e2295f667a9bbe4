//! One lazy timer for a deadline that moves with every request.
//!
//! A deadline that moves away costs nothing: the timer fires at the old one and is set again. So
//! a connection touches the runtime's timers about once in its shortest timeout, not once for each
//! request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Waits for a deadline that may change between polls.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The task that is woken when `sleep` ends is this one.
    registered: bool,
}

impl Timer {
    /// Ready once `deadline` has passed. Always to be polled by the same task.
    pub(super) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
            self.registered = false;
        }
        loop {
            if self.registered && !sleep.is_elapsed() {
                return Poll::Pending;
            }
            if sleep.as_mut().poll(cx).is_pending() {
                self.registered = true;
                return Poll::Pending;
            }
            if deadline <= sleep.deadline() || deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
            self.registered = false;
        }
    }
}

/// When `limit` will have passed; zero means no limit.
pub(super) fn after(limit: Duration) -> Option<Instant> {
    if limit.is_zero() { None } else { Instant::now().checked_add(limit) }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_away_is_waited_for() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let (soon, late) = (start + Duration::from_secs(1), start + Duration::from_secs(5));
        assert!(futures_util::poll!(poll_fn(|cx| timer.poll(Some(soon), cx))).is_pending());
        poll_fn(|cx| timer.poll(Some(late), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_came_nearer_is_kept() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let (soon, late) = (start + Duration::from_secs(1), start + Duration::from_secs(5));
        assert!(futures_util::poll!(poll_fn(|cx| timer.poll(Some(late), cx))).is_pending());
        poll_fn(|cx| timer.poll(Some(soon), cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_deadline_never_comes() {
        let mut timer = Timer::default();
        assert!(futures_util::poll!(poll_fn(|cx| timer.poll(None, cx))).is_pending());
    }
}
