//! HTTP in process: a proxy on port 0, servers and clients that are played byte by byte.
//!
//! Nothing here parses more than it must, so that a test sees what really went over the wire.
//! Every wait has a limit, long enough for a busy machine: a hang fails by name.

mod lab;
mod peer;
mod server;
mod strict;

pub use lab::{Lab, Setup};
pub use peer::{Message, Peer};
pub use server::{Answering, Server};
pub use strict::Strict;

use std::time::Duration;

/// Longer than anything takes, short enough to wait for.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub async fn soon<T>(what: &str, happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, happening)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}
