//! Servers as the kernel sees them.

use crate::hop::Hop;
use crate::net::{Be16, Ipv6Be};
use crate::plain_bytes;

/// Names a server in tables and maps; 0 is unset. An identifier is not given to another server
/// while a flow may still name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct ServerId(pub u16);

/// Where a server stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ServerState {
    /// Takes new flows.
    Active = 1,
    /// Takes no new flow; flows it has are carried on.
    Draining = 2,
    /// Failed its health check: takes no new flow.
    Down = 3,
}

/// What becomes of the flows of a server that is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum OnDown {
    /// They are carried on.
    Drain = 0,
    /// TCP clients are sent a reset with their next packet; other flows are chosen anew.
    Reset = 1,
    /// A SYN, or any packet of another protocol, is given to another server.
    Rehash = 2,
}

/// Value of the map SERVERS: how a packet reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ServerEntry {
    /// Address of the server, widened.
    pub address: Ipv6Be,
    /// Address that packets to the server come from, widened: the outgoing interface's.
    pub snat_address: Ipv6Be,
    /// The way to it.
    pub hop: Hop,
    /// Flows the server may have at once.
    pub max_connections: u32,
    /// Share of traffic, for algorithms that compare loads.
    pub weight: u16,
    /// Port of the server.
    pub port: Be16,
    /// A `ServerState`; 0 is unset.
    pub state: u8,
    /// 1 when `hop` is known.
    pub reachable: u8,
    /// An `OnDown`.
    pub on_down: u8,
    /// Zero.
    pub pad: u8,
}
plain_bytes!(ServerEntry, 72);

impl ServerEntry {
    /// Whether a new flow may be given to this server.
    #[inline(always)]
    pub fn takes_new_flows(&self) -> bool {
        self.state == ServerState::Active as u8 && self.reachable == 1
    }
}

/// Value of the map LOADS: what the kernel, and it alone, counts of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Load {
    /// Flows that count against `max_connections`, and for a moment those that are being refused.
    pub in_use: u64,
    /// Promoted flow entries that name the server; closed ones stay for a while.
    pub entries: u64,
    /// Flows that were ever given to it.
    pub opened: u64,
    /// SYNs that it left unanswered until the client sent again.
    pub unanswered: u64,
    /// SYNs that it, or a router on the way, refused: reset or unreachable.
    pub refused: u64,
    /// Zero: fills the cache line, so that processors do not share one for two servers.
    pub pad: [u64; 3],
}
plain_bytes!(Load, 64);
