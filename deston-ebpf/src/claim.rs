//! Claiming a SNAT port and recording a new flow in both directions.
//!
//! The entry in HALF_REPLIES is the claim: it goes in first, and no server can answer before it
//! stands.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry, flags};
use deston_common::limits::{PORT_PROBES, STEAL_AFTER_NS, STEAL_PROBES};
use deston_common::listener::{self, Forwarding, ListenerEntry, MAX_SNAT_ADDRESSES, SnatAddresses};
use deston_common::net::{Address, Be16, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerEntry, ServerId};

use crate::context::Context;
use crate::family::Family;
use crate::packet::Packet;
use crate::ports::Ports;
use crate::repeat::{ONWARD, STOP, repeat};
use crate::verdict::Verdict;
use crate::{atomic, conntrack, half, maps, select, takeover, transmit};

pub(crate) const EEXIST: i32 = -17;

/// Gives the packet's flow to server `id` and records it, half open.
#[inline(never)]
pub(crate) fn flow<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    listener: &ListenerEntry,
    id: ServerId,
    state: u64,
) -> Verdict {
    let Some(server) = select::entry(id) else { return Verdict::of(Outcome::NoServer) };
    draft::<F, P>(packet, cx, listener, id, state);
    let said = match Forwarding::from_number(listener.forwarding) {
        Forwarding::Nat => nat::<F>(cx, listener, server),
        Forwarding::Dnat => dnat::<F>(cx, listener, server),
        Forwarding::DsrL2 | Forwarding::DsrIpip => {
            cx.flow.reply = cx.key.reversed();
            Verdict::CARRY
        }
    };
    if said != Verdict::CARRY {
        return said;
    }
    let replaces = state != 0 || cx.flow.flags & flags::ONE_PACKET != 0;
    if let Err(error) = half::record::<F>(cx, replaces) {
        return unrecorded::<F>(cx, listener.forwarding, error);
    }
    select::note_opened(id);
    cx.server = id;
    cx.to = cx.flow.reply.reversed();
    Verdict::CARRY
}

/// What becomes of a packet whose flow could not be recorded: another processor may just have opened
/// it.
#[inline(always)]
fn unrecorded<F: Family>(cx: &mut Context<F::Address>, forwarding: u8, error: i32) -> Verdict {
    let known = half::flow::<F>(&cx.key);
    if conntrack::is_translated(forwarding) {
        // With dnat both have the same claim, which stays.
        // SAFETY: points into a live map value. So below.
        if known.is_none_or(|flow| unsafe { !(*flow).reply.is(&cx.flow.reply) }) {
            half::give_back::<F>(&cx.flow.reply, &cx.key);
        }
    } else if let Some(flow) = known {
        // There is no claim to differ by: the packet goes the way of the other.
        // SAFETY: as above.
        cx.server = unsafe { (*flow).server };
        return Verdict::CARRY;
    }
    Verdict::of(if error == EEXIST { Outcome::Raced } else { Outcome::FlowsFull })
}

/// Drafts both entries, all but the server's tuple. Apart, since the compiler makes them on the
/// stack.
#[inline(never)]
fn draft<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    listener: &ListenerEntry,
    id: ServerId,
    state: u64,
) -> u32 {
    let mut its = u16::from(listener.forwarding) & flags::FORWARDING;
    if P::TC {
        its |= flags::TC;
    }
    let one_packet = cx.key.protocol == UDP && listener.flags & listener::flags::ONE_PACKET != 0;
    if one_packet {
        its |= flags::ONE_PACKET;
    }
    cx.flow = FlowEntry {
        key: cx.key,
        reply: cx.key,
        state,
        last_seen_ns: cx.now,
        idle_limit_ns: State(state).timeout_ns(cx.key.protocol, &listener.timeouts),
        bytes: cx.ip_len.into(),
        listener: listener.number,
        server: id,
        flags: its,
        opened_ns: cx.now,
        next_seq: cx.next_seq(),
        pad: 0,
    };
    cx.reply = ReplyEntry {
        key: cx.key,
        flow: cx.key,
        last_seen_ns: 0,
        opened_ns: cx.now,
        bytes: 0,
        hop: transmit::way_back(packet, cx),
        listener: listener.number,
        server: id,
        flags: its,
        last_ack: 0,
        first_seq: 0,
        next_seq: 0,
    };
    cx.forwarding = listener.forwarding;
    0
}

/// Claims a port towards the server, which is then in both entries.
#[inline(always)]
fn nat<F: Family>(
    cx: &mut Context<F::Address>,
    listener: &ListenerEntry,
    server: &ServerEntry,
) -> Verdict {
    cx.flow.reply = FlowKey::new(
        (F::Address::narrowed(server.address), server_port(cx, listener, server)),
        (F::Address::narrowed(server.snat_address), Be16::default()),
        cx.key.protocol,
    );
    cx.victim.is_set = 0;
    cx.closed.is_set = 0;
    let ports = Ports::new(cx, listener);
    let mut search = Search {
        cx,
        snat: snat_addresses(listener),
        count: listener.snat_count,
        ports,
        said: Verdict::GO_ON,
    };
    repeat(PORT_PROBES, probe::<F>, &mut search);
    let said = search.said;
    if said == Verdict::GO_ON { takeover::last_resort::<F>(cx) } else { said }
}

/// A search for a free port.
struct Search<'a, A> {
    cx: &'a mut Context<A>,
    /// Addresses of the listener; the first `count` are in use.
    snat: Option<&'static SnatAddresses>,
    count: u8,
    ports: Ports,
    said: Verdict,
}

