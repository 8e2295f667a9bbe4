//! What the maps shall hold, given what is configured and what the host has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::address::{AddressEntry, flags as address};
use deston_common::globals::{Globals, flags as global};
use deston_common::guard::verdict::{ALLOW, DENY};
use deston_common::listener::{FlowTimeouts, Forwarding, ListenerEntry, flags as listener};
use deston_common::server::ServerId;
use ipnet::IpNet;

use super::{Contents, Place};
use crate::datapath::balancer::{Known, Open, Pools, l4, protocol};
use crate::datapath::former::Former;
use crate::datapath::host::Network;
use crate::datapath::kernel::Hook;
use crate::datapath::plan::Role;
use crate::model::{self, nanoseconds};

/// The bits of `Globals::flags` that this process decides.
pub(in crate::datapath) const OUR_FLAGS: u32 = global::DNAT | global::CSUM_IPV6 | global::FLOW_LOG;

/// What there is.
#[derive(Clone, Copy)]
pub(in crate::datapath) struct Facts<'a> {
    pub(in crate::datapath) listeners: &'a [Open],
    pub(in crate::datapath) servers: &'a BTreeMap<ServerId, Known>,
    pub(in crate::datapath) pools: &'a Pools,
    pub(in crate::datapath) network: &'a Network,
    /// Interfaces that our programs are attached to.
    pub(in crate::datapath) attached: &'a BTreeSet<u32>,
    /// `[kernel] flood_gate`.
    pub(in crate::datapath) flood_gate: u32,
    /// Whether the kernel's checksum helper knows IPv6.
    pub(in crate::datapath) csum_ipv6: bool,
    /// Whether ended flows are told.
    pub(in crate::datapath) flow_log: bool,
    /// What the process before has left.
    pub(in crate::datapath) former: Option<&'a Former>,
}

/// What the maps shall hold.
pub(in crate::datapath) fn wanted(facts: &Facts<'_>) -> Contents {
    let mut contents = Contents {
        globals: globals(facts),
        mtus: mtus(facts),
        sources: sources(facts),
        snat: snat(facts),
        listeners: listeners(facts),
        replies: replies(facts),
        addresses: BTreeMap::new(),
    };
    add_addresses(facts, &mut contents);
    if let Some(former) = facts.former {
        let has_servers = facts.servers.values().any(Known::is_former);
        former.keep(&mut contents, has_servers);
    }
    contents
}

fn globals(facts: &Facts<'_>) -> Globals {
    let dnat = facts.listeners.iter().any(|open| forwards(open, model::Forwarding::Dnat));
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    let flags = flag(dnat, global::DNAT)
        | flag(facts.csum_ipv6, global::CSUM_IPV6)
        | flag(facts.flow_log, global::FLOW_LOG);
    Globals { flags, flood_gate: facts.flood_gate, ..Globals::default() }
}

fn mtus(facts: &Facts<'_>) -> BTreeMap<u32, u32> {
    let mtu = |index: &u32| Some((*index, facts.network.mtu(*index)?));
    facts.attached.iter().filter_map(mtu).collect()
}

fn forwards(open: &Open, forwarding: model::Forwarding) -> bool {
    open.role == Role::Balance(forwarding)
}

/// Servers of a listener's pool, those included that only finish flows.
fn servers<'a>(facts: &Facts<'a>, open: &'a Open) -> impl Iterator<Item = &'a Known> {
    facts.servers.values().filter(|known| known.pool == open.listener.pool)
}

fn sources(facts: &Facts<'_>) -> BTreeMap<(u32, IpNet), u32> {
    let mut sources = BTreeMap::new();
    for open in facts.listeners {
        let guard = &open.listener.guard;
        // Deny comes last: it decides where both lists name a prefix.
        for (prefixes, verdict) in [(&guard.allow, ALLOW), (&guard.deny, DENY)] {
            let family =
                |network: &IpNet| network.addr().is_ipv4() == open.listener.address.is_ipv4();
            for network in prefixes.iter().filter(family) {
                sources.insert((open.number, network), verdict);
            }
        }
    }
    sources
}

fn snat(facts: &Facts<'_>) -> BTreeMap<u32, Vec<IpAddr>> {
    let of = |open: &Open| {
        let addresses = l4(&open.listener).map(|l4| l4.snat_ips.clone()).unwrap_or_default();
        (open.number, addresses)
    };
    facts.listeners.iter().map(of).filter(|(_, addresses)| !addresses.is_empty()).collect()
}

fn listeners(facts: &Facts<'_>) -> BTreeMap<Place, ListenerEntry> {
    let mut ranked = BTreeMap::new();
    for open in facts.listeners {
        let current = open.addresses.iter().map(|address| (address, open.is_open));
        let former = open.former.iter().map(|address| (address, false));
        for (address, is_open) in current.chain(former) {
            // An address that is named goes before every address, and what is open before both.
            let rank = (is_open, !open.listener.address.ip().is_unspecified());
            let place = ranked.entry(open.place(*address)).or_insert((rank, open));
            if rank > place.0 {
                *place = (rank, open);
            }
        }
    }
    let entry = |(place, ((is_open, _), open)): (Place, ((bool, bool), &Open))| {
        (place, entry(facts, open, is_open))
    };
    ranked.into_iter().map(entry).collect()
}

