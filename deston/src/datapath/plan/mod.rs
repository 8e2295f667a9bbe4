//! Whether the kernel can carry a listener, at which hook and by which interfaces, and if not, why.
//!
//! [`survey`] asks the host; [`plan`] decides and is pure.

mod reason;
mod system;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub(super) use system::has_csum_ipv6;

pub use reason::Reason;
pub use system::{OLDEST as OLDEST_KERNEL, version as kernel_version};

use super::host::{Host, HostError, Kind, Link, NativeXdp, Network, Path, Route};
use super::kernel::Hook;
use crate::model::{DatapathChoice, Forwarding, Listener, XdpMode};

/// What a listener's entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Packets are sent to servers.
    Balance(Forwarding),
    /// Clients are admitted, and the host's stack serves them.
    Guard,
}

/// Which hooks may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The better one.
    Best,
    /// This one or none.
    Only(Hook),
}

impl Wanted {
    /// What a listener asks for.
    pub(super) fn by(listener: &Listener) -> Result<Self, Reason> {
        match listener.datapath() {
            DatapathChoice::Auto => Ok(Self::Best),
            DatapathChoice::Xdp => Ok(Self::Only(Hook::Xdp)),
            DatapathChoice::Tc => Ok(Self::Only(Hook::Tc)),
            DatapathChoice::Userspace => Err(Reason::NotAsked),
        }
    }
}

/// What is to be planned.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    /// The listener's address.
    pub(super) address: IpAddr,
    /// Interfaces that clients come in by; empty: those that the address tells.
    pub(super) interfaces: &'a [String],
    /// Whether it takes every port of the address.
    pub(super) any_port: bool,
    /// What for.
    pub(super) role: Role,
    /// At which hook.
    pub(super) wanted: Wanted,
    /// How XDP attaches.
    pub(super) mode: XdpMode,
}

/// What the host says, as far as a plan needs it.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) network: Network,
    /// Where the packets of each server go.
    pub(super) servers: Vec<(IpAddr, Route)>,
    /// Where packets to everybody go.
    pub(super) default: Route,
}

/// How the kernel carries a listener.
#[derive(Debug)]
pub(super) struct Plan {
    /// Where.
    pub(super) hook: Hook,
    /// Interfaces that clients' packets come in by.
    pub(super) clients: Vec<Link>,
    /// Interfaces that servers' packets come in by.
    pub(super) servers: Vec<Link>,
    /// Why not at XDP, where it is not.
    pub(super) why_not_xdp: Option<Reason>,
}

impl Plan {
    /// Interfaces that clients' and servers' packets come in by.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        self.clients.iter().chain(&self.servers)
    }
}

/// Asks the host what a plan needs to know.
pub(super) async fn survey(
    host: &Host,
    address: IpAddr,
    servers: impl Iterator<Item = IpAddr>,
) -> Result<Survey, HostError> {
    let mut routes = Vec::new();
    for server in servers {
        routes.push((server, host.route(server).await?));
    }
    let default =
        if address.is_unspecified() { host.route(address).await? } else { Route::Unreachable };
    Ok(Survey { network: host.look().await?, servers: routes, default })
}

/// Whether the system can do it at all.
pub(super) fn check_system() -> Result<(), Reason> {
    system::check_kernel()?;
    system::check_privileges()
}

/// Plans a listener. `native` tells whether an interface has native XDP.
pub(super) fn plan(
    question: &Question<'_>,
    survey: &Survey,
    native: impl Fn(&Link) -> NativeXdp,
) -> Result<Plan, Reason> {
    let on_loopback = question.address.is_loopback();
    if question.any_port && survey.network.holder(question.address).is_some() {
        return Err(Reason::NotDedicated(question.address));
    }
    let mut servers = Vec::new();
    for (server, route) in &survey.servers {
        let path = server_path(question, &survey.network, *server, route)?;
        if !servers.contains(&path.link) {
            servers.push(path.link);
        }
    }
    if on_loopback && question.role == Role::Guard && question.wanted == Wanted::Best {
        return Err(Reason::GuardOfLoopback);
    }
    let clients = clients(question, survey, &servers)?;
    if let Some(obstacle) = clients.iter().chain(&servers).find_map(tc_obstacle) {
        return Err(obstacle);
    }
    let obstacle = clients.iter().chain(&servers).find_map(|link| {
        let native = || native(link);
        xdp_obstacle(link, question.wanted, question.mode, native)
    });
    let (hook, why_not_xdp) = match (question.wanted, obstacle) {
        (Wanted::Best | Wanted::Only(Hook::Xdp), None) => (Hook::Xdp, None),
        (Wanted::Best, Some(obstacle)) => (Hook::Tc, Some(obstacle)),
        (Wanted::Only(Hook::Xdp), Some(obstacle)) => return Err(obstacle),
        (Wanted::Only(Hook::Tc), _) => (Hook::Tc, None),
    };
    Ok(Plan { hook, clients, servers, why_not_xdp })
}

