//! Whose port a new flow may take: of flows that are over, and, if nothing is free, of a half-open
//! or a closed one.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use deston_common::conntrack::State;
use deston_common::event::reason;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry, flags};
use deston_common::limits::{RETRY_AFTER_NS, STEAL_AFTER_NS};
use deston_common::outcome::Outcome;

use crate::claim::EEXIST;
use crate::context::{Candidate, Context};
use crate::family::Family;
use crate::verdict::Verdict;
use crate::{claim, conntrack, half};

/// Whether the promoted flow of a reply entry is over, and so is ended. A closed one is remembered,
/// should nothing else be free, if the new SYN's number `seq` is higher than all of its.
#[inline(always)]
pub(crate) fn frees<F: Family>(
    closed: &mut Candidate<F::Address>,
    now: u64,
    seq: Option<u32>,
    reply: *mut ReplyEntry<F::Address>,
) -> bool {
    let Some(flow) = holder::<F>(reply) else { return false };
    if conntrack::is_over::<F>(flow, now) {
        conntrack::end::<F>(flow, reason::IDLE);
        return true;
    }
    // SAFETY: points into a live map value; elements are recycled but never unmapped. So below.
    let (state, next) = unsafe { (State((*flow).state), (*flow).next_seq) };
    let is_higher = seq.is_some_and(|seq| (seq.wrapping_sub(next) as i32) > 0);
    if is_higher && state.is_closed() && closed.is_set == 0 {
        // SAFETY: as above.
        *closed = unsafe {
            Candidate {
                address: (*reply).key.destination,
                port: (*reply).key.destination_port,
                is_set: 1,
                opened_ns: (*reply).opened_ns,
            }
        };
    }
    false
}

/// The promoted flow of a reply entry, if it names that one.
#[inline(always)]
fn holder<F: Family>(reply: *mut ReplyEntry<F::Address>) -> Option<*mut FlowEntry<F::Address>> {
    // SAFETY: as in `frees`.
    let (key, claim) = unsafe { (&(*reply).flow, &(*reply).key) };
    let flow = conntrack::promoted::<F>(key)?;
    // SAFETY: as in `frees`.
    (unsafe { (*flow).reply.is(claim) }).then_some(flow)
}

/// Whether a half-open claim is nobody's any more, or one that flow `own` shares between its packets.
/// The oldest one that may be stolen is remembered, should nothing be free.
#[inline(always)]
pub(crate) fn is_stale<F: Family>(
    victim: &mut Candidate<F::Address>,
    now: u64,
    key: &FlowKey<F::Address>,
    own: &FlowKey<F::Address>,
) -> bool {
    let Some(reply) = half::reply::<F>(key) else { return true };
    // SAFETY: points into a live map value; elements are recycled but never unmapped. So below.
    let (flow_key, seen, opened) =
        unsafe { (&(*reply).flow, (*reply).last_seen_ns, (*reply).opened_ns) };
    // With `one_packet` the answers to all packets of a client find it by one claim towards each
    // server: the tries, which are the same for each packet, would soon meet nothing but its own.
    // SAFETY: as above.
    if unsafe { (*reply).flags } & flags::ONE_PACKET != 0 && flow_key.is(own) {
        return true;
    }
    match half::flow::<F>(flow_key) {
        Some(flow) => {
            // SAFETY: as above.
            let (its, last, limit, one_packet) = unsafe {
                (
                    &(*flow).reply,
                    (*flow).last_seen_ns,
                    (*flow).idle_limit_ns,
                    (*flow).flags & flags::ONE_PACKET != 0,
                )
            };
            // With `one_packet` a client has a claim towards each server, and names the last.
            if !its.is(key) && !one_packet {
                return true;
            }
            if now.saturating_sub(last) > limit {
                let _ = F::half_flows().remove(flow_key);
                return true;
            }
        }
        // The kernel has evicted it; the server may still answer for a moment.
        None => {
            if now.saturating_sub(opened) > RETRY_AFTER_NS {
                return true;
            }
        }
    }
    let stealable = seen == 0 || now.saturating_sub(opened) > STEAL_AFTER_NS;
    if stealable && (victim.is_set == 0 || opened < victim.opened_ns) {
        *victim = Candidate {
            address: key.destination,
            port: key.destination_port,
            is_set: 1,
            opened_ns: opened,
        };
    }
    false
}

/// Every port that was tried is taken: steals the oldest half-open claim, so that new clients get
/// through a flood; else takes the port of a closed flow. A young claim may be of a client whose
/// handshake goes on, so it is left alone where a closed flow's port will do.
#[inline(never)]
pub(crate) fn last_resort<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    let is_old = cx.now.saturating_sub(cx.victim.opened_ns) > STEAL_AFTER_NS;
    let steals = cx.victim.is_set == 1 && (is_old || cx.closed.is_set == 0);
    let candidate = if steals { &cx.victim } else { &cx.closed };
    if candidate.is_set == 0 {
        return Verdict::of(Outcome::SnatExhausted);
    }
    cx.flow.reply.destination = candidate.address;
    cx.flow.reply.destination_port = candidate.port;
    cx.reply.key = cx.flow.reply;
    let said = if steals { steal::<F>(cx) } else { reuse::<F>(cx) };
    if said == Verdict::GO_ON { Verdict::of(Outcome::SnatExhausted) } else { said }
}

/// Takes a port from a half-open flow, which is forgotten once that has worked: it may be promoted
/// at this moment.
#[inline(always)]
fn steal<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    let key = &cx.flow.reply;
    // SAFETY: points into a live map value.
    let victim = half::reply::<F>(key).map(|reply| unsafe { (*reply).flow });
    if F::half_replies().insert(key, &cx.reply, u64::from(BPF_ANY)).is_err() {
        return Verdict::of(Outcome::FlowsFull);
    }
    if claim::settled::<F>(cx) != Verdict::CARRY {
        return Verdict::of(Outcome::Raced);
    }
    if let Some(victim) = victim {
        let _ = F::half_flows().remove(&victim);
    }
    Verdict::CARRY
}

/// Takes the port of a closed flow, which is ended once the claim stands: if another flow has
/// claimed the port, both stay.
#[inline(always)]
fn reuse<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    let key = &cx.flow.reply;
    match F::half_replies().insert(key, &cx.reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => return Verdict::GO_ON,
        Err(_) => return Verdict::of(Outcome::FlowsFull),
    }
    if let Some(reply) = conntrack::promoted_reply::<F>(key)
        && let Some(flow) = holder::<F>(reply)
        // SAFETY: points into a live map value.
        && State(unsafe { (*flow).state }).is_closed()
    {
        conntrack::end::<F>(flow, reason::CLOSED);
    }
    claim::settled::<F>(cx)
}
