//! From client to server: listener -> conntrack -> select -> claim -> rewrite.

use deston_common::conntrack::tcp;
use deston_common::flow::FlowKey;
use deston_common::listener::{ListenerEntry, ListenerKey};
use deston_common::net::{Mac, TCP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerEntry, ServerId};

use crate::packet::Packet;
use crate::parse::{Ethernet, Parsed};
use crate::rewrite::{self, Hop};
use crate::{claim, conntrack, maps, select};

/// The listener a packet is for.
#[inline(always)]
pub(crate) fn listener(parsed: &Parsed) -> Option<&'static ListenerEntry> {
    let key = ListenerKey {
        address: parsed.key.destination,
        port: parsed.key.destination_port,
        protocol: parsed.key.protocol,
        pad: 0,
    };
    // SAFETY: listeners are written whole by the process alone and removed only after a grace
    // period without flows; a recycled element would still be a listener.
    unsafe { maps::LISTENERS.get(key) }
}

/// Carries one packet from client to server; see docs/life-of-a-packet.md.
#[inline(always)]
pub(crate) fn run(packet: &Packet, parsed: &Parsed, listener: &ListenerEntry) -> Outcome {
    if parsed.ttl <= 1 {
        return Outcome::TtlExpired;
    }
    let (id, reply) = match conntrack::find(parsed, listener) {
        Some(known) => known,
        None => match open(packet, parsed, listener) {
            Ok(opened) => opened,
            Err(outcome) => return outcome,
        },
    };
    let Some(server) = server(id) else { return Outcome::NoServer };
    // The reply's tuple reversed is the packet's new tuple.
    let hop = Hop {
        ifindex: server.ifindex,
        source_mac: server.source_mac,
        next_hop_mac: server.next_hop_mac,
    };
    rewrite::and_send(packet, parsed, &reply.reversed(), &hop, Outcome::Forwarded)
}

/// Opens a flow: chooses a server, claims a place and a port, records both directions.
#[inline(always)]
fn open(
    packet: &Packet,
    parsed: &Parsed,
    listener: &ListenerEntry,
) -> Result<(ServerId, FlowKey), Outcome> {
    if listener.open == 0 {
        return Err(Outcome::ListenerClosed);
    }
    let opens = parsed.flags & (tcp::SYN | tcp::ACK | tcp::RST | tcp::FIN) == tcp::SYN;
    if parsed.key.protocol == TCP && !opens {
        return Err(Outcome::NoFlow);
    }
    let id = select::server(listener, &parsed.key)?;
    let Some(server) = server(id) else { return Err(Outcome::NoServer) };
    let (ours, theirs) = macs(packet)?;
    let hop = Hop { ifindex: packet.ifindex(), source_mac: ours, next_hop_mac: theirs };
    match claim::port(parsed, listener, id, server, &hop) {
        Ok(reply) => Ok((id, reply)),
        Err(outcome) => {
            select::release(id);
            Err(outcome)
        }
    }
}

/// The Ethernet addresses of a packet: ours, and the client's side's. Replies go back the way the
/// client's packets came.
#[inline(always)]
fn macs(packet: &Packet) -> Result<(Mac, Mac), Outcome> {
    let ethernet = packet.at::<Ethernet>(0)?;
    // SAFETY: `at` checked the bounds.
    Ok(unsafe { ((*ethernet).destination, (*ethernet).source) })
}

#[inline(always)]
fn server(id: ServerId) -> Option<&'static ServerEntry> {
    maps::SERVERS.get(u32::from(id.0))
}
