//! Test harness.

#![expect(clippy::expect_used, reason = "a harness fails by panicking, with a trace")]

pub mod echo_process;
pub mod http;
pub mod live;
pub mod proxied;
pub mod server;
pub mod wait;
