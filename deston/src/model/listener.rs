//! Listeners: where clients connect.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// An address and port that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique name, for logs.
    pub name: String,
    /// Where it listens, resolved.
    pub address: SocketAddr,
    /// Name of the pool that serves it.
    pub pool: String,
    /// What it speaks.
    pub layer: Layer,
}

impl Listener {
    /// The transport protocol; HTTP runs over TCP.
    pub fn protocol(&self) -> Protocol {
        match &self.layer {
            Layer::L4(l4) => l4.protocol,
            Layer::L7(_) => Protocol::Tcp,
        }
    }
}

/// What a listener speaks, with the settings only that layer has.
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
    /// Source ports used towards servers by the kernel datapath.
    pub snat_ports: SnatPorts,
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

/// The datapath that the configuration asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatapathChoice {
    /// The fastest that works for the listener and its servers.
    Auto,
    /// XDP, or an error.
    Xdp,
    /// The process itself.
    Userspace,
}

/// How the kernel datapath reaches servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// Destination and source are both translated, so servers need no change.
    Nat,
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

/// Settings of a layer 7 listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L7 {
    /// Client side deadlines.
    pub timeouts: HttpTimeouts,
}

/// `[listener.timeouts]` of a layer 7 listener. Zero switches a deadline off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// First byte to end of the request head. Default 10 s.
    pub request_head: Duration,
    /// Keep-alive without a request. Default 60 s.
    pub client_idle: Duration,
    /// No byte either way in a body. Default 5 min.
    pub stream_idle: Duration,
    /// No byte either way in a WebSocket. Default 1 h.
    pub tunnel_idle: Duration,
}
