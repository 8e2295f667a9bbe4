//! Waiting for flows to finish while everything else goes on.

use std::time::Duration;

use tokio::time::{Instant, Interval, interval};

use super::balancer::{Balancer, DatapathError};

/// How often it is asked whether flows have finished. A look costs one system call a server.
const LOOK: Duration = Duration::from_millis(50);

/// A drain under way: every listener is closed.
pub(super) struct Drain {
    until: Instant,
    look: Interval,
    /// Places held when flows were last counted, and how many TCP flows were open then.
    counted: Option<(u64, u64)>,
}

impl Drain {
    /// Closes every listener of `balancer`.
    pub(super) fn begin(balancer: &mut Balancer, limit: Duration) -> Result<Self, DatapathError> {
        balancer.close_all()?;
        Ok(Self { until: Instant::now() + limit, look: interval(LOOK), counted: None })
    }

    /// Waits for nothing any more.
    pub(super) fn hurry(&mut self) {
        self.until = Instant::now();
    }

    /// Waits for the time to look. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.look.tick().await;
    }

    /// How many TCP flows are left once there is nothing more to wait for; `None` before. Flows are
    /// counted one by one only when the servers' places tell that some have ended.
    pub(super) fn look(&mut self, balancer: &Balancer) -> Result<Option<u64>, DatapathError> {
        let places = balancer.places()?;
        let open = match self.counted {
            Some((before, open)) if before == places => open,
            Some(_) | None => balancer.open_tcp_flows()?,
        };
        self.counted = Some((places, open));
        Ok((open == 0 || Instant::now() >= self.until).then_some(open))
    }
}
