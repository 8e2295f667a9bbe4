//! The namespace lab: a client, a balancer and servers, each a host of its own with real sockets.
//!
//! ```text
//!   client              balancer                 server n
//!   198.51.100.2 ------ 198.51.100.1
//!   2001:db8:c::2 ----- 2001:db8:c::1
//!                       203.0.113.(16n+1) ------ 203.0.113.(16n+2)
//!                       2001:db8:5:n::1 -------- 2001:db8:5:n::2
//! ```
//! Servers have no route to the client: a reply can only come back through the balancer, unless a
//! spec gives them another way ([`Lab::join_direct`]). Everything a lab made goes with it.

mod beyond;
pub mod body;
mod config;
mod counters;
mod flood;
mod flow_record;
mod foreign;
mod frames;
mod load;
mod load_of_both;
mod namespace;
mod process;
mod server;
mod trunk;
mod tunnel;
mod tunnel_device;
mod udp;
pub mod visit;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

pub use beyond::{Beyond, SHORT_MTU};
pub use config::Config;
pub use counters::{checksum_errors, reassembled, received, resets_received, retransmitted};
pub use flood::{Attacker, SynFlood};
pub use flow_record::{EndedFlow, ListedFlow};
pub use foreign::put_another_program;
pub use frames::packet_socket;
pub use load::{Echoes, Lost, Visit, Visits};
pub use load_of_both::{LoadOfBoth, config_of_both, servers_of_both};
pub use namespace::Namespace;
pub use process::{Deston, pause, wait_long_until, wait_until};
pub use server::TcpServer;
pub use trunk::{Trunk, tagged_client};
pub use tunnel::TunnelEnd;
pub use tunnel_device::FarEnd;
pub use udp::UdpServer;
pub use wire::Sent;

use crate::kernel::Family;

/// Address of the balancer towards the client, where listeners are.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Address of the client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The balancer's IPv6 address towards the client.
pub const BALANCER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);
/// The client's IPv6 address.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2);

/// What the ends of links leave to their interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// The far ends write checksums themselves and poll, as native XDP on veth needs it. Whoever
    /// gets a packet verifies its checksum.
    Xdp,
    /// The far ends leave checksums and segmentation to their interfaces; the balancer's own
    /// interfaces do neither, so that its stack completes both before a packet leaves. Whoever gets
    /// a packet verifies its checksum.
    Completed,
    /// Everything is left to interfaces, everywhere: segments of 64 kB travel whole, and nobody
    /// verifies a checksum.
    Offloaded,
}

/// Hosts and the links between them.
pub struct Lab {
    /// The client's host.
    pub client: Namespace,
    /// The balancer's host.
    pub balancer: Namespace,
    /// The servers' hosts.
    pub servers: Vec<Namespace>,
    links: Links,
}

impl Lab {
    /// A lab with `servers` servers, at most 15. Native XDP works in it.
    pub fn new(servers: u8) -> Self {
        Self::with(servers, Links::Xdp)
    }

    /// A lab with other links.
    pub fn with(servers: u8, links: Links) -> Self {
        let lab = Self {
            client: Namespace::new("client"),
            balancer: Namespace::new("balancer"),
            servers: (1..=servers).map(|n| Namespace::new(&format!("server{n}"))).collect(),
            links,
        };
        lab.join_client();
        for n in 1..=servers {
            lab.join(n);
        }
        lab
    }

    /// Links the client to the balancer.
    pub fn join_client(&self) {
        let theirs = [format!("{CLIENT}/24"), format!("{CLIENT6}/64")];
        let ours = [format!("{BALANCER}/24"), format!("{BALANCER6}/64")];
        self.client.link_all("eth0", &theirs, &self.balancer, "clients", &ours);
        self.tune(&self.client, "clients");
    }

    /// Links the `n`th server, from 1, to the balancer.
    pub fn join(&self, n: u8) {
        let (server, device) = (self.server(n), format!("server{n}"));
        let [theirs4, theirs6] = Family::BOTH.map(|family| server_of(family, n));
        let [ours4, ours6] = Family::BOTH.map(|family| gateway_of(family, n));
        let theirs = [format!("{theirs4}/28"), format!("{theirs6}/64")];
        let ours = [format!("{ours4}/28"), format!("{ours6}/64")];
        server.link_all("eth0", &theirs, &self.balancer, &device, &ours);
        self.tune(server, &device);
    }

    /// Gives the `n`th server a way to the client past the balancer, for direct return.
    pub fn join_direct(&self, n: u8) {
        let (server, device) = (self.server(n), format!("direct{n}"));
        let [via4, via6] = [format!("192.0.2.{}", 16 * n + 1), format!("2001:db8:d:{n}::1")];
        let theirs = [format!("192.0.2.{}/28", 16 * n + 2), format!("2001:db8:d:{n}::2/64")];
        let ours = [format!("{via4}/28"), format!("{via6}/64")];
        server.link_all("direct", &theirs, &self.client, &device, &ours);
        server.batch(&[
            format!("route add {CLIENT}/32 via {via4}"),
            format!("route add {CLIENT6}/128 via {via6}"),
        ]);
    }

    /// Gives the `n`th server a listener's address, of which it does not tell its neighbours.
    pub fn share_address(&self, n: u8, listener: IpAddr) {
        let server = self.server(n);
        server.set("net/ipv4/conf/all/arp_ignore", "1");
        server.set("net/ipv4/conf/all/arp_announce", "2");
        let bits = if listener.is_ipv4() { 32 } else { 128 };
        server.address("lo", &format!("{listener}/{bits}"));
    }

    /// The `n`th server's host, from 1.
    pub fn server(&self, n: u8) -> &Namespace {
        &self.servers[usize::from(n) - 1]
    }

    /// Every host.
    pub fn hosts(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.balancer].into_iter().chain(&self.servers)
    }

    /// Wrong checksums that the client and the servers have met.
    pub fn checksum_errors(&self) -> u64 {
        self.hosts().map(checksum_errors).sum()
    }

    fn tune(&self, far: &Namespace, ours: &str) {
        match self.links {
            Links::Xdp => far.tune("eth0", &["tx", "off", "gro", "on"]),
            Links::Completed => {
                self.balancer.tune(ours, &["tx", "off", "tso", "off", "gso", "on"]);
            }
            Links::Offloaded => {}
        }
    }
}

/// Address of the `n`th server's host, from 1.
pub fn server_address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 16 * n + 2)
}

/// The same in a family.
pub fn server_of(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => server_address(n).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 5, n.into(), 0, 0, 0, 2).into(),
    }
}

/// The balancer's address on the `n`th server's link.
pub fn gateway_of(family: Family, n: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 16 * n + 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 5, n.into(), 0, 0, 0, 1).into(),
    }
}

/// A listener address on the balancer.
pub fn listener(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(BALANCER, port))
}

/// The same in a family.
pub fn listener_of(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => (BALANCER, port).into(),
        Family::V6 => (BALANCER6, port).into(),
    }
}

/// Skips a lab spec, by name and with a reason, where it cannot run.
#[macro_export]
macro_rules! require_lab {
    () => {
        $crate::require_kernel!()
    };
}
