//! Servers as the kernel sees them.

use crate::net::{Be16, Ipv4Be, Mac};
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

/// Value of the map SERVERS: how a packet reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct ServerEntry {
    /// Address of the server.
    pub address: Ipv4Be,
    /// Address packets to the server come from: the outgoing interface's.
    pub snat_address: Ipv4Be,
    /// Port of the server.
    pub port: Be16,
    /// A `ServerState`; 0 is unset.
    pub state: u8,
    /// 1 when `ifindex` and both Ethernet addresses are known.
    pub reachable: u8,
    /// Flows the server may have at once.
    pub max_connections: u32,
    /// Interface that leads to the server.
    pub ifindex: u32,
    /// Ethernet address of that interface.
    pub source_mac: Mac,
    /// Ethernet address of the next hop.
    pub next_hop_mac: Mac,
}
plain_bytes!(ServerEntry, 32);

impl ServerEntry {
    /// Whether a new flow may be given to this server.
    #[inline(always)]
    pub fn takes_new_flows(&self) -> bool {
        self.state == ServerState::Active as u8 && self.reachable == 1
    }
}

/// Value of the map LOADS: flows of a server, counted by the kernel alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Load {
    /// Flows that count against `max_connections`, and for a moment those that are being refused.
    pub in_use: u64,
    /// Flow entries that name the server; closed ones stay for a while.
    pub entries: u64,
    /// Flows there ever were.
    pub opened: u64,
}
plain_bytes!(Load, 24);
