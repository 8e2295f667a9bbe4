//! Flows that are half open: neither side has proved yet that it is there.
//!
//! They are kept where a flood may evict them, hold no slot of their server, and may be given to
//! another server that answers.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use deston_common::conntrack::{State, acknowledges, tcp};
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry, flags};
use deston_common::limits::RETRY_AFTER_NS;
use deston_common::listener;
use deston_common::net::TCP;
use deston_common::outcome::Outcome;
use deston_common::server::ServerId;

use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::{atomic, claim, conntrack, promote, select};

/// The half-open flow of a client's packet.
#[inline(never)]
pub(crate) fn find<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let Some(flow) = flow::<F>(&cx.key) else { return Verdict::GO_ON };
    // SAFETY: `flow` points into a live map value; elements are recycled but never unmapped. The
    // same holds for every dereference below.
    let (state, seen, limit, its) = unsafe {
        (State((*flow).state), (*flow).last_seen_ns, (*flow).idle_limit_ns, (*flow).flags)
    };
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.forwarding = (its & flags::FORWARDING) as u8;
    if cx.now.saturating_sub(seen) > limit {
        forget::<F>(flow);
        return Verdict::GO_ON;
    }
    if its & flags::ONE_PACKET != 0 && cx.part != part::LATER {
        return Verdict::GO_ON;
    }
    // SAFETY: as above.
    unsafe {
        (*flow).last_seen_ns = cx.now;
        (*flow).bytes += u64::from(cx.ip_len);
        cx.to = (*flow).reply.reversed();
        cx.server = (*flow).server;
    }
    if cx.flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
        return again::<F, P>(packet, cx, flow);
    }
    if cx.key.protocol != TCP && cx.part != part::LATER {
        return stay::<F, P>(packet, cx, flow);
    }
    if claimant::<F>(cx) == claimant::ANOTHER {
        return Verdict::GO_ON;
    }
    if cx.part == part::LATER {
        return Verdict::CARRY;
    }
    if cx.flags & tcp::RST != 0 {
        reset::<F>(flow, state);
        return Verdict::CARRY;
    }
    if cx.flags & (tcp::SYN | tcp::ACK) == tcp::ACK {
        return proved::<F>(cx, flow);
    }
    Verdict::CARRY
}

/// The half-open entry of a flow, if it is the one asked for and not a recycled element.
#[inline(always)]
pub(crate) fn flow<F: Family>(key: &FlowKey<F::Address>) -> Option<*mut FlowEntry<F::Address>> {
    let flow = F::half_flows().get_ptr_mut(key)?;
    // SAFETY: as in `find`.
    (unsafe { (*flow).key.is(key) }).then_some(flow)
}

/// The half-open reply entry of a flow; see `flow`.
#[inline(always)]
pub(crate) fn reply<F: Family>(key: &FlowKey<F::Address>) -> Option<*mut ReplyEntry<F::Address>> {
    let reply = F::half_replies().get_ptr_mut(key)?;
    // SAFETY: as in `find`.
    (unsafe { (*reply).key.is(key) }).then_some(reply)
}

/// Who has the claim of a half-open flow.
mod claimant {
    /// The flow, or there are no claims.
    pub(super) const OWN: u32 = 0;
    /// Nobody: the kernel evicted it, or the server refused the flow.
    pub(super) const NOBODY: u32 = 1;
    /// Another flow, since nobody had it for a while.
    pub(super) const ANOTHER: u32 = 2;
}

/// Who has the claim of the packet's flow. If it is another flow, this one is forgotten, and the packet
/// may open it anew: carried, it would be one of the other flow to the server.
#[inline(never)]
fn claimant<F: Family>(cx: &mut Context<F::Address>) -> u32 {
    if !conntrack::is_translated(cx.forwarding) {
        return claimant::OWN;
    }
    let claim = cx.to.reversed();
    let entry = match reply::<F>(&claim) {
        Some(reply) => reply,
        None => match conntrack::promoted_reply::<F>(&claim) {
            Some(reply) => reply,
            None => return claimant::NOBODY,
        },
    };
    // SAFETY: as in `find`.
    if unsafe { (*entry).flow.is(&cx.key) } {
        return claimant::OWN;
    }
    let _ = F::half_flows().remove(&cx.key);
    cx.server = ServerId(0);
    claimant::ANOTHER
}

/// Forgets a half-open flow and its claim.
#[inline(always)]
fn forget<F: Family>(flow: *mut FlowEntry<F::Address>) {
    // SAFETY: as in `find`.
    let (key, claim) = unsafe { ((*flow).key, (*flow).reply) };
    give_back::<F>(&claim, &key);
    let _ = F::half_flows().remove(&key);
}

/// Removes a claim if flow `key` has it: it may be another's by now.
#[inline(always)]
pub(crate) fn give_back<F: Family>(claim: &FlowKey<F::Address>, key: &FlowKey<F::Address>) {
    if let Some(reply) = reply::<F>(claim)
        // SAFETY: as in `find`.
        && unsafe { (*reply).flow.is(key) }
    {
        let _ = F::half_replies().remove(claim);
    }
}

