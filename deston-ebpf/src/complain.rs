//! ICMP errors that we send ourselves, where the host's stack could not: after a rewrite its error
//! would go to our own SNAT address, and for an address of its own it never says Time Exceeded.
//!
//! Sent from the packet's destination, to where it came from. Not about later fragments, resets, or
//! headers with options or extensions (RFC 1122, section 3.2.2; RFC 4443, section 2.4).

use core::mem::size_of;

use deston_common::checksum::Change;
use deston_common::conntrack::tcp;
use deston_common::hop::Vlan;
use deston_common::net::{Address, Ipv4Be, Mac, TCP};
use deston_common::outcome::Outcome;

use crate::context::{Context, part};
use crate::family::Family;
use crate::header::{self, Ethernet, Icmp};
use crate::packet::Packet;
use crate::reset::TTL;
use crate::transmit;
use crate::verdict::Verdict;

/// The time to live ran out (RFC 792; RFC 4443, section 3.3).
#[inline(always)]
pub(crate) fn time_exceeded<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    cx.answer = Outcome::TtlExpired as u32;
    cx.says = if F::V6 { 3 } else { 11 };
    cx.says_mtu = 0;
    Verdict::ANSWER
}

/// The packet does not fit a link that takes IP packets of `mtu` bytes (RFC 1191, section 4; RFC
/// 4443, section 3.2). A packet that may be cut is only dropped: no router would complain.
#[inline(always)]
pub(crate) fn too_big<F: Family>(cx: &mut Context<F::Address>, mtu: u32) -> Verdict {
    if cx.divisible == 1 {
        return Verdict::of(Outcome::TooBig);
    }
    cx.answer = Outcome::TooBig as u32;
    cx.says = if F::V6 { 2 } else { 4 << 8 | 3 };
    cx.says_mtu = mtu;
    Verdict::ANSWER
}

/// Turns the packet into the error that it is to be answered with.
#[inline(never)]
pub(crate) fn answer<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    outcome: Outcome,
) -> Verdict {
    let (kind, mtu) = (cx.says, cx.says_mtu);
    let has_more = (cx.l4 - cx.l3) as usize != F::HEADER;
    if cx.part == part::LATER || cx.flags & tcp::RST != 0 || has_more {
        return Verdict::of(outcome);
    }
    let back = transmit::way_back(packet, cx);
    if P::TC && back.next_hop_mac == Mac::default() {
        return Verdict::of(outcome);
    }
    let sent = if cx.key.protocol == TCP {
        quote::<F, P, 10>(packet, cx, kind, mtu)
    } else if P::TC {
        quote::<F, P, 6>(packet, cx, kind, mtu)
    } else {
        quote::<F, P, 4>(packet, cx, kind, mtu)
    };
    if sent.is_none() {
        return Verdict::of(outcome);
    }
    transmit::send(packet, F::V6, back.vlan_count, &back.vlans, &back, outcome)
}

/// Makes the error around a quote of the IP header and `WORDS` words of the transport header.
#[inline(always)]
fn quote<F: Family, P: Packet, const WORDS: usize>(
    packet: P,
    cx: &mut Context<F::Address>,
    kind: u32,
    mtu: u32,
) -> Option<()> {
    let l3 = cx.l3 as usize;
    let front = F::HEADER + size_of::<Icmp>();
    if !packet.truncate(cx.l4 as usize + WORDS * 2) {
        return None;
    }
    if P::TC {
        settle::<P, WORDS>(packet, cx.l4 as usize)?;
    }
    if !packet.grow_front(front as i32) {
        return None;
    }
    ethernet::<P>(packet, F::V6, l3, cx)?;

    let quoted = l3 + front;
    let header = if F::V6 { sum::<P, 20>(packet, quoted)? } else { sum::<P, 10>(packet, quoted)? };
    let transport = sum::<P, WORDS>(packet, quoted + F::HEADER)?;
    let len = (size_of::<Icmp>() + F::HEADER + WORDS * 2) as u32;
    let rest = mtu.to_be();
    let change = header.and(transport).and(pseudo_header::<F>(cx, len));
    let icmp = packet.at::<Icmp>(l3 + F::HEADER)?;
    let first = u16::from_ne_bytes([kind as u8, (kind >> 8) as u8]);
    // SAFETY: `at` checked the bounds.
    unsafe {
        (*icmp).kind = kind as u8;
        (*icmp).code = (kind >> 8) as u8;
        (*icmp).checksum = change.word16(0, first).word32(0, rest).apply(0xffff);
        (*icmp).rest = [rest as u16, (rest >> 16) as u16];
    }
    if F::V6 {
        let (from, to) = (cx.key.destination.widened(), cx.key.source.widened());
        header::write_v6(packet, l3, from, to, len, F::ICMP, TTL)
    } else {
        let of = |address: F::Address| Ipv4Be::narrowed(address.widened());
        let (from, to) = (of(cx.key.destination), of(cx.key.source));
        header::write_v4(packet, l3, from, to, len, F::ICMP, TTL)
    }
}

/// Makes a checksum that its sender left to hardware come out as it stands, whether it is filled in
/// on the way out or not: the checksum's own bytes become all ones, and a word that no receiver of
/// the quote reads makes the sum of the header zero.
#[inline(always)]
fn settle<P: Packet, const WORDS: usize>(packet: P, l4: usize) -> Option<()> {
    let words = packet.at::<[u16; WORDS]>(l4)?;
    let (checksum, spare) = if WORDS == 10 { (8, 5) } else { (3, 4) };
    // SAFETY: `at` checked the bounds; both places are below `WORDS`.
    unsafe {
        for (place, word) in (*words).iter_mut().enumerate() {
            if place == checksum {
                *word = 0xffff;
            } else if place == spare || (WORDS == 10 && place == 4) || (WORDS == 6 && place == 5) {
                *word = 0;
            }
        }
        let mut change = Change::none();
        for word in (*words).iter() {
            change = change.word16(0, *word);
        }
        for (place, word) in (*words).iter_mut().enumerate() {
            if place == spare {
                *word = change.apply(0xffff);
            }
        }
    }
    Some(())
}

/// The sum of words of the packet.
#[inline(always)]
fn sum<P: Packet, const WORDS: usize>(packet: P, offset: usize) -> Option<Change> {
    let words = packet.at::<[u16; WORDS]>(offset)?;
    let mut change = Change::none();
    // SAFETY: `at` checked the bounds.
    for word in unsafe { (*words).iter() } {
        change = change.word16(0, *word);
    }
    Some(change)
}

/// The sum of what ICMPv6 sums before its own header (RFC 4443, section 2.3); nothing for ICMP.
#[inline(always)]
fn pseudo_header<F: Family>(cx: &Context<F::Address>, len: u32) -> Change {
    if !F::V6 {
        return Change::none();
    }
    let zero = F::Address::default();
    zero.change(cx.key.source, Change::none())
        .and(zero.change(cx.key.destination, Change::none()))
        .word32(0, len.to_be())
        .word16(0, u16::from(F::ICMP).to_be())
}

/// Writes Ethernet and the tags that stood in the frame at the new front; `send` writes addresses.
#[inline(always)]
fn ethernet<P: Packet>(packet: P, v6: bool, l3: usize, cx: &Context<impl Address>) -> Option<()> {
    let count = (l3 - size_of::<Ethernet>()) / 4;
    // Of two tags one may have been taken off by the device.
    let is_second = count == 1 && cx.vlan_count == 2;
    let vlans = if is_second { [cx.vlans[1], Vlan::default()] } else { cx.vlans };
    header::write_tags(packet, v6, count as u16, &vlans)
}
