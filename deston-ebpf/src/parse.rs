//! Headers, and the tuple and flags that the pipeline works on.
//!
//! Whatever cannot be read is passed to the kernel, which knows better: nothing is dropped before
//! it is known to be a listener's.

use core::mem::size_of;

use deston_common::flow::FlowKey;
use deston_common::hop::Vlan;
use deston_common::limits::EXTENSION_HEADERS;
use deston_common::net::{Be16, Ipv4Be, Ipv6Be, TCP, UDP};
use deston_common::outcome::Outcome;

use crate::context::{Context, part};
use crate::family::{Family, V4, V6};
use crate::header::{
    CUSTOMER_TAG, Ethernet, Extension, IPV4, IPV6, Icmp, Ipv4, Ipv6, SERVICE_TAG, Tagged, Tcp, Udp,
};
use crate::packet::{MAX_OFFSET, Packet, word};

/// What stands before the network header.
pub(crate) struct Link {
    /// Type of what follows: IPv4 or IPv6.
    pub(crate) kind: u16,
    /// Where it starts.
    l3: usize,
    vlan_count: u16,
    vlans: [Vlan; 2],
}

/// Reads Ethernet and up to two VLAN tags, one of which the device may have taken off.
#[inline(always)]
pub(crate) fn link<P: Packet>(packet: P) -> Result<Link, Outcome> {
    let ethernet = packet.at::<Ethernet>(0).ok_or(Outcome::Malformed)?;
    // SAFETY: `at` checked the bounds; the same holds for every dereference below.
    let mut kind = unsafe { (*ethernet).kind };
    let mut l3 = size_of::<Ethernet>();
    let mut vlans = [Vlan::default(); 2];
    let mut vlan_count = 0;
    if let Some(vlan) = packet.taken_off() {
        vlans[0] = vlan;
        vlan_count = 1;
    }
    if is_tag(kind) {
        let (vlan, after) = tag(packet, l3)?;
        if vlan_count == 0 {
            vlans[0] = vlan;
        } else {
            vlans[1] = vlan;
        }
        (kind, vlan_count, l3) = (after, vlan_count + 1, l3 + 4);
        if is_tag(kind) && vlan_count == 1 {
            let (vlan, after) = tag(packet, l3)?;
            vlans[1] = vlan;
            (kind, vlan_count, l3) = (after, 2, l3 + 4);
        }
    }
    if kind != IPV4 && kind != IPV6 {
        return Err(Outcome::OtherProtocol);
    }
    Ok(Link { kind, l3, vlan_count, vlans })
}

/// The tag whose identifier stands just before `after`, and the type of what follows it.
#[inline(always)]
fn tag<P: Packet>(packet: P, after: usize) -> Result<(Vlan, u16), Outcome> {
    let tagged = packet.at::<Tagged>(after - 2).ok_or(Outcome::Malformed)?;
    // SAFETY: `at` checked the bounds.
    Ok(unsafe { ((*tagged).vlan, (*tagged).kind) })
}

#[inline(always)]
fn is_tag(kind: u16) -> bool {
    kind == CUSTOMER_TAG || kind == SERVICE_TAG
}

/// A family whose network header can be read.
pub(crate) trait Network: Family {
    /// Reads the network header: addresses, lengths, fragments. The protocol is the one that the
    /// header names, which may be an extension header's.
    fn network<P: Packet>(
        packet: P,
        link: &Link,
        cx: &mut Context<Self::Address>,
    ) -> Result<(), Outcome>;

    /// Walks over extension headers to the transport header.
    fn walk<P: Packet>(packet: P, cx: &mut Context<Self::Address>) -> Result<(), Outcome>;
}

/// More fragments, or an offset: everything but the reserved and "don't fragment" bits.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

