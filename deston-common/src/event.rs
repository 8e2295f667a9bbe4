//! What the programs tell through ring buffers: ended flows by EVENTS, traced packets by TRACES.

use crate::flow::FlowKey;
use crate::net::{Be16, Ipv6Be};
use crate::plain_bytes;
use crate::server::ServerId;

/// Values of `kind`, the first word of every event.
pub mod kind {
    /// A [`super::Traced`].
    pub const TRACED: u32 = 1;
    /// An [`super::Ended`].
    pub const ENDED: u32 = 2;
}

/// Values of `Ended::reason`.
pub mod reason {
    /// Both sides closed.
    pub const CLOSED: u32 = 1;
    /// A side sent a reset.
    pub const RESET: u32 = 2;
    /// Nothing moved for too long.
    pub const IDLE: u32 = 3;
    /// The server is down, and the pool's `on_down` ends its flows.
    pub const DOWN: u32 = 4;
    /// A new flow of the same client took its place.
    pub const REOPENED: u32 = 5;
    /// The process stopped, and took the datapath with it. The programs never say so: the process
    /// reads it into what they tell then.
    pub const STOPPED: u32 = 6;
}

/// Places in LOST, which counts events that found no room.
pub mod lost {
    /// Of EVENTS.
    pub const EVENTS: u32 = 0;
    /// Of TRACES.
    pub const TRACES: u32 = 1;
}

/// The largest `TraceFilter::budget`.
pub const BUDGET_MAX: u64 = u64::MAX >> 1;

/// A packet that the filter in TRACE chose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Traced {
    /// `kind::TRACED`.
    pub kind: u32,
    /// An `Outcome`.
    pub outcome: u32,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// Interface it came in by.
    pub ifindex: u32,
    /// Bytes of the IP packet.
    pub len: u32,
    /// The packet's own tuple, widened; without ports where it has none.
    pub key: FlowKey<Ipv6Be>,
    /// The tuple it left with, widened; all zero if it was not translated.
    pub translated: FlowKey<Ipv6Be>,
    /// The server of its flow; 0: none.
    pub server: ServerId,
    /// TCP flags.
    pub tcp_flags: u8,
    /// 1 at the TC hook, 0 at XDP.
    pub tc: u8,
    /// Zero.
    pub pad: u32,
}
plain_bytes!(Traced, 112);

/// A promoted flow that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Ended {
    /// `kind::ENDED`.
    pub kind: u32,
    /// One of [`reason`].
    pub reason: u32,
    /// The client's tuple, widened.
    pub flow: FlowKey<Ipv6Be>,
    /// The server's tuple, widened.
    pub reply: FlowKey<Ipv6Be>,
    /// When it began, `CLOCK_MONOTONIC` nanoseconds.
    pub opened_ns: u64,
    /// When a packet of it was last seen, `CLOCK_MONOTONIC` nanoseconds: its entry stays for a while
    /// after.
    pub last_seen_ns: u64,
    /// Bytes of the client's IP packets.
    pub forward_bytes: u64,
    /// Bytes of the server's IP packets.
    pub reply_bytes: u64,
    /// Number of the listener.
    pub listener: u32,
    /// Its server.
    pub server: ServerId,
    /// Zero.
    pub pad: u16,
}
plain_bytes!(Ended, 128);

/// The value of the map TRACE: which packets are told of, by the tuple they came with or the one they
/// left with. A field of zeros matches everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct TraceFilter {
    /// Either address of the packet, widened.
    pub address: Ipv6Be,
    /// Mask of `address`.
    pub mask: Ipv6Be,
    /// Either port of the packet.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// One packet of so many is told of; 0 counts as 1.
    pub sample: u32,
    /// Packets that may still be told of, at most [`BUDGET_MAX`]; the programs count it down, and
    /// processors that race may count it below zero.
    pub budget: u64,
}
plain_bytes!(TraceFilter, 48);