/// A reset before the handshake was done: the flow ends soon.
#[inline(always)]
pub(crate) fn reset<F: Family>(flow: *mut FlowEntry<F::Address>, state: State) {
    // SAFETY: as in `find`.
    unsafe { atomic::fetch_or(&raw mut (*flow).state, State::RESET) };
    conntrack::set_limit::<F>(flow, State(state.0 | State::RESET));
}

/// A SYN that was sent again.
#[inline(always)]
fn again<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    flow: *mut FlowEntry<F::Address>,
) -> Verdict {
    if !conntrack::is_translated(cx.forwarding) {
        return Verdict::CARRY;
    }
    // SAFETY: as in `find`.
    let (state, opened) = unsafe { ((*flow).state, (*flow).opened_ns) };
    let refused = state & State::REFUSED != 0;
    let unanswered = state & State::REPLIED == 0 && cx.now.saturating_sub(opened) >= RETRY_AFTER_NS;
    if unanswered && !refused {
        select::note_unanswered(cx.server);
    }
    if (refused || unanswered) && state & State::RETRIED == 0 {
        cx.moves = 1;
        // SAFETY: as in `find`.
        cx.old = unsafe { (*flow).reply };
        return Verdict::GO_ON;
    }
    stay::<F, P>(packet, cx, flow)
}

/// Carries a packet to the server that has its flow; the claim is made anew if it is lost, unless
/// another flow has it.
#[inline(always)]
pub(crate) fn stay<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    flow: *mut FlowEntry<F::Address>,
) -> Verdict {
    match claimant::<F>(cx) {
        claimant::ANOTHER => return Verdict::GO_ON,
        claimant::NOBODY => {
            claim::reply_anew::<F, P>(packet, cx, flow, false);
        }
        _ => {}
    }
    Verdict::CARRY
}

/// Gives a flow whose server does not take its SYN to another, if one is eligible and has a port
/// for it. One that has lost its claim cannot stay, and is opened anew.
#[inline(never)]
pub(crate) fn go_elsewhere<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
) -> Verdict {
    let before = cx.server;
    if moved::<F, P>(packet, cx, before) {
        // Two servers may be one address.
        if !cx.old.is(&cx.flow.reply) {
            give_back::<F>(&cx.old, &cx.key);
        }
        return Verdict::CARRY;
    }
    // Evicted meanwhile: the SYN opens it anew.
    let Some(flow) = flow::<F>(&cx.key) else { return Verdict::GO_ON };
    cx.server = before;
    cx.to = cx.old.reversed();
    // SAFETY: as in `find`.
    cx.forwarding = unsafe { (*flow).flags & flags::FORWARDING } as u8;
    stay::<F, P>(packet, cx, flow)
}

#[inline(always)]
fn moved<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>, before: ServerId) -> bool {
    let key = &cx.key;
    let found = crate::listener::lookup::<F>(key.destination, key.destination_port, key.protocol);
    let Some(listener) = found.filter(|entry| entry.flags & listener::flags::OPEN != 0) else {
        return false;
    };
    let Ok(id) = select::server::<F>(cx, listener, before) else { return false };
    claim::flow::<F, P>(packet, cx, listener, id, State::RETRIED) == Verdict::CARRY
}

/// An ACK, which may prove that the client is there.
#[inline(always)]
fn proved<F: Family>(cx: &mut Context<F::Address>, flow: *mut FlowEntry<F::Address>) -> Verdict {
    // SAFETY: as in `find`.
    cx.flow = unsafe { *flow };
    if !conntrack::is_translated(cx.forwarding) {
        if cx.seq != cx.flow.next_seq {
            return Verdict::CARRY;
        }
        cx.flow.next_seq = cx.next_seq();
        return promote::run::<F>(cx, false);
    }
    if cx.flow.state & State::REPLIED == 0 {
        return Verdict::CARRY;
    }
    let Some(reply) = reply::<F>(&cx.flow.reply) else { return Verdict::CARRY };
    // SAFETY: as in `find`.
    cx.reply = unsafe { *reply };
    if !acknowledges(cx.reply.first_seq, cx.reply.next_seq, cx.ack) {
        return Verdict::CARRY;
    }
    if (cx.next_seq().wrapping_sub(cx.flow.next_seq) as i32) > 0 {
        cx.flow.next_seq = cx.next_seq();
    }
    promote::run::<F>(cx, true)
}

/// Writes the half-open flow entry in `cx.flow`. A flow that is moved or balanced packet by packet
/// replaces its own.
#[inline(always)]
pub(crate) fn record<F: Family>(cx: &Context<F::Address>, replaces: bool) -> Result<(), i32> {
    let how = if replaces { BPF_ANY } else { BPF_NOEXIST };
    F::half_flows().insert(&cx.flow.key, &cx.flow, how.into())
}

/// The server of a half-open flow that was refused keeps no claim.
#[inline(always)]
pub(crate) fn refuse<F: Family>(flow: *mut FlowEntry<F::Address>) -> ServerId {
    // SAFETY: as in `find`.
    unsafe {
        atomic::fetch_or(&raw mut (*flow).state, State::REFUSED);
        give_back::<F>(&(*flow).reply, &(*flow).key);
        (*flow).server
    }
}