extern "C" fn probe<F: Family>(number: u32, search: *mut Search<'_, F::Address>) -> i64 {
    // SAFETY: `repeat` hands on what `nat` gave it.
    let search = unsafe { &mut *search };
    let own = search.cx.key.source_port;
    let Some(port) = search.ports.candidate(own, number) else { return STOP };
    if let (Some(snat), Some(place)) = (search.snat, search.ports.address(number, search.count))
        && let Some(address) = snat.addresses.get(place as usize & (MAX_SNAT_ADDRESSES - 1))
    {
        search.cx.flow.reply.destination = F::Address::narrowed(*address);
    }
    search.cx.flow.reply.destination_port = port;
    search.said = probe_one::<F>(search.cx);
    if search.said != Verdict::GO_ON {
        return STOP;
    }
    // In a flood nothing is free, and every try costs.
    let victim = &search.cx.victim;
    let is_old = search.cx.now.saturating_sub(victim.opened_ns) > STEAL_AFTER_NS;
    if number + 1 >= STEAL_PROBES && victim.is_set == 1 && is_old { STOP } else { ONWARD }
}

/// The listener's own SNAT addresses.
#[inline(always)]
fn snat_addresses(listener: &ListenerEntry) -> Option<&'static SnatAddresses> {
    if listener.snat_count == 0 {
        return None;
    }
    maps::SNAT_ADDRESSES.get(listener.number)
}

/// The port that the server is reached by.
#[inline(always)]
fn server_port<A: Address>(
    cx: &Context<A>,
    listener: &ListenerEntry,
    server: &ServerEntry,
) -> Be16 {
    if listener.flags & listener::flags::KEEP_PORT != 0 {
        cx.key.destination_port
    } else {
        server.port
    }
}

/// Claims the tuple `cx.flow.reply`, if nobody has it.
#[inline(never)]
fn probe_one<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    let seq = if cx.key.protocol == TCP { Some(cx.seq) } else { None };
    let key = &cx.flow.reply;
    if let Some(reply) = conntrack::promoted_reply::<F>(key)
        && !takeover::frees::<F>(&mut cx.closed, cx.now, seq, reply)
    {
        return Verdict::GO_ON;
    }
    cx.reply.key = *key;
    match F::half_replies().insert(key, &cx.reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => {
            if !takeover::is_stale::<F>(&mut cx.victim, cx.now, key, &cx.key) {
                return Verdict::GO_ON;
            }
            if F::half_replies().insert(key, &cx.reply, u64::from(BPF_ANY)).is_err() {
                return Verdict::of(Outcome::FlowsFull);
            }
        }
        Err(_) => return Verdict::of(Outcome::FlowsFull),
    }
    settled::<F>(cx)
}

/// Looks at REPLIES again, once the claim `cx.flow.reply` stands: a flow may have been promoted there
/// between the first look and the claim, and keeps the port. See `promote::run`.
#[inline(always)]
pub(crate) fn settled<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
    atomic::barrier(&mut cx.now);
    let key = &cx.flow.reply;
    if F::replies().get_ptr(key).is_some() {
        half::give_back::<F>(key, &cx.key);
        return Verdict::GO_ON;
    }
    Verdict::CARRY
}

/// Claims the client's own tuple towards the server: taken only where one server serves two
/// listeners and the client uses one port for both.
#[inline(always)]
fn dnat<F: Family>(
    cx: &mut Context<F::Address>,
    listener: &ListenerEntry,
    server: &ServerEntry,
) -> Verdict {
    cx.flow.reply = FlowKey::new(
        (F::Address::narrowed(server.address), server_port(cx, listener, server)),
        (cx.key.source, cx.key.source_port),
        cx.key.protocol,
    );
    cx.victim.is_set = 0;
    cx.closed.is_set = 0;
    let said = probe_one::<F>(cx);
    if said != Verdict::GO_ON {
        return said;
    }
    // The flow's own claim, from a time when it had this server before.
    let key = cx.flow.reply;
    if let Some(reply) = half::reply::<F>(&key)
        // SAFETY: points into a live map value.
        && unsafe { (*reply).flow.is(&cx.key) }
        && F::half_replies().insert(&key, &cx.reply, u64::from(BPF_ANY)).is_ok()
    {
        return Verdict::CARRY;
    }
    Verdict::of(Outcome::SnatExhausted)
}

/// Makes a flow's lost reply entry anew, for the way that its client's packets come by.
#[inline(never)]
pub(crate) fn reply_anew<F: Family, P: Packet>(
    packet: P,
    cx: &mut Context<F::Address>,
    flow: *mut FlowEntry<F::Address>,
    promoted: bool,
) -> u32 {
    // SAFETY: points into a live map value.
    cx.flow = unsafe { *flow };
    cx.reply = ReplyEntry {
        key: cx.flow.reply,
        flow: cx.flow.key,
        last_seen_ns: 0,
        opened_ns: cx.flow.opened_ns,
        bytes: 0,
        hop: transmit::way_back(packet, cx),
        listener: cx.flow.listener,
        server: cx.flow.server,
        flags: cx.flow.flags,
        last_ack: 0,
        first_seq: 0,
        next_seq: 0,
    };
    let key = cx.flow.reply;
    if !promoted {
        let _ = F::half_replies().insert(&key, &cx.reply, u64::from(BPF_NOEXIST));
    } else if F::replies().insert(&key, &cx.reply, u64::from(BPF_NOEXIST)).is_ok() {
        // Who has claimed the port meanwhile finds that it is taken, and claims another.
        let _ = F::half_replies().remove(&key);
    }
    0
}
