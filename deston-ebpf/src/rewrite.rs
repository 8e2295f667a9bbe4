//! Translating a packet and sending it on.

use aya_ebpf::helpers::bpf_redirect;
use deston_common::checksum::Change;
use deston_common::flow::FlowKey;
use deston_common::net::{Mac, TCP};
use deston_common::outcome::Outcome;

use crate::packet::Packet;
use crate::parse::{Ethernet, IP_OFFSET, Ipv4, Parsed, Tcp, Udp};

/// The next hop of a packet.
pub(crate) struct Hop {
    pub(crate) ifindex: u32,
    pub(crate) source_mac: Mac,
    pub(crate) next_hop_mac: Mac,
}

/// Gives the packet the tuple `to` and sends it to `hop`; `done` is the outcome if that works.
#[inline(always)]
pub(crate) fn and_send(
    packet: &Packet,
    parsed: &Parsed,
    to: &FlowKey,
    hop: &Hop,
    done: Outcome,
) -> Outcome {
    match rewrite(packet, parsed, to, hop) {
        Ok(()) => {
            // SAFETY: a helper on plain numbers. Its verdict is XDP_REDIRECT, which `action`
            // returns for `done`; with flags 0 it cannot fail.
            unsafe { bpf_redirect(hop.ifindex, 0) };
            done
        }
        Err(outcome) => outcome,
    }
}

/// Writes addresses, ports, TTL and checksums. Nothing is written unless everything can be.
#[inline(always)]
fn rewrite(packet: &Packet, parsed: &Parsed, to: &FlowKey, hop: &Hop) -> Result<(), Outcome> {
    let from = &parsed.key;
    let ethernet = packet.at::<Ethernet>(0)?;
    let ip = packet.at::<Ipv4>(IP_OFFSET)?;
    // SAFETY: `at` checked the bounds; the same holds for every dereference below.
    let ip_checksum = unsafe { (*ip).checksum };
    let (ttl, protocol) = (parsed.ttl, from.protocol);
    let addresses = Change::none()
        .word32(from.source.word(), to.source.word())
        .word32(from.destination.word(), to.destination.word());
    let ports = addresses
        .word16(from.source_port.word(), to.source_port.word())
        .word16(from.destination_port.word(), to.destination_port.word());

    if protocol == TCP {
        let tcp = packet.at::<Tcp>(parsed.l4_offset)?;
        // SAFETY: as above.
        unsafe {
            (*tcp).checksum = ports.apply((*tcp).checksum);
            (*tcp).source = to.source_port.word();
            (*tcp).destination = to.destination_port.word();
        }
    } else {
        let udp = packet.at::<Udp>(parsed.l4_offset)?;
        // SAFETY: as above.
        unsafe {
            (*udp).checksum = ports.apply_udp((*udp).checksum);
            (*udp).source = to.source_port.word();
            (*udp).destination = to.destination_port.word();
        }
    }

    let aged = u16::from_ne_bytes([ttl, protocol]);
    let younger = u16::from_ne_bytes([ttl - 1, protocol]);
    // SAFETY: as above.
    unsafe {
        (*ip).checksum = addresses.word16(aged, younger).apply(ip_checksum);
        (*ip).ttl = ttl - 1;
        (*ip).source = to.source.word();
        (*ip).destination = to.destination.word();
        (*ethernet).source = hop.source_mac;
        (*ethernet).destination = hop.next_hop_mac;
    }
    Ok(())
}
