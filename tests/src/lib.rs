//! Test harness: what the specifications in `tests/` are written with.

pub mod kernel;
pub mod lab;
pub mod packet;
