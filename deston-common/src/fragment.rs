//! Fragments: only the first has ports, which later ones borrow.

use crate::net::{Be16, Ipv4Be, Ipv6Be};
use crate::plain_bytes;

/// How long the ports of a datagram are remembered, nanoseconds: more than Linux takes to
/// reassemble on a local link, less than identifications repeat at 1 Gbit/s.
pub const LIFETIME_NS: u64 = 10_000_000_000;

/// Key of the maps FRAGMENTS4 and FRAGMENTS6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FragmentKey<A = Ipv4Be> {
    /// Where the datagram comes from.
    pub source: A,
    /// Where it goes.
    pub destination: A,
    /// Identification, as it stands in the packet (16 bits in IPv4).
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
    /// Zero.
    pub pad2: u16,
}
plain_bytes!(FragmentKey<Ipv4Be>, 16);
plain_bytes!(FragmentKey<Ipv6Be>, 40);

/// Value of the maps FRAGMENTS4 and FRAGMENTS6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FragmentEntry {
    /// When the first fragment came, `CLOCK_MONOTONIC` nanoseconds.
    pub seen_ns: u64,
    /// Port it comes from.
    pub source_port: Be16,
    /// Port it goes to.
    pub destination_port: Be16,
    /// Zero.
    pub pad: u32,
}
plain_bytes!(FragmentEntry, 16);
