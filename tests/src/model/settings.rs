//! What the process tells the kernel: addresses, listeners, servers, tables.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::hash::Seed;

/// Names a server; 0 is unset.
pub type Id = u16;

/// What an address means to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meaning {
    /// Listeners have it.
    pub listener: bool,
    /// Packets to servers come from it.
    pub snat: bool,
    /// It is Deston's alone.
    pub dedicated: bool,
    /// Echo to it may be answered.
    pub echo: bool,
    /// A server of a listener with `dnat` has it.
    pub dnat_server: bool,
    /// First and last SNAT port of any listener.
    pub snat_ports: (u16, u16),
    /// Pool whose health echo tells of.
    pub echo_pool: u32,
}

/// How packets reach a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Forwarding {
    /// Destination and source are translated.
    #[default]
    Nat,
    /// The destination is translated.
    Dnat,
    /// The Ethernet addresses alone change.
    DsrL2,
    /// The packet is sent in a tunnel.
    DsrIpip,
}

impl Forwarding {
    /// Whether the server answers the client itself.
    pub fn is_dsr(self) -> bool {
        matches!(self, Self::DsrL2 | Self::DsrIpip)
    }
}

/// The hook a program is attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Hook {
    /// XDP.
    #[default]
    Xdp,
    /// TC ingress.
    Tc,
}

/// Idle times after which flows end, nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the table of phases in docs/life-of-a-packet.md names them")]
pub struct Timeouts {
    pub tcp_syn: u64,
    pub tcp_established: u64,
    pub tcp_fin: u64,
    pub tcp_rst: u64,
    pub udp_one_way: u64,
    pub udp_two_way: u64,
}

/// A listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listener {
    /// Its number, from 1.
    pub number: u32,
    /// Takes new flows.
    pub open: bool,
    /// Ends in the host's stack.
    pub stack: bool,
    /// The hook that carries it.
    pub hook: Hook,
    /// Source lists have prefixes of it.
    pub lists: bool,
    /// Sources that no prefix covers are denied.
    pub default_deny: bool,
    /// Each packet is balanced on its own (UDP).
    pub one_packet: bool,
    /// Packets keep the port they came for.
    pub keep_port: bool,
    /// Its pool.
    pub pool: u32,
    /// How packets reach servers.
    pub forwarding: Forwarding,
    /// Its SNAT addresses; none: each server's own.
    pub snat_addresses: Vec<IpAddr>,
    /// First and last port towards servers.
    pub snat_ports: (u16, u16),
    /// When flows end.
    pub timeouts: Timeouts,
    /// Nanoseconds between two new flows of one source, 0: no limit; and how far they may run ahead.
    pub rate: (u64, u64),
    /// How long an idle binding of a client to its server lives, nanoseconds; 0: none.
    pub sticky: u64,
}

/// A tag, as it stands in a frame: identifier and control information.
pub type Tag = [u8; 4];

/// The Ethernet header that a frame leaves with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hop {
    /// Interface it leaves by.
    pub ifindex: u32,
    /// Ethernet source.
    pub source: [u8; 6],
    /// Ethernet destination.
    pub destination: [u8; 6],
    /// Largest IP packet that fits; 0: any.
    pub mtu: u16,
    /// Tags, outermost first.
    pub tags: Vec<Tag>,
}

/// Where a server stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stand {
    /// Nothing was ever written.
    #[default]
    Unset,
    /// Takes new flows.
    Active,
    /// Finishes old ones.
    Draining,
    /// Failed its health check.
    Down,
}

/// What becomes of the flows of a server that is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDown {
    /// They are carried on.
    #[default]
    Drain,
    /// TCP clients are sent a reset.
    Reset,
    /// What can is given to another server.
    Rehash,
}

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where it serves.
    pub side: SocketAddr,
    /// Where packets to it come from.
    pub snat: IpAddr,
    /// The way to it.
    pub hop: Hop,
    /// Whether the way is known.
    pub reachable: bool,
    /// Flows it may have.
    pub max_connections: u32,
    /// Share of traffic.
    pub weight: u16,
    /// Where it stands.
    pub stand: Stand,
    /// What becomes of its flows.
    pub on_down: OnDown,
}

impl Server {
    /// Whether it takes new flows.
    pub fn is_eligible(&self) -> bool {
        self.stand == Stand::Active && self.reachable
    }

    /// Whether it failed its health check.
    pub fn is_down(&self) -> bool {
        self.stand == Stand::Down
    }
}

/// What gives the index into a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Index {
    /// The pool's cursor.
    #[default]
    Cursor,
    /// The client's address.
    Client,
    /// The client's address and port.
    ClientPort,
    /// The 5-tuple.
    Flow,
    /// A random number.
    Random,
    /// No slot: the least loaded of some members.
    Least,
}

impl Index {
    /// Whether a flow always enters at the same slot.
    pub fn is_hash(self) -> bool {
        matches!(self, Self::Client | Self::ClientPort | Self::Flow)
    }
}

/// A pool's table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// What gives the index.
    pub index: Index,
    /// Key of the hashes.
    pub seed: Seed,
    /// Members whose loads are compared.
    pub samples: u32,
    /// Every server once.
    pub members: Vec<Id>,
    /// A server for each slot.
    pub slots: Vec<Id>,
}

/// What all packets share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Globals {
    /// A listener forwards by `dnat`.
    pub dnat: bool,
    /// New flows a second beyond which more are shed; 0: no limit.
    pub flood_gate: u32,
    /// The time, nanoseconds.
    pub clock: u64,
    /// What random choices are drawn from.
    pub random: u64,
}

impl Globals {
    /// Before anything is written. The clock and chance stand still from the beginning.
    pub const START: Self = Self { dnat: false, flood_gate: 0, clock: 1, random: 1 };
}

/// What a server's packets are given back without a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaticReply {
    /// The listener.
    pub listener: SocketAddr,
    /// Its hook.
    pub hook: Hook,
}

/// Everything the process has written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What addresses mean.
    pub addresses: BTreeMap<IpAddr, Meaning>,
    /// Listeners by address, port (0: any) and protocol.
    pub listeners: BTreeMap<(SocketAddr, u8), Listener>,
    /// Servers.
    pub servers: BTreeMap<Id, Server>,
    /// Tables by pool.
    pub tables: BTreeMap<u32, Table>,
    /// Listeners by their only server's side and protocol.
    pub static_replies: BTreeMap<(SocketAddr, u8), StaticReply>,
    /// Whether a prefix (address and length) of a listener is allowed.
    pub sources: BTreeMap<(u32, IpAddr, u8), bool>,
    /// Largest IP packets that interfaces send.
    pub mtus: BTreeMap<u32, u16>,
    /// What all packets share.
    pub globals: Globals,
}
