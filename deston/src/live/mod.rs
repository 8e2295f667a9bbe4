//! Live state of listeners, pools and servers: what selection reads and what connections hold.
//!
//! Everything here is keyed by identity and outlives a reload: a pool keeps its cursor, a server
//! keeps the count of its open connections. Only `control` replaces what is inside; the proxy reads.

mod bindings;
mod fate;
mod listener;
mod pool;
mod recent;
mod requests;
mod server;
mod streaks;
mod verified;

pub use fate::Fate;
pub use listener::{Listener, Refusal, Refusals, Serving};
pub use pool::{Pool, View, flow_key};
pub use requests::Requester;
pub use server::{IdleSlot, Server, Slot};
pub use streaks::Streaks;
