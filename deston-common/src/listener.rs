//! Listeners as the kernel sees them.

use crate::net::{Address, Be16, Ipv4Be, Ipv6Be};
use crate::plain_bytes;

/// Key of the maps LISTENERS4 and LISTENERS6, and, with a server's address, of STATIC_REPLIES4 and
/// STATIC_REPLIES6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(C)]
pub struct ListenerKey<A = Ipv4Be> {
    /// Address clients connect to.
    pub address: A,
    /// Port clients connect to; 0: any, where no listener has the port itself.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}
plain_bytes!(ListenerKey<Ipv4Be>, 8);
plain_bytes!(ListenerKey<Ipv6Be>, 20);

impl<A: Address> ListenerKey<A> {
    /// The key of an address, port and protocol.
    #[inline(always)]
    pub const fn new(address: A, port: Be16, protocol: u8) -> Self {
        Self { address, port, protocol, pad: 0 }
    }
}

/// How packets reach a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Forwarding {
    /// Destination and source are translated.
    Nat = 0,
    /// The destination is translated; replies come back by the server's default route.
    Dnat = 1,
    /// Nothing is translated but the Ethernet addresses; the server answers the client itself.
    DsrL2 = 2,
    /// The packet is sent in a tunnel (RFC 2003, RFC 2473); the server answers the client itself.
    DsrIpip = 3,
}

impl Forwarding {
    /// The forwarding of a number; what is unknown is `Nat`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Dnat,
            2 => Self::DsrL2,
            3 => Self::DsrIpip,
            _ => Self::Nat,
        }
    }
}

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

/// Bits of `ListenerEntry::flags`.
pub mod flags {
    /// Takes new flows; without it the listener was removed and only finishes old ones.
    pub const OPEN: u32 = 1;
    /// Only guarded here: what is admitted goes to the host's stack (layer 7, userspace).
    pub const STACK: u32 = 2;
    /// Belongs to the program at the TC hook; else to the one at XDP.
    pub const TC: u32 = 4;
    /// SOURCES has prefixes of this listener.
    pub const LISTS: u32 = 8;
    /// Sources that no prefix covers are denied.
    pub const DEFAULT_DENY: u32 = 16;
    /// Each packet of a client is balanced on its own (UDP).
    pub const ONE_PACKET: u32 = 32;
    /// Packets keep the port they came for: the server's port is the client's choice.
    pub const KEEP_PORT: u32 = 64;
}

/// SNAT addresses of one listener.
pub const MAX_SNAT_ADDRESSES: usize = 8;

/// Value of the maps LISTENERS4 and LISTENERS6, always replaced whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ListenerEntry {
    /// Number of the listener, from 1: names it in flows, source lists, buckets and SNAT_ADDRESSES.
    pub number: u32,
    /// Bits of [`flags`].
    pub flags: u32,
    /// Index of the pool in POOL_TABLES and CURSORS.
    pub pool: u32,
    /// A `Forwarding`.
    pub forwarding: u8,
    /// Addresses of this listener in SNAT_ADDRESSES; 0: the server's own `snat_address`.
    pub snat_count: u8,
    /// First port used towards servers, host order.
    pub snat_port_min: u16,
    /// Last port used towards servers, host order.
    pub snat_port_max: u16,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub pad2: u32,
    /// When flows end.
    pub timeouts: FlowTimeouts,
    /// Nanoseconds between two new flows of one source; 0: no limit.
    pub rate_interval_ns: u64,
    /// How far new flows of one source may run ahead of the interval, nanoseconds: burst less one
    /// times the interval.
    pub rate_tolerance_ns: u64,
    /// How long an idle binding of a client to its server lives, nanoseconds; 0: none.
    pub sticky_ns: u64,
}
plain_bytes!(ListenerEntry, 96);

/// Value of the map SNAT_ADDRESSES, under the listener's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SnatAddresses {
    /// The first `ListenerEntry::snat_count` are in use; widened.
    pub addresses: [Ipv6Be; MAX_SNAT_ADDRESSES],
}
plain_bytes!(SnatAddresses, 128);

/// Value of the maps STATIC_REPLIES4 and STATIC_REPLIES6: what a server's packets are given back
/// when it serves one listener with `dnat` and the flow entry is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct StaticReply<A = Ipv4Be> {
    /// Address of the listener.
    pub address: A,
    /// Port of the listener.
    pub port: Be16,
    /// 1 if the listener is at the TC hook.
    pub tc: u16,
}
plain_bytes!(StaticReply<Ipv4Be>, 8);
plain_bytes!(StaticReply<Ipv6Be>, 20);
