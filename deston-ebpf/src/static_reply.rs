//! Replies of a server of `dnat` whose flow entry is lost: where it serves one listener alone, what
//! it sends can only be that listener's.

use deston_common::flow::FlowKey;
use deston_common::listener::ListenerKey;
use deston_common::outcome::Outcome;

use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::{fib, transmit};

/// Gives the packet its listener's address and asks the host's routes for the way to the client.
#[inline(never)]
pub(crate) fn run<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let key = ListenerKey::new(cx.key.source, cx.key.source_port, cx.key.protocol);
    // SAFETY: the map is not preallocated, so an element is never recycled under a reader.
    let Some(entry) = (unsafe { F::static_replies().get(&key) }) else {
        return Verdict::of(if cx.part == part::LATER {
            Outcome::Fragment
        } else {
            Outcome::Unrelated
        });
    };
    if (entry.tc != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    if let Some(said) = transmit::too_old::<F>(cx) {
        return said;
    }
    cx.to = FlowKey::new(
        (entry.address, entry.port),
        (cx.key.destination, cx.key.destination_port),
        cx.key.protocol,
    );
    let Some(hop) = fib::next_hop::<F, P>(packet, cx) else {
        return Verdict::of(Outcome::NoNextHop);
    };
    transmit::to_client::<F, P>(packet, cx, &hop)
}
