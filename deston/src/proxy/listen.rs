//! Binding: a listener's address, one socket for each worker.
//!
//! Runs in the thread of `control`, before anything is accepted, so that an address that cannot be
//! had is an error of start or reload and never of a worker.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Type};
use tokio::net::TcpStream;

use crate::model::{Layer, Listener, Protocol};

/// Connections the kernel queues for one worker; it takes no more than `net.core.somaxconn`.
pub(super) const BACKLOG: u16 = 4_096;

/// A listener's address, taken but not yet served.
#[derive(Debug)]
pub struct Bound {
    address: SocketAddr,
    sockets: Vec<Socket>,
}

/// Why an address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "listener {name}: {address}/{protocol} is in use by another process; \
         stop that process or choose another port"
    )]
    InUse {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// Its protocol.
        protocol: &'static str,
    },
    /// A port below 1024, as a rule.
    #[error(
        "listener {name}: no permission to bind {address}/{protocol}; ports below 1024 need root or \
         CAP_NET_BIND_SERVICE (setcap cap_net_bind_service=+ep deston), or choose a higher port"
    )]
    NotPermitted {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// Its protocol.
        protocol: &'static str,
    },
    /// No interface has it.
    #[error(
        "listener {name}: no interface of this host has the address {}; `ip address` lists those \
         there are, and 0.0.0.0 or :: stands for all", address.ip()
    )]
    NotOfThisHost {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("listener {name}: cannot bind {address}/{protocol}")]
    Other {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// Its protocol.
        protocol: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

impl Bound {
    /// Where it listens: with the port the kernel chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn into_sockets(self) -> Vec<Socket> {
        self.sockets
    }
}

/// A worker's socket of a listener, and the note that this process has its address.
#[derive(Debug)]
pub(super) enum Socket {
    /// Listening.
    Tcp(std::net::TcpListener, Arc<Taken>),
    /// Bound.
    Udp(std::net::UdpSocket, Arc<Taken>),
}

/// The addresses this process has. One of its own may be bound again: a reload opens the new
/// listener before it closes the old one.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<Vec<Weak<Taken>>>);

/// An address of this process, until the last socket is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    protocol: Protocol,
    address: SocketAddr,
}

impl Addresses {
    /// Whether a socket of this process is in the way of `address`.
    fn overlaps(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().filter_map(Weak::upgrade).any(|taken| {
            let (ours, theirs) = (taken.address.ip(), address.ip());
            let every = ours.is_unspecified() || theirs.is_unspecified();
            let in_the_way = ours == theirs || every && ours.is_ipv4() == theirs.is_ipv4();
            taken.protocol == protocol && taken.address.port() == address.port() && in_the_way
        })
    }

    fn add(&self, taken: &Arc<Taken>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|taken| taken.strong_count() > 0);
        all.push(Arc::downgrade(taken));
    }
}

/// Takes the listener's address, with `workers` sockets.
pub(super) fn bind(
    listener: &Listener,
    workers: usize,
    ours: &Addresses,
) -> Result<Bound, BindError> {
    let protocol = match &listener.layer {
        Layer::L4(l4) => l4.protocol,
        Layer::L7(_) => Protocol::Tcp,
    };
    let mut address = listener.address;
    let explain = |source| explain(listener, protocol, source);

    // SO_REUSEPORT would let a second process of the same user share the port unnoticed. The first
    // socket is therefore bound alone, and only then lets the workers' sockets in.
    let alone = if ours.overlaps(protocol, address) {
        None
    } else {
        let alone = new_socket(protocol, address).map_err(explain)?;
        alone.bind(&address.into()).map_err(explain)?;
        alone.set_reuse_port(true).map_err(explain)?;
        address = local_address(&alone).map_err(explain)?;
        Some(alone)
    };
    let taken = Arc::new(Taken { protocol, address });
    let sockets = (0..workers)
        .map(|_| worker_socket(protocol, address, &taken))
        .collect::<io::Result<_>>()
        .map_err(explain)?;
    drop(alone);
    ours.add(&taken);
    Ok(Bound { address, sockets })
}

/// The address that a client reached, of a listener that may have several.
pub(super) fn reached(stream: &TcpStream, listener: &Listener) -> SocketAddr {
    let address = listener.address;
    if address.ip().is_unspecified() || address.port() == 0 {
        // Fails only for a connection that is over already.
        return stream.local_addr().unwrap_or(address);
    }
    address
}

fn worker_socket(
    protocol: Protocol,
    address: SocketAddr,
    taken: &Arc<Taken>,
) -> io::Result<Socket> {
    let socket = new_socket(protocol, address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    match protocol {
        Protocol::Tcp => {
            socket.listen(i32::from(BACKLOG))?;
            Ok(Socket::Tcp(socket.into(), Arc::clone(taken)))
        }
        Protocol::Udp => Ok(Socket::Udp(socket.into(), Arc::clone(taken))),
    }
}

fn new_socket(protocol: Protocol, address: SocketAddr) -> io::Result<socket2::Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = socket2::Socket::new(Domain::for_address(address), kind.nonblocking(), None)?;
    if address.is_ipv6() {
        // `::` is every IPv6 address and no IPv4 one, so that 0.0.0.0 can be bound beside it.
        socket.set_only_v6(true)?;
    }
    match protocol {
        // Connections in TIME_WAIT are no reason to refuse. For UDP this option means sharing.
        Protocol::Tcp => socket.set_reuse_address(true)?,
        // Before the first datagram: one that arrives earlier does not tell the address it was sent
        // to, which replies have to come from.
        Protocol::Udp => match address.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        },
    }
    Ok(socket)
}

fn local_address(socket: &socket2::Socket) -> io::Result<SocketAddr> {
    let unknown = || io::Error::other("the socket has no internet address");
    socket.local_addr()?.as_socket().ok_or_else(unknown)
}

fn explain(listener: &Listener, protocol: Protocol, source: io::Error) -> BindError {
    let (name, address) = (listener.name.clone(), listener.address);
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => BindError::InUse { name, address, protocol },
        Some(Errno::EACCES | Errno::EPERM) => BindError::NotPermitted { name, address, protocol },
        Some(Errno::EADDRNOTAVAIL) => BindError::NotOfThisHost { name, address },
        Some(_) | None => BindError::Other { name, address, protocol, source },
    }
}
