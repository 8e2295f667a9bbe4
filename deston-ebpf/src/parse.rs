//! Headers, and the tuple and flags the pipeline works on.
//!
//! Whatever cannot be read is passed to the kernel, which knows better: nothing is dropped before
//! it is known to be a listener's.

use deston_common::conntrack::tcp;
use deston_common::flow::FlowKey;
use deston_common::net::{Be16, Ipv4Be, Mac, TCP, UDP};
use deston_common::outcome::Outcome;

use crate::packet::Packet;

/// Ethernet II header (IEEE 802.3, clause 3.2.6).
#[repr(C, packed(2))]
pub(crate) struct Ethernet {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    pub(crate) kind: u16,
}

/// IPv4 header without options (RFC 791, section 3.1).
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

/// Where the IPv4 header starts.
pub(crate) const IP_OFFSET: usize = 14;
const IPV4: u16 = 0x0800_u16.to_be();
/// More fragments, or an offset: everything but the reserved and "don't fragment" bits.
const FRAGMENT: u16 = 0x3fff_u16.to_be();

/// What the pipeline needs of a packet.
pub(crate) struct Parsed {
    /// The packet's own tuple.
    pub(crate) key: FlowKey,
    /// Where the TCP or UDP header starts; at most 74.
    pub(crate) l4_offset: usize,
    /// TCP flags; 0 for UDP.
    pub(crate) flags: u8,
    /// TCP sequence number, host order.
    pub(crate) seq: u32,
    /// TCP acknowledgement number, host order.
    pub(crate) ack: u32,
    /// Bytes after the TCP or UDP header.
    pub(crate) payload: u32,
    /// Time to live.
    pub(crate) ttl: u8,
}

impl Parsed {
    /// TCP: the sequence number after this packet; SYN and FIN count one each (RFC 9293, 3.4).
    #[inline(always)]
    pub(crate) fn next_seq(&self) -> u32 {
        let syn = u32::from(self.flags & tcp::SYN != 0);
        let fin = u32::from(self.flags & tcp::FIN != 0);
        self.seq.wrapping_add(self.payload + syn + fin)
    }
}

/// Reads the headers of an IPv4 TCP or UDP packet.
#[inline(always)]
pub(crate) fn packet(packet: &Packet) -> Result<Parsed, Outcome> {
    let ethernet = packet.at::<Ethernet>(0)?;
    // SAFETY: `at` checked the bounds; the same holds for every dereference below.
    if unsafe { (*ethernet).kind } != IPV4 {
        return Err(Outcome::OtherProtocol);
    }
    let ip = packet.at::<Ipv4>(IP_OFFSET)?;
    // SAFETY: as above.
    let (version_ihl, total_len, fragment, ttl, protocol, source, destination) = unsafe {
        (
            (*ip).version_ihl,
            (*ip).total_len,
            (*ip).fragment,
            (*ip).ttl,
            (*ip).protocol,
            (*ip).source,
            (*ip).destination,
        )
    };
    let header_len = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < 20 {
        return Err(Outcome::Malformed);
    }
    if protocol != TCP && protocol != UDP {
        return Err(Outcome::OtherProtocol);
    }
    if fragment & FRAGMENT != 0 {
        return Err(Outcome::Fragment);
    }
    let total_len = usize::from(u16::from_be(total_len));
    if IP_OFFSET + total_len > packet.len() {
        return Err(Outcome::Malformed);
    }

    let l4_offset = IP_OFFSET + header_len;
    let (source_port, destination_port, flags, seq, ack, l4_len) = if protocol == TCP {
        let tcp = packet.at::<Tcp>(l4_offset)?;
        // SAFETY: as above.
        let (ports, seq, ack) =
            unsafe { (((*tcp).source, (*tcp).destination), (*tcp).seq, (*tcp).ack) };
        // SAFETY: as above.
        let (offset, flags) = unsafe { ((*tcp).offset, (*tcp).flags) };
        let (seq, ack) = (u32::from_be(seq), u32::from_be(ack));
        (ports.0, ports.1, flags, seq, ack, usize::from(offset >> 4) * 4)
    } else {
        let udp = packet.at::<Udp>(l4_offset)?;
        // SAFETY: as above.
        let (source, destination, len) = unsafe { ((*udp).source, (*udp).destination, (*udp).len) };
        (source, destination, 0, 0, 0, usize::from(u16::from_be(len)))
    };
    let smallest = if protocol == TCP { size_of::<Tcp>() } else { size_of::<Udp>() };
    if l4_len < smallest || header_len + l4_len > total_len {
        return Err(Outcome::Malformed);
    }

    Ok(Parsed {
        key: FlowKey::new(
            (Ipv4Be::from_word(source), Be16::from_word(source_port)),
            (Ipv4Be::from_word(destination), Be16::from_word(destination_port)),
            protocol,
        ),
        l4_offset,
        flags,
        seq,
        ack,
        payload: (total_len - header_len - l4_len) as u32,
        ttl,
    })
}
