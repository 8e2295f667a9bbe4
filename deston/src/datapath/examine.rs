//! What the kernel datapath would do on this host and what it would meet, found out without touching
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::balancer::Chosen;
use super::host::{Host, HostError, Kind, Network, Route, native_xdp, offloads};
pub use super::host::{NativeXdp, Peer};
use super::kernel::{self, Hook};
use super::plan::{self, Question, Reason, Role, Survey, Wanted};
use crate::model::{self, Layer, Listener, Model};

/// The host as the datapath would find it.
#[derive(Debug)]
pub struct Site {
    /// By index.
    pub interfaces: BTreeMap<u32, Interface>,
    /// Those that the kernel may carry or guard.
    pub listeners: Vec<Examined>,
    /// Addresses of the host.
    pub addresses: BTreeSet<IpAddr>,
    /// The device of the IPv4 default route.
    pub default_device: Option<u32>,
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// One end of a pair.
    pub is_veth: bool,
    /// The host itself.
    pub is_loopback: bool,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// The other end of a veth.
    pub peer: Peer,
    /// The device below a VLAN device.
    pub below: Option<u32>,
    /// Whether the driver runs XDP programs.
    pub native_xdp: NativeXdp,
    /// Its XDP program.
    pub program: Program,
    /// What it does in the stack's place, by the kernel's names; none if it does not say.
    pub offloads: BTreeSet<String>,
}

/// The XDP program of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// There is none.
    None,
    /// The balancer's, of this instance.
    Ours,
    /// Somebody else's.
    Foreign {
        /// Its name, if the kernel tells.
        name: Option<String>,
    },
}

/// A listener that the kernel may carry; of layer 7, whose guard it may be.
#[derive(Debug)]
pub struct Examined {
    /// The listener.
    pub listener: Arc<Listener>,
    /// Where the kernel would carry or guard it, or why it cannot.
    pub chosen: Result<Chosen, Reason>,
    /// Interfaces that clients come in by.
    pub clients: Vec<u32>,
    /// Its servers; none of one that is only guarded.
    pub servers: Vec<ServerWay>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerWay {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: SocketAddr,
    /// The way there.
    pub reach: Reach,
}

/// A way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// There is none.
    Nowhere,
    /// It leads through more VLAN devices than frames can have tags.
    TooManyTags,
    /// The host itself.
    Here,
    /// Out by a device.
    Out(Out),
}

/// A way out of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// The device of the route.
    pub device: u32,
    /// The interface where its packets are first seen: the one below a VLAN device.
    pub interface: u32,
    /// The router, or the server itself.
    pub next_hop: IpAddr,
    /// Whether its Ethernet address is known.
    pub is_known: bool,
    /// Largest IP packet, bytes.
    pub mtu: u32,
}

impl Examined {
    /// Interfaces that its packets come in by, each once.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        let servers = self.outs().map(|out| out.interface);
        self.clients.iter().copied().chain(servers).collect()
    }

    /// The ways out to its servers.
    pub fn outs(&self) -> impl Iterator<Item = &Out> {
        self.servers.iter().filter_map(|server| match &server.reach {
            Reach::Out(out) => Some(out),
            Reach::Nowhere | Reach::TooManyTags | Reach::Here => None,
        })
    }

    /// Whether the kernel only guards it, and the host's stack has its packets.
    pub fn is_guarded_alone(&self) -> bool {
        match self.listener.layer {
            Layer::L4(_) => false,
            Layer::L7(_) => true,
        }
    }

    /// The hook that carries it, or would if nothing stood against it.
    pub fn hook(&self) -> Option<Hook> {
        match (&self.chosen, Wanted::by(&self.listener)) {
            (Ok(chosen), _) => Some(chosen.hook),
            (Err(_), Ok(Wanted::Only(hook))) => Some(hook),
            (Err(_), Ok(Wanted::Best) | Err(_)) => None,
        }
    }
}

/// Looks at the host, as far as the listeners of `model` are concerned.
pub async fn examine(model: &Model) -> Result<Site, HostError> {
    let host = Host::connect()?;
    let network = host.look().await?;
    let mut site = Site {
        interfaces: interfaces(&network, &model.kernel),
        listeners: Vec::new(),
        addresses: network.addresses.iter().map(|held| held.address).collect(),
        default_device: host.route(Ipv4Addr::UNSPECIFIED.into()).await?.way().map(|way| way.device),
    };
    for listener in &model.listeners {
        let Ok(wanted) = Wanted::by(listener) else { continue };
        let (role, servers) = match &listener.layer {
            Layer::L4(l4) => {
                let pool = model.pool(&listener.pool);
                let servers = pool.map(|pool| &pool.servers[..]).unwrap_or_default();
                (Role::Balance(l4.forwarding), servers)
            }
            Layer::L7(_) if listener.guard.is_open() => continue,
            // Userspace reaches its servers.
            Layer::L7(_) => (Role::Guard, [].as_slice()),
        };
        let addresses = servers.iter().map(|server| server.address.ip().to_canonical());
        let survey = plan::survey(&host, listener.address.ip(), addresses).await?;
        let question = Question {
            address: listener.address.ip(),
            interfaces: listener.interfaces(),
            any_port: listener.ports() == model::Ports::Any,
            role,
            wanted,
            mode: model.kernel.xdp_mode,
        };
        let examined = examined(listener, servers, &question, &survey);
        // Nothing that could be mended: `auto` never guards those in the kernel.
        if !matches!(examined.chosen, Err(Reason::GuardOfLoopback)) {
            site.listeners.push(examined);
        }
    }
    Ok(site)
}

