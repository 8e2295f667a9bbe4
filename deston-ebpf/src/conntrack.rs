//! Promoted flows: finding them, noting what a packet tells, ending them.

use deston_common::conntrack::{Direction, State, tcp};
use deston_common::event::reason;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry, flags};
use deston_common::listener::Forwarding;
use deston_common::net::{Address, TCP};
use deston_common::outcome::Outcome;
use deston_common::server::{OnDown, ServerEntry, ServerState};

use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::{atomic, claim, event, listener, select, transmit, tunnel};

/// A client that was silent for longer than this, nanoseconds, is looked at more closely.
const SILENCE_NS: u64 = 1_000_000_000;

/// The promoted flow of a client's packet; what the packet tells is noted.
#[inline(always)]
pub(crate) fn find<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let Some(flow) = promoted::<F>(&cx.key) else { return Verdict::GO_ON };
    // SAFETY: `flow` points into a live map value; elements are recycled but never unmapped. The
    // same holds for every dereference below.
    let (state, seen, id, its) =
        unsafe { (State((*flow).state), (*flow).last_seen_ns, (*flow).server, (*flow).flags) };
    if state.0 & State::ENDED != 0 {
        return Verdict::GO_ON;
    }
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.forwarding = (its & flags::FORWARDING) as u8;
    if cx.now.saturating_sub(seen) > SILENCE_NS && !is_alive::<F, P>(packet, cx, flow) {
        return Verdict::GO_ON;
    }
    if cx.flags & (tcp::SYN | tcp::ACK) == tcp::SYN && state.is_closed() {
        end::<F>(flow, reason::REOPENED);
        return Verdict::GO_ON;
    }
    let Some(server) = select::entry(id) else { return Verdict::GO_ON };
    if is_given_up(server) {
        let said = given_up::<F>(cx, flow);
        if said != Verdict::CARRY {
            return said;
        }
    }

    let fins = State::FIN_FORWARD | State::FIN_REPLY;
    let closing = state.0 & fins == fins && state.0 & State::LAST_ACK == 0;
    if cx.key.protocol == TCP
        && cx.part != part::LATER
        && (cx.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0 || closing)
    {
        note::<F>(cx, flow);
    }
    touch(cx, flow);
    Verdict::CARRY
}

/// What the first stage finds of a packet's flow.
pub(crate) enum Plain {
    /// It is promoted, and the packet tells nothing new.
    Yes(&'static ServerEntry),
    /// It is promoted, and there is more to look at.
    Special,
    /// It is not promoted, or there is none.
    Unknown,
}

/// The flow of a client's packet that tells nothing new: most packets by far.
#[inline(always)]
pub(crate) fn plain<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Plain {
    let Some(flow) = promoted::<F>(&cx.key) else { return Plain::Unknown };
    // SAFETY: as in `find`.
    let (state, seen, id, its) =
        unsafe { ((*flow).state, (*flow).last_seen_ns, (*flow).server, (*flow).flags) };
    let Some(server) = select::entry(id) else { return Plain::Special };
    let special = state & (State::ENDED | State::FIN_REPLY | State::RESET) != 0
        || (its & flags::TC != 0) != P::TC
        || cx.now.saturating_sub(seen) > SILENCE_NS
        || cx.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
        || is_given_up(server)
        || server.hop.ifindex == 0
        || !transmit::fits(packet, cx, &server.hop, tunnel::MOST);
    cx.forwarding = (its & flags::FORWARDING) as u8;
    if special {
        return Plain::Special;
    }
    touch(cx, flow);
    Plain::Yes(server)
}

/// Notes that a client's packet was seen, and where it goes.
#[inline(always)]
fn touch<A: Address>(cx: &mut Context<A>, flow: *mut FlowEntry<A>) {
    // SAFETY: as in `find`. Time only moves on, so a racing write loses nothing that matters.
    unsafe {
        (*flow).last_seen_ns = cx.now;
        (*flow).bytes += u64::from(cx.ip_len);
        if cx.key.protocol == TCP && cx.part != part::LATER {
            let end = cx.next_seq();
            if (end.wrapping_sub((*flow).next_seq) as i32) > 0 {
                (*flow).next_seq = end;
            }
        }
        cx.to = (*flow).reply.reversed();
        cx.server = (*flow).server;
    }
}

/// The promoted entry of a flow, if it is the one asked for and not a recycled element.
#[inline(always)]
pub(crate) fn promoted<F: Family>(key: &FlowKey<F::Address>) -> Option<*mut FlowEntry<F::Address>> {
    let flow = F::flows().get_ptr_mut(key)?;
    // SAFETY: as in `find`.
    (unsafe { (*flow).key.is(key) }).then_some(flow)
}

/// The promoted reply entry of a flow; see `promoted`.
#[inline(always)]
pub(crate) fn promoted_reply<F: Family>(
    key: &FlowKey<F::Address>,
) -> Option<*mut ReplyEntry<F::Address>> {
    let reply = F::replies().get_ptr_mut(key)?;
    // SAFETY: as in `find`.
    (unsafe { (*reply).key.is(key) }).then_some(reply)
}

/// Whether flows of the server are not simply carried on.
#[inline(always)]
pub(crate) fn is_given_up(server: &ServerEntry) -> bool {
    server.state == ServerState::Down as u8 && server.on_down != OnDown::Drain as u8
}

/// Looks at a flow whose client was silent for a while: one that was silent too long is ended, as is
/// one whose port another flow has got (its reply entry was lost for a while). The reply entry of
/// another, should it be lost, is made anew.
#[inline(never)]
fn is_alive<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    flow: *mut FlowEntry<F::Address>,
) -> bool {
    if is_over::<F>(flow, cx.now) {
        end::<F>(flow, reason::IDLE);
        return false;
    }
    if is_translated(cx.forwarding) {
        // SAFETY: as in `find`.
        let (claim, key) = unsafe { (&(*flow).reply, &(*flow).key) };
        match promoted_reply::<F>(claim) {
            // SAFETY: as in `find`.
            Some(reply) if unsafe { !(*reply).flow.is(key) } => {
                end::<F>(flow, reason::IDLE);
                return false;
            }
            Some(_) => {}
            None => {
                claim::reply_anew::<F, P>(packet, cx, flow, true);
            }
        }
    }
    true
}

