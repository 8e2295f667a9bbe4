//! The host's links, addresses and neighbours at one moment, and what follows from them.
//!
//! Pure: taken once, asked as often as needed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use deston_common::hop::{Hop, Vlan};
use deston_common::net::{Be16, Mac};

/// Tags that a frame of ours may carry.
const MOST_TAGS: usize = 2;

/// What the host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::datapath) struct Network {
    /// By index.
    pub(in crate::datapath) devices: BTreeMap<u32, Device>,
    pub(in crate::datapath) addresses: Vec<Address>,
    /// Ethernet addresses, by device and address.
    pub(in crate::datapath) neighbours: BTreeMap<(u32, IpAddr), Mac>,
}

/// A device as the host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Device {
    pub(in crate::datapath) index: u32,
    pub(in crate::datapath) name: String,
    /// Zero on a device without Ethernet addresses.
    pub(in crate::datapath) mac: Mac,
    /// Largest IP packet, bytes.
    pub(in crate::datapath) mtu: u32,
    pub(in crate::datapath) kind: Kind,
    /// The tag that the device adds, and the device below it.
    pub(in crate::datapath) vlan: Option<(Vlan, u32)>,
    /// The other end, of a veth.
    pub(in crate::datapath) peer: Peer,
    /// The kernel's number of its XDP program.
    pub(in crate::datapath) xdp_program: Option<u32>,
}

/// The other end of a veth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Peer {
    /// The device is no veth.
    #[default]
    None,
    /// In this namespace, under this index.
    Here(u32),
    /// In another namespace.
    Elsewhere,
}

/// What a device is, as far as it matters where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum Kind {
    /// Frames of Ethernet come and go: a NIC, a bond, a bridge, a virtual device.
    Ethernet,
    /// One end of a pair: XDP on it switches segmentation offload off.
    Veth,
    /// The host itself.
    Loopback,
    /// Without Ethernet addresses.
    Other,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Address {
    pub(in crate::datapath) address: IpAddr,
    /// Its device.
    pub(in crate::datapath) device: u32,
    /// Means something beyond its link: neither a link-local address nor one of the host alone.
    pub(in crate::datapath) is_global: bool,
}

/// An interface that a program is attached to: where packets of a device are first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Link {
    pub(in crate::datapath) index: u32,
    pub(in crate::datapath) name: String,
    pub(in crate::datapath) kind: Kind,
}

/// The first step to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Way {
    /// Device it leaves by.
    pub(in crate::datapath) device: u32,
    /// Source address the host would use.
    pub(in crate::datapath) source: IpAddr,
    /// The gateway, or the address itself on the same link.
    pub(in crate::datapath) next_hop: IpAddr,
    /// What the route says of the size of packets, bytes.
    pub(in crate::datapath) mtu: Option<u32>,
}

/// The way to an address, as a frame is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct Path {
    /// Interface that frames leave by and come in by.
    pub(in crate::datapath) link: Link,
    /// The first step.
    pub(in crate::datapath) way: Way,
    source_mac: Mac,
    /// The next hop's Ethernet address, while the host knows it.
    next_hop_mac: Option<Mac>,
    mtu: u32,
    /// Outermost first, at most `MOST_TAGS`.
    vlans: Vec<Vlan>,
}

impl Path {
    /// Whether frames need the Ethernet address of a neighbour; on loopback they do not.
    pub(in crate::datapath) fn needs_neighbour(&self) -> bool {
        self.link.kind != Kind::Loopback
    }

    /// The largest IP packet that fits, bytes.
    pub(in crate::datapath) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The header that frames leave with; `None` while the next hop is not known.
    pub(in crate::datapath) fn hop(&self) -> Option<Hop> {
        let mut vlans = [Vlan::default(); MOST_TAGS];
        for (place, vlan) in vlans.iter_mut().zip(&self.vlans) {
            *place = *vlan;
        }
        Some(Hop {
            ifindex: self.link.index,
            source_mac: self.source_mac,
            next_hop_mac: self.next_hop_mac?,
            // Loopback takes 65,536 bytes, and IPv6 sends as many.
            mtu: u16::try_from(self.mtu).unwrap_or(0),
            vlan_count: self.vlans.len() as u16,
            vlans,
        })
    }
}

