//! Control messages: echo for the listeners' addresses, and errors about packets that we sent.

use deston_common::address;
use deston_common::checksum::Change;
use deston_common::conntrack::State;
use deston_common::flow::{FlowKey, flags};
use deston_common::listener::Forwarding;
use deston_common::net::{Address, TCP, UDP};
use deston_common::outcome::Outcome;

use crate::context::{Context, part};
use crate::header::{Icmp, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::packet::{Mend, Packet};
use crate::reset::TTL;
use crate::verdict::Verdict;
use crate::{conntrack, half, maps, quote, reply, role, select, transmit, tunnel};

/// Place of the checksum in an ICMP header.
const CHECKSUM: usize = 2;

/// What becomes of a control message.
#[inline(always)]
pub(crate) fn run<F: quote::Quoted, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if cx.part != part::WHOLE {
        return Verdict::of(Outcome::Fragment);
    }
    let Some(icmp) = packet.at::<Icmp>(cx.l4 as usize) else {
        return Verdict::of(Outcome::Malformed);
    };
    // SAFETY: `at` checked the bounds.
    let (kind, code) = unsafe { ((*icmp).kind, (*icmp).code) };
    if kind == F::ECHO_REQUEST && code == 0 {
        return echo::<F, P>(packet, cx);
    }
    if !F::is_error(kind) || !F::read(packet, cx) {
        return Verdict::of(Outcome::IcmpUnrelated);
    }
    let said = about_forwarded::<F, P>(packet, cx, F::is_unreachable(kind, code));
    if said != Verdict::GO_ON {
        return said;
    }
    about_reply::<F, P>(packet, cx)
}

/// Answers an echo request for an address that is ours alone.
#[inline(always)]
fn echo<F: quote::Quoted, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if cx.role & address::flags::ECHO == 0 || !role::is_of_a_client(packet, cx) {
        return Verdict::of(Outcome::IcmpUnrelated);
    }
    if maps::table(cx.echo_pool).is_none_or(|table| table.len == 0) {
        return Verdict::of(Outcome::EchoUnhealthy);
    }
    cx.to = cx.key.reversed();
    if answer_echo::<F, P>(packet, cx).is_none() {
        return Verdict::of(Outcome::Malformed);
    }
    let back = transmit::way_back(packet, cx);
    transmit::send(packet, F::V6, cx.vlan_count, &cx.vlans, &back, Outcome::Echoed)
}

#[inline(always)]
fn answer_echo<F: quote::Quoted, P: Packet>(packet: P, cx: &Context<F::Address>) -> Option<()> {
    let l4 = cx.l4 as usize;
    let icmp = packet.at::<Icmp>(l4)?;
    // SAFETY: `at` checked the bounds.
    unsafe { (*icmp).kind = F::ECHO_REPLY };
    packet.mend(&Mend {
        offset: l4 + CHECKSUM,
        // The addresses change places, which no sum notices.
        pseudo: Change::none(),
        header: Change::none().word16(
            u16::from_ne_bytes([F::ECHO_REQUEST, 0]),
            u16::from_ne_bytes([F::ECHO_REPLY, 0]),
        ),
        udp: false,
        v6: F::V6,
    })?;
    F::readdress(packet, cx, TTL)
}

/// An error about a packet that we sent to a server.
#[inline(never)]
fn about_forwarded<F: quote::Quoted, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    unreachable: bool,
) -> Verdict {
    let key = cx.quoted.reversed();
    let found = match conntrack::promoted_reply::<F>(&key) {
        Some(entry) => Some(entry),
        None => half::reply::<F>(&key),
    };
    let Some(entry) = found else { return Verdict::GO_ON };
    // SAFETY: points into a live map value; elements are recycled but never unmapped.
    let (flow, its, id, hop) =
        unsafe { ((*entry).flow, (*entry).flags, (*entry).server, (*entry).hop) };
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.server = id;
    if cx.ttl <= 1 {
        return Verdict::of(Outcome::TtlExpired);
    }
    if unreachable
        && cx.quoted.protocol == TCP
        && let Some(half) = half::flow::<F>(&flow)
        // SAFETY: as above. The flow may have another server by now.
        && unsafe { (*half).reply.is(&key) && (*half).state & State::REPLIED == 0 }
        && reply::refused::<F>(half)
    {
        return Verdict::of(Outcome::RefusalSwallowed);
    }
    cx.to = cx.key;
    cx.to.source = flow.destination;
    cx.to.destination = flow.source;
    if !retell::<F, P>(packet, cx, &flow) {
        return Verdict::of(Outcome::Malformed);
    }
    transmit::send(packet, F::V6, cx.vlan_count, &cx.vlans, &hop, Outcome::ErrorReplied)
}

