//! Flows: the directional 5-tuple and the two entries a flow has in the kernel.
//!
//! A flow is half open until both sides have shown that they are there; its entries are then in
//! HALF_FLOWS and HALF_REPLIES, where a flood may evict them. Promoted, they are in FLOWS and
//! REPLIES, which nothing is ever evicted from.

use crate::hop::Hop;
use crate::net::{Address, Be16, Ipv4Be, Ipv6Be};
use crate::plain_bytes;
use crate::server::ServerId;

/// A directional 5-tuple as it stands in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FlowKey<A = Ipv4Be> {
    /// Where the packet comes from.
    pub source: A,
    /// Where it goes.
    pub destination: A,
    /// Port it comes from.
    pub source_port: Be16,
    /// Port it goes to.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero. Words and not an array of bytes: the compiler joins odd bytes into loads that the
    /// verifier refuses on the stack.
    pub pad: u8,
    /// Zero.
    pub pad2: u16,
}
plain_bytes!(FlowKey<Ipv4Be>, 16);
plain_bytes!(FlowKey<Ipv6Be>, 40);

impl<A: Address> FlowKey<A> {
    /// The tuple of packets from `source` to `destination`.
    #[inline(always)]
    pub const fn new(source: (A, Be16), destination: (A, Be16), protocol: u8) -> Self {
        Self {
            source: source.0,
            destination: destination.0,
            source_port: source.1,
            destination_port: destination.1,
            protocol,
            pad: 0,
            pad2: 0,
        }
    }

    /// The tuple of packets in the other direction.
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self::new(
            (self.destination, self.destination_port),
            (self.source, self.source_port),
            self.protocol,
        )
    }

    /// Sets both ports, as the word that they are in a packet: by one store, as hashing reads them
    /// by one load.
    #[inline(always)]
    pub const fn set_ports(&mut self, ports: u32) {
        let [a, b, c, d] = ports.to_ne_bytes();
        self.source_port = Be16::from_word(u16::from_ne_bytes([a, b]));
        self.destination_port = Be16::from_word(u16::from_ne_bytes([c, d]));
    }

    /// Whether this is the same tuple, told by one comparison: see `Address::differs`.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let ports = (self.source_port.word() ^ other.source_port.word())
            | (self.destination_port.word() ^ other.destination_port.word())
            | u16::from(self.protocol ^ other.protocol);
        let addresses =
            self.source.differs(other.source) | self.destination.differs(other.destination);
        addresses | u32::from(ports) == 0
    }

    /// The tuple with both addresses widened.
    pub fn widened(self) -> FlowKey<Ipv6Be> {
        FlowKey::new(
            (self.source.widened(), self.source_port),
            (self.destination.widened(), self.destination_port),
            self.protocol,
        )
    }
}

/// Bits of `FlowEntry::flags` and `ReplyEntry::flags`.
pub mod flags {
    /// The lowest two bits: a `listener::Forwarding`.
    pub const FORWARDING: u16 = 3;
    /// The flow belongs to the program at the TC hook; else to the one at XDP.
    pub const TC: u16 = 4;
    /// Every packet of the client is balanced on its own; the flow is never promoted.
    pub const ONE_PACKET: u16 = 8;
}

/// Value of the maps FLOWS and HALF_FLOWS, under the tuple of packets from client to listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowEntry<A = Ipv4Be> {
    /// The entry's own key. The kernel recycles elements under readers, so a reader compares it.
    pub key: FlowKey<A>,
    /// Tuple of the server's replies: the key of this flow's `ReplyEntry`. With dsr-*, whose
    /// replies are never seen: the client's own tuple reversed.
    pub reply: FlowKey<A>,
    /// Bits of `conntrack::State`; changed by atomic or alone.
    pub state: u64,
    /// When the client last sent a packet, `CLOCK_MONOTONIC` nanoseconds.
    pub last_seen_ns: u64,
    /// Idle time after which the flow is over, nanoseconds; follows its phase.
    pub idle_limit_ns: u64,
    /// Bytes of the client's IP packets.
    pub bytes: u64,
    /// Number of the listener.
    pub listener: u32,
    /// The server that has the flow.
    pub server: ServerId,
    /// Bits of [`flags`].
    pub flags: u16,
    /// When the flow began, `CLOCK_MONOTONIC` nanoseconds.
    pub opened_ns: u64,
    /// TCP: the sequence number after the last byte that the client has sent.
    pub next_seq: u32,
    /// Zero.
    pub pad: u32,
}
plain_bytes!(FlowEntry<Ipv4Be>, 88);
plain_bytes!(FlowEntry<Ipv6Be>, 136);

/// Value of the maps REPLIES and HALF_REPLIES, under the tuple of packets from server to us.
///
/// It holds all that is needed to make the flow entry anew, should that be lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ReplyEntry<A = Ipv4Be> {
    /// The entry's own key; see `FlowEntry::key`.
    pub key: FlowKey<A>,
    /// Tuple of the client's packets: the key of this flow's `FlowEntry`.
    pub flow: FlowKey<A>,
    /// When the server last sent a packet, `CLOCK_MONOTONIC` nanoseconds; 0: never.
    pub last_seen_ns: u64,
    /// When the flow began, `CLOCK_MONOTONIC` nanoseconds.
    pub opened_ns: u64,
    /// Bytes of the server's IP packets.
    pub bytes: u64,
    /// The way back: where the client's first packet came from.
    pub hop: Hop,
    /// Number of the listener.
    pub listener: u32,
    /// The server that has the flow.
    pub server: ServerId,
    /// Bits of [`flags`].
    pub flags: u16,
    /// TCP: the last acknowledgement number that the server has sent.
    pub last_ack: u32,
    /// TCP: the server's initial sequence number.
    pub first_seq: u32,
    /// TCP: the sequence number after the server's SYN-ACK, and then after its FIN.
    pub next_seq: u32,
}
plain_bytes!(ReplyEntry<Ipv4Be>, 104);
plain_bytes!(ReplyEntry<Ipv6Be>, 152);

/// What `expire` is asked: end the flow under `key` if it has stood still since it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ExpireRequest<A = Ipv4Be> {
    /// The flow.
    pub key: FlowKey<A>,
    /// `FlowEntry::last_seen_ns` as it was read.
    pub flow_seen_ns: u64,
    /// `ReplyEntry::last_seen_ns` as it was read; 0 if there was no entry.
    pub reply_seen_ns: u64,
}
plain_bytes!(ExpireRequest<Ipv4Be>, 32);
plain_bytes!(ExpireRequest<Ipv6Be>, 56);
