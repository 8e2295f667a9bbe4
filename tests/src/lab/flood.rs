//! A flood of SYNs from forged addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Namespace;
use crate::packet::{Packet, flags};

/// SYNs sent by raw sockets of the client's host, each from another address and port; the answers
/// reach nobody.
pub struct SynFlood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SynFlood {
    /// Starts a flood of `count` SYNs.
    pub fn start(client: &Namespace, to: SocketAddr, count: u64) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sending, stopping) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = client.spawn(move || {
            let (socket, to_host) = raw_socket(to);
            let mut syn = Syn::new(to);
            for number in 0..count {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                // A full queue of the interface loses one, as a flood may.
                if socket.send_to(syn.number(number), &to_host).is_ok() {
                    sending.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// SYNs sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether all are sent.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that takes whole IP packets (raw(7), IPPROTO_RAW), and where it sends them.
fn raw_socket(to: SocketAddr) -> (Socket, SockAddr) {
    const IPPROTO_RAW: i32 = 255;
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW))).unwrap();
    // A raw socket has no port; IPv6 refuses one.
    (socket, SocketAddr::new(to.ip(), 0).into())
}

/// A SYN as bytes, whose source changes while its checksum stays.
struct Syn {
    packet: Vec<u8>,
    /// Where the source address's last two bytes are.
    address: usize,
    /// Where the TCP header is.
    transport: usize,
}

impl Syn {
    fn new(to: SocketAddr) -> Self {
        let from = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::new(192, 0, 2, 0)),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0)),
        };
        let syn = Packet::tcp((from, 0), to, flags::SYN).seq(0).tcp_options(&[2, 4, 5, 180]);
        let packet = syn.ip_bytes();
        let (address, transport) = if to.is_ipv4() { (14, 20) } else { (22, 40) };
        Self { packet, address, transport }
    }

    /// The SYN with a number: 65,536 of them differ in the port, the others in the address.
    fn number(&mut self, number: u64) -> &[u8] {
        let (port, host) = (number as u16, (number >> 16) as u16 & 0xff);
        let at = self.address;
        let before = u16::from_be_bytes([self.packet[at], self.packet[at + 1]]);
        let address = (before & 0xff00) | host;
        self.packet[at..at + 2].copy_from_slice(&address.to_be_bytes());
        let at = self.transport;
        self.packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
        // A half of the sequence number takes back what both add to the sum (RFC 1071).
        let sum = u32::from(port) + u32::from(host);
        let balance = !(((sum & 0xffff) + (sum >> 16)) as u16);
        self.packet[at + 4..at + 6].copy_from_slice(&balance.to_be_bytes());
        &self.packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{internet_checksum, protocol};

    #[test]
    fn every_syn_of_a_flood_has_a_right_checksum() {
        let to = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 8_000));
        let mut syn = Syn::new(to);
        for number in [0, 1, 65_535, 65_536, 1_000_000] {
            let packet = syn.number(number);
            let mut covered = packet[12..20].to_vec();
            covered.extend([0, protocol::TCP, 0, (packet.len() - 20) as u8]);
            covered.extend(&packet[20..]);
            assert_eq!(internet_checksum(&covered), 0, "number {number}");
        }
    }
}
