//! The namespace lab: a client, a balancer and servers, each a host of its own with real sockets.
//!
//! ```text
//!   client            balancer               server n
//!   198.51.100.2 ---- 198.51.100.1
//!   2001:db8::2       2001:db8::1
//!                     203.0.113.(16n+1) ---- 203.0.113.(16n+2)
//!                     2001:db8:0:n::1        2001:db8:0:n::2
//! ```
//! Servers have no route to the client: a reply can only come back through the balancer. Everything
//! a lab made goes with it.

mod instance;
mod namespace;
mod process;
mod server;
pub mod visit;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

pub use instance::Instance;
pub use namespace::Namespace;
pub use process::{Deston, pause, wait_until};
pub use server::{TcpServer, UdpServer};

/// Address of the balancer towards the client, where listeners are.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Address of the client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// IPv6 address of the balancer towards the client.
pub const BALANCER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Hosts and the links between them.
pub struct Lab {
    /// The client's host.
    pub client: Namespace,
    /// The balancer's host.
    pub balancer: Namespace,
    /// The servers' hosts.
    pub servers: Vec<Namespace>,
}

impl Lab {
    /// A lab with `servers` servers, at most 15. Native XDP works in it: the far end of every link
    /// has transmit checksums off and GRO on.
    pub fn new(servers: u8) -> Self {
        let lab = Self {
            client: Namespace::new("client"),
            balancer: Namespace::new("balancer"),
            servers: (1..=servers).map(|n| Namespace::new(&format!("server{n}"))).collect(),
        };
        lab.join_client();
        for n in 1..=servers {
            lab.join(n);
        }
        lab
    }

    /// Links the client to the balancer.
    pub fn join_client(&self) {
        let address = format!("{CLIENT}/24");
        self.client.link("eth0", &address, &self.balancer, "clients", "198.51.100.1/24");
        self.client.add_address("eth0", "2001:db8::2/64");
        self.balancer.add_address("clients", &format!("{BALANCER6}/64"));
        tune(&self.client);
    }

    /// Links the `n`th server, from 1, to the balancer.
    pub fn join(&self, n: u8) {
        let server = &self.servers[usize::from(n) - 1];
        let theirs = format!("{}/28", server_address(n));
        let ours = format!("203.0.113.{}/28", 16 * n + 1);
        let device = format!("server{n}");
        server.link("eth0", &theirs, &self.balancer, &device, &ours);
        server.add_address("eth0", &format!("{}/64", server_address6(n)));
        self.balancer.add_address(&device, &format!("2001:db8:0:{n:x}::1/64"));
        tune(server);
    }
}

fn tune(host: &Namespace) {
    host.run(&["ethtool", "-K", "eth0", "tx", "off", "gro", "on"]);
}

/// Address of the `n`th server's host, from 1.
pub fn server_address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 16 * n + 2)
}

/// IPv6 address of the `n`th server's host, from 1.
pub fn server_address6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, n.into(), 0, 0, 0, 2)
}

/// An IPv6 listener address on the balancer.
pub fn listener6(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(BALANCER6), port)
}

/// A listener address on the balancer.
pub fn listener(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(BALANCER, port))
}

/// Skips a lab spec, by name and with a reason, where it cannot run.
#[macro_export]
macro_rules! require_lab {
    () => {
        $crate::require_kernel!()
    };
}
