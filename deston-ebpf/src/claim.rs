//! Claiming a SNAT port and recording a new flow in both directions.
//!
//! The entry in HALF_REPLIES is the claim: it goes in first, and no server can answer before it
//! stands.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use deston_common::conntrack::State;
use deston_common::event::reason;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry, flags};
use deston_common::hash::{self, Seed};
use deston_common::limits::{PORT_PROBES, RETRY_AFTER_NS, STEAL_AFTER_NS, STEAL_PROBES};
use deston_common::listener::{self, Forwarding, ListenerEntry, MAX_SNAT_ADDRESSES, SnatAddresses};
use deston_common::net::{Address, Be16, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerEntry, ServerId};

use crate::context::{Candidate, Context};
use crate::family::Family;
use crate::packet::Packet;
use crate::repeat::{ONWARD, STOP, repeat};
use crate::verdict::Verdict;
use crate::{conntrack, half, maps, select, transmit};

const EEXIST: i32 = -17;

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
        // With dnat both of two processors that open one flow have the same claim.
        let stays = half::flow::<F>(&cx.key)
            // SAFETY: points into a live map value.
            .is_some_and(|flow| unsafe { (*flow).reply.is(&cx.flow.reply) });
        if conntrack::is_translated(listener.forwarding) && !stays {
            let _ = F::half_replies().remove(&cx.flow.reply);
        }
        return Verdict::of(if error == EEXIST { Outcome::Raced } else { Outcome::FlowsFull });
    }
    select::note_opened(id);
    cx.server = id;
    cx.to = cx.flow.reply.reversed();
    Verdict::CARRY
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
    if said == Verdict::GO_ON { last_resort::<F>(cx) } else { said }
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
    let turn = search.ports.turn(number);
    if let (Some(snat), Some(place)) = (search.snat, turn.checked_rem(search.count.into()))
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
        && !frees::<F>(&mut cx.closed, cx.now, seq, reply)
    {
        return Verdict::GO_ON;
    }
    cx.reply.key = *key;
    match F::half_replies().insert(key, &cx.reply, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => {
            if !is_stale::<F>(&mut cx.victim, cx.now, key) {
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
fn settled<F: Family>(cx: &Context<F::Address>) -> Verdict {
    let key = &cx.flow.reply;
    if F::replies().get_ptr(key).is_some() {
        let _ = F::half_replies().remove(key);
        return Verdict::GO_ON;
    }
    Verdict::CARRY
}

/// Whether the promoted flow of a reply entry is over, and so is ended. A closed one is remembered,
/// should nothing else be free, if the new SYN's number `seq` is higher than all of its.
#[inline(always)]
fn frees<F: Family>(
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

/// Whether a half-open claim is nobody's any more. The oldest one that may be
/// stolen is remembered, should nothing be free.
#[inline(always)]
fn is_stale<F: Family>(
    victim: &mut Candidate<F::Address>,
    now: u64,
    key: &FlowKey<F::Address>,
) -> bool {
    let Some(reply) = half::reply::<F>(key) else { return true };
    // SAFETY: points into a live map value; elements are recycled but never unmapped. So below.
    let (flow_key, seen, opened) =
        unsafe { (&(*reply).flow, (*reply).last_seen_ns, (*reply).opened_ns) };
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
            // With `one_packet` a client has many claims, and names the last.
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
fn last_resort<F: Family>(cx: &mut Context<F::Address>) -> Verdict {
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

/// Takes a port from a half-open flow, which is forgotten.
#[inline(always)]
fn steal<F: Family>(cx: &Context<F::Address>) -> Verdict {
    let key = &cx.flow.reply;
    if let Some(reply) = half::reply::<F>(key) {
        // SAFETY: points into a live map value.
        let _ = F::half_flows().remove(unsafe { &(*reply).flow });
    }
    if F::half_replies().insert(key, &cx.reply, u64::from(BPF_ANY)).is_err() {
        return Verdict::of(Outcome::FlowsFull);
    }
    settled::<F>(cx)
}

/// Takes the port of a closed flow, which is ended once the claim stands: if another flow has
/// claimed the port, both stay.
#[inline(always)]
fn reuse<F: Family>(cx: &Context<F::Address>) -> Verdict {
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
    settled::<F>(cx)
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

/// The order in which ports are tried: the client's own, then from a place that depends on the flow,
/// in odd strides. The SNAT address moves on by one with each try, from another place: from the same
/// one, an even port and the second of two addresses would never meet.
struct Ports {
    min: u32,
    count: u32,
    start: u32,
    stride: u32,
    address: u32,
}

impl Ports {
    #[inline(always)]
    fn new<A: Address>(cx: &Context<A>, listener: &ListenerEntry) -> Self {
        let hash = hash::flow(Seed { k0: 0, k1: 0 }, &cx.key);
        let min = u32::from(listener.snat_port_min);
        let count = u32::from(listener.snat_port_max).saturating_sub(min) + 1;
        Self {
            min,
            count,
            start: hash as u32,
            // Of few ports none is left out.
            stride: if count < PORT_PROBES { 1 } else { (hash >> 32) as u32 | 1 },
            address: (hash >> 48) as u32,
        }
    }

    #[inline(always)]
    fn candidate(&self, own: Be16, probe: u32) -> Option<Be16> {
        let beyond = u32::from(own.to_host()).wrapping_sub(self.min);
        if probe == 0 && beyond < self.count {
            return Some(own);
        }
        let place = self.start.wrapping_add(probe.wrapping_mul(self.stride));
        let port = self.min + place.checked_rem(self.count)?;
        Some(Be16::from_host(port as u16))
    }

    /// The place of a try among the addresses. Fewer ports than tries come round again, each time
    /// with the next address: in step with them, half of two ports of two addresses would never meet.
    #[inline(always)]
    fn turn(&self, probe: u32) -> u32 {
        let rounds = probe.checked_div(self.count).unwrap_or(0);
        let place = probe.wrapping_sub(rounds.wrapping_mul(self.count));
        self.address.wrapping_add(place).wrapping_add(rounds)
    }
}
