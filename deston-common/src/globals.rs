//! Settings that all packets share.

use crate::plain_bytes;

/// Bits of `Globals::flags`.
pub mod flags {
    /// A listener forwards by `dnat`, so packets to anywhere may be replies.
    pub const DNAT: u32 = 1;
    /// The kernel knows `BPF_F_IPV6` of `bpf_l4_csum_replace` (Linux 6.16).
    pub const CSUM_IPV6: u32 = 2;
    /// TRACE holds a filter.
    pub const TRACE: u32 = 4;
    /// Ends of flows are told by EVENTS.
    pub const FLOW_LOG: u32 = 8;
}

/// The value of the map GLOBALS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Globals {
    /// Bits of [`flags`].
    pub flags: u32,
    /// New flows a second and processor beyond which more are shed; 0: no limit.
    pub flood_gate: u32,
    /// What the clock says, nanoseconds; 0: ask `CLOCK_MONOTONIC`. Specs alone set it.
    pub clock_ns: u64,
    /// What random choices are drawn from together with the flow; 0: ask the kernel. Specs alone set
    /// it.
    pub random: u64,
}
plain_bytes!(Globals, 24);
