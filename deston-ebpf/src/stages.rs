//! The parts of the pipeline that are programs of their own.
//!
//! The first one carries packets of promoted flows that tell nothing new, and passes foreign ones;
//! every other packet goes on in the next by a tail call. So the verifier's work is the sum of the
//! parts and not their product, and what most packets run through is short.

use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::macros::btf_map;
use deston_common::listener::flags;
use deston_common::net::TCP;
use deston_common::outcome::Outcome;

use crate::conntrack::Plain;
use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::{MAX_OFFSET, Packet};
use crate::parse::{self, Link, Network};
use crate::verdict::Verdict;
use crate::{
    complain, conntrack, event, forward, fragment, globals, icmp, listener, quote, reply, reset,
    role, stats, transmit,
};

/// Places in STAGES_XDP and STAGES_TC.
const SLOW4: u32 = 0;
const SLOW6: u32 = 1;
const BEGIN4: u32 = 2;
const BEGIN6: u32 = 3;
const ICMP4: u32 = 4;
const ICMP6: u32 = 5;
const ANSWER4: u32 = 6;
const ANSWER6: u32 = 7;

/// The programs of the later stages at the XDP hook. Written by the process, and never by another
/// one: each load has its own.
#[btf_map]
pub(crate) static STAGES_XDP: ProgramArray<8> = ProgramArray::new();
/// The programs of the later stages at the TC hook.
#[btf_map]
pub(crate) static STAGES_TC: ProgramArray<8> = ProgramArray::new();

/// A packet whose link header was read.
#[inline(always)]
pub(crate) fn first<F: Network, P: Packet>(packet: P, link: &Link) -> Verdict {
    let Some(cx) = context::<F>() else { return Verdict::of(Outcome::Malformed) };
    if let Err(outcome) = F::network(packet, link, cx) {
        return Verdict::of(outcome);
    }
    let foreign = role::of::<F>(cx).err();
    if let Some(outcome) = foreign
        && !is_traced()
    {
        return Verdict::of(outcome);
    }
    cx.now = globals::now();
    let unread = parse::transport::<F, P>(packet, cx).err();
    // A foreign packet is read so far for those who ask what became of it.
    if let Some(outcome) = foreign.or(unread) {
        return finish::<F, P>(packet, cx, Verdict::of(outcome));
    }
    if cx.key.protocol == F::ICMP {
        packet.go_on(if F::V6 { ICMP6 } else { ICMP4 });
        return Verdict::of(Outcome::Malformed);
    }
    if cx.part == part::WHOLE && cx.ttl > 1 {
        let said = plain::<F, P>(packet, cx);
        if said != Verdict::GO_ON {
            return finish::<F, P>(packet, cx, said);
        }
    }
    packet.go_on(if F::V6 { SLOW6 } else { SLOW4 });
    Verdict::of(Outcome::Malformed)
}

/// Carries a packet of a promoted flow that tells nothing new.
#[inline(always)]
fn plain<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if reply::is_likely(cx)
        && let Some(hop) = reply::plain::<F, P>(packet, cx)
    {
        return transmit::translate_and_send::<F, P>(packet, cx, hop, Outcome::Replied);
    }
    let server = match conntrack::plain::<F, P>(packet, cx) {
        Plain::Yes(server) => server,
        Plain::Special => return Verdict::GO_ON,
        Plain::Unknown => {
            return match no_flow::<F, P>(cx) {
                Some(outcome) => Verdict::of(outcome),
                None => Verdict::GO_ON,
            };
        }
    };
    transmit::plainly::<F, P>(packet, cx, server)
}

/// The outcome of a packet to an address of ours that can be of no flow: the host's own traffic, and
/// connections that its stack has.
#[inline(always)]
fn no_flow<F: Family, P: Packet>(cx: &Context<F::Address>) -> Option<Outcome> {
    if reply::is_likely(cx) {
        return None;
    }
    let key = &cx.key;
    let found = listener::lookup::<F>(key.destination, key.destination_port, key.protocol);
    let Some(listener) = found else { return Some(Outcome::Unrelated) };
    let carried = flags::STACK | flags::TC | flags::OPEN;
    let stack = flags::STACK | flags::OPEN | if P::TC { flags::TC } else { 0 };
    let opens = key.protocol != TCP || cx.is_opening();
    (listener.flags & carried == stack && !opens).then_some(Outcome::ToStack)
}

