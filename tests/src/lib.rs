//! Test harness: what the specifications in `tests/` are written with.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness panics where a test would, so that the trace shows the place"
)]

pub mod kernel;
pub mod packet;
