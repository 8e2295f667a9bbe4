//! Warnings that repeat with traffic, told a few times a minute at most.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Between two tellings of the same warning.
const SILENCE: Duration = Duration::from_secs(10);

/// One kind of warning of one worker.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    told: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

impl Notice {
    /// Whether to tell this time: how often it was left untold before.
    pub(crate) fn due(&self) -> Option<u64> {
        let now = Instant::now();
        if self.told.get().is_some_and(|told| now.duration_since(told) < SILENCE) {
            self.untold.set(self.untold.get().saturating_add(1));
            return None;
        }
        self.told.set(Some(now));
        Some(self.untold.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_repeated_warning_is_told_once_in_a_while_with_its_count() {
        let notice = Notice::default();
        assert_eq!(notice.due(), Some(0));
        assert_eq!(notice.due(), None);
        assert_eq!(notice.due(), None);
        tokio::time::advance(SILENCE).await;
        assert_eq!(notice.due(), Some(2));
    }
}
