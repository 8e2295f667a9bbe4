//! Listeners: where clients connect.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use deston_common::limits::{SNAT_PORT_MAX, SNAT_PORT_MIN};

use super::{AcceptProxyProtocol, Guard, L7, Origin, Server};

/// An address and port that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique name, for logs.
    pub name: String,
    /// Where it listens, resolved. Port 0 is every port of the address; see [`Ports`].
    pub address: SocketAddr,
    /// Name of the pool that serves it.
    pub pool: String,
    /// Who may connect.
    pub guard: Guard,
    /// Whom it believes when told who connects.
    pub origin: Origin,
    /// What it speaks.
    pub layer: Layer,
}

/// The ports of an address that a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// One.
    One(u16),
    /// All of its protocol: the address is the listener's alone (kernel datapath only).
    Any,
}

impl Listener {
    /// A listener that everybody may connect to.
    pub fn new(name: String, address: SocketAddr, pool: String, layer: Layer) -> Self {
        let (guard, origin) = (Guard::default(), Origin::default());
        Self { name, address, pool, guard, origin, layer }
    }

    /// The transport protocol; HTTP runs over TCP.
    pub fn protocol(&self) -> Protocol {
        match &self.layer {
            Layer::L4(l4) => l4.protocol,
            Layer::L7(_) => Protocol::Tcp,
        }
    }

    /// The ports it has.
    pub fn ports(&self) -> Ports {
        match self.address.port() {
            0 => Ports::Any,
            port => Ports::One(port),
        }
    }

    /// The datapath asked for: of a layer 7 listener, where its guard runs.
    pub fn datapath(&self) -> DatapathChoice {
        match &self.layer {
            Layer::L4(l4) => l4.datapath,
            Layer::L7(l7) => l7.datapath,
        }
    }

    /// Interfaces to attach to; empty: those that reach clients and servers.
    pub fn interfaces(&self) -> &[String] {
        match &self.layer {
            Layer::L4(l4) => &l4.interfaces,
            Layer::L7(l7) => &l7.interfaces,
        }
    }

    /// What userspace could not do in the kernel's place, if there is something: such a listener
    /// is never served from userspace, whatever `datapath` says.
    pub fn needs_kernel(&self) -> Option<KernelOnly> {
        let Layer::L4(l4) = &self.layer else { return None };
        match l4.forwarding {
            Forwarding::Nat => {}
            Forwarding::Dnat | Forwarding::DsrL2 | Forwarding::DsrIpip => {
                return Some(KernelOnly::Forwarding(l4.forwarding));
            }
        }
        if self.ports() == Ports::Any {
            return Some(KernelOnly::AnyPort);
        }
        l4.one_packet.then_some(KernelOnly::OnePacket)
    }

    /// What the kernel could not do in userspace's place for a listener with these servers, if
    /// there is something.
    pub fn needs_userspace<'a>(
        &self,
        servers: impl IntoIterator<Item = &'a Server>,
    ) -> Option<UserspaceOnly> {
        if self.origin.accept != AcceptProxyProtocol::Off {
            return Some(UserspaceOnly::AcceptsProxyProtocol);
        }
        let mut servers = servers.into_iter();
        let sends = servers.find(|server| server.speech.proxy_protocol.is_some())?;
        Some(UserspaceOnly::SendsProxyProtocol(sends.name.clone()))
    }
}

/// A setting that only userspace can carry out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserspaceOnly {
    /// Headers of the PROXY protocol are read.
    #[error("`accept_proxy_protocol` is read in userspace")]
    AcceptsProxyProtocol,
    /// Headers of the PROXY protocol are sent.
    #[error("`proxy_protocol` of server {0} is sent by userspace")]
    SendsProxyProtocol(String),
}

/// A setting that only the kernel datapath can carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelOnly {
    /// Packets reach servers with the client's address.
    #[error("`forwarding = \"{0}\"`")]
    Forwarding(Forwarding),
    /// Every port of an address.
    #[error("`port = 0`")]
    AnyPort,
    /// Every packet balanced on its own.
    #[error("`one_packet`")]
    OnePacket,
}

/// What a listener speaks, with the settings only that layer has.
#[expect(clippy::large_enum_variant, reason = "there is one for each listener, and it stays")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// TCP or UDP, carried as it is.
    L4(L4),
    /// HTTP.
    L7(L7),
}