impl Network for V4 {
    #[inline(always)]
    fn network<P: Packet>(packet: P, link: &Link, cx: &mut Context<Ipv4Be>) -> Result<(), Outcome> {
        let ip = packet.at::<Ipv4>(link.l3).ok_or(Outcome::Malformed)?;
        // SAFETY: `at` checked the bounds.
        let ip = unsafe { &*ip };
        let header = usize::from(ip.version_ihl & 0x0f) * 4;
        let total = usize::from(u16::from_be(ip.total_len));
        if ip.version_ihl >> 4 != 4
            || header < size_of::<Ipv4>()
            || total < header
            || link.l3 + total > packet.len()
        {
            return Err(Outcome::Malformed);
        }
        let fragment = ip.fragment;
        // SAFETY: `at` checked the bounds.
        let (source, destination) =
            unsafe { (word(&raw const ip.source), word(&raw const ip.destination)) };
        begin(cx, link, total, link.l3 + header, ip.ttl);
        cx.divisible = u8::from(fragment & DONT_FRAGMENT == 0);
        cx.key = FlowKey::new(
            (Ipv4Be::from_word(source), Be16::default()),
            (Ipv4Be::from_word(destination), Be16::default()),
            ip.protocol,
        );
        if fragment & FRAGMENT != 0 {
            cx.part = if fragment & FRAGMENT_OFFSET == 0 { part::FIRST } else { part::LATER };
            cx.fragment_id = ip.id.into();
        }
        Ok(())
    }

    #[inline(always)]
    fn walk<P: Packet>(_packet: P, _cx: &mut Context<Ipv4Be>) -> Result<(), Outcome> {
        Ok(())
    }
}

/// IPv6 extension headers (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT_HEADER: u8 = 44;
const DESTINATION: u8 = 60;
/// Of the word in a fragment header: where the fragment stands in its datagram.
pub(crate) const EXTENSION_OFFSET: u16 = 0xfff8;

impl Network for V6 {
    #[inline(always)]
    fn network<P: Packet>(
        packet: P,
        link: &Link,
        cx: &mut Context<Self::Address>,
    ) -> Result<(), Outcome> {
        let ip = packet.at::<Ipv6>(link.l3).ok_or(Outcome::Malformed)?;
        // SAFETY: `at` checked the bounds.
        let ip = unsafe { &*ip };
        let total = size_of::<Ipv6>() + usize::from(u16::from_be(ip.payload_len));
        if u16::from_be(ip.version_class) >> 12 != 6 || link.l3 + total > packet.len() {
            return Err(Outcome::Malformed);
        }
        begin(cx, link, total, link.l3 + size_of::<Ipv6>(), ip.ttl);
        // SAFETY: `at` checked the bounds.
        let (source, destination) =
            unsafe { (words(&raw const ip.source), words(&raw const ip.destination)) };
        cx.key = FlowKey::new((source, Be16::default()), (destination, Be16::default()), ip.next);
        Ok(())
    }

    #[inline(always)]
    fn walk<P: Packet>(packet: P, cx: &mut Context<Self::Address>) -> Result<(), Outcome> {
        if matches!(cx.key.protocol, TCP | UDP | V6::ICMP) {
            return Ok(());
        }
        outcome_of(walk_extensions(packet, cx))
    }
}

/// The transport header starts here at the latest, so that it, and what an error quotes, lies within
/// `MAX_OFFSET`.
const MAX_TRANSPORT: u32 = 384;

/// An IPv6 address of a packet.
///
/// # Safety
/// `at` has checked its bounds.
#[inline(always)]
unsafe fn words(address: *const Ipv6Be) -> Ipv6Be {
    let first = address.cast::<u32>();
    // SAFETY: the caller's.
    unsafe {
        Ipv6Be::from_words([
            word(first),
            word(first.wrapping_add(1)),
            word(first.wrapping_add(2)),
            word(first.wrapping_add(3)),
        ])
    }
}

/// A subprogram's way to say that there is no outcome yet.
pub(crate) const GO_ON: u32 = u32::MAX;

#[inline(always)]
pub(crate) fn outcome_of(number: u32) -> Result<(), Outcome> {
    match Outcome::from_number(number) {
        Some(outcome) => Err(outcome),
        None => Ok(()),
    }
}

