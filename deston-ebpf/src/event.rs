//! Telling what happened: the process of flows that ended, `deston trace` of packets. A full ring
//! buffer loses the event and changes nothing else.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use deston_common::conntrack::State;
use deston_common::event::{BUDGET_MAX, Ended, TraceFilter, Traced, kind, lost, reason};
use deston_common::flow::{FlowEntry, FlowKey};
use deston_common::globals;
use deston_common::net::{Address, Ipv6Be};
use deston_common::outcome::Outcome;

use crate::context::Context;
use crate::family::Family;
use crate::packet::Packet;
use crate::{atomic, conntrack, globals as settings, maps};

/// Tells of a promoted flow that is being ended; `state` is what it was before.
#[inline(always)]
pub(crate) fn ended<F: Family>(flow: *mut FlowEntry<F::Address>, state: u64, why: u32) {
    if !settings::has(globals::flags::FLOW_LOG) {
        return;
    }
    let Some(mut event) = maps::EVENTS.reserve_untyped::<Ended>(0) else {
        return lost(lost::EVENTS);
    };
    let place: *mut Ended = event.as_mut_ptr();
    let why = match why {
        reason::IDLE if state & State::RESET != 0 => reason::RESET,
        reason::IDLE if State(state).is_closed() => reason::CLOSED,
        why => why,
    };
    // SAFETY: `place` is ours until it is submitted, and is written whole; `flow` points into a
    // live map value, whose elements are recycled but never unmapped.
    unsafe {
        let reply = (*flow).reply;
        (*place).kind = kind::ENDED;
        (*place).reason = why;
        widen(&raw mut (*place).flow, &(*flow).key);
        widen(&raw mut (*place).reply, &reply);
        (*place).opened_ns = (*flow).opened_ns;
        (*place).last_seen_ns = (*flow).last_seen_ns;
        (*place).forward_bytes = (*flow).bytes;
        (*place).reply_bytes = 0;
        (*place).listener = (*flow).listener;
        (*place).server = (*flow).server;
        (*place).pad = 0;
        if let Some(entry) = conntrack::promoted_reply::<F>(&reply) {
            (*place).reply_bytes = (*entry).bytes;
            if (*entry).last_seen_ns > (*flow).last_seen_ns {
                (*place).last_seen_ns = (*entry).last_seen_ns;
            }
        }
    }
    event.submit(0);
}

/// Tells of a packet that the filter chooses.
#[inline(never)]
pub(crate) fn traced<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    outcome: u32,
) -> u32 {
    let sent = outcome == Outcome::Forwarded as u32
        || outcome == Outcome::Replied as u32
        || outcome == Outcome::ErrorForwarded as u32
        || outcome == Outcome::ErrorReplied as u32;
    let Some(filter) = maps::TRACE.get_ptr_mut(0) else { return 0 };
    // SAFETY: points into a live map value; the process writes it whole.
    let chosen = unsafe { chooses(&*filter, &cx.key) || sent && chooses(&*filter, &cx.to) };
    if !chosen {
        return 0;
    }
    // SAFETY: as above.
    if is_spent(unsafe { core::ptr::read_volatile(&raw const (*filter).budget) }) {
        return 0;
    }
    // SAFETY: as above.
    let sample = unsafe { (*filter).sample };
    // SAFETY: a helper without arguments.
    if sample > 1 && unsafe { bpf_get_prandom_u32() }.checked_rem(sample) != Some(0) {
        return 0;
    }
    // SAFETY: as above. Processors that meet at the last place take more than there are: the budget
    // is below zero then, and spent.
    if is_spent(unsafe { atomic::fetch_sub(&raw mut (*filter).budget, 1) }) {
        return 0;
    }
    let Some(mut event) = maps::TRACES.reserve_untyped::<Traced>(0) else {
        lost(lost::TRACES);
        return 0;
    };
    let place: *mut Traced = event.as_mut_ptr();
    // SAFETY: `place` is ours until it is submitted, and is written whole.
    unsafe {
        (*place).kind = kind::TRACED;
        (*place).outcome = outcome;
        (*place).at_ns = settings::exactly_now();
        (*place).ifindex = packet.ifindex();
        (*place).len = cx.ip_len;
        widen(&raw mut (*place).key, &cx.key);
        if sent {
            widen(&raw mut (*place).translated, &cx.to);
        } else {
            (*place).translated = FlowKey::default();
        }
        (*place).server = cx.server;
        (*place).tcp_flags = cx.flags;
        (*place).tc = u8::from(P::TC);
        (*place).pad = 0;
    }
    event.submit(0);
    0
}

#[inline(always)]
fn is_spent(budget: u64) -> bool {
    budget.wrapping_sub(1) >= BUDGET_MAX
}

/// Counts an event that found no room.
#[inline(always)]
fn lost(ring: u32) {
    if let Some(count) = maps::LOST.get_ptr_mut(ring) {
        // SAFETY: this processor's own value.
        unsafe { *count += 1 };
    }
}

/// Writes a tuple field by field: a whole one would be built on the stack first.
#[inline(always)]
unsafe fn widen<A: Address>(place: *mut FlowKey<Ipv6Be>, key: &FlowKey<A>) {
    // SAFETY: the caller's: `place` can be written.
    unsafe {
        (*place).source = key.source.widened();
        (*place).destination = key.destination.widened();
        (*place).source_port = key.source_port;
        (*place).destination_port = key.destination_port;
        (*place).protocol = key.protocol;
        (*place).pad = 0;
        (*place).pad2 = 0;
    }
}

#[inline(always)]
fn chooses<A: Address>(filter: &TraceFilter, key: &FlowKey<A>) -> bool {
    if filter.protocol != 0 && filter.protocol != key.protocol {
        return false;
    }
    if filter.port.word() != 0
        && filter.port != key.source_port
        && filter.port != key.destination_port
    {
        return false;
    }
    covers(filter, key.source.widened()) || covers(filter, key.destination.widened())
}

#[inline(always)]
fn covers(filter: &TraceFilter, address: Ipv6Be) -> bool {
    let (mask, want, have) = (filter.mask.words(), filter.address.words(), address.words());
    ((want[0] ^ have[0]) & mask[0])
        | ((want[1] ^ have[1]) & mask[1])
        | ((want[2] ^ have[2]) & mask[2])
        | ((want[3] ^ have[3]) & mask[3])
        == 0
}