impl Layer {
    /// As it is written in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::L4(_) => "L4",
            Self::L7(_) => "L7",
        }
    }
}

/// Settings of a layer 4 listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4 {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What shall carry the traffic.
    pub datapath: DatapathChoice,
    /// How the kernel datapath reaches servers.
    pub forwarding: Forwarding,
    /// Interfaces to attach to; empty: those that reach clients and servers.
    pub interfaces: Vec<String>,
    /// Source addresses used towards servers by the kernel datapath, at most [`MAX_SNAT_IPS`] and of
    /// the listener's family; empty: the outgoing interface's.
    pub snat_ips: Vec<IpAddr>,
    /// Source ports used towards servers by the kernel datapath.
    pub snat_ports: SnatPorts,
    /// Whether echo requests to the address are answered while the pool has a server that is up.
    pub icmp_echo: bool,
    /// UDP: every packet is balanced on its own, and there are no flows (kernel datapath only).
    pub one_packet: bool,
    /// When flows end.
    pub flows: FlowTimeouts,
    /// Userspace: how long a relayed TCP connection may carry no byte either way; zero: for ever.
    pub tunnel_idle: Duration,
}

/// Transport protocol of a layer 4 listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// `tunnel_idle`, of both layers.
pub(super) const DEFAULT_TUNNEL_IDLE: Duration = Duration::from_secs(60 * 60);

/// Addresses in `snat_ips`.
pub const MAX_SNAT_IPS: usize = 8;

/// The datapath that the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatapathChoice {
    /// The fastest that works for the listener and its servers.
    Auto,
    /// XDP, or an error.
    Xdp,
    /// TC, or an error.
    Tc,
    /// The process itself.
    Userspace,
}

impl fmt::Display for DatapathChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Userspace => "userspace",
        })
    }
}

/// How the kernel datapath reaches servers. All but `Nat` keep the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Destination and source are both translated, so servers need no change.
    Nat,
    /// The destination is translated; servers route their answers back this way.
    Dnat,
    /// Only the Ethernet addresses change; servers have the listener's address and answer clients
    /// themselves.
    DsrL2,
    /// The packet is sent within another IP packet; servers unwrap it, have the listener's address
    /// and answer clients themselves.
    DsrIpip,
}

impl Forwarding {
    /// Whether servers answer clients past Deston, so that it sees no replies.
    pub fn is_direct_return(self) -> bool {
        match self {
            Self::Nat | Self::Dnat => false,
            Self::DsrL2 | Self::DsrIpip => true,
        }
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nat => "nat",
            Self::Dnat => "dnat",
            Self::DsrL2 => "dsr-l2",
            Self::DsrIpip => "dsr-ipip",
        })
    }
}

/// An inclusive range of source ports; `min <= max`, `min >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    /// First port.
    pub min: u16,
    /// Last port.
    pub max: u16,
}

/// `[listener.flows]`: idle time after which a flow in the kernel, or a UDP flow in userspace, is
/// over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// Handshake not finished. Default 20 s.
    pub tcp_syn: Duration,
    /// Established. Default 2 h.
    pub tcp_established: Duration,
    /// Both sides closed. Default 30 s.
    pub tcp_fin: Duration,
    /// Reset. Default 5 s.
    pub tcp_rst: Duration,
    /// UDP without a reply. Default 30 s.
    pub udp_one_way: Duration,
    /// UDP with replies. Default 180 s.
    pub udp_two_way: Duration,
}

impl Default for L4 {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            datapath: DatapathChoice::Auto,
            forwarding: Forwarding::Nat,
            interfaces: Vec::new(),
            snat_ips: Vec::new(),
            snat_ports: SnatPorts { min: SNAT_PORT_MIN, max: SNAT_PORT_MAX },
            icmp_echo: true,
            one_packet: false,
            flows: FlowTimeouts::default(),
            tunnel_idle: DEFAULT_TUNNEL_IDLE,
        }
    }
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_syn: Duration::from_secs(20),
            tcp_established: Duration::from_secs(2 * 60 * 60),
            tcp_fin: Duration::from_secs(30),
            tcp_rst: Duration::from_secs(5),
            udp_one_way: Duration::from_secs(30),
            udp_two_way: Duration::from_secs(180),
        }
    }
}
