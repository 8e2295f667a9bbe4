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
    /// Those of layer 4 that the kernel may carry.
    pub listeners: Vec<Examined>,
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

/// A listener that the kernel may carry.
#[derive(Debug)]
pub struct Examined {
    /// The listener.
    pub listener: Arc<Listener>,
    /// Where the kernel would carry it, or why it cannot.
    pub chosen: Result<Chosen, Reason>,
    /// Interfaces that clients come in by.
    pub clients: Vec<u32>,
    /// Its servers.
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
            Reach::Nowhere | Reach::Here => None,
        })
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
        default_device: host.route(Ipv4Addr::UNSPECIFIED.into()).await?.way().map(|way| way.device),
    };
    for listener in &model.listeners {
        let Layer::L4(l4) = &listener.layer else { continue };
        let Ok(wanted) = Wanted::by(listener) else { continue };
        let servers = model.pool(&listener.pool).map(|pool| &pool.servers[..]).unwrap_or_default();
        let addresses = servers.iter().map(|server| server.address.ip().to_canonical());
        let survey = plan::survey(&host, listener.address.ip(), addresses).await?;
        let question = Question {
            address: listener.address.ip(),
            interfaces: &l4.interfaces,
            any_port: listener.ports() == model::Ports::Any,
            role: Role::Balance(l4.forwarding),
            wanted,
            mode: model.kernel.xdp_mode,
        };
        site.listeners.push(examined(listener, servers, &question, &survey));
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
            let Some(path) = network.path(way.clone()) else { return Reach::Nowhere };
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
