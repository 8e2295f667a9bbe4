//! The model's settings as entries of the kernel's maps, and the kernel's entries as the model has
//! them.

use std::net::{IpAddr, SocketAddr};

use deston_common::address::{self, AddressEntry};
use deston_common::flow::{self, FlowEntry, FlowKey, ReplyEntry};
use deston_common::globals::{self, Globals};
use deston_common::hash::Seed;
use deston_common::hop::{self, Vlan};
use deston_common::listener::{self, FlowTimeouts, ListenerEntry};
use deston_common::net::{Be16, Ipv6Be, Mac};
use deston_common::server::{ServerEntry, ServerId};
use deston_common::table::Table;

use super::super::phase::State;
use super::super::settings::{
    self, Forwarding, Hook, Hop, Index, Listener, Meaning, OnDown, Server, Stand,
};
use super::super::tables::{Flow, Reply, Terms};
use super::super::tuple::Tuple;

/// The sum of the bits that are set.
fn bits<const N: usize>(flags: [(bool, u32); N]) -> u32 {
    flags.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum()
}

pub(super) fn globals(of: &settings::Globals) -> Globals {
    Globals {
        flags: bits([(of.dnat, globals::flags::DNAT)]),
        flood_gate: of.flood_gate,
        clock_ns: of.clock,
        random: of.random,
    }
}

pub(super) fn address(of: &Meaning) -> AddressEntry {
    use address::flags::{DEDICATED, DNAT_SERVER, ECHO, LISTENER, SNAT};
    AddressEntry {
        flags: bits([
            (of.listener, LISTENER),
            (of.snat, SNAT),
            (of.dedicated, DEDICATED),
            (of.echo, ECHO),
            (of.dnat_server, DNAT_SERVER),
        ]),
        snat_port_min: of.snat_ports.0,
        snat_port_max: of.snat_ports.1,
        echo_pool: of.echo_pool,
    }
}

pub(super) fn listener(of: &Listener) -> ListenerEntry {
    use listener::flags::{DEFAULT_DENY, KEEP_PORT, LISTS, ONE_PACKET, OPEN, STACK, TC};
    let timeouts = &of.timeouts;
    ListenerEntry {
        number: of.number,
        flags: bits([
            (of.open, OPEN),
            (of.stack, STACK),
            (of.hook == Hook::Tc, TC),
            (of.lists, LISTS),
            (of.default_deny, DEFAULT_DENY),
            (of.one_packet, ONE_PACKET),
            (of.keep_port, KEEP_PORT),
        ]),
        pool: of.pool,
        forwarding: match of.forwarding {
            Forwarding::Nat => 0,
            Forwarding::Dnat => 1,
            Forwarding::DsrL2 => 2,
            Forwarding::DsrIpip => 3,
        },
        snat_count: of.snat_addresses.len() as u8,
        snat_port_min: of.snat_ports.0,
        snat_port_max: of.snat_ports.1,
        pad: 0,
        pad2: 0,
        timeouts: FlowTimeouts {
            tcp_syn_ns: timeouts.tcp_syn,
            tcp_established_ns: timeouts.tcp_established,
            tcp_fin_ns: timeouts.tcp_fin,
            tcp_rst_ns: timeouts.tcp_rst,
            udp_one_way_ns: timeouts.udp_one_way,
            udp_two_way_ns: timeouts.udp_two_way,
        },
        rate_interval_ns: of.rate.0,
        rate_tolerance_ns: of.rate.1,
        sticky_ns: of.sticky,
    }
}

fn hop(of: &Hop) -> hop::Hop {
    let mut vlans = [Vlan::default(); 2];
    for (place, [a, b, c, d]) in vlans.iter_mut().zip(&of.tags) {
        let word = |high, low| Be16::from_host(u16::from_be_bytes([high, low]));
        *place = Vlan { tpid: word(*a, *b), tci: word(*c, *d) };
    }
    hop::Hop {
        ifindex: of.ifindex,
        source_mac: Mac::from_octets(of.source),
        next_hop_mac: Mac::from_octets(of.destination),
        mtu: of.mtu,
        vlan_count: of.tags.len() as u16,
        vlans,
    }
}