/// Whether a promoted reply entry is that of flow `key`.
#[inline(always)]
fn has_reply<F: Family>(claim: &FlowKey<F::Address>, key: &FlowKey<F::Address>) -> bool {
    // SAFETY: as in `find`.
    promoted_reply::<F>(claim).is_some_and(|reply| unsafe { (*reply).flow.is(key) })
}

/// Whether replies come back through us.
#[inline(always)]
pub(crate) fn is_translated(forwarding: u8) -> bool {
    match Forwarding::from_number(forwarding) {
        Forwarding::Nat | Forwarding::Dnat => true,
        Forwarding::DsrL2 | Forwarding::DsrIpip => false,
    }
}

/// Whether nothing has moved for longer than the flow's phase allows.
#[inline(always)]
pub(crate) fn is_over<F: Family>(flow: *mut FlowEntry<F::Address>, now: u64) -> bool {
    // SAFETY: as in `find`.
    let (state, seen, limit, reply) = unsafe {
        (State((*flow).state), (*flow).last_seen_ns, (*flow).idle_limit_ns, &(*flow).reply)
    };
    now.saturating_sub(seen) > limit
        && (!state.is_kept_by_replies(reply.protocol)
            || now.saturating_sub(reply_seen::<F>(reply)) > limit)
}

/// When the server was last heard; 0 if the entry is missing.
#[inline(always)]
pub(crate) fn reply_seen<F: Family>(reply: &FlowKey<F::Address>) -> u64 {
    match promoted_reply::<F>(reply) {
        // SAFETY: as in `find`.
        Some(entry) => unsafe { (*entry).last_seen_ns },
        None => 0,
    }
}

/// What becomes of a packet whose server is down and whose pool does not wait.
#[inline(never)]
fn given_up<F: Family>(cx: &mut Context<F::Address>, flow: *mut FlowEntry<F::Address>) -> Verdict {
    // SAFETY: as in `find`.
    let id = unsafe { (*flow).server };
    let Some(server) = select::entry(id) else { return Verdict::CARRY };
    if cx.key.protocol == TCP && server.on_down == OnDown::Reset as u8 && cx.part == part::WHOLE {
        end::<F>(flow, reason::DOWN);
        cx.answer = Outcome::ResetSent as u32;
        return Verdict::ANSWER;
    }
    if cx.key.protocol == TCP && cx.flags & (tcp::SYN | tcp::ACK) != tcp::SYN {
        return Verdict::CARRY;
    }
    end::<F>(flow, reason::DOWN);
    Verdict::GO_ON
}