impl Network {
    /// The interface where packets of a device are first seen.
    pub(in crate::datapath) fn link(&self, device: u32) -> Option<Link> {
        let (device, _) = self.descend(device)?;
        Some(Link { index: device.index, name: device.name.clone(), kind: device.kind })
    }

    /// The interface where packets of the device of a name are first seen.
    pub(in crate::datapath) fn link_named(&self, name: &str) -> Option<Link> {
        let device = self.devices.values().find(|device| device.name == name)?;
        self.link(device.index)
    }

    /// Whether there is a device.
    pub(in crate::datapath) fn has(&self, device: u32) -> bool {
        self.devices.contains_key(&device)
    }

    /// The largest IP packet that an interface takes, bytes.
    pub(in crate::datapath) fn mtu(&self, index: u32) -> Option<u32> {
        self.devices.get(&index).map(|device| device.mtu)
    }

    /// The device that has an address.
    pub(in crate::datapath) fn holder(&self, address: IpAddr) -> Option<u32> {
        let holds = |held: &&Address| held.address == address;
        self.addresses.iter().find(holds).map(|held| held.device)
    }

    /// Addresses of the family of `like` that clients elsewhere can connect to, and that belong to
    /// one of `links`.
    pub(in crate::datapath) fn addresses_on<'a>(
        &'a self,
        links: &'a [Link],
        like: IpAddr,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        let is_on = |device| {
            let link = self.link(device);
            link.is_some_and(|link| links.iter().any(|wanted| wanted.index == link.index))
        };
        let fits = move |held: &&Address| {
            held.is_global && held.address.is_ipv4() == like.is_ipv4() && is_on(held.device)
        };
        self.addresses.iter().filter(fits).map(|held| held.address)
    }

    /// How frames take a way; `None` if its device is gone, or adds more tags than we can.
    pub(in crate::datapath) fn path(&self, way: Way) -> Option<Path> {
        let device = self.devices.get(&way.device)?;
        let (_, vlans) = self.descend(way.device)?;
        let mtu = way.mtu.map_or(device.mtu, |mtu| mtu.min(device.mtu));
        Some(Path {
            link: self.link(way.device)?,
            source_mac: device.mac,
            next_hop_mac: match device.kind {
                Kind::Loopback => Some(Mac::default()),
                Kind::Ethernet | Kind::Veth | Kind::Other => {
                    self.neighbours.get(&(way.device, way.next_hop)).copied()
                }
            },
            mtu,
            vlans,
            way,
        })
    }

    /// Follows VLAN devices down to the one whose frames carry the tags, outermost first. A device
    /// whose lower one is in another namespace is its own end: it adds its tag itself.
    fn descend(&self, index: u32) -> Option<(&Device, Vec<Vlan>)> {
        let mut device = self.devices.get(&index)?;
        let mut vlans = Vec::new();
        while let Some((vlan, below)) = device.vlan
            && let Some(lower) = self.devices.get(&below)
        {
            vlans.insert(0, vlan);
            if vlans.len() > MOST_TAGS {
                return None;
            }
            device = lower;
        }
        Some((device, vlans))
    }
}

