//! A flood of SYNs from forged addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::{Lab, Namespace, packet_socket, pause};
use crate::packet::{ETHERNET, Packet, flags};

/// SYNs a second, at most. A machine that cannot carry so many gets fewer.
const RATE: u32 = 50_000;

/// SYNs sent at once, a millisecond's worth.
const BURST: u32 = RATE / 1_000;

/// How long one burst is before the next.
const INTERVAL: Duration = Duration::from_millis(1);

/// How much of the time that others had the processor is made up for: a few bursts fit the queue.
const SLACK: Duration = Duration::from_millis(4);

/// A host of strangers, with a link of its own to the balancer.
///
/// By the clients' link it would fight them for one queue: what that has no room for is lost before
/// any program sees it, and a client whose own interface takes nothing for some seconds gives its
/// connection up.
pub struct Attacker {
    host: Namespace,
    balancer: [u8; 6],
}

impl Attacker {
    /// The balancer's interface to it; a listener has to name it in `interfaces`.
    pub const DEVICE: &str = "attacker";

    /// Links an attacker to the balancer.
    pub fn new(lab: &Lab) -> Self {
        let host = Namespace::new("attacker");
        // No address: its packets' sources are forged, and the answers go back as they came.
        host.link_all::<&str>("eth0", &[], &lab.balancer, Self::DEVICE, &[]);
        lab.tune(&host, Self::DEVICE);
        Self { host, balancer: lab.balancer.within(|| mac(Self::DEVICE)) }
    }

    /// Starts a flood of `count` SYNs, each from another address and port.
    pub fn flood(&self, to: SocketAddr, count: u64) -> SynFlood {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sending, stopping) = (Arc::clone(&sent), Arc::clone(&stop));
        let syn = Syn::new(to, self.balancer);
        let thread =
            self.host.spawn(move || send(&packet_socket("eth0"), syn, count, &sending, &stopping));
        SynFlood { sent, stop, thread: Some(thread) }
    }
}

/// Sends SYNs at the rate.
fn send(socket: &Socket, mut syn: Syn, count: u64, sent: &AtomicU64, stop: &AtomicBool) {
    let mut due = Instant::now();
    for number in 0..count {
        if number.is_multiple_of(BURST.into()) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let now = Instant::now();
            pause(due.saturating_duration_since(now));
            due = due.max(now - SLACK) + INTERVAL;
        }
        while socket.send(syn.number(number)).is_err() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // The other end's queue is full.
            pause(INTERVAL);
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// A flood that goes on; it ends when dropped.
pub struct SynFlood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SynFlood {
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

/// The Ethernet address of an interface of this namespace.
fn mac(interface: &str) -> [u8; 6] {
    let addresses = nix::ifaddrs::getifaddrs().unwrap();
    let mut of_link = addresses.filter(|address| address.interface_name == interface);
    of_link.find_map(|address| address.address?.as_link_addr()?.addr()).unwrap()
}

/// A SYN's frame, whose source changes while its checksums stay.
struct Syn {
    frame: Vec<u8>,
    /// Where the source address's last two bytes are.
    address: usize,
    /// Where the TCP header is.
    transport: usize,
    /// IPv4: where the identification is, which takes part in the header's checksum.
    identification: Option<usize>,
}

impl Syn {
    fn new(to: SocketAddr, balancer: [u8; 6]) -> Self {
        let from = match to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::new(192, 0, 2, 0)),
            SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0)),
        };
        let syn = Packet::tcp((from, 0), to, flags::SYN).seq(0).tcp_options(&[2, 4, 5, 180]);
        let syn = Packet { destination_mac: balancer, id: 0, ..syn };
        let at = ETHERNET;
        let (address, transport, identification) = match to {
            SocketAddr::V4(_) => (at + 14, at + 20, Some(at + 4)),
            SocketAddr::V6(_) => (at + 22, at + 40, None),
        };
        Self { frame: syn.bytes(), address, transport, identification }
    }

    /// The SYN with a number: 65,536 of them differ in the port, the others in the address.
    fn number(&mut self, number: u64) -> &[u8] {
        let (port, host) = (number as u16, (number >> 16) as u8);
        self.frame[self.address + 1] = host;
        self.put(self.transport, port);
        // Others take back what these add to a sum (RFC 1071): a half of the sequence number, and
        // the identification.
        self.put(self.transport + 4, balance(&[port, host.into()]));
        if let Some(at) = self.identification {
            self.put(at, balance(&[host.into()]));
        }
        &self.frame
    }

    fn put(&mut self, at: usize, word: u16) {
        self.frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }
}

/// What makes these words add up to nothing.
fn balance(words: &[u16]) -> u16 {
    let sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::oracle;

    #[test]
    fn every_syn_of_a_flood_has_right_checksums() {
        for to in ["198.51.100.1:8000", "[2001:db8:c::1]:8000"] {
            let mut syn = Syn::new(to.parse().unwrap(), [2; 6]);
            for number in [0, 1, 65_535, 65_536, 1_000_000] {
                oracle::verify(syn.number(number)).unwrap_or_else(|e| panic!("{number}: {e}"));
            }
        }
    }
}
