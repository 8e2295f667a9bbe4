//! From server to client: reply entry -> conntrack -> rewrite.

use deston_common::conntrack::tcp;
use deston_common::net::TCP;
use deston_common::outcome::Outcome;

use crate::packet::Packet;
use crate::parse::Parsed;
use crate::rewrite::{self, Hop};
use crate::{conntrack, maps};

/// Carries one packet from server to client, if it is a reply to a flow of ours.
#[inline(always)]
pub(crate) fn run(packet: &Packet, parsed: &Parsed) -> Outcome {
    let Some(reply) = maps::REPLIES.get_ptr_mut(parsed.key) else { return Outcome::Unrelated };
    // SAFETY: points into a live map value; elements are recycled but never unmapped.
    let (key, flow, seen) = unsafe { ((*reply).key, (*reply).flow, (*reply).last_seen_ns) };
    if key != parsed.key {
        return Outcome::Unrelated;
    }
    if parsed.ttl <= 1 {
        return Outcome::TtlExpired;
    }
    // SAFETY: as above.
    let hop = unsafe {
        Hop {
            ifindex: (*reply).ifindex,
            source_mac: (*reply).source_mac,
            next_hop_mac: (*reply).next_hop_mac,
        }
    };
    // SAFETY: as above.
    unsafe {
        (*reply).last_seen_ns = conntrack::now();
        if parsed.flags & tcp::ACK != 0 {
            (*reply).last_ack = parsed.ack;
        }
    }
    // Most packets tell nothing new; only those that may do pay for a second lookup.
    let tells = if parsed.key.protocol == TCP {
        parsed.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
    } else {
        seen == 0
    };
    if tells {
        conntrack::note_reply(&flow, parsed.flags);
    }
    rewrite::and_send(packet, parsed, &flow.reversed(), &hop, Outcome::Replied)
}
