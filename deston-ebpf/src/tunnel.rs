//! dsr-ipip: the packet goes to its server inside another (RFC 2003, RFC 2473), and the server
//! answers the client itself.

use core::mem::size_of;

use deston_common::net::{Address, IPIP, IPV6, Ipv4Be};
use deston_common::outcome::Outcome;
use deston_common::server::ServerEntry;

use crate::context::{Context, part};
use crate::family::Family;
use crate::header::{self, Ethernet};
use crate::packet::Packet;
use crate::reset::TTL;
use crate::verdict::Verdict;
use crate::{fragment, transmit};

/// Bytes of the longest outer header.
pub(crate) const MOST: u32 = 40;

/// Sends a client's packet to `server`.
#[inline(never)]
pub(crate) fn run<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    server: &ServerEntry,
) -> Verdict {
    if let Some(said) = transmit::too_big::<F, P>(packet, cx, &server.hop, overhead(server)) {
        return said;
    }
    if cx.part == part::FIRST {
        fragment::remember::<F>(cx);
    }
    wrap::<F, P>(packet, cx, server, Outcome::Forwarded)
}

/// Puts the outer header on and sends the packet.
#[inline(never)]
pub(crate) fn wrap<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    server: &ServerEntry,
    done: Outcome,
) -> Verdict {
    cx.to = cx.key;
    if F::readdress(packet, cx, cx.ttl.wrapping_sub(1)).is_none() {
        return Verdict::of(Outcome::Malformed);
    }
    let hop = &server.hop;
    let outer_v6 = is_v6(server);
    let more = overhead(server) as i32;
    let l3 = if P::TC {
        // Two tags, one of them in the frame: the helper does not find the IP header behind it.
        if cx.l3 as usize != size_of::<Ethernet>() || !packet.encapsulate(more, outer_v6) {
            return Verdict::of(Outcome::NoNextHop);
        }
        size_of::<Ethernet>()
    } else {
        let tags = i32::from(hop.vlan_count) * 4 + 14 - cx.l3 as i32;
        if !packet.encapsulate(more + tags, outer_v6) {
            return Verdict::of(Outcome::NoNextHop);
        }
        size_of::<Ethernet>() + usize::from(hop.vlan_count & 3) * 4
    };
    if outer_header::<F, P>(packet, cx, server, l3).is_none() {
        return Verdict::of(Outcome::Malformed);
    }
    if P::TC {
        return transmit::send(packet, outer_v6, cx.vlan_count, &cx.vlans, hop, done);
    }
    if header::write_tags(packet, outer_v6, hop.vlan_count, &hop.vlans).is_none() {
        return Verdict::of(Outcome::Malformed);
    }
    transmit::send(packet, outer_v6, hop.vlan_count, &hop.vlans, hop, done)
}

/// Whether the tunnel runs over IPv6.
#[inline(always)]
fn is_v6(server: &ServerEntry) -> bool {
    server.address != Ipv4Be::narrowed(server.address).widened()
}

/// Bytes of the outer header.
#[inline(always)]
fn overhead(server: &ServerEntry) -> u32 {
    if is_v6(server) { 40 } else { 20 }
}

#[inline(always)]
fn outer_header<F: Family, P: Packet>(
    packet: P,
    cx: &Context<F::Address>,
    server: &ServerEntry,
    l3: usize,
) -> Option<()> {
    let protocol = if F::V6 { IPV6 } else { IPIP };
    let (source, destination) = (server.snat_address, server.address);
    let kind = if is_v6(server) { header::IPV6 } else { header::IPV4 };
    if P::TC {
        let ethernet = packet.at::<Ethernet>(0)?;
        // SAFETY: `at` checked the bounds.
        unsafe { (*ethernet).kind = kind };
    }
    if is_v6(server) {
        header::write_v6(packet, l3, source, destination, cx.ip_len, protocol, TTL)
    } else {
        let (source, destination) = (Ipv4Be::narrowed(source), Ipv4Be::narrowed(destination));
        header::write_v4(packet, l3, source, destination, cx.ip_len, protocol, TTL)
    }
}
