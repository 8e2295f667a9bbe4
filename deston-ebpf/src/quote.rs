//! What an ICMP error quotes: the packet it is about, as far as it goes.

use core::mem::size_of;

use deston_common::checksum::Change;
use deston_common::flow::FlowKey;
use deston_common::net::{Address, Be16, Ipv4Be, Ipv6Be, TCP, UDP};

use crate::context::Context;
use crate::family::{Family, V4, V6};
use crate::header::{Extension, Icmp, Ipv4, Ipv6};
use crate::packet::Packet;
use crate::parse::{EXTENSION_OFFSET, FRAGMENT_HEADER};

/// A family's control messages.
pub(crate) trait Quoted: Family {
    /// Type of an echo request.
    const ECHO_REQUEST: u8;
    /// Type of its answer.
    const ECHO_REPLY: u8;

    /// Whether a type is an error, which quotes a packet.
    fn is_error(kind: u8) -> bool;

    /// Whether an error says that the destination cannot be reached at all.
    fn is_unreachable(kind: u8, code: u8) -> bool;

    /// Reads the quoted tuple; `false` if there is none that could be ours.
    fn read<P: Packet>(packet: P, cx: &mut Context<Self::Address>) -> bool;

    /// Writes the addresses of `to` into the quoted header, and returns what that changes in the
    /// header besides the addresses: its checksum, if it has one.
    fn readdress_quote<P: Packet>(
        packet: P,
        cx: &Context<Self::Address>,
        to: &FlowKey<Self::Address>,
    ) -> Option<Change>;
}

impl Quoted for V4 {
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn is_unreachable(kind: u8, code: u8) -> bool {
        kind == 3 && code != 4
    }

    #[inline(always)]
    fn read<P: Packet>(packet: P, cx: &mut Context<Ipv4Be>) -> bool {
        let l3 = cx.l4 as usize + size_of::<Icmp>();
        let Some(ip) = packet.at::<Ipv4>(l3) else { return false };
        // SAFETY: `at` checked the bounds.
        let ip = unsafe { *ip };
        let header = usize::from(ip.version_ihl & 0x0f) * 4;
        let offset = u16::from_be(ip.fragment) & 0x1fff;
        if ip.version_ihl >> 4 != 4 || header < size_of::<Ipv4>() || offset != 0 {
            return false;
        }
        let addresses = (Ipv4Be::from_word(ip.source), Ipv4Be::from_word(ip.destination));
        finish(packet, cx, l3, l3 + header, addresses, ip.protocol)
    }

    #[inline(always)]
    fn readdress_quote<P: Packet>(
        packet: P,
        cx: &Context<Ipv4Be>,
        to: &FlowKey<Ipv4Be>,
    ) -> Option<Change> {
        let ip = packet.at::<Ipv4>(cx.quoted_l3 as usize)?;
        let change = cx
            .quoted
            .source
            .change(to.source, Change::none())
            .and(cx.quoted.destination.change(to.destination, Change::none()));
        // SAFETY: `at` checked the bounds.
        unsafe {
            let before = (*ip).checksum;
            let after = change.apply(before);
            (*ip).checksum = after;
            (*ip).source = to.source.word();
            (*ip).destination = to.destination.word();
            Some(Change::none().word16(before, after))
        }
    }
}

impl Quoted for V6 {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn is_unreachable(kind: u8, _code: u8) -> bool {
        kind == 1
    }

    #[inline(always)]
    fn read<P: Packet>(packet: P, cx: &mut Context<Ipv6Be>) -> bool {
        let l3 = cx.l4 as usize + size_of::<Icmp>();
        let Some(ip) = packet.at::<Ipv6>(l3) else { return false };
        // SAFETY: `at` checked the bounds.
        let (version, addresses, next) =
            unsafe { ((*ip).version_class, ((*ip).source, (*ip).destination), (*ip).next) };
        if u16::from_be(version) >> 12 != 6 {
            return false;
        }
        let l4 = l3 + size_of::<Ipv6>();
        if next != FRAGMENT_HEADER {
            return finish(packet, cx, l3, l4, addresses, next);
        }
        // Routers do not cut IPv6 packets: it is by these errors that a sender of fragments learns
        // how long they may be.
        let Some(fragment) = packet.at::<Extension>(l4) else { return false };
        // SAFETY: `at` checked the bounds.
        let (next, offset) = unsafe { ((*fragment).next, (*fragment).fragment) };
        if u16::from_be(offset) & EXTENSION_OFFSET != 0 {
            return false;
        }
        finish(packet, cx, l3, l4 + size_of::<Extension>(), addresses, next)
    }

    #[inline(always)]
    fn readdress_quote<P: Packet>(
        packet: P,
        cx: &Context<Ipv6Be>,
        to: &FlowKey<Ipv6Be>,
    ) -> Option<Change> {
        let ip = packet.at::<Ipv6>(cx.quoted_l3 as usize)?;
        // SAFETY: `at` checked the bounds.
        unsafe {
            (*ip).source = to.source;
            (*ip).destination = to.destination;
        }
        Some(Change::none())
    }
}

/// Reads the ports, which are in the eight bytes that each quote has (RFC 792), and notes it all.
#[inline(always)]
fn finish<A: Address, P: Packet>(
    packet: P,
    cx: &mut Context<A>,
    l3: usize,
    l4: usize,
    addresses: (A, A),
    protocol: u8,
) -> bool {
    if (protocol != TCP && protocol != UDP) || l4 as u32 + 8 > cx.l3 + cx.ip_len {
        return false;
    }
    let Some(ports) = packet.at::<[u16; 4]>(l4) else { return false };
    // SAFETY: `at` checked the bounds.
    let (source, destination) = unsafe { ((*ports)[0], (*ports)[1]) };
    cx.quoted = FlowKey::new(
        (addresses.0, Be16::from_word(source)),
        (addresses.1, Be16::from_word(destination)),
        protocol,
    );
    cx.quoted_l3 = l3 as u32;
    cx.quoted_l4 = l4 as u32;
    true
}
