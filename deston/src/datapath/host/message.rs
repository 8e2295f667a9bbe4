//! What netlink messages say, in our own words.

use std::net::IpAddr;

use deston_common::hop::Vlan;
use deston_common::net::Mac;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    LinkXdp, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteVia,
};

use super::network::{Address, Device, Kind, Peer, Way, tag};

/// EtherType of a customer tag (IEEE 802.1Q, clause 9.4).
const CUSTOMER_TAG: u16 = 0x8100;
/// EtherType of a service tag.
const SERVICE_TAG: u16 = 0x88a8;

/// A device.
pub(super) fn device(message: &LinkMessage) -> Device {
    let mut device = Device {
        index: message.header.index,
        name: String::new(),
        mac: Mac::default(),
        mtu: 0,
        kind: if message.header.link_layer_type == LinkLayerType::Ether {
            Kind::Ethernet
        } else {
            Kind::Other
        },
        vlan: None,
        peer: Peer::None,
        xdp_program: None,
    };
    if message.header.flags.contains(LinkFlags::Loopback) {
        device.kind = Kind::Loopback;
    }
    let (mut below, mut vlan, mut is_elsewhere) = (None, None, false);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            device.name.clone_from(name);
        } else if let LinkAttribute::Address(octets) = attribute {
            device.mac = mac(octets).unwrap_or_default();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            device.mtu = *mtu;
        } else if let LinkAttribute::Link(index) = attribute {
            below = Some(*index);
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            if infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth))) {
                device.kind = Kind::Veth;
            }
            vlan = infos.iter().find_map(vlan_of);
        } else if let LinkAttribute::LinkNetNsId(_) = attribute {
            // The index below is one of another namespace.
            (vlan, is_elsewhere) = (None, true);
        } else if let LinkAttribute::Xdp(told) = attribute {
            device.xdp_program = told.iter().find_map(|item| {
                if let LinkXdp::ProgId(id) = item { Some(*id).filter(|id| *id != 0) } else { None }
            });
        }
    }
    device.vlan = vlan.zip(below);
    device.peer = match (device.kind, below) {
        (Kind::Veth, _) if is_elsewhere => Peer::Elsewhere,
        (Kind::Veth, Some(index)) => Peer::Here(index),
        (Kind::Veth, None) => Peer::Elsewhere,
        (Kind::Ethernet | Kind::Loopback | Kind::Other, _) => Peer::None,
    };
    device
}

fn vlan_of(info: &LinkInfo) -> Option<Vlan> {
    let LinkInfo::Data(InfoData::Vlan(data)) = info else { return None };
    let (mut id, mut protocol) = (None, CUSTOMER_TAG);
    for item in data {
        if let InfoVlan::Id(given) = item {
            id = Some(*given);
        } else if let InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) = item {
            protocol = SERVICE_TAG;
        }
    }
    Some(tag(protocol, id?))
}

/// An address of the host.
pub(super) fn address(message: &AddressMessage) -> Option<Address> {
    let (mut own, mut any) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            own = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            // The far end of a link with two ends; the host's own where `Local` is missing.
            any = Some(*address);
        }
    }
    let device = message.header.index;
    let is_global = matches!(message.header.scope, AddressScope::Universe | AddressScope::Site);
    Some(Address { address: own.or(any)?, device, is_global })
}

/// The device, address and Ethernet address of a neighbour, unless the kernel doubts that it is
/// there at all.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Mac)> {
    if matches!(
        message.header.state,
        NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None
    ) {
        return None;
    }
    let (mut address, mut known) = (None, None);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            address = Some(IpAddr::V4(*v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            address = Some(IpAddr::V6(*v6));
        } else if let NeighbourAttribute::LinkLayerAddress(octets) = attribute {
            known = mac(octets);
        }
    }
    Some(((message.header.ifindex, address?), known?))
}

/// The first step to `destination`.
pub(super) fn way(message: &RouteMessage, destination: IpAddr) -> Option<Way> {
    let (mut device, mut source, mut gateway, mut mtu) = (None, None, None, None);
    for attribute in &message.attributes {
        if let RouteAttribute::Oif(index) = attribute {
            device = Some(*index);
        } else if let RouteAttribute::PrefSource(address) = attribute {
            source = ip(address);
        } else if let RouteAttribute::Gateway(address) = attribute {
            gateway = ip(address);
        } else if let RouteAttribute::Via(RouteVia::Inet6(v6)) = attribute {
            // IPv4 by way of an IPv6 router (RFC 5549).
            gateway = Some(IpAddr::V6(*v6));
        } else if let RouteAttribute::Metrics(metrics) = attribute {
            mtu = metrics.iter().find_map(|metric| {
                if let RouteMetric::Mtu(mtu) = metric { Some(*mtu) } else { None }
            });
        }
    }
    let next_hop = gateway.unwrap_or(destination);
    Some(Way { device: device?, source: source?, next_hop, mtu })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        Some(IpAddr::V4(*v4))
    } else if let RouteAddress::Inet6(v6) = address {
        Some(IpAddr::V6(*v6))
    } else {
        None
    }
}

fn mac(octets: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(octets).ok().map(Mac::from_octets)
}
