//! Claiming a SNAT port and recording a new flow in both directions.

use aya_ebpf::bindings::BPF_NOEXIST;
use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::hash::{Seed, siphash13};
use deston_common::limits::PORT_PROBES;
use deston_common::listener::ListenerEntry;
use deston_common::net::Be16;
use deston_common::outcome::Outcome;
use deston_common::server::{ServerEntry, ServerId};

use crate::parse::Parsed;
use crate::rewrite::Hop;
use crate::{conntrack, maps, select};

const EEXIST: i32 = -17;

/// Claims a free port towards `server` and records the flow; returns the reply tuple.
///
/// The reply entry goes in first: it is the claim, and no server can answer before it stands.
#[inline(always)]
pub(crate) fn port(
    parsed: &Parsed,
    listener: &ListenerEntry,
    id: ServerId,
    server: &ServerEntry,
    client: &Hop,
) -> Result<FlowKey, Outcome> {
    let mut reply = FlowKey::new(
        (server.address, server.port),
        (server.snat_address, Be16::default()),
        parsed.key.protocol,
    );
    let mut entry = ReplyEntry {
        key: reply,
        flow: parsed.key,
        last_seen_ns: 0,
        ifindex: client.ifindex,
        source_mac: client.source_mac,
        next_hop_mac: client.next_hop_mac,
        last_ack: 0,
        pad: 0,
    };
    let mut claimed = Err(Outcome::SnatExhausted);
    let ports = Ports::new(parsed, listener);
    for probe in 0..PORT_PROBES {
        let Some(port) = ports.candidate(probe) else { break };
        reply.destination_port = port;
        entry.key = reply;
        match maps::REPLIES.insert(reply, entry, u64::from(BPF_NOEXIST)) {
            Ok(()) => {
                claimed = Ok(());
                break;
            }
            Err(EEXIST) => {}
            Err(_) => {
                claimed = Err(Outcome::FlowsFull);
                break;
            }
        }
    }
    claimed?;

    let flow = FlowEntry {
        key: parsed.key,
        reply,
        state: State::default().0,
        last_seen_ns: conntrack::now(),
        server: id,
        pad: 0,
        next_seq: parsed.next_seq(),
    };
    match maps::FLOWS.insert(parsed.key, flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            select::record(id);
            Ok(reply)
        }
        Err(error) => {
            let _ = maps::REPLIES.remove(reply);
            Err(if error == EEXIST { Outcome::Raced } else { Outcome::FlowsFull })
        }
    }
}

/// The order in which ports are tried: from a place that depends on the flow, in odd strides.
struct Ports {
    min: u32,
    count: u32,
    start: u32,
    stride: u32,
}

impl Ports {
    #[inline(always)]
    fn new(parsed: &Parsed, listener: &ListenerEntry) -> Self {
        let key = &parsed.key;
        let addresses = u64::from(key.source.word()) << 32 | u64::from(key.destination.word());
        let ports =
            u64::from(key.source_port.word()) << 16 | u64::from(key.destination_port.word());
        let hash = siphash13(Seed { k0: 0, k1: 0 }, addresses, ports);
        let min = u32::from(listener.snat_port_min);
        Self {
            min,
            count: u32::from(listener.snat_port_max).saturating_sub(min) + 1,
            start: hash as u32,
            stride: (hash >> 32) as u32 | 1,
        }
    }

    #[inline(always)]
    fn candidate(&self, probe: u32) -> Option<Be16> {
        let place = self.start.wrapping_add(probe.wrapping_mul(self.stride));
        let port = self.min + place.checked_rem(self.count)?;
        Some(Be16::from_host(port as u16))
    }
}
