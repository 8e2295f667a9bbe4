//! From server to client: reply entry -> conntrack -> transmit.

use deston_common::address;
use deston_common::conntrack::{State, tcp};
use deston_common::flow::{FlowEntry, ReplyEntry, flags};
use deston_common::hop::Hop;
use deston_common::listener::flags::OPEN;
use deston_common::net::{Address, TCP, UDP};
use deston_common::outcome::Outcome;

use aya_ebpf::bindings::BPF_NOEXIST;

use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::{conntrack, half, listener, promote, select, static_reply, transmit};

/// Whether the packet may be a reply: it comes to a SNAT port, or from a server of `dnat`.
#[inline(always)]
pub(crate) fn is_likely<A: Address>(cx: &Context<A>) -> bool {
    if cx.role & address::flags::DNAT_SERVER != 0 {
        return true;
    }
    let port = cx.key.destination_port.to_host();
    cx.role & address::flags::SNAT != 0 && port >= cx.snat_port_min && port <= cx.snat_port_max
}

/// Carries one packet from server to client, if it is a reply to a flow of ours.
#[inline(always)]
pub(crate) fn run<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let Some(reply) = conntrack::promoted_reply::<F>(&cx.key) else {
        return unpromoted::<F, P>(packet, cx);
    };
    // SAFETY: points into a live map value; elements are recycled but never unmapped. The same
    // holds for every dereference below.
    let (flow, its, id, seen) =
        unsafe { ((*reply).flow, (*reply).flags, (*reply).server, (*reply).last_seen_ns) };
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.forwarding = (its & flags::FORWARDING) as u8;
    cx.server = id;
    if let Some(said) = transmit::too_old::<F>(cx) {
        return said;
    }
    // Most packets tell nothing new; only those that may do pay for a second lookup.
    let silent = cx.now.saturating_sub(seen) > REST_NS;
    let tells = silent || cx.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0;
    touch(cx, reply);
    if tells {
        note::<F>(cx, reply);
    }
    cx.to = flow.reversed();
    // SAFETY: as above.
    transmit::to_client::<F, P>(packet, cx, unsafe { &(*reply).hop })
}

/// The reply entry of a server's packet that tells nothing new: most packets by far.
#[inline(always)]
pub(crate) fn plain<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
) -> Option<&'static Hop> {
    let reply = conntrack::promoted_reply::<F>(&cx.key)?;
    // SAFETY: as in `run`.
    let (flow, its, id, seen) =
        unsafe { ((*reply).flow, (*reply).flags, (*reply).server, (*reply).last_seen_ns) };
    let special = (its & flags::TC != 0) != P::TC
        || cx.now.saturating_sub(seen) > REST_NS
        || cx.flags & (tcp::SYN | tcp::FIN | tcp::RST) != 0
        // SAFETY: as in `run`.
        || !transmit::fits(packet, cx, unsafe { &(*reply).hop }, 0);
    if special {
        return None;
    }
    cx.server = id;
    cx.to = flow.reversed();
    touch(cx, reply);
    // SAFETY: as in `run`.
    Some(unsafe { &(*reply).hop })
}

/// Notes that a server's packet was seen.
#[inline(always)]
fn touch<A: Address>(cx: &Context<A>, reply: *mut ReplyEntry<A>) {
    // SAFETY: as in `run`.
    unsafe {
        (*reply).last_seen_ns = cx.now;
        (*reply).bytes += u64::from(cx.ip_len);
        if cx.flags & tcp::ACK != 0 {
            (*reply).last_ack = cx.ack;
        }
        if cx.flags & tcp::FIN != 0 {
            (*reply).next_seq = cx.next_seq();
        }
    }
}

/// After so long a silence of the server, nanoseconds, its flow entry is looked for too.
const REST_NS: u64 = 1_000_000_000;

/// Notes what a server's packet tells in its flow entry, which is made anew if it is lost.
#[inline(never)]
fn note<F: Family>(cx: &mut Context<F::Address>, reply: *mut ReplyEntry<F::Address>) -> u32 {
    // SAFETY: as in `run`.
    let key = unsafe { &(*reply).flow };
    if conntrack::promoted::<F>(key).is_none() {
        flow_anew::<F>(cx, reply, State::REPLIED | State::ESTABLISHED);
        let _ = F::flows().insert(key, &cx.flow, u64::from(BPF_NOEXIST));
    }
    if cx.key.protocol == TCP
        && let Some(flow) = conntrack::promoted::<F>(key)
    {
        conntrack::note_reply::<F>(flow, cx.flags.into());
    }
    0
}