/// The interfaces that clients' packets come in by.
fn clients(
    question: &Question<'_>,
    survey: &Survey,
    servers: &[Link],
) -> Result<Vec<Link>, Reason> {
    let (address, network) = (question.address, &survey.network);
    let mut clients = Vec::new();
    for name in question.interfaces {
        clients.push(network.link_named(name).ok_or_else(|| Reason::NoInterface(name.clone()))?);
    }
    if !clients.is_empty() {
        return Ok(clients);
    }
    if address.is_unspecified() {
        // Loopback and the other interfaces' addresses are served by the socket beside.
        let default = survey.default.clone().way().and_then(|way| network.link(way.device));
        let default = default.filter(|link| link.kind != Kind::Loopback);
        clients.extend(default.into_iter().chain(servers.iter().cloned()));
        clients.dedup();
        return if clients.is_empty() { Err(Reason::NoDefaultRoute) } else { Ok(clients) };
    }
    let link = network.holder(address).and_then(|device| network.link(device));
    let link = link.ok_or(Reason::AddressNotHere(address))?;
    if link.kind == Kind::Loopback && !address.is_loopback() {
        return Err(Reason::AddressOnLoopback(address));
    }
    Ok(vec![link])
}

/// The way to a server, if packets of the listener's clients can take it.
fn server_path(
    question: &Question<'_>,
    network: &Network,
    server: IpAddr,
    route: &Route,
) -> Result<Path, Reason> {
    let listener = question.address;
    let forwarding = match question.role {
        Role::Balance(forwarding) => forwarding,
        Role::Guard => Forwarding::Nat,
    };
    // An IPv4 packet goes into an IPv6 one, and not the other way round.
    let fits = match forwarding {
        Forwarding::DsrIpip => listener.is_ipv4() || server.is_ipv6(),
        Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 => {
            listener.is_ipv4() == server.is_ipv4()
        }
    };
    if !fits {
        return Err(Reason::OtherFamily { listener, server });
    }
    let way = match (route, listener.is_loopback(), server.is_loopback()) {
        (Route::Unreachable, ..) => return Err(Reason::NoRoute(server)),
        (_, true, true) => route.clone().way(),
        (_, true, false) => return Err(Reason::RemoteServer(server)),
        (_, false, true) => return Err(Reason::LoopbackServer(server)),
        (Route::Local(_), false, false) => return Err(Reason::LocalServer(server)),
        (Route::Out(way), false, false) => Some(way.clone()),
    };
    let way = way.ok_or(Reason::NoRoute(server))?;
    if forwarding == Forwarding::DsrL2 && way.next_hop != server {
        return Err(Reason::NotOnLink(server));
    }
    network.path(way).ok_or(Reason::TooManyTags(server))
}

/// What stands against any of our programs on an interface.
pub(super) fn tc_obstacle(link: &Link) -> Option<Reason> {
    match link.kind {
        Kind::Other => Some(Reason::NotEthernet(link.name.clone())),
        Kind::Ethernet | Kind::Veth | Kind::Loopback => None,
    }
}

/// What stands against XDP on an interface.
pub(super) fn xdp_obstacle(
    link: &Link,
    wanted: Wanted,
    mode: XdpMode,
    native: impl Fn() -> NativeXdp,
) -> Option<Reason> {
    let name = || link.name.clone();
    match (link.kind, mode) {
        (Kind::Loopback, _) => Some(Reason::LoopbackInterface(name())),
        (Kind::Other, _) => Some(Reason::NotEthernet(name())),
        (Kind::Ethernet | Kind::Veth, XdpMode::Generic) => None,
        (Kind::Veth, XdpMode::Native) => (wanted == Wanted::Best).then(|| Reason::Veth(name())),
        (Kind::Ethernet, XdpMode::Native) => match native() {
            NativeXdp::Yes | NativeXdp::Unknown => None,
            NativeXdp::No => Some(Reason::NotNative(name())),
        },
    }
}
