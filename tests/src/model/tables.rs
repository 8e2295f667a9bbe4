//! What the kernel remembers: flows, counts, buckets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::phase::State;
use super::settings::{Forwarding, Hook, Hop, Id};
use super::tuple::Tuple;

/// What was fixed when a flow was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Number of the listener.
    pub listener: u32,
    /// The server.
    pub server: Id,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// The hook that carries it.
    pub hook: Hook,
    /// Whether each packet is balanced on its own.
    pub one_packet: bool,
    /// When it began, nanoseconds.
    pub opened: u64,
}

/// A flow, by the client's tuple.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The server's tuple; with dsr-* the client's own, reversed.
    pub reply: Tuple,
    /// What is known of it.
    pub state: State,
    /// When the client last sent a packet.
    pub seen: u64,
    /// Idle time after which it is over.
    pub idle_limit: u64,
    /// Bytes of the client's IP packets.
    pub bytes: u64,
    /// TCP: the number after all the client has sent.
    pub next_seq: u32,
    /// What was fixed when it was opened.
    pub terms: Terms,
}

/// The way back, by the server's tuple.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The client's tuple.
    pub flow: Tuple,
    /// When the server last sent a packet; 0: never.
    pub seen: u64,
    /// Bytes of the server's IP packets.
    pub bytes: u64,
    /// Where the client's first packet came from.
    pub hop: Hop,
    /// TCP: the last number the server has acknowledged.
    pub last_ack: u32,
    /// TCP: its initial number.
    pub first_seq: u32,
    /// TCP: the number after its SYN-ACK, and then after its FIN.
    pub next_seq: u32,
    /// What was fixed when the flow was opened.
    pub terms: Terms,
}

/// What is counted of a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "as the fields of `deston_common::server::Load`")]
pub struct Load {
    pub in_use: u64,
    pub entries: u64,
    pub opened: u64,
    pub unanswered: u64,
    pub refused: u64,
}

/// Names a fragmented datagram: source, destination, identification, protocol.
pub type Datagram = (IpAddr, IpAddr, u32, u8);

/// The ports of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// When its first fragment came.
    pub seen: u64,
    /// Port it comes from.
    pub source: u16,
    /// Port it goes to.
    pub destination: u16,
}

/// A client's server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding {
    /// When the client last opened a flow.
    pub used: u64,
    /// Its server.
    pub server: Id,
}

/// Everything the kernel remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// Promoted flows.
    pub flows: BTreeMap<Tuple, Flow>,
    /// Their ways back.
    pub replies: BTreeMap<Tuple, Reply>,
    /// Half-open flows.
    pub half_flows: BTreeMap<Tuple, Flow>,
    /// Their ways back.
    pub half_replies: BTreeMap<Tuple, Reply>,
    /// Counts by server.
    pub loads: BTreeMap<Id, Load>,
    /// Cursors by pool.
    pub cursors: BTreeMap<u32, u64>,
    /// When the next new flow of a client (its /64 in IPv6) is due, by client and listener.
    pub buckets: BTreeMap<(IpAddr, u32), u64>,
    /// Bindings by client and pool.
    pub bindings: BTreeMap<(IpAddr, u32), Binding>,
    /// Ports of fragmented datagrams.
    pub fragments: BTreeMap<Datagram, Ports>,
    /// When the present second began, and new flows since.
    pub flood: (u64, u64),
}

impl Tables {
    /// What is counted of a server.
    pub fn load(&mut self, server: Id) -> &mut Load {
        self.loads.entry(server).or_default()
    }

    /// How many flows of a family are in a table.
    pub fn count<V>(table: &BTreeMap<Tuple, V>, like: SocketAddr) -> usize {
        table.keys().filter(|key| key.is_v6() == like.is_ipv6()).count()
    }
}