/// The tag of a VLAN device: identifiers have 12 bits (IEEE 802.1Q, clause 9.6).
pub(super) fn tag(protocol: u16, id: u16) -> Vlan {
    Vlan { tpid: Be16::from_host(protocol), tci: Be16::from_host(id & 0x0fff) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: u32, name: &str) -> Device {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, index as u8]);
        Device {
            index,
            name: name.to_owned(),
            mac,
            mtu: 1500,
            kind: Kind::Ethernet,
            vlan: None,
            peer: Peer::None,
            xdp_program: None,
        }
    }

    fn network(devices: Vec<Device>) -> Network {
        let devices = devices.into_iter().map(|device| (device.index, device)).collect();
        Network { devices, ..Network::default() }
    }

    fn way(device: u32) -> Way {
        let [source, next_hop] = ["192.0.2.1", "192.0.2.9"].map(|text| text.parse().unwrap());
        Way { device, source, next_hop, mtu: None }
    }

    #[test]
    fn a_vlan_device_stands_for_the_one_below_and_its_tags() {
        let inner =
            Device { vlan: Some((tag(0x8100, 20), 2)), mtu: 1492, ..device(3, "eth0.10.20") };
        let outer = Device { vlan: Some((tag(0x88a8, 10), 1)), ..device(2, "eth0.10") };
        let mut network = network(vec![device(1, "eth0"), outer, inner]);
        assert_eq!(network.link_named("eth0.10.20").unwrap().name, "eth0");

        assert_eq!(network.path(way(3)).unwrap().hop(), None, "the next hop is not known");
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 99]);
        network.neighbours.insert((3, way(3).next_hop), mac);
        let hop = network.path(way(3)).unwrap().hop().unwrap();
        assert_eq!((hop.ifindex, hop.next_hop_mac, hop.mtu), (1, mac, 1492));
        assert_eq!(hop.source_mac, device(3, "").mac, "the device's own address");
        assert_eq!((hop.vlan_count, hop.vlans), (2, [tag(0x88a8, 10), tag(0x8100, 20)]));
    }

    #[test]
    fn three_tags_are_too_many() {
        let on = |index: u32| {
            let vlan = Some((tag(0x8100, 1), index - 1));
            Device { vlan, ..device(index, "vlan") }
        };
        let network = network(vec![device(1, "eth0"), on(2), on(3), on(4)]);
        assert!(network.link(3).is_some());
        assert_eq!(network.link(4), None);
        assert_eq!(network.path(way(4)), None);
    }

    #[test]
    fn a_vlan_device_away_from_its_lower_one_is_its_own_link() {
        let vlan = Some((tag(0x8100, 10), 1));
        let network = network(vec![Device { vlan, ..device(2, "eth0.10") }]);
        assert_eq!(network.link(2).unwrap().index, 2);
        assert_eq!(network.path(way(2)).unwrap().vlans, []);
    }

    #[test]
    fn a_route_may_ask_for_smaller_packets_than_its_device() {
        let network = network(vec![device(1, "eth0")]);
        assert_eq!(network.path(Way { mtu: Some(1400), ..way(1) }).unwrap().mtu, 1400);
        assert_eq!(network.path(Way { mtu: Some(9000), ..way(1) }).unwrap().mtu, 1500);
    }

    #[test]
    fn the_next_hop_on_loopback_is_always_known() {
        let lo =
            Device { kind: Kind::Loopback, mac: Mac::default(), mtu: 65536, ..device(1, "lo") };
        let hop = network(vec![lo]).path(way(1)).unwrap().hop().unwrap();
        assert_eq!((hop.next_hop_mac, hop.mtu), (Mac::default(), 0), "no limit");
    }

    #[test]
    fn a_wildcard_means_the_global_addresses_of_its_links() {
        let vlan = Device { vlan: Some((tag(0x8100, 10), 1)), ..device(2, "eth0.10") };
        let mut network = network(vec![device(1, "eth0"), vlan, device(3, "eth1")]);
        let held = |address: &str, device, is_global| Address {
            address: address.parse().unwrap(),
            device,
            is_global,
        };
        network.addresses = vec![
            held("192.0.2.1", 1, true),
            held("198.51.100.1", 2, true),
            held("203.0.113.1", 3, true),
            held("2001:db8::1", 1, true),
            held("fe80::1", 1, false),
        ];
        let links = [network.link(1).unwrap()];
        let of = |like: &str| -> Vec<String> {
            let found = network.addresses_on(&links, like.parse().unwrap());
            found.map(|address| address.to_string()).collect()
        };
        assert_eq!(of("0.0.0.0"), ["192.0.2.1", "198.51.100.1"]);
        assert_eq!(of("::"), ["2001:db8::1"]);
        assert_eq!(network.holder("203.0.113.1".parse().unwrap()), Some(3));
    }
}