fn examined(
    listener: &Arc<Listener>,
    servers: &[model::Server],
    question: &Question<'_>,
    survey: &Survey,
) -> Examined {
    let planned = plan::plan(question, survey, |link| native_xdp(link.index));
    let network = &survey.network;
    let clients = match &planned {
        Ok(plan) => plan.clients.iter().map(|link| link.index).collect(),
        // As far as one can tell without a plan.
        Err(_) if question.interfaces.is_empty() => {
            let device = network.holder(question.address);
            device
                .and_then(|device| network.link(device))
                .map(|link| link.index)
                .into_iter()
                .collect()
        }
        Err(_) => {
            let named = question.interfaces.iter().filter_map(|name| network.link_named(name));
            named.map(|link| link.index).collect()
        }
    };
    let ways = servers.iter().zip(&survey.servers).map(|(server, (_, route))| ServerWay {
        name: server.name.clone(),
        address: server.address,
        reach: reach(network, route),
    });
    Examined {
        listener: Arc::clone(listener),
        chosen: planned.map(|plan| Chosen { hook: plan.hook, why_not_xdp: plan.why_not_xdp }),
        clients,
        servers: ways.collect(),
    }
}

fn reach(network: &Network, route: &Route) -> Reach {
    match route {
        Route::Unreachable => Reach::Nowhere,
        Route::Local(_) => Reach::Here,
        Route::Out(way) => {
            if !network.has(way.device) {
                return Reach::Nowhere;
            }
            let Some(path) = network.path(way.clone()) else { return Reach::TooManyTags };
            Reach::Out(Out {
                device: way.device,
                interface: path.link.index,
                next_hop: way.next_hop,
                is_known: path.hop().is_some(),
                mtu: path.mtu(),
            })
        }
    }
}

fn interfaces(network: &Network, settings: &model::Kernel) -> BTreeMap<u32, Interface> {
    let interface = |(index, device): (&u32, &super::host::Device)| {
        let program = match device.xdp_program {
            None => Program::None,
            Some(_) if kernel::has_xdp_link(&settings.instance, *index) => Program::Ours,
            Some(id) => match kernel::program_name(id) {
                Some(name) if !settings.pin && name == kernel::XDP => Program::Ours,
                name => Program::Foreign { name },
            },
        };
        let interface = Interface {
            name: device.name.clone(),
            is_veth: device.kind == Kind::Veth,
            is_loopback: device.kind == Kind::Loopback,
            mtu: device.mtu,
            peer: device.peer,
            below: device.vlan.map(|(_, below)| below),
            native_xdp: native_xdp(*index),
            program,
            offloads: offloads(*index),
        };
        (*index, interface)
    };
    network.devices.iter().map(interface).collect()
}

#[cfg(test)]
mod tests {
    use deston_common::hop::Vlan;
    use deston_common::net::{Be16, Mac};

    use super::super::host::{Device, Way};
    use super::*;

    #[test]
    fn a_route_through_three_vlans_is_no_missing_route() {
        let tag = Vlan { tpid: Be16::from_host(0x8100), tci: Be16::from_host(1) };
        let device = |index: u32| Device {
            index,
            name: format!("vlan{index}"),
            mac: Mac::default(),
            mtu: 1_500,
            kind: Kind::Ethernet,
            vlan: (index > 1).then_some((tag, index - 1)),
            peer: Peer::None,
            xdp_program: None,
        };
        let devices = (1..=4).map(|index| (index, device(index))).collect();
        let network = Network { devices, ..Network::default() };
        let to = |device| {
            let [source, next_hop] = ["192.0.2.1", "192.0.2.9"].map(|text| text.parse().unwrap());
            reach(&network, &Route::Out(Way { device, source, next_hop, mtu: None }))
        };
        assert!(matches!(to(3), Reach::Out(_)));
        assert_eq!(to(4), Reach::TooManyTags);
        assert_eq!(to(5), Reach::Nowhere, "the device is gone");
    }
}
