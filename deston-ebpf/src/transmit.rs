//! Translating a packet and sending it on: the last stage of both directions.

use deston_common::checksum::Change;
use deston_common::hop::{Hop, Vlan};
use deston_common::listener::Forwarding;
use deston_common::net::{Address, Mac, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::ServerEntry;

use crate::context::{Context, part};
use crate::family::Family;
use crate::header::{self, Ethernet, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::packet::{Mend, Packet};
use crate::verdict::Verdict;
use crate::{complain, fragment, maps, select, tunnel};

/// Sends a client's packet to `cx.server`.
#[inline(always)]
pub(crate) fn to_server<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let Some(server) = select::entry(cx.server) else { return Verdict::of(Outcome::NoServer) };
    let hop = &server.hop;
    if hop.ifindex == 0 {
        return Verdict::of(Outcome::NoNextHop);
    }
    if let Some(said) = too_old::<F>(cx) {
        return said;
    }
    match Forwarding::from_number(cx.forwarding) {
        Forwarding::Nat | Forwarding::Dnat => carry::<F, P>(packet, cx, hop, Outcome::Forwarded),
        Forwarding::DsrL2 => {
            if let Some(said) = too_big::<F, P>(packet, cx, hop, 0) {
                return said;
            }
            if cx.part == part::FIRST {
                fragment::remember::<F>(cx);
            }
            send(packet, F::V6, cx.vlan_count, &cx.vlans, hop, Outcome::Forwarded)
        }
        Forwarding::DsrIpip => tunnel::run::<F, P>(packet, cx, server),
    }
}

/// Sends a client's packet that fits, is young enough and is no fragment.
#[inline(always)]
pub(crate) fn plainly<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    server: &ServerEntry,
) -> Verdict {
    match Forwarding::from_number(cx.forwarding) {
        Forwarding::Nat | Forwarding::Dnat => {
            translate_and_send::<F, P>(packet, cx, &server.hop, Outcome::Forwarded)
        }
        Forwarding::DsrL2 => {
            send(packet, F::V6, cx.vlan_count, &cx.vlans, &server.hop, Outcome::Forwarded)
        }
        Forwarding::DsrIpip => tunnel::wrap::<F, P>(packet, cx, server, Outcome::Forwarded),
    }
}

/// Sends a server's packet the way that the client's came.
#[inline(always)]
pub(crate) fn to_client<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    hop: &Hop,
) -> Verdict {
    carry::<F, P>(packet, cx, hop, Outcome::Replied)
}

/// Gives the packet its new tuple and sends it; `done` is the outcome if that works.
#[inline(never)]
fn carry<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    hop: &Hop,
    done: Outcome,
) -> Verdict {
    if let Some(said) = too_big::<F, P>(packet, cx, hop, 0) {
        return said;
    }
    if cx.part == part::FIRST {
        fragment::remember::<F>(cx);
    }
    translate_and_send::<F, P>(packet, cx, hop, done)
}

/// See `carry`, of which this is the end.
#[inline(always)]
pub(crate) fn translate_and_send<F: Family, P: Packet>(
    packet: P,
    cx: &Context<F::Address>,
    hop: &Hop,
    done: Outcome,
) -> Verdict {
    if translate::<F, P>(packet, cx).is_none() {
        return Verdict::of(Outcome::Malformed);
    }
    send(packet, F::V6, cx.vlan_count, &cx.vlans, hop, done)
}

/// A packet whose time to live ran out is answered; one that stays on its link does not age.
#[inline(always)]
pub(crate) fn too_old<F: Family>(cx: &mut Context<F::Address>) -> Option<Verdict> {
    if cx.ttl > 1 || cx.forwarding == Forwarding::DsrL2 as u8 {
        return None;
    }
    Some(complain::time_exceeded::<F>(cx))
}

/// A packet that does not fit the link, with `more` bytes before it, is answered.
#[inline(always)]
pub(crate) fn too_big<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    hop: &Hop,
    more: u32,
) -> Option<Verdict> {
    if fits(packet, cx, hop, more) {
        return None;
    }
    Some(complain::too_big::<F>(cx, u32::from(hop.mtu).saturating_sub(more)))
}

/// Whether the packet, with `more` bytes before it, fits the link; of one that will be cut, each
/// part.
#[inline(always)]
pub(crate) fn fits<A: Address, P: Packet>(
    packet: P,
    cx: &Context<A>,
    hop: &Hop,
    more: u32,
) -> bool {
    let mtu = u32::from(hop.mtu);
    if mtu == 0 || cx.ip_len + more <= mtu {
        return true;
    }
    let segment = packet.segment();
    segment != 0 && cx.ip_len - cx.payload + segment + more <= mtu
}