/// Any packet of a flow but a control message.
#[inline(always)]
pub(crate) fn slow<F: Family, P: Packet>(packet: P) -> Verdict {
    let Some(cx) = context::<F>() else { return Verdict::of(Outcome::Malformed) };
    let said = whole::<F, P>(packet, cx);
    if said == Verdict::GO_ON {
        packet.go_on(if F::V6 { BEGIN6 } else { BEGIN4 });
    }
    finish::<F, P>(packet, cx, said)
}

/// A packet of no flow that is known, or of one that shall have another server.
#[inline(always)]
pub(crate) fn begin<F: Family, P: Packet>(packet: P) -> Verdict {
    let Some(cx) = context::<F>() else { return Verdict::of(Outcome::Malformed) };
    let said = forward::begin::<F, P>(packet, cx);
    finish::<F, P>(packet, cx, said)
}

#[inline(always)]
fn whole<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if cx.part == part::LATER && !fragment::borrow_ports::<F>(cx) {
        return fragment::lost(cx);
    }
    if reply::is_likely(cx) {
        let said = reply::run::<F, P>(packet, cx);
        if said != Verdict::GO_ON {
            return said;
        }
    }
    forward::run::<F, P>(packet, cx)
}

/// A control message.
#[inline(always)]
pub(crate) fn control<F: quote::Quoted, P: Packet>(packet: P) -> Verdict {
    let Some(cx) = context::<F>() else { return Verdict::of(Outcome::Malformed) };
    packet.pull(MAX_OFFSET);
    let said = icmp::run::<F, P>(packet, cx);
    finish::<F, P>(packet, cx, said)
}

#[inline(always)]
fn context<F: Family>() -> Option<&'static mut Context<F::Address>> {
    // SAFETY: this processor's map value; programs do not nest on one.
    F::context().map(|cx| unsafe { &mut *cx })
}

/// A packet that is turned round: into an ICMP error, or a reset.
#[inline(always)]
pub(crate) fn answer<F: Family, P: Packet>(packet: P) -> Verdict {
    let Some(cx) = context::<F>() else { return Verdict::of(Outcome::Malformed) };
    let outcome = Outcome::from_number(cx.answer).unwrap_or(Outcome::Malformed);
    let said = if outcome == Outcome::ResetSent {
        reset::answer::<F, P>(packet, cx)
    } else {
        complain::answer::<F, P>(packet, cx, outcome)
    };
    finish::<F, P>(packet, cx, said)
}

/// Ends a stage: the packet goes on if it is to be answered, and is traced if that is asked for.
#[inline(always)]
fn finish<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    verdict: Verdict,
) -> Verdict {
    if verdict == Verdict::ANSWER {
        packet.go_on(if F::V6 { ANSWER6 } else { ANSWER4 });
    }
    if is_traced() {
        event::traced::<F, P>(packet, cx, verdict.0 & 0xff);
    }
    verdict
}

#[inline(always)]
fn is_traced() -> bool {
    globals::has(deston_common::globals::flags::TRACE)
}

/// Counts the packet and says what XDP does.
#[inline(always)]
pub(crate) fn xdp(verdict: Verdict) -> u32 {
    let outcome = verdict.outcome().unwrap_or(Outcome::Malformed);
    stats::count(outcome);
    verdict.xdp(outcome)
}

/// Counts the packet and says what TC does.
#[inline(always)]
pub(crate) fn tc(verdict: Verdict) -> i32 {
    let outcome = verdict.outcome().unwrap_or(Outcome::Malformed);
    stats::count(outcome);
    verdict.tc(outcome)
}
