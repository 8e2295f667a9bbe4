//! Flows that are known: finding them, noting what a packet tells, ending them.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use deston_common::conntrack::{Direction, State, tcp};
use deston_common::flow::{FlowEntry, FlowKey};
use deston_common::listener::ListenerEntry;
use deston_common::net::TCP;
use deston_common::server::ServerId;

use crate::parse::Parsed;
use crate::{atomic, maps, select};

/// The server and the reply tuple of a client's packet, if its flow is known and alive.
///
/// A SYN on a flow that is closed, and any packet on one that has been idle too long, ends the old
/// flow: the packet then opens a new one.
#[inline(always)]
pub(crate) fn find(parsed: &Parsed, listener: &ListenerEntry) -> Option<(ServerId, FlowKey)> {
    let flow = flow(&parsed.key)?;
    // SAFETY: `flow` points into a live map value; elements are recycled but never unmapped.
    let (state, seen, server, reply) =
        unsafe { (State((*flow).state), (*flow).last_seen_ns, (*flow).server, (*flow).reply) };
    let now = now();
    let protocol = parsed.key.protocol;

    let reopens = protocol == TCP && parsed.flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    let over = if reopens && state.is_closed() {
        true
    } else {
        let timeout = state.timeout_ns(protocol, &listener.timeouts);
        now.saturating_sub(seen) > timeout && now.saturating_sub(reply_seen(&reply)) > timeout
    };
    if over {
        end(&parsed.key, flow);
        return None;
    }

    // SAFETY: as above. Time only moves on, so a racing write loses nothing that matters.
    unsafe { (*flow).last_seen_ns = now };
    note(flow, state, state.news(protocol, Direction::Forward, parsed.flags));
    Some((server, reply))
}

/// Notes what a server's packet tells about its flow.
#[inline(always)]
pub(crate) fn note_reply(key: &FlowKey, flags: u8) {
    if let Some(flow) = flow(key) {
        // SAFETY: as in `find`.
        let state = unsafe { State((*flow).state) };
        note(flow, state, state.news(key.protocol, Direction::Reply, flags));
    }
}

/// Ends a flow: takes it off its server's count if nobody has, and forgets both directions.
#[inline(always)]
pub(crate) fn end(key: &FlowKey, flow: *mut FlowEntry) {
    // SAFETY: as in `find`.
    let (reply, server) = unsafe { ((*flow).reply, (*flow).server) };
    release(flow, server);
    // Either may be gone by a race with another processor, which then has done the same.
    let _ = maps::REPLIES.remove(reply);
    let _ = maps::FLOWS.remove(key);
}

/// The entry of a flow, if it is the one asked for and not a recycled element.
#[inline(always)]
pub(crate) fn flow(key: &FlowKey) -> Option<*mut FlowEntry> {
    let flow = maps::FLOWS.get_ptr_mut(key)?;
    // SAFETY: as in `find`.
    (unsafe { (*flow).key } == *key).then_some(flow)
}

/// When the server was last heard; 0 if the entry is missing.
#[inline(always)]
pub(crate) fn reply_seen(reply: &FlowKey) -> u64 {
    match maps::REPLIES.get_ptr(reply) {
        // SAFETY: points into a live map value.
        Some(entry) => unsafe { (*entry).last_seen_ns },
        None => 0,
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn note(flow: *mut FlowEntry, state: State, news: u64) {
    if news == 0 {
        return;
    }
    // SAFETY: as in `find`.
    unsafe { atomic::fetch_or(&raw mut (*flow).state, news) };
    if State(state.0 | news).is_closed() && state.0 & State::RELEASED == 0 {
        // SAFETY: as in `find`.
        release(flow, unsafe { (*flow).server });
    }
}

#[inline(always)]
fn release(flow: *mut FlowEntry, server: ServerId) {
    // SAFETY: as in `find`.
    let before = unsafe { atomic::fetch_or(&raw mut (*flow).state, State::RELEASED) };
    if before & State::RELEASED == 0 {
        select::release(server);
    }
}
