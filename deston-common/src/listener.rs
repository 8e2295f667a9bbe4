//! Listeners as the kernel sees them.

use crate::net::{Be16, Ipv4Be};
use crate::plain_bytes;

/// Key of the map LISTENERS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct ListenerKey {
    /// Address clients connect to.
    pub address: Ipv4Be,
    /// Port clients connect to.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
plain_bytes!(ListenerKey, 8);

/// Idle time after which a flow is over, by phase, in nanoseconds (`[listener.flows]`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowTimeouts {
    /// TCP, handshake not finished.
    pub tcp_syn_ns: u64,
    /// TCP, established or half closed.
    pub tcp_established_ns: u64,
    /// TCP, both sides closed.
    pub tcp_fin_ns: u64,
    /// TCP, reset.
    pub tcp_rst_ns: u64,
    /// UDP, no reply seen.
    pub udp_one_way_ns: u64,
    /// UDP, replies seen.
    pub udp_two_way_ns: u64,
}
plain_bytes!(FlowTimeouts, 48);

/// Value of the map LISTENERS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ListenerEntry {
    /// Index of the pool in POOL_TABLES and CURSORS.
    pub pool: u32,
    /// 1 while the listener takes new flows, 0 once it is removed and only finishes old ones.
    pub open: u32,
    /// First port used towards servers, host order.
    pub snat_port_min: u16,
    /// Last port used towards servers, host order.
    pub snat_port_max: u16,
    /// Zero.
    pub pad2: u32,
    /// When flows end.
    pub timeouts: FlowTimeouts,
}
plain_bytes!(ListenerEntry, 64);
