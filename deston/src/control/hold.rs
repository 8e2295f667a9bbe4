//! Holding the address of a listener in the kernel, so that nobody else has it.
//!
//! The kernel datapath binds nothing: without a socket it would take the port of another process
//! unnoticed, and the system could give it to one as the source of an outgoing connection. A held
//! socket carries no traffic. For TCP it does not listen, and for UDP it is connected to itself:
//! what reaches the stack is refused as if there were no socket.

use std::net::SocketAddr;

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::model::{Listener, Ports, Protocol};
use crate::proxy::BindError;

/// An address of a listener in the kernel, until it is dropped.
#[derive(Debug)]
pub struct Held {
    _socket: Socket,
}

/// Who may have the address meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody.
    Nobody,
    /// Workers of this process: a listener moves from one datapath to the other.
    Ourselves,
}

/// Takes the address of `listener`. `None` if this host does not have the address, which is right
/// where packets are routed to it: then nobody else can have it either. `None` too if the listener
/// has every port, of which there is none that would stand for all.
pub(super) fn hold(listener: &Listener, beside: Beside) -> Result<Option<Held>, BindError> {
    match listener.ports() {
        Ports::Any => return Ok(None),
        Ports::One(_) => {}
    }
    let (name, address, protocol) = (listener.name.clone(), listener.address, listener.protocol());
    // With SO_REUSEADDR others could share the port, so it is the second choice: connections in
    // TIME_WAIT are no reason to refuse. For UDP it means sharing at once.
    let bound = bind(address, protocol, beside, false).or_else(|error| match protocol {
        Protocol::Tcp => bind(address, protocol, beside, true),
        Protocol::Udp => Err(error),
    });
    match bound {
        Ok(socket) => Ok(Some(Held { _socket: socket })),
        Err(source) => {
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EADDRNOTAVAIL) => Ok(None),
                Some(Errno::EADDRINUSE) => Err(BindError::InUse { name, address, protocol }),
                Some(Errno::EACCES | Errno::EPERM) => {
                    Err(BindError::NotPermitted { name, address, protocol })
                }
                Some(_) | None => Err(BindError::Other { name, address, protocol, source }),
            }
        }
    }
}

fn bind(
    address: SocketAddr,
    protocol: Protocol,
    beside: Beside,
    reuse: bool,
) -> std::io::Result<Socket> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.set_reuse_address(reuse)?;
    socket.set_reuse_port(beside == Beside::Ourselves)?;
    socket.bind(&address.into())?;
    // From here on it lets nobody in.
    socket.set_reuse_port(false)?;
    if protocol == Protocol::Udp {
        socket.connect(&address.into())?;
    }
    Ok(socket)
}
