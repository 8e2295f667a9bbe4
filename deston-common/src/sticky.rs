//! Affinity: a client keeps its server for a while.

use crate::net::{Ipv4Be, Ipv6Be};
use crate::plain_bytes;
use crate::server::ServerId;

/// Key of the maps STICKY4 and STICKY6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct StickyKey<A = Ipv4Be> {
    /// The client.
    pub client: A,
    /// The pool.
    pub pool: u32,
}
plain_bytes!(StickyKey<Ipv4Be>, 8);
plain_bytes!(StickyKey<Ipv6Be>, 20);

/// Value of the maps STICKY4 and STICKY6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct StickyEntry {
    /// When the client last opened a flow, `CLOCK_MONOTONIC` nanoseconds.
    pub last_used_ns: u64,
    /// Its server.
    pub server: ServerId,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub pad2: u32,
}
plain_bytes!(StickyEntry, 16);