/// Notes what a client's TCP packet tells about its flow.
#[inline(never)]
fn note<F: Family>(cx: &Context<F::Address>, flow: *mut FlowEntry<F::Address>) -> u32 {
    // SAFETY: as in `find`.
    let (state, next, key) = unsafe { (State((*flow).state), (*flow).next_seq, (*flow).reply) };
    let mut taken = false;
    let mut acknowledged = false;
    if let Some(reply) = promoted_reply::<F>(&key) {
        // SAFETY: as in `find`.
        let (last_ack, last) = unsafe { ((*reply).last_ack, (*reply).next_seq) };
        // The server takes a reset for sure if its number is the next one and the server has
        // acknowledged all before it: nothing can be on the way that moves the server's window
        // (RFC 5961, section 3.2).
        taken = cx.seq == next && last_ack == next;
        acknowledged = cx.flags & tcp::ACK != 0 && cx.ack == last;
    }
    let mut news = state.news(TCP, Direction::Forward, cx.flags, taken);
    let fins = State::FIN_FORWARD | State::FIN_REPLY;
    if !is_translated(cx.forwarding) && news & State::FIN_FORWARD != 0 {
        // The server's FIN is never seen.
        news |= fins;
    }
    if (state.0 | news) & fins == fins && acknowledged {
        news |= State::LAST_ACK & !state.0;
    }
    advance::<F>(flow, news);
    0
}

/// Notes what a server's packet tells about its flow.
#[inline(never)]
pub(crate) fn note_reply<F: Family>(flow: *mut FlowEntry<F::Address>, tcp_flags: u32) -> u32 {
    // SAFETY: as in `find`.
    let (state, key) = unsafe { (State((*flow).state), (*flow).key) };
    advance::<F>(flow, state.news(key.protocol, Direction::Reply, tcp_flags as u8, true));
    0
}

/// Adds bits to a promoted flow's state; its slot is given back when it closes.
#[inline(always)]
fn advance<F: Family>(flow: *mut FlowEntry<F::Address>, news: u64) {
    if news == 0 {
        return;
    }
    // SAFETY: as in `find`.
    let before = unsafe { atomic::fetch_or(&raw mut (*flow).state, news) };
    let state = State(before | news);
    if state.is_closed() && state.0 & State::RELEASED == 0 {
        // SAFETY: as in `find`.
        let before = unsafe { atomic::fetch_or(&raw mut (*flow).state, State::RELEASED) };
        if before & State::RELEASED == 0 {
            // SAFETY: as in `find`.
            select::release_slot(unsafe { (*flow).server });
        }
    }
    set_limit::<F>(flow, state);
}

/// Lets the flow's idle limit follow its state, as its listener says.
#[inline(always)]
pub(crate) fn set_limit<F: Family>(flow: *mut FlowEntry<F::Address>, state: State) {
    // SAFETY: as in `find`.
    let key = unsafe { (*flow).key };
    let listener = listener::lookup::<F>(key.destination, key.destination_port, key.protocol);
    if let Some(listener) = listener {
        // SAFETY: as in `find`.
        unsafe { (*flow).idle_limit_ns = state.timeout_ns(key.protocol, &listener.timeouts) };
    }
}

/// Ends a promoted flow: takes it off its server's counts, tells of it and forgets both directions.
/// Of several that try at once, one does it, and nobody can open the tuple anew before that is
/// done: so nothing here meets a flow's successor.
#[inline(never)]
pub(crate) fn end<F: Family>(flow: *mut FlowEntry<F::Address>, reason: u32) -> u32 {
    // SAFETY: as in `find`.
    let before =
        unsafe { atomic::fetch_or(&raw mut (*flow).state, State::ENDED | State::RELEASED) };
    if before & State::ENDED != 0 {
        return 0;
    }
    // The element is this flow's own until both are removed.
    // SAFETY: as in `find`.
    let (key, reply, server) = unsafe { (&(*flow).key, &(*flow).reply, (*flow).server) };
    if before & State::RELEASED == 0 {
        select::release_slot(server);
    }
    event::ended::<F>(flow, before, reason);
    if has_reply::<F>(reply, key) {
        let _ = F::replies().remove(reply);
    }
    let _ = F::flows().remove(key);
    select::forget_entry(server);
    0
}
