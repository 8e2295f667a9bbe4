//! Test harness: what the specifications in `tests/` are written with.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a harness panics and prints where a test would, so that the trace shows the place"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the lab waits for other processes, whose clock nobody can pause"
)]

pub mod kernel;
pub mod lab;
pub mod packet;
