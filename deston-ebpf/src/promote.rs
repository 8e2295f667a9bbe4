//! Promotion: a flow that has been proved moves to where no flood can evict it, and takes one of
//! its server's slots.

use aya_ebpf::bindings::BPF_NOEXIST;
use deston_common::conntrack::State;
use deston_common::outcome::Outcome;

use crate::claim::EEXIST;
use crate::context::Context;
use crate::family::Family;
use crate::verdict::Verdict;
use crate::{atomic, conntrack, half, select};

/// Promotes the flow in `cx.flow` and, with `replies`, `cx.reply`. The new entries stand before the
/// old ones go, so the port is always claimed. Another processor may steal the claim meanwhile: both
/// write, then look for what the other has written, and step back.
#[inline(never)]
pub(crate) fn run<F: Family>(cx: &mut Context<F::Address>, replies: bool) -> Verdict {
    let id = cx.flow.server;
    if !select::claim_slot(id) {
        return Verdict::of(Outcome::ServersFull);
    }
    let proved = if replies { State::REPLIED } else { 0 };
    cx.flow.state |= State::ESTABLISHED | proved;
    let state = State(cx.flow.state);
    conntrack::set_limit::<F>(&raw mut cx.flow, state);
    if replies
        && let Err(error) = F::replies().insert(&cx.reply.key, &cx.reply, u64::from(BPF_NOEXIST))
    {
        select::release_slot(id);
        return not_promoted::<F>(cx, error, replies);
    }
    if replies && is_stolen::<F>(cx) {
        let _ = F::replies().remove(&cx.reply.key);
        select::release_slot(id);
        return Verdict::of(Outcome::Raced);
    }
    if let Err(error) = F::flows().insert(&cx.flow.key, &cx.flow, u64::from(BPF_NOEXIST)) {
        if replies {
            let _ = F::replies().remove(&cx.reply.key);
        }
        select::release_slot(id);
        return not_promoted::<F>(cx, error, replies);
    }
    select::note_entry(id);
    if replies {
        half::give_back::<F>(&cx.reply.key, &cx.flow.key);
    }
    let _ = F::half_flows().remove(&cx.flow.key);
    Verdict::CARRY
}

/// Whether the claim names another flow, now that the promoted entry stands. See `claim::settled`.
#[inline(always)]
fn is_stolen<F: Family>(cx: &mut Context<F::Address>) -> bool {
    atomic::barrier(&mut cx.now);
    half::reply::<F>(&cx.reply.key)
        // SAFETY: points into a live map value.
        .is_some_and(|claim| unsafe { !(*claim).flow.is(&cx.flow.key) })
}

/// Another processor may just have promoted the same flow: then the packet is carried.
#[inline(always)]
fn not_promoted<F: Family>(cx: &Context<F::Address>, error: i32, replies: bool) -> Verdict {
    if error != EEXIST {
        return Verdict::of(Outcome::FlowsFull);
    }
    // Without replies there is no port that another flow could have got.
    if !replies {
        return Verdict::CARRY;
    }
    match conntrack::promoted_reply::<F>(&cx.reply.key) {
        // SAFETY: points into a live map value.
        Some(reply) if unsafe { (*reply).flow.is(&cx.flow.key) } => Verdict::CARRY,
        _ => Verdict::of(Outcome::Raced),
    }
}
