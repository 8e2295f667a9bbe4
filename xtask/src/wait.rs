//! The one place that waits: bounded, and given up at once when the user interrupts.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Between two looks; short beside anything that is waited for.
const STEP: Duration = Duration::from_millis(10);

/// Asks `probe` until it has an answer, for at most `limit`.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = now();
    while start.elapsed() < limit {
        check_interrupt()?;
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        step();
    }
    bail!("waited {limit:?} in vain for {what}")
}

/// Whether a child ends within `limit`; asked by guards, which an interrupt must not hurry.
pub(crate) fn ends(child: &mut Child, limit: Duration) -> bool {
    let start = now();
    while start.elapsed() < limit {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        step();
    }
    false
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime here whose clock could pause")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "what is polled here has no event to wait for")]
fn step() {
    std::thread::sleep(STEP);
}

fn interrupted() -> &'static Arc<AtomicBool> {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    INTERRUPTED.get_or_init(Arc::default)
}

/// Turns SIGINT, SIGTERM and SIGHUP into an error of the next wait, so that guards clean up.
pub(crate) fn catch_interrupts() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, interrupted().clone()).context("catching signals")?;
    }
    Ok(())
}

/// Fails once the user has interrupted.
pub(crate) fn check_interrupt() -> Result<()> {
    if interrupted().load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_answer() {
        let mut looks = 0;
        let answer = until("the third look", Duration::from_secs(1), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn waiting_is_bounded_and_says_for_what() {
        let error = until("rain", Duration::from_millis(20), || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("in vain for rain"), "{error}");
    }
}