/// Drafts a lost flow entry in `cx.flow` from its reply entry. Apart, since the compiler makes it on
/// the stack.
#[inline(never)]
fn flow_anew<F: Family>(
    cx: &mut Context<F::Address>,
    reply: *mut ReplyEntry<F::Address>,
    state: u64,
) -> u32 {
    // SAFETY: as in `run`.
    cx.flow = unsafe {
        FlowEntry {
            key: (*reply).flow,
            reply: (*reply).key,
            state,
            last_seen_ns: cx.now,
            idle_limit_ns: 0,
            bytes: 0,
            listener: (*reply).listener,
            server: (*reply).server,
            flags: (*reply).flags,
            opened_ns: (*reply).opened_ns,
            next_seq: cx.ack,
            pad: 0,
        }
    };
    conntrack::set_limit::<F>(&raw mut cx.flow, State(state));
    0
}

/// A packet that is a reply to no promoted flow.
#[inline(never)]
fn unpromoted<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let Some(reply) = half::reply::<F>(&cx.key) else {
        // What a server sends to an address of ours is for the host, which probes it, or comes as
        // from a client.
        let is_ours = cx.role & (address::flags::LISTENER | address::flags::SNAT) != 0;
        if cx.role & address::flags::DNAT_SERVER == 0 || is_ours {
            return Verdict::GO_ON;
        }
        return static_reply::run::<F, P>(packet, cx);
    };
    // SAFETY: as in `run`.
    let (its, id) = unsafe { ((*reply).flags, (*reply).server) };
    if (its & flags::TC != 0) != P::TC {
        return Verdict::of(Outcome::OtherHook);
    }
    cx.forwarding = (its & flags::FORWARDING) as u8;
    cx.server = id;
    if let Some(said) = transmit::too_old::<F>(cx) {
        return said;
    }
    let said = first_words::<F>(cx, reply, its);
    if said != Verdict::CARRY {
        return said;
    }
    // The copy: the element may have moved to another map meanwhile.
    cx.to = cx.reply.flow.reversed();
    let hop = &raw const cx.reply.hop;
    // SAFETY: in the context, which stays, and where nothing writes the copy from here on; on the
    // stack there would be too little room.
    transmit::to_client::<F, P>(packet, cx, unsafe { &*hop })
}

/// What a server says on a half-open flow.
#[inline(never)]
fn first_words<F: Family>(
    cx: &mut Context<F::Address>,
    reply: *mut ReplyEntry<F::Address>,
    its: u16,
) -> Verdict {
    let is_rst = cx.flags & tcp::RST != 0;
    let accepts = cx.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN | tcp::ACK;
    // SAFETY: as in `run`.
    let known = half::flow::<F>(unsafe { &(*reply).flow });
    // The flow has another server by now: what this one says is carried, and tells nothing.
    // SAFETY: as in `run`.
    let is_stray = known.is_some_and(|flow| unsafe { !(*flow).reply.is(&cx.key) });
    if let Some(flow) = known
        && is_rst
        && !is_stray
        // SAFETY: as in `run`.
        && unsafe { (*flow).state } & State::REPLIED == 0
        && refused::<F>(flow)
    {
        return Verdict::of(Outcome::RefusalSwallowed);
    }
    // SAFETY: as in `run`.
    unsafe {
        (*reply).last_seen_ns = cx.now;
        (*reply).bytes += u64::from(cx.ip_len);
        if cx.flags & tcp::ACK != 0 {
            (*reply).last_ack = cx.ack;
        }
        if accepts {
            (*reply).first_seq = cx.seq;
            (*reply).next_seq = cx.next_seq();
        }
        cx.reply = *reply;
    }
    if is_stray {
        return Verdict::CARRY;
    }
    let promotes = cx.key.protocol == UDP && cx.part != part::LATER && its & flags::ONE_PACKET == 0;
    match known {
        // SAFETY: as in `run`.
        Some(flow) => unsafe {
            if accepts || cx.key.protocol == UDP {
                crate::atomic::fetch_or(&raw mut (*flow).state, State::REPLIED);
            }
            if is_rst {
                half::reset::<F>(flow, State((*flow).state));
            }
            cx.flow = *flow;
        },
        None => {
            flow_anew::<F>(cx, reply, if accepts { State::REPLIED } else { 0 });
            if !promotes {
                let _ = half::record::<F>(cx, false);
            }
        }
    }
    if promotes { promote::run::<F>(cx, true) } else { Verdict::CARRY }
}

/// A server refused a SYN: counted, and swallowed while another server may take the next one.
#[inline(always)]
pub(crate) fn refused<F: Family>(flow: *mut FlowEntry<F::Address>) -> bool {
    // SAFETY: as in `run`.
    let (state, id, key) = unsafe { ((*flow).state, (*flow).server, &(*flow).key) };
    select::note_refused(id);
    if state & State::RETRIED != 0 {
        return false;
    }
    let found = listener::lookup::<F>(key.destination, key.destination_port, key.protocol);
    // A listener that takes no new flow gives a flow no other server.
    let Some(listener) = found.filter(|entry| entry.flags & OPEN != 0) else { return false };
    if !select::has_another(listener.pool, id) {
        return false;
    }
    half::refuse::<F>(flow);
    true
}
