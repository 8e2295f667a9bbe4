//! Where a frame goes next on its link.

use crate::net::{Be16, Mac};
use crate::plain_bytes;

/// A VLAN tag (IEEE 802.1Q, clause 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Vlan {
    /// Tag protocol identifier: 0x8100 or 0x88a8.
    pub tpid: Be16,
    /// Priority, drop eligibility and VLAN identifier.
    pub tci: Be16,
}
plain_bytes!(Vlan, 4);

/// The interface and the Ethernet header that a frame leaves with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Hop {
    /// Interface it leaves by; 0 is unset. For a VLAN device, the interface below it.
    pub ifindex: u32,
    /// Ethernet address of that interface.
    pub source_mac: Mac,
    /// Ethernet address of the next hop.
    pub next_hop_mac: Mac,
    /// Largest IP packet that fits, bytes; 0: not known, or longer than this can say: not checked.
    pub mtu: u16,
    /// Tags in use, at most 2.
    pub vlan_count: u16,
    /// Tags, outermost first.
    pub vlans: [Vlan; 2],
}
plain_bytes!(Hop, 28);
