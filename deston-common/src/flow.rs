//! Flows: the directional 5-tuple and the two entries a flow has in the kernel.

use crate::net::{Be16, Ipv4Be, Mac};
use crate::plain_bytes;
use crate::server::ServerId;

/// A directional 5-tuple as it stands in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FlowKey {
    /// Where the packet comes from.
    pub source: Ipv4Be,
    /// Where it goes.
    pub destination: Ipv4Be,
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
plain_bytes!(FlowKey, 16);

impl FlowKey {
    /// The tuple of packets from `source` to `destination`.
    #[inline(always)]
    pub const fn new(source: (Ipv4Be, Be16), destination: (Ipv4Be, Be16), protocol: u8) -> Self {
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
}

/// Value of the map FLOWS, under the tuple of packets from client to listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FlowEntry {
    /// The entry's own key. The kernel recycles elements under readers, so a reader compares it.
    pub key: FlowKey,
    /// Tuple of the server's replies: the key of this flow's `ReplyEntry`.
    pub reply: FlowKey,
    /// Bits of `conntrack::State`; changed by atomic or alone.
    pub state: u64,
    /// When the client last sent a packet, `CLOCK_MONOTONIC` nanoseconds.
    pub last_seen_ns: u64,
    /// The server that has the flow.
    pub server: ServerId,
    /// Zero.
    pub pad: u16,
    /// TCP: the sequence number after the last byte that the client has sent.
    pub next_seq: u32,
}
plain_bytes!(FlowEntry, 56);

/// Value of the map REPLIES, under the tuple of packets from server to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ReplyEntry {
    /// The entry's own key; see `FlowEntry::key`.
    pub key: FlowKey,
    /// Tuple of the client's packets: the key of this flow's `FlowEntry`.
    pub flow: FlowKey,
    /// When the server last sent a packet, `CLOCK_MONOTONIC` nanoseconds.
    pub last_seen_ns: u64,
    /// Interface the client's packets came in by; replies leave by it.
    pub ifindex: u32,
    /// Ethernet address the client's packets were sent to: ours.
    pub source_mac: Mac,
    /// Ethernet address the client's packets came from: the next hop of replies.
    pub next_hop_mac: Mac,
    /// TCP: the last acknowledgement number that the server has sent.
    pub last_ack: u32,
    /// Zero.
    pub pad: u32,
}
plain_bytes!(ReplyEntry, 64);

/// What `expire` is asked: end the flow under `key` if it has stood still since it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ExpireRequest {
    /// The flow.
    pub key: FlowKey,
    /// `FlowEntry::last_seen_ns` as it was read.
    pub flow_seen_ns: u64,
    /// `ReplyEntry::last_seen_ns` as it was read; 0 if there was no entry.
    pub reply_seen_ns: u64,
}
plain_bytes!(ExpireRequest, 32);
