//! Waiting for what cannot be awaited.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for anything before it fails: far more than anything takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing happened within {PATIENCE:?}"),
    }
}

/// Waits until `condition` holds, for conditions that nothing tells of.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}
