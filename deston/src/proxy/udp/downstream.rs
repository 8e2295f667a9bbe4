//! The listening socket, which also sends the replies, from the address the client wrote to.
//!
//! A socket bound to 0.0.0.0 or :: would let the kernel choose the source address of a reply by its
//! route; clients drop a reply from another address than they asked. There, the address is taken
//! from each datagram and given with each reply (IP_PKTINFO), at the cost of a small allocation.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::proxy::listen::Taken;

/// A worker's listening socket.
#[derive(Debug)]
pub(super) struct Downstream {
    socket: UdpSocket,
    bound: To,
    /// Addresses until the socket is closed.
    _taken: Arc<Taken>,
}

/// Where a flow's datagrams come from, and go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    /// The client.
    pub(super) client: SocketAddr,
    /// The address it wrote to, where the listener has several.
    local: Option<IpAddr>,
}

impl Origin {
    /// The address that the client wrote to, of a listener at `address`.
    pub(super) fn reached(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.local.unwrap_or(address.ip()), address.port())
    }
}

/// What the socket is bound to.
#[derive(Debug)]
enum To {
    OneAddress,
    EveryAddress {
        /// Room for one control message; made once.
        control: RefCell<Vec<u8>>,
    },
}

impl Downstream {
    pub(super) fn new(socket: std::net::UdpSocket, taken: Arc<Taken>) -> io::Result<Self> {
        let bound = match socket.local_addr()?.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                To::EveryAddress { control: RefCell::new(cmsg_space!(in_pktinfo)) }
            }
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                To::EveryAddress { control: RefCell::new(cmsg_space!(in6_pktinfo)) }
            }
            IpAddr::V4(_) | IpAddr::V6(_) => To::OneAddress,
        };
        Ok(Self { socket: UdpSocket::from_std(socket)?, bound, _taken: taken })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Receives one datagram: its length and origin.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Origin)> {
        match &self.bound {
            To::OneAddress => {
                let (length, client) = self.socket.try_recv_from(buffer)?;
                Ok((length, Origin { client, local: None }))
            }
            To::EveryAddress { control } => self.socket.try_io(Interest::READABLE, || {
                receive_with_address(&self.socket, buffer, &mut control.borrow_mut())
            }),
        }
    }

    /// Sends one datagram to where `origin` came from.
    pub(super) async fn reply(&self, bytes: &[u8], origin: &Origin) -> io::Result<()> {
        match origin.local {
            None => self.socket.send_to(bytes, origin.client).await.map(|_| ()),
            Some(local) => {
                let send = || send_from(&self.socket, bytes, origin.client, local);
                self.socket.async_io(Interest::WRITABLE, send).await
            }
        }
    }
}

fn receive_with_address(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut Vec<u8>,
) -> io::Result<(usize, Origin)> {
    let room = control.capacity();
    control.resize(room, 0);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), flags)?;
    let client = message.address.as_ref().and_then(internet_address);
    let client = client.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    let local = message.cmsgs()?.find_map(|control| {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = control {
            // The address of this host, also for a datagram that was sent to a broadcast address.
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        } else if let ControlMessageOwned::Ipv6PacketInfo(info) = control {
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        } else {
            None
        }
    });
    Ok((message.bytes, Origin { client, local }))
}

fn internet_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|&v6| SocketAddr::V6(v6.into())))
}

fn send_from(
    socket: &UdpSocket,
    bytes: &[u8],
    client: SocketAddr,
    local: IpAddr,
) -> io::Result<()> {
    let to = SockaddrStorage::from(client);
    let (v4, v6);
    let control = match local {
        IpAddr::V4(address) => {
            let source = in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
            let any = in_addr { s_addr: 0 };
            v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: any };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(address) => {
            let source = in6_addr { s6_addr: address.octets() };
            v6 = in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    let flags = MsgFlags::MSG_DONTWAIT;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], &[control], flags, Some(&to))?;
    Ok(())
}
