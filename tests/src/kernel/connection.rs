//! One flow from both its ends: what client and server send, and what has to come of it.

use std::net::SocketAddr;

use deston_common::flow::FlowKey;
use deston_common::net::{Be16, Ipv6Be};

use super::seed::{BALANCER_TO_SERVERS_MAC, server_mac};
use crate::packet::{BALANCER_MAC, CLIENT_MAC, Packet, Tag, flags};

/// The client's initial sequence number.
pub const CLIENT_ISN: u32 = 1_000;
/// The server's initial sequence number.
pub const SERVER_ISN: u32 = 5_000;

/// A flow of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client.
    pub client: SocketAddr,
    /// Where it connects to.
    pub listener: SocketAddr,
    /// Where the server sees it come from: a SNAT address and port, or the client's own.
    pub source: SocketAddr,
    /// The server's address and port.
    pub server: SocketAddr,
    /// The server's number.
    pub number: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Tags of the client's packets.
    pub tags: Vec<Tag>,
    /// Tags on the way to the server.
    pub server_tags: Vec<Tag>,
}

impl Connection {
    /// The client's packet with these flags: a SYN with the initial number, others with the next
    /// numbers of both sides.
    pub fn from_client(&self, flags: u8) -> Packet {
        let packet = Packet::tcp(self.client, self.listener, flags).tags(&self.tags);
        if flags & (flags::SYN | flags::ACK) == flags::SYN {
            packet.seq(CLIENT_ISN).ack(0)
        } else {
            packet.seq(CLIENT_ISN + 1).ack(SERVER_ISN + 1)
        }
    }

    /// The server's packet with these flags: a SYN-ACK with the initial number, others with the
    /// next.
    pub fn from_server(&self, flags: u8) -> Packet {
        let seq = if flags & flags::SYN != 0 { SERVER_ISN } else { SERVER_ISN + 1 };
        let packet = Packet::tcp(self.server, self.source, flags).seq(seq).ack(CLIENT_ISN + 1);
        self.by_server(packet)
    }

    /// The client's datagram.
    pub fn query(&self, payload: &[u8]) -> Packet {
        Packet::udp(self.client, self.listener, payload).tags(&self.tags)
    }

    /// The server's datagram.
    pub fn response(&self, payload: &[u8]) -> Packet {
        self.by_server(Packet::udp(self.server, self.source, payload))
    }

    /// `packet` with the Ethernet header of the server's side.
    pub fn by_server(&self, packet: Packet) -> Packet {
        Packet {
            source_mac: server_mac(self.number),
            destination_mac: BALANCER_TO_SERVERS_MAC,
            tags: self.server_tags.clone(),
            ..packet
        }
    }

    /// What a client's packet has to be when it is sent to the server.
    pub fn to_server(&self, packet: &Packet) -> Packet {
        Packet {
            source_mac: BALANCER_TO_SERVERS_MAC,
            destination_mac: server_mac(self.number),
            tags: self.server_tags.clone(),
            source: with_port_of(self.source, packet.source),
            destination: with_port_of(self.server, packet.destination),
            ttl: packet.ttl - 1,
            ..packet.clone()
        }
    }

    /// What a server's packet has to be when it is sent to the client.
    pub fn to_client(&self, packet: &Packet) -> Packet {
        Packet {
            source_mac: BALANCER_MAC,
            destination_mac: CLIENT_MAC,
            tags: self.tags.clone(),
            source: with_port_of(self.listener, packet.source),
            destination: with_port_of(self.client, packet.destination),
            ttl: packet.ttl - 1,
            ..packet.clone()
        }
    }

    /// Key of its flow entry.
    pub fn key(&self) -> FlowKey<Ipv6Be> {
        FlowKey::new(end(self.client), end(self.listener), self.protocol)
    }

    /// Key of its reply entry.
    pub fn reply_key(&self) -> FlowKey<Ipv6Be> {
        FlowKey::new(end(self.server), end(self.source), self.protocol)
    }
}

/// An end as flow keys have it.
fn end(address: SocketAddr) -> (Ipv6Be, Be16) {
    (address.ip().into(), Be16::from_host(address.port()))
}

/// `end`, but without a port for a packet that has none (a later fragment).
fn with_port_of(end: SocketAddr, packets: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip(), if packets.port() == 0 { 0 } else { end.port() })
}
