//! Live state of listeners, pools and servers: what selection reads and what connections hold.
//!
//! Everything here is keyed by identity and outlives a reload: a pool keeps its cursor, a server
//! keeps the count of its open connections. Only `control` replaces what is inside; the proxy reads.

mod bindings;
mod bound;
mod budget;
mod connections;
mod fate;
mod latency;
mod line;
mod listener;
mod pool;
mod recent;
mod requests;
mod route;
mod server;
mod streaks;
mod verified;

pub use budget::Budget;
pub use connections::Connection;
pub use fate::Fate;
pub use latency::Latency;
pub use line::{Line, Place};
pub use listener::{Listener, Refusal, Refusals, Serving};
pub use pool::{Load, Pool, View, flow_key, wide};
pub use requests::Requester;
pub use route::Route;
pub use server::{IdleSlot, Server, Slot};
pub use streaks::Streaks;
