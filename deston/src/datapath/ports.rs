//! How many of the SNAT ports towards each server are taken.
//!
//! A flow holds its port until it is forgotten, and a server can have no more flows than there are
//! ports towards it. That it comes to an end is worth a warning before it does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use deston_common::flow::{FlowEntry, FlowKey, flags};
use deston_common::listener::Forwarding;
use deston_common::listener::flags::STACK;
use deston_common::net::{Be16, Ipv6Be};
use deston_common::server::ServerId;

use super::kernel::{KernelError, Maps};
use crate::model::SnatPorts;

/// From here on, in percent, it is warned of.
const HIGH: u64 = 80;

/// Below this, in percent, the warning may come again.
const LOW: u64 = 70;

/// The SNAT ports towards a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortUse {
    /// Held by flows.
    pub used: u64,
    /// There are, over all SNAT addresses.
    pub available: u64,
}

impl PortUse {
    /// Whether more than `percent` of the ports are taken.
    fn is_above(self, percent: u64) -> bool {
        self.available > 0 && self.used * 100 >= self.available * percent
    }
}

/// Where a server is: its address, port and protocol. Pools that share it share the ports.
pub(super) type Target = (Ipv6Be, Be16, u8);

/// Ports in use, by server.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted(BTreeMap<Target, u64>);

impl Counted {
    /// Counts the port of a flow, if it has one.
    pub(super) fn add(&mut self, flow: &FlowEntry<Ipv6Be>) {
        let forwarding = Forwarding::from_number((flow.flags & flags::FORWARDING) as u8);
        if forwarding == Forwarding::Nat {
            let FlowKey { source, source_port, protocol, .. } = flow.reply;
            *self.0.entry((source, source_port, protocol)).or_default() += 1;
        }
    }

    /// Ports in use towards a server.
    pub(super) fn of(&self, target: Target) -> u64 {
        self.0.get(&target).copied().unwrap_or(0)
    }
}

/// How many ports there are: a listener's range at each of its addresses, and what several listeners
/// share counts once.
pub(super) fn available(ranges: impl Iterator<Item = (IpAddr, SnatPorts)>) -> u64 {
    let mut ranges: Vec<(IpAddr, u16, u16)> =
        ranges.map(|(address, ports)| (address, ports.min, ports.max)).collect();
    ranges.sort_unstable();
    // The last port of an address that was counted; ranges come by their first.
    let mut counted: Option<(IpAddr, u16)> = None;
    let mut ports = 0;
    for (address, min, max) in ranges {
        let first = match counted {
            Some((of, last)) if of == address && last >= max => continue,
            Some((of, last)) if of == address && last >= min => u32::from(last) + 1,
            Some(_) | None => u32::from(min),
        };
        ports += u64::from(u32::from(max) + 1 - first);
        counted = Some((address, max));
    }
    ports
}

/// The SNAT ports towards every server that new flows are given to, as an instance's maps have them.
pub fn port_use(maps: &Maps) -> Result<BTreeMap<ServerId, PortUse>, KernelError> {
    let mut counted = Counted::default();
    maps.flows().chain(maps.half_flows()).for_each(|flow| counted.add(&flow));
    let mut ranges: BTreeMap<ServerId, Vec<(IpAddr, SnatPorts)>> = BTreeMap::new();
    let mut used: BTreeMap<ServerId, u64> = BTreeMap::new();
    for (_, protocol, listener) in maps.listeners()? {
        let is_nat = Forwarding::from_number(listener.forwarding) == Forwarding::Nat;
        if !is_nat || listener.flags & STACK != 0 {
            continue;
        }
        let snat_ips = maps.snat_addresses(listener.number, listener.snat_count)?;
        let ports = SnatPorts { min: listener.snat_port_min, max: listener.snat_port_max };
        for id in maps.members(listener.pool)? {
            let server = maps.server(id)?;
            let own = [IpAddr::from(server.snat_address)];
            let addresses = if snat_ips.is_empty() { &own[..] } else { &snat_ips };
            ranges.entry(id).or_default().extend(addresses.iter().map(|it| (*it, ports)));
            let most = used.entry(id).or_default();
            *most = counted.of((server.address, server.port, protocol)).max(*most);
        }
    }
    let port_use = |(id, ranges): (ServerId, Vec<_>)| {
        let used = used.get(&id).copied().unwrap_or(0);
        (id, PortUse { used, available: available(ranges.into_iter()) })
    };
    Ok(ranges.into_iter().map(port_use).collect())
}

/// Which servers have been warned of.
#[derive(Debug, Default)]
pub(super) struct Warnings(BTreeSet<String>);

impl Warnings {
    /// Whether it is time to warn of a server.
    pub(super) fn is_due(&mut self, server: &str, ports: PortUse) -> bool {
        if !ports.is_above(LOW) {
            self.0.remove(server);
        }
        ports.is_above(HIGH) && self.0.insert(server.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use deston_common::net::TCP;

    use super::*;

    const RANGE: SnatPorts = SnatPorts { min: 10_000, max: 10_099 };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn each_address_has_its_range_and_shared_ranges_count_once() {
        let more = SnatPorts { min: 10_050, max: 10_149 };
        assert_eq!(available([(address(1), RANGE), (address(2), RANGE)].into_iter()), 200);
        assert_eq!(available([(address(1), RANGE), (address(1), more)].into_iter()), 150);
        assert_eq!(available(std::iter::empty()), 0);
    }

    #[test]
    fn ports_between_two_ranges_are_nobodys() {
        let of = |ranges: &[(u16, u16)]| {
            let ranges = ranges.iter().map(|(min, max)| SnatPorts { min: *min, max: *max });
            available(ranges.map(|ports| (address(1), ports)))
        };
        assert_eq!(of(&[(10_000, 10_099), (20_000, 20_099)]), 200);
        assert_eq!(of(&[(20_000, 20_099), (10_000, 10_099), (10_100, 10_199)]), 300);
        assert_eq!(of(&[(1, u16::MAX), (5, 9), (u16::MAX, u16::MAX)]), 65_535);
    }

    #[test]
    fn only_flows_of_nat_hold_a_port() {
        let server = (Ipv6Be::from(address(9)), Be16::from_host(80));
        let client = (Ipv6Be::from(address(1)), Be16::from_host(10_000));
        let reply = FlowKey::new(server, client, TCP);
        let flow = FlowEntry { reply, ..FlowEntry::default() };
        let dnat = FlowEntry { flags: Forwarding::Dnat as u16, ..flow };
        let mut counted = Counted::default();
        [flow, flow, dnat].iter().for_each(|flow| counted.add(flow));
        assert_eq!(counted.of((server.0, server.1, TCP)), 2);
        assert_eq!(counted.of((client.0, client.1, TCP)), 0);
    }

    #[test]
    fn a_server_is_warned_of_once_until_it_has_recovered() {
        let mut warnings = Warnings::default();
        let mut due = |used| warnings.is_due("s", PortUse { used, available: 100 });
        assert_eq!([79, 80, 95, 75, 90].map(&mut due), [false, true, false, false, false]);
        assert_eq!([69, 80].map(due), [false, true]);
        assert!(!Warnings::default().is_due("s", PortUse::default()), "it has no ports at all");
    }
}