fn entry(facts: &Facts<'_>, open: &Open, is_open: bool) -> ListenerEntry {
    let guard = &open.listener.guard;
    let l4 = l4(&open.listener);
    let keeps_port = open.listener.address.port() == 0
        && servers(facts, open).any(|known| known.address.port() == 0);
    let flags = [
        (is_open, listener::OPEN),
        (open.role == Role::Guard, listener::STACK),
        (open.hook == Hook::Tc, listener::TC),
        (!guard.allow.is_empty() || !guard.deny.is_empty(), listener::LISTS),
        (!guard.allow.is_empty(), listener::DEFAULT_DENY),
        (l4.is_some_and(|l4| l4.one_packet), listener::ONE_PACKET),
        (keeps_port, listener::KEEP_PORT),
    ];
    let (pool, sticky) = facts
        .pools
        .find(&open.listener.pool)
        .map_or((0, Duration::ZERO), |(index, pool)| (index, pool.sticky));
    let forwarding = match open.role {
        Role::Guard | Role::Balance(model::Forwarding::Nat) => Forwarding::Nat,
        Role::Balance(model::Forwarding::Dnat) => Forwarding::Dnat,
        Role::Balance(model::Forwarding::DsrL2) => Forwarding::DsrL2,
        Role::Balance(model::Forwarding::DsrIpip) => Forwarding::DsrIpip,
    };
    ListenerEntry {
        number: open.number,
        flags: flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag),
        pool,
        forwarding: forwarding as u8,
        snat_count: l4.map_or(0, |l4| l4.snat_ips.len() as u8),
        snat_port_min: l4.map_or(0, |l4| l4.snat_ports.min),
        snat_port_max: l4.map_or(0, |l4| l4.snat_ports.max),
        timeouts: l4.map(|l4| timeouts(&l4.flows)).unwrap_or_default(),
        rate_interval_ns: guard.rate_limit.map_or(0, |limit| limit.interval_ns()),
        rate_tolerance_ns: guard.rate_limit.map_or(0, |limit| limit.tolerance_ns()),
        sticky_ns: nanoseconds(sticky),
        ..ListenerEntry::default()
    }
}

/// A server that one `dnat` listener alone is served by, and whose packets therefore tell which.
fn replies(facts: &Facts<'_>) -> BTreeMap<Place, (SocketAddr, Hook)> {
    let mut listeners: BTreeMap<Place, BTreeSet<(SocketAddr, Hook)>> = BTreeMap::new();
    let dnat = |open: &&Open| forwards(open, model::Forwarding::Dnat) && open.is_open;
    for open in facts.listeners.iter().filter(dnat) {
        for known in servers(facts, open) {
            let server = Place { address: known.address, protocol: protocol(&open.listener) };
            let places = open.addresses.iter().map(|address| open.place(*address).address);
            let places = places.map(|listener| (listener, open.hook));
            listeners.entry(server).or_default().extend(places);
        }
    }
    let only = |(server, listeners): (Place, BTreeSet<(SocketAddr, Hook)>)| {
        let [(listener, hook)] = Vec::from_iter(listeners).try_into().ok()?;
        let one_port = server.address.port() != 0 && listener.port() != 0;
        one_port.then_some((server, (listener, hook)))
    };
    listeners.into_iter().filter_map(only).collect()
}

fn add_addresses(facts: &Facts<'_>, contents: &mut Contents) {
    let with = |flags| AddressEntry { flags, ..AddressEntry::default() };
    for open in facts.listeners {
        for own in open.addresses.iter().chain(&open.former) {
            let mut entry = with(address::LISTENER);
            if facts.network.holder(*own).is_none() {
                entry.flags |= address::DEDICATED;
                let pool = facts.pools.find(&open.listener.pool).map(|(index, _)| index);
                let echoes = open.is_open && l4(&open.listener).is_some_and(|l4| l4.icmp_echo);
                // The first listener decides, where several share the address.
                if let Some(pool) = pool.filter(|_| echoes) {
                    entry.flags |= address::ECHO;
                    entry.echo_pool = pool;
                }
            }
            contents.add_address(*own, &entry);
        }
    }
    for open in facts.listeners.iter().filter(|open| forwards(open, model::Forwarding::Nat)) {
        let model::SnatPorts { min, max } = open.snat_ports;
        let entry = AddressEntry { snat_port_min: min, snat_port_max: max, ..with(address::SNAT) };
        let towards_servers = servers(facts, open).flat_map(|known| &known.sources);
        for source in towards_servers.chain(&open.snat) {
            contents.add_address(*source, &entry);
        }
    }
    for open in facts.listeners.iter().filter(|open| forwards(open, model::Forwarding::Dnat)) {
        for known in servers(facts, open) {
            contents.add_address(known.address.ip(), &with(address::DNAT_SERVER));
            // The host probes the server from here, and is not a client.
            for own in &known.sources {
                contents.add_address(*own, &with(address::LISTENER));
            }
        }
    }
}

fn timeouts(flows: &model::FlowTimeouts) -> FlowTimeouts {
    FlowTimeouts {
        tcp_syn_ns: nanoseconds(flows.tcp_syn),
        tcp_established_ns: nanoseconds(flows.tcp_established),
        tcp_fin_ns: nanoseconds(flows.tcp_fin),
        tcp_rst_ns: nanoseconds(flows.tcp_rst),
        udp_one_way_ns: nanoseconds(flows.udp_one_way),
        udp_two_way_ns: nanoseconds(flows.udp_two_way),
    }
}