pub(super) fn server(of: &Server) -> ServerEntry {
    ServerEntry {
        address: of.side.ip().into(),
        snat_address: of.snat.into(),
        hop: hop(&of.hop),
        max_connections: of.max_connections,
        weight: of.weight,
        port: Be16::from_host(of.side.port()),
        state: match of.stand {
            Stand::Unset => 0,
            Stand::Active => 1,
            Stand::Draining => 2,
            Stand::Down => 3,
        },
        reachable: of.reachable.into(),
        on_down: match of.on_down {
            OnDown::Drain => 0,
            OnDown::Reset => 1,
            OnDown::Rehash => 2,
        },
        pad: 0,
    }
}

pub(super) fn table(of: &settings::Table) -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    table.index = match of.index {
        Index::Cursor => 1,
        Index::Client => 2,
        Index::ClientPort => 3,
        Index::Flow => 4,
        Index::Random => 5,
        Index::Least => 6,
    };
    table.len = of.slots.len() as u32;
    table.seed = Seed { k0: of.seed.0, k1: of.seed.1 };
    table.member_count = of.members.len() as u32;
    table.samples = of.samples;
    for (place, id) in table.members.iter_mut().zip(&of.members) {
        *place = ServerId(*id);
    }
    for (place, id) in table.slots.iter_mut().zip(&of.slots) {
        *place = ServerId(*id);
    }
    table
}

pub(super) fn key(of: &Tuple) -> FlowKey<Ipv6Be> {
    let side = |side: SocketAddr| (Ipv6Be::from(side.ip()), Be16::from_host(side.port()));
    FlowKey::new(side(of.source), side(of.destination), of.protocol)
}

pub(super) fn tuple(of: &FlowKey<Ipv6Be>) -> Tuple {
    let side = |address: Ipv6Be, port: Be16| SocketAddr::new(IpAddr::from(address), port.to_host());
    Tuple::new(
        side(of.source, of.source_port),
        side(of.destination, of.destination_port),
        of.protocol,
    )
}

fn way(of: &hop::Hop) -> Hop {
    let tag = |vlan: &Vlan| {
        let [a, b] = vlan.tpid.to_host().to_be_bytes();
        let [c, d] = vlan.tci.to_host().to_be_bytes();
        [a, b, c, d]
    };
    Hop {
        ifindex: of.ifindex,
        source: of.source_mac.octets(),
        destination: of.next_hop_mac.octets(),
        mtu: of.mtu,
        tags: of.vlans.iter().take(of.vlan_count.into()).map(tag).collect(),
    }
}

fn terms(listener: u32, server: ServerId, flags: u16, opened: u64) -> Terms {
    Terms {
        listener,
        server: server.0,
        forwarding: match flags & flow::flags::FORWARDING {
            1 => Forwarding::Dnat,
            2 => Forwarding::DsrL2,
            3 => Forwarding::DsrIpip,
            _ => Forwarding::Nat,
        },
        hook: if flags & flow::flags::TC != 0 { Hook::Tc } else { Hook::Xdp },
        one_packet: flags & flow::flags::ONE_PACKET != 0,
        opened,
    }
}

pub(super) fn flow(of: &FlowEntry<Ipv6Be>) -> (Tuple, Flow) {
    let flow = Flow {
        reply: tuple(&of.reply),
        state: State::from_bits(of.state),
        seen: of.last_seen_ns,
        idle_limit: of.idle_limit_ns,
        bytes: of.bytes,
        next_seq: of.next_seq,
        terms: terms(of.listener, of.server, of.flags, of.opened_ns),
    };
    (tuple(&of.key), flow)
}

pub(super) fn reply(of: &ReplyEntry<Ipv6Be>) -> (Tuple, Reply) {
    let reply = Reply {
        flow: tuple(&of.flow),
        seen: of.last_seen_ns,
        bytes: of.bytes,
        hop: way(&of.hop),
        last_ack: of.last_ack,
        first_seq: of.first_seq,
        next_seq: of.next_seq,
        terms: terms(of.listener, of.server, of.flags, of.opened_ns),
    };
    (tuple(&of.key), reply)
}
