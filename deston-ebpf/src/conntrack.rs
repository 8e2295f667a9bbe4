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
    if state.0 & State::ENDED != 0 {
        return None;
    }
    let now = now();
    let protocol = parsed.key.protocol;

    let reopens = protocol == TCP && parsed.flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    let over = if reopens && state.is_closed() {
        true
    } else {
        let timeout = state.timeout_ns(protocol, &listener.timeouts);
        now.saturating_sub(seen) > timeout
            && (!state.is_kept_by_replies(protocol)
                || now.saturating_sub(reply_seen(&reply)) > timeout)
    };
    if over {
        end(&parsed.key, flow);
        return None;
    }

    // SAFETY: as above. Time only moves on, so a racing write loses nothing that matters.
    unsafe { (*flow).last_seen_ns = now };
    let taken = protocol == TCP && follow(parsed, flow, &reply);
    note(flow, state, state.news(protocol, Direction::Forward, parsed.flags, taken));
    Some((server, reply))
}

/// Follows the client's sequence numbers. Whether the server takes a reset in this packet for sure:
/// its number is the next one, and the server has acknowledged all before it, so that nothing can
/// be on the way that moves the server's window (RFC 5961, section 3.2).
#[inline(always)]
fn follow(parsed: &Parsed, flow: *mut FlowEntry, reply: &FlowKey) -> bool {
    // SAFETY: as in `find`.
    let next = unsafe { (*flow).next_seq };
    let end = parsed.next_seq();
    if (end.wrapping_sub(next) as i32) > 0 {
        // SAFETY: as in `find`.
        unsafe { (*flow).next_seq = end };
    }
    parsed.flags & tcp::RST != 0 && parsed.seq == next && last_ack(reply) == Some(next)
}

/// Notes what a server's packet tells about its flow.
#[inline(always)]
pub(crate) fn note_reply(key: &FlowKey, flags: u8) {
    if let Some(flow) = flow(key) {
        // SAFETY: as in `find`.
        let state = unsafe { State((*flow).state) };
        note(flow, state, state.news(key.protocol, Direction::Reply, flags, true));
    }
}

/// Ends a flow: takes it off its server's counts and forgets both directions. Of several that try
/// at once, one does it, and nobody can open the tuple anew before that is done: so nothing here
/// meets a flow's successor.
#[inline(always)]
pub(crate) fn end(key: &FlowKey, flow: *mut FlowEntry) {
    // SAFETY: as in `find`.
    let (reply, server) = unsafe { ((*flow).reply, (*flow).server) };
    // SAFETY: as in `find`.
    let before =
        unsafe { atomic::fetch_or(&raw mut (*flow).state, State::ENDED | State::RELEASED) };
    if before & State::ENDED != 0 {
        return;
    }
    if before & State::RELEASED == 0 {
        select::release(server);
    }
    let _ = maps::REPLIES.remove(reply);
    let _ = maps::FLOWS.remove(key);
    select::forget(server);
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

/// The last number that the server has acknowledged.
#[inline(always)]
fn last_ack(reply: &FlowKey) -> Option<u32> {
    // SAFETY: points into a live map value.
    maps::REPLIES.get_ptr(reply).map(|entry| unsafe { (*entry).last_ack })
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
        let before = unsafe { atomic::fetch_or(&raw mut (*flow).state, State::RELEASED) };
        if before & State::RELEASED == 0 {
            // SAFETY: as in `find`.
            select::release(unsafe { (*flow).server });
        }
    }
}
