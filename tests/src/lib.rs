//! Test harness: what the specifications in `tests/` are written with.

pub mod echo_process;
pub mod effort;
pub mod http;
pub mod instance;
pub mod kernel;
pub mod lab;
pub mod live;
pub mod model;
pub mod packet;
pub mod proxied;
pub mod server;
pub mod tools;
pub mod wait;
