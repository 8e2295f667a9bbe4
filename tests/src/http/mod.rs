//! HTTP in process: a proxy on port 0, servers and clients that are played byte by byte.
//!
//! Nothing here parses more than it must, so that a test sees what really went over the wire.

pub mod frames;
mod lab;
mod multiplexed;
mod peer;
mod records;
mod requests;
mod routed;
mod server;
mod streams;
mod strict;
mod tls;

pub use lab::{Lab, Setup};
pub use multiplexed::{Answer, Multiplexed};
pub use peer::{Message, Peer};
pub use records::Records;
pub use requests::{Parsed, requests};
pub use routed::{Routed, naming};
pub use server::{Answering, Server};
pub use streams::{Reply, Streams, get, request};
pub use strict::Strict;
pub use tls::{Authority, Client, Issued};
