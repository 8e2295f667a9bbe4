//! Headers as they stand in a packet. Packed to two bytes: see docs/adr/0003.

use deston_common::checksum::Change;
use deston_common::hop::Vlan;
use deston_common::net::{Ipv4Be, Ipv6Be, Mac};

use crate::packet::Packet;

/// Ethernet II header (IEEE 802.3, clause 3.2.6).
#[repr(C, packed(2))]
pub(crate) struct Ethernet {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) kind: u16,
}

/// A VLAN tag with the type of what follows (IEEE 802.1Q, clause 9); it stands where the Ethernet
/// header has its type.
#[repr(C, packed(2))]
pub(crate) struct Tagged {
    pub(crate) vlan: Vlan,
    pub(crate) kind: u16,
}

/// IPv4 header without options (RFC 791, section 3.1).
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) dscp_ecn: u8,
    pub(crate) total_len: u16,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

/// IPv6 header (RFC 8200, section 3).
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
pub(crate) struct Ipv6 {
    pub(crate) version_class: u16,
    pub(crate) flow_label: u16,
    pub(crate) payload_len: u16,
    pub(crate) next: u8,
    pub(crate) ttl: u8,
    pub(crate) source: Ipv6Be,
    pub(crate) destination: Ipv6Be,
}

/// The start of an IPv6 extension header (RFC 8200, section 4).
#[repr(C, packed(2))]
pub(crate) struct Extension {
    pub(crate) next: u8,
    /// Units of 8 bytes after the first.
    pub(crate) len: u8,
    /// Fragment header: offset in units of 8 bytes, two reserved bits, more fragments.
    pub(crate) fragment: u16,
    /// Fragment header: identification.
    pub(crate) id: u32,
}

/// TCP header without options (RFC 9293, section 3.1).
#[repr(C, packed(2))]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

/// UDP header (RFC 768).
#[repr(C, packed(2))]
pub(crate) struct Udp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) len: u16,
    pub(crate) checksum: u16,
}

/// ICMP header (RFC 792, RFC 4443): the last four bytes mean what the type says.
#[repr(C, packed(2))]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    pub(crate) rest: [u16; 2],
}

/// Type of IPv4, as it stands in a frame.
pub(crate) const IPV4: u16 = 0x0800_u16.to_be();
/// Type of IPv6.
pub(crate) const IPV6: u16 = 0x86dd_u16.to_be();
/// Tag protocol identifier of a customer tag.
pub(crate) const CUSTOMER_TAG: u16 = 0x8100_u16.to_be();
/// Tag protocol identifier of a service tag.
pub(crate) const SERVICE_TAG: u16 = 0x88a8_u16.to_be();
/// Place of the checksum in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Place of the checksum in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// Writes type and tags of a frame of IP; the addresses before them are left.
#[inline(always)]
pub(crate) fn write_tags<P: Packet>(
    packet: P,
    v6: bool,
    count: u16,
    vlans: &[Vlan; 2],
) -> Option<()> {
    let kind = if v6 { IPV6 } else { IPV4 };
    if count == 0 {
        let ethernet = packet.at::<Ethernet>(0)?;
        // SAFETY: `at` checked the bounds; so below.
        unsafe { (*ethernet).kind = kind };
        return Some(());
    }
    let outer = packet.at::<Tagged>(12)?;
    // SAFETY: as above.
    unsafe {
        (*outer).vlan = vlans[0];
        (*outer).kind = kind;
    }
    if count > 1 {
        let inner = packet.at::<Tagged>(16)?;
        // SAFETY: as above.
        unsafe {
            (*outer).kind = vlans[1].tpid.word();
            (*inner).vlan = vlans[1];
            (*inner).kind = kind;
        }
    }
    Some(())
}

/// Writes an IPv4 header before `len` bytes of `protocol` (RFC 791, section 3.1), not to be cut on
/// its way.
#[inline(always)]
pub(crate) fn write_v4<P: Packet>(
    packet: P,
    offset: usize,
    source: Ipv4Be,
    destination: Ipv4Be,
    len: u32,
    protocol: u8,
    ttl: u8,
) -> Option<()> {
    const VERSION_IHL: u16 = 0x4500_u16.to_be();
    const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
    let total = (len as u16 + 20).to_be();
    let aged = u16::from_ne_bytes([ttl, protocol]);
    let sum = Change::none()
        .word16(0, VERSION_IHL)
        .word16(0, total)
        .word16(0, DONT_FRAGMENT)
        .word16(0, aged)
        .word32(0, source.word())
        .word32(0, destination.word());
    let ip = packet.at::<Ipv4>(offset)?;
    // SAFETY: `at` checked the bounds.
    unsafe {
        (*ip).version_ihl = 0x45;
        (*ip).dscp_ecn = 0;
        (*ip).total_len = total;
        (*ip).id = 0;
        (*ip).fragment = DONT_FRAGMENT;
        (*ip).ttl = ttl;
        (*ip).protocol = protocol;
        (*ip).checksum = sum.apply(0xffff);
        (*ip).source = source.word();
        (*ip).destination = destination.word();
    }
    Some(())
}

/// Writes an IPv6 header before `len` bytes of `protocol` (RFC 8200, section 3).
#[inline(always)]
pub(crate) fn write_v6<P: Packet>(
    packet: P,
    offset: usize,
    source: Ipv6Be,
    destination: Ipv6Be,
    len: u32,
    protocol: u8,
    ttl: u8,
) -> Option<()> {
    let ip = packet.at::<Ipv6>(offset)?;
    // SAFETY: `at` checked the bounds.
    unsafe {
        (*ip).version_class = 0x6000_u16.to_be();
        (*ip).flow_label = 0;
        (*ip).payload_len = (len as u16).to_be();
        (*ip).next = protocol;
        (*ip).ttl = ttl;
        (*ip).source = source;
        (*ip).destination = destination;
    }
    Some(())
}
