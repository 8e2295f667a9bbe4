//! HTTP in process: a proxy on port 0, servers and clients that are played byte by byte.
//!
//! Nothing here parses more than it must, so that a test sees what really went over the wire.

pub mod frames;
mod lab;
mod peer;
mod requests;
mod server;
mod strict;

pub use lab::{Lab, Setup};
pub use peer::{Message, Peer};
pub use requests::{Parsed, requests};
pub use server::{Answering, Server};
pub use strict::Strict;
