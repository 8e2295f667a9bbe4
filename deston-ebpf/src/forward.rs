//! From client to server: conntrack -> listener -> guard -> select -> claim -> transmit.

use deston_common::address;
use deston_common::listener::{Forwarding, ListenerEntry, flags};
use deston_common::net::{Address, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::ServerId;
use deston_common::table::Index;

use crate::context::{Context, part};
use crate::family::Family;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::{claim, conntrack, fragment, guard, half, listener, maps, role, select, transmit};

/// Carries one packet from client to server, if its flow is known; see docs/life-of-a-packet.md.
#[inline(always)]
pub(crate) fn run<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let mut said = conntrack::find::<F, P>(packet, cx);
    if said == Verdict::GO_ON {
        said = half::find::<F, P>(packet, cx);
    }
    if said == Verdict::CARRY { transmit::to_server::<F, P>(packet, cx) } else { said }
}

/// Carries one packet from client to server that opens a flow, or moves one.
#[inline(always)]
pub(crate) fn begin<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    let mut said = Verdict::GO_ON;
    if cx.moves == 1 {
        said = half::go_elsewhere::<F, P>(packet, cx);
    }
    if said == Verdict::GO_ON {
        said = open::<F, P>(packet, cx);
    }
    if said == Verdict::CARRY { transmit::to_server::<F, P>(packet, cx) } else { said }
}

/// Opens a flow: whether it may, to which server, and by which port.
#[inline(never)]
fn open<F: Family, P: Packet>(packet: P, cx: &mut Context<F::Address>) -> Verdict {
    if cx.part == part::LATER {
        return fragment::lost(cx);
    }
    if cx.role & address::flags::LISTENER == 0 {
        return Verdict::of(Outcome::Unrelated);
    }
    if !role::is_of_a_client(packet, cx) {
        return Verdict::of(Outcome::Unrelated);
    }
    let key = &cx.key;
    let found = listener::lookup::<F>(key.destination, key.destination_port, key.protocol);
    let Some(listener) = found else { return Verdict::of(Outcome::Unrelated) };
    if let Err(outcome) = may_open(cx, listener, P::TC) {
        return Verdict::of(outcome);
    }
    if let Err(outcome) = guard::admit::<F>(cx, listener) {
        return Verdict::of(outcome);
    }
    if listener.flags & flags::STACK != 0 {
        return Verdict::of(Outcome::ToStack);
    }
    cx.forwarding = listener.forwarding;
    if let Some(said) = transmit::too_old::<F>(cx) {
        return said;
    }
    let recorded = guard::flood_gate(cx.now);
    if !recorded && conntrack::is_translated(listener.forwarding) {
        return Verdict::of(Outcome::Flooded);
    }
    let id = match select::server::<F>(cx, listener, ServerId(0)) {
        Ok(id) => id,
        Err(outcome) => return Verdict::of(outcome),
    };
    if !recorded {
        cx.server = id;
        return Verdict::CARRY;
    }
    claim::flow::<F, P>(packet, cx, listener, id, 0)
}

/// Whether the packet may open a flow of the listener, or be found a server again.
#[inline(always)]
fn may_open<A: Address>(
    cx: &Context<A>,
    listener: &ListenerEntry,
    tc: bool,
) -> Result<(), Outcome> {
    if (listener.flags & flags::TC != 0) != tc {
        return Err(Outcome::OtherHook);
    }
    if listener.flags & flags::OPEN == 0 {
        return Err(Outcome::ListenerClosed);
    }
    if cx.key.protocol == UDP || cx.is_opening() {
        return Ok(());
    }
    if cx.key.protocol != TCP {
        return Err(Outcome::Unrelated);
    }
    if listener.flags & flags::STACK != 0 {
        return Err(Outcome::ToStack);
    }
    let table = maps::table(listener.pool);
    let hashed = table.is_some_and(|table| Index::is_hash(table.index));
    match Forwarding::from_number(listener.forwarding) {
        Forwarding::DsrL2 | Forwarding::DsrIpip if hashed => Ok(()),
        Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 | Forwarding::DsrIpip => {
            Err(Outcome::NoFlow)
        }
    }
}