#[inline(never)]
fn walk_extensions<P: Packet>(packet: P, cx: &mut Context<<V6 as Family>::Address>) -> u32 {
    packet.pull(MAX_OFFSET);
    for _ in 0..EXTENSION_HEADERS {
        if !matches!(cx.key.protocol, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT_HEADER) {
            return Outcome::OtherProtocol as u32;
        }
        let Some(extension) = packet.at::<Extension>(cx.l4 as usize) else {
            return Outcome::Malformed as u32;
        };
        // SAFETY: `at` checked the bounds.
        let (next, len, fragment, id) = unsafe {
            ((*extension).next, (*extension).len, (*extension).fragment, (*extension).id)
        };
        let size = match cx.key.protocol {
            FRAGMENT_HEADER => {
                let fragment = u16::from_be(fragment);
                if fragment & EXTENSION_OFFSET != 0 {
                    cx.part = part::LATER;
                } else if fragment & 1 != 0 {
                    cx.part = part::FIRST;
                }
                cx.fragment_id = id;
                8
            }
            _ => (u32::from(len) + 1) * 8,
        };
        cx.l4 += size;
        cx.key.protocol = next;
        if cx.l4 > cx.l3 + cx.ip_len {
            return Outcome::Malformed as u32;
        }
        if cx.l4 > MAX_TRANSPORT {
            return Outcome::OtherProtocol as u32;
        }
        if matches!(next, TCP | UDP | V6::ICMP) || cx.part == part::LATER {
            return GO_ON;
        }
    }
    Outcome::OtherProtocol as u32
}

/// Starts the context of a packet anew.
#[inline(always)]
fn begin<A>(cx: &mut Context<A>, link: &Link, ip_len: usize, l4: usize, ttl: u8) {
    cx.ip_len = ip_len as u32;
    cx.payload = 0;
    cx.seq = 0;
    cx.ack = 0;
    cx.l3 = link.l3 as u32;
    cx.l4 = l4 as u32;
    cx.fragment_id = 0;
    cx.flags = 0;
    cx.ttl = ttl;
    cx.part = part::WHOLE;
    cx.divisible = 0;
    cx.vlan_count = link.vlan_count;
    cx.vlans = link.vlans;
    cx.server.0 = 0;
    cx.moves = 0;
    cx.forwarding = 0;
}

/// Reads the transport header: ports, and for TCP flags and numbers.
#[inline(always)]
pub(crate) fn transport<F: Network, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
) -> Result<(), Outcome> {
    F::walk(packet, cx)?;
    let protocol = cx.key.protocol;
    if protocol != TCP && protocol != UDP && protocol != F::ICMP {
        return Err(Outcome::OtherProtocol);
    }
    if cx.part == part::LATER {
        return Ok(());
    }
    let l4 = cx.l4 as usize;
    // What the IP header leaves for the transport.
    let room = (cx.l3 + cx.ip_len).saturating_sub(cx.l4);
    if protocol == TCP {
        let tcp = packet.at::<Tcp>(l4).ok_or(Outcome::Malformed)?;
        // Both ports, which the header begins with.
        // SAFETY: `at` checked the bounds. So below.
        let ports = unsafe { word(tcp.cast()) };
        // SAFETY: as above.
        let tcp = unsafe { &*tcp };
        let header = u32::from(tcp.offset >> 4) * 4;
        if header < size_of::<Tcp>() as u32 || header > room {
            return Err(Outcome::Malformed);
        }
        cx.key.set_ports(ports);
        cx.flags = tcp.flags;
        // SAFETY: as above.
        let (seq, ack) = unsafe { (word(&raw const tcp.seq), word(&raw const tcp.ack)) };
        cx.seq = u32::from_be(seq);
        cx.ack = u32::from_be(ack);
        cx.payload = room - header;
    } else if protocol == UDP {
        let udp = packet.at::<Udp>(l4).ok_or(Outcome::Malformed)?;
        // SAFETY: as above.
        let ports = unsafe { word(udp.cast()) };
        // SAFETY: as above.
        let udp = unsafe { &*udp };
        let len = u32::from(u16::from_be(udp.len));
        let least = size_of::<Udp>() as u32;
        // The length of a fragmented datagram is that of all its fragments.
        if room < least || len < least || (len > room && cx.part == part::WHOLE) {
            return Err(Outcome::Malformed);
        }
        cx.key.set_ports(ports);
    } else {
        packet.at::<Icmp>(l4).ok_or(Outcome::Malformed)?;
        if (room as usize) < size_of::<Icmp>() {
            return Err(Outcome::Malformed);
        }
    }
    Ok(())
}
