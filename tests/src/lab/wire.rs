//! The IP packets that a host has sent, as it handed them to its interfaces: what the balancer must
//! have counted, known without it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::Namespace;

/// Listens to what a host sends from its making on.
pub struct Sent {
    socket: Socket,
}

/// A protocol, and from where to where packets were sent.
type Tuple = (&'static str, SocketAddr, SocketAddr);

impl Sent {
    /// By every interface of a host.
    pub fn by(host: &Namespace) -> Self {
        let socket = host.within(|| {
            // Packets without their Ethernet header. What leaves is shown only to those that ask for
            // every protocol (packet(7)).
            let every = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            Socket::new(Domain::PACKET, Type::DGRAM, Some(every)).unwrap()
        });
        // Room for all that a spec sends before it is read.
        socket.set_recv_buffer_size(4 << 20).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    /// Bytes of the IP packets so far, headers included. Packets that came in are among them; their
    /// tuples say so.
    pub fn bytes(mut self) -> BTreeMap<Tuple, u64> {
        let mut bytes = BTreeMap::new();
        let mut buffer = vec![0; 1 << 17];
        while let Ok(length) = self.socket.read(&mut buffer) {
            if let Some(tuple) = tuple(&buffer[..length]) {
                *bytes.entry(tuple).or_default() += length as u64;
            }
        }
        bytes
    }
}

fn tuple(packet: &[u8]) -> Option<Tuple> {
    let headers = PacketHeaders::from_ip_slice(packet).ok()?;
    let (protocol, from, to) = match headers.transport? {
        TransportHeader::Tcp(tcp) => ("tcp", tcp.source_port, tcp.destination_port),
        TransportHeader::Udp(udp) => ("udp", udp.source_port, udp.destination_port),
        TransportHeader::Icmpv4(_) | TransportHeader::Icmpv6(_) | TransportHeader::Igmp(_) => {
            return None;
        }
    };
    match headers.net? {
        NetHeaders::Ipv4(ip, _) => {
            Some((protocol, (ip.source, from).into(), (ip.destination, to).into()))
        }
        NetHeaders::Ipv6(ip, _) => {
            Some((protocol, (ip.source, from).into(), (ip.destination, to).into()))
        }
        NetHeaders::Arp(_) => None,
    }
}
