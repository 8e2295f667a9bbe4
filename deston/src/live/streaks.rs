//! Failures of a server in a row, as connections meet them.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts that workers keep and `control` looks at; when in doubt a failure is missed, not made up.
#[derive(Debug, Default)]
pub struct Streaks {
    /// Connects that failed since one did not.
    refused: AtomicU32,
    /// Connections that the server reset without a word, since one brought an answer.
    reset: AtomicU32,
    /// Responses that were errors of the server, since one was not.
    errors: AtomicU32,
    /// Flows in the kernel that the server did not take, since one it did.
    in_kernel: AtomicU32,
}

impl Streaks {
    /// A connection could not be opened.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection was opened.
    pub fn connected(&self) {
        clear(&self.refused);
    }

    /// A connection broke before the server had sent anything.
    pub fn reset(&self) {
        self.reset.fetch_add(1, Ordering::Relaxed);
    }

    /// The server has sent something.
    pub fn answered(&self) {
        clear(&self.reset);
    }

    /// The server has answered with an error of its own, or with something else.
    pub fn responded(&self, with_error: bool) {
        if with_error {
            self.errors.fetch_add(1, Ordering::Relaxed);
        } else {
            clear(&self.errors);
        }
    }

    /// So many flows in the kernel, in a row, were not taken.
    pub fn failed_in_kernel(&self, failures: u32) {
        self.in_kernel.store(failures, Ordering::Relaxed);
    }

    /// The longest streak.
    pub fn longest(&self) -> u32 {
        let streaks = [&self.refused, &self.reset, &self.errors, &self.in_kernel];
        streaks.map(|streak| streak.load(Ordering::Relaxed)).into_iter().max().unwrap_or(0)
    }

    /// Counts from 0 again.
    pub fn forget(&self) {
        self.connected();
        self.answered();
        clear(&self.errors);
        clear(&self.in_kernel);
    }
}

/// Sets a count to 0, without writing to what others read where it is 0 already.
fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_only_in_a_row() {
        let streaks = Streaks::default();
        streaks.refused();
        streaks.refused();
        assert_eq!(streaks.longest(), 2);
        streaks.connected();
        streaks.refused();
        assert_eq!(streaks.longest(), 1);
    }

    #[test]
    fn a_server_that_answers_with_errors_fails_though_it_answers() {
        let streaks = Streaks::default();
        for _ in 0..3 {
            streaks.connected();
            streaks.answered();
            streaks.responded(true);
        }
        assert_eq!(streaks.longest(), 3);
        streaks.responded(false);
        assert_eq!(streaks.longest(), 0);
    }

    #[test]
    fn what_userspace_meets_does_not_excuse_what_the_kernel_met() {
        let streaks = Streaks::default();
        streaks.failed_in_kernel(3);
        streaks.connected();
        streaks.answered();
        assert_eq!(streaks.longest(), 3);
        streaks.forget();
        assert_eq!(streaks.longest(), 0);
    }

    #[test]
    fn a_server_that_takes_connections_and_resets_them_fails() {
        let streaks = Streaks::default();
        for _ in 0..3 {
            streaks.connected();
            streaks.reset();
        }
        assert_eq!(streaks.longest(), 3);
        streaks.answered();
        assert_eq!(streaks.longest(), 0);
    }
}