/// Writes addresses, ports, time to live and checksums.
#[inline(always)]
fn translate<F: Family, P: Packet>(packet: P, cx: &Context<F::Address>) -> Option<()> {
    if cx.part != part::LATER {
        let (from, to) = (&cx.key, &cx.to);
        let l4 = cx.l4 as usize;
        let ports = packet.at::<[u16; 2]>(l4)?;
        // SAFETY: `at` checked the bounds.
        unsafe { *ports = [to.source_port.word(), to.destination_port.word()] };
        let udp = from.protocol == UDP;
        let place = if from.protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
        packet.mend(&Mend {
            offset: l4 + place,
            pseudo: from
                .source
                .change(to.source, Change::none())
                .and(from.destination.change(to.destination, Change::none())),
            header: Change::none()
                .word16(from.source_port.word(), to.source_port.word())
                .word16(from.destination_port.word(), to.destination_port.word()),
            udp,
            v6: F::V6,
        })?;
    }
    F::readdress(packet, cx, cx.ttl.wrapping_sub(1))
}

/// Where the packet came from: replies go back the way the client's packets came (docs/adr/0001).
#[inline(always)]
pub(crate) fn way_back<A: Address, P: Packet>(packet: P, cx: &Context<A>) -> Hop {
    let (ours, theirs) = macs(packet);
    Hop {
        ifindex: packet.ifindex(),
        source_mac: ours,
        next_hop_mac: theirs,
        mtu: mtu(packet.ifindex()),
        vlan_count: cx.vlan_count,
        vlans: cx.vlans,
    }
}

/// Whether both Ethernet addresses are of one station each: an answer to a frame from or to a group
/// would go to all of the link, or look as if it came from them.
#[inline(always)]
pub(crate) fn is_unicast<P: Packet>(packet: P) -> bool {
    const GROUP: u16 = 1_u16.to_le();
    let (ours, theirs) = macs(packet);
    let ([first, ..], [other, ..]) = (ours.words(), theirs.words());
    (first | other) & GROUP == 0
}

/// Largest IP packet that an interface sends; 0: not known, or longer than a hop can say.
#[inline(always)]
fn mtu(ifindex: u32) -> u16 {
    // SAFETY: one word, copied at once.
    unsafe { maps::MTUS.get(ifindex) }.map_or(0, |mtu| u16::try_from(*mtu).unwrap_or(0))
}

/// The frame's destination and source.
#[inline(always)]
fn macs<P: Packet>(packet: P) -> (Mac, Mac) {
    match packet.at::<Ethernet>(0) {
        // SAFETY: `at` checked the bounds.
        Some(ethernet) => unsafe { ((*ethernet).destination, (*ethernet).source) },
        None => Default::default(),
    }
}

/// Writes the Ethernet header for `hop` and gives the frame to its interface.
#[inline(always)]
pub(crate) fn send<P: Packet>(
    packet: P,
    v6: bool,
    vlan_count: u16,
    vlans: &[Vlan; 2],
    hop: &Hop,
    done: Outcome,
) -> Verdict {
    // The loopback has no Ethernet addresses; what is for the host itself goes on into its stack.
    if P::TC && hop.ifindex == packet.ifindex() && hop.next_hop_mac == Mac::default() {
        return Verdict::local(done);
    }
    if (vlan_count | hop.vlan_count) != 0 && !tag(packet, v6, vlan_count, vlans, hop) {
        return Verdict::of(Outcome::NoNextHop);
    }
    let Some(ethernet) = packet.at::<[u16; 6]>(0) else {
        return Verdict::of(Outcome::Malformed);
    };
    // Word by word: the compiler copies an address by a call.
    let ([a, b, c], [d, e, f]) = (hop.next_hop_mac.words(), hop.source_mac.words());
    // SAFETY: `at` checked the bounds.
    unsafe { *ethernet = [a, b, c, d, e, f] };
    packet.redirect(hop.ifindex);
    Verdict::sent(done)
}

/// Gives the frame the tags of `hop` for its own.
#[inline(never)]
fn tag<P: Packet>(packet: P, v6: bool, count: u16, vlans: &[Vlan; 2], hop: &Hop) -> bool {
    if count == hop.vlan_count && *vlans == hop.vlans {
        return true;
    }
    if !packet.retag(count, hop.vlan_count, &hop.vlans) {
        return false;
    }
    P::TC || header::write_tags(packet, v6, hop.vlan_count, &hop.vlans).is_some()
}