/// An error about a packet that we, or with dsr-* the server, sent to a client.
#[inline(never)]
fn about_reply<F: quote::Quoted, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let key = cx.quoted.reversed();
    let found = match conntrack::promoted::<F>(&key) {
        Some(entry) => Some(entry),
        None => half::flow::<F>(&key),
    };
    let Some(entry) = found else { return Verdict::of(Outcome::IcmpUnrelated) };
    // SAFETY: points into a live map value; elements are recycled but never unmapped.
    let (reply, its, id) = unsafe { ((*entry).reply, (*entry).flags, (*entry).server) };
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.server = id;
    let Some(server) = select::entry(id) else { return Verdict::of(Outcome::NoServer) };
    let hop = &server.hop;
    if hop.ifindex == 0 {
        return Verdict::of(Outcome::NoNextHop);
    }
    let forwarding = Forwarding::from_number((its & flags::FORWARDING) as u8);
    if cx.ttl <= 1 && forwarding != Forwarding::DsrL2 {
        return Verdict::of(Outcome::TtlExpired);
    }
    cx.to = cx.key;
    match forwarding {
        Forwarding::Nat => {
            cx.to.source = reply.destination;
            cx.to.destination = reply.source;
        }
        Forwarding::Dnat => cx.to.destination = reply.source,
        Forwarding::DsrL2 => {
            let (count, vlans) = (cx.vlan_count, cx.vlans);
            return transmit::send(packet, F::V6, count, &vlans, hop, Outcome::ErrorForwarded);
        }
        Forwarding::DsrIpip => {
            return tunnel::wrap::<F, P>(packet, cx, server, Outcome::ErrorForwarded);
        }
    }
    if !retell::<F, P>(packet, cx, &reply) {
        return Verdict::of(Outcome::Malformed);
    }
    transmit::send(packet, F::V6, cx.vlan_count, &cx.vlans, hop, Outcome::ErrorForwarded)
}

/// Gives the quoted packet the tuple `to`, and the error the addresses of `cx.to`. Each change in
/// the quote changes the error's checksum, those of the quoted checksums included.
#[inline(never)]
fn retell<F: quote::Quoted, P: Packet>(
    packet: P,
    cx: &Context<F::Address>,
    to: &FlowKey<F::Address>,
) -> bool {
    try_retell::<F, P>(packet, cx, to).is_some()
}

#[inline(always)]
fn try_retell<F: quote::Quoted, P: Packet>(
    packet: P,
    cx: &Context<F::Address>,
    to: &FlowKey<F::Address>,
) -> Option<()> {
    let from = &cx.quoted;
    let quoted_l4 = cx.quoted_l4 as usize;
    let ports = packet.at::<[u16; 4]>(quoted_l4)?;
    let addresses = from
        .source
        .change(to.source, Change::none())
        .and(from.destination.change(to.destination, Change::none()));
    let mut change = Change::none()
        .word16(from.source_port.word(), to.source_port.word())
        .word16(from.destination_port.word(), to.destination_port.word());
    // SAFETY: `at` checked the bounds.
    unsafe {
        (*ports)[0] = to.source_port.word();
        (*ports)[1] = to.destination_port.word();
        if from.protocol == UDP {
            let before = (*ports)[UDP_CHECKSUM / 2];
            let after = change.and(addresses).apply_udp(before);
            (*ports)[UDP_CHECKSUM / 2] = after;
            change = change.word16(before, after);
        }
    }
    // The quote may hold the whole TCP header.
    let place = quoted_l4 + TCP_CHECKSUM;
    if from.protocol == TCP
        && place as u32 + 2 <= cx.l3 + cx.ip_len
        && let Some(checksum) = packet.at::<u16>(place)
    {
        // SAFETY: `at` checked the bounds.
        unsafe {
            let before = *checksum;
            *checksum = change.and(addresses).apply(before);
            change = change.word16(before, *checksum);
        }
    }
    let header = F::readdress_quote(packet, cx, to)?;
    let pseudo = if F::V6 {
        cx.key
            .source
            .change(cx.to.source, Change::none())
            .and(cx.key.destination.change(cx.to.destination, Change::none()))
    } else {
        Change::none()
    };
    packet.mend(&Mend {
        offset: cx.l4 as usize + CHECKSUM,
        pseudo,
        header: change.and(addresses).and(header),
        udp: false,
        v6: F::V6,
    })?;
    F::readdress(packet, cx, cx.ttl.wrapping_sub(1))
}
