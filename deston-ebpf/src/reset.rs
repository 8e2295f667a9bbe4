//! Answering a TCP packet with a reset in its receiver's name (RFC 9293, section 3.5.2).
//!
//! The packet itself is turned round: options and payload stay, which a reset may have (RFC 9293,
//! section 3.5.3), so that its checksum follows from what changes, also where the sender has left it
//! to hardware.

use deston_common::checksum::Change;
use deston_common::conntrack::tcp;
use deston_common::outcome::Outcome;

use crate::context::Context;
use crate::family::Family;
use crate::header::{TCP_CHECKSUM, Tcp};
use crate::packet::{Mend, Packet};
use crate::transmit;
use crate::verdict::Verdict;

/// Time to live of what we send ourselves.
pub(crate) const TTL: u8 = 64;

/// Sends a reset to where the packet came from.
#[inline(never)]
pub(crate) fn answer<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if cx.flags & tcp::RST != 0 || turn_round::<F, P>(packet, cx).is_none() {
        return Verdict::of(Outcome::ResetSent);
    }
    let back = transmit::way_back(packet, cx);
    transmit::send(packet, F::V6, cx.vlan_count, &cx.vlans, &back, Outcome::ResetSent)
}

#[inline(always)]
fn turn_round<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Option<()> {
    let l4 = cx.l4 as usize;
    let tcp = packet.at::<Tcp>(l4)?;
    let acks = cx.flags & tcp::ACK != 0;
    // SAFETY: `at` checked the bounds; so below.
    let (seq, ack, offset, flags) =
        unsafe { ((*tcp).seq, (*tcp).ack, (*tcp).offset, (*tcp).flags) };
    let new_seq = if acks { ack } else { 0 };
    let new_ack = if acks { 0 } else { cx.next_seq().to_be() };
    let new_flags = if acks { tcp::RST } else { tcp::RST | tcp::ACK };
    let header = Change::none()
        .word32(seq, new_seq)
        .word32(ack, new_ack)
        .word16(u16::from_ne_bytes([offset, flags]), u16::from_ne_bytes([offset, new_flags]));
    // SAFETY: as above.
    unsafe {
        (*tcp).source = cx.key.destination_port.word();
        (*tcp).destination = cx.key.source_port.word();
        (*tcp).seq = new_seq;
        (*tcp).ack = new_ack;
        (*tcp).flags = new_flags;
    }
    // Addresses and ports change places, which no sum notices.
    packet.mend(&Mend {
        offset: l4 + TCP_CHECKSUM,
        pseudo: Change::none(),
        header,
        udp: false,
        v6: F::V6,
    })?;
    cx.to = cx.key.reversed();
    F::readdress(packet, cx, TTL)
}
