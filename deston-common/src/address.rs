//! What an address means to us: the first question about a packet, so that foreign ones cost one
//! lookup.

use crate::plain_bytes;

/// Bits of `AddressEntry::flags`.
pub mod flags {
    /// Listeners have this address, or the host talks to servers of `dnat` from it: what they send
    /// here is no reply of theirs to a client.
    pub const LISTENER: u32 = 1;
    /// Packets to servers come from this address and the ports of the entry's range.
    pub const SNAT: u32 = 2;
    /// The address is Deston's alone: no other service of the host is reached by it, so stray
    /// fragments to it are dropped and echo may be answered for it.
    pub const DEDICATED: u32 = 4;
    /// Echo to this address is answered while a server of the pool `echo_pool` is eligible.
    pub const ECHO: u32 = 8;
    /// A server of a listener with `dnat` has this address: its packets to anywhere may be replies.
    pub const DNAT_SERVER: u32 = 16;
}

/// Value of the maps ADDRESSES4 and ADDRESSES6, under the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct AddressEntry {
    /// Bits of [`flags`].
    pub flags: u32,
    /// First SNAT port of any listener, host order.
    pub snat_port_min: u16,
    /// Last SNAT port of any listener, host order.
    pub snat_port_max: u16,
    /// Pool whose health echo tells of.
    pub echo_pool: u32,
}
plain_bytes!(AddressEntry, 12);
