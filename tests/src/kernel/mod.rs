//! The kernel ring: the checked-in programs, loaded and run on single packets.

mod contents;
mod loan;

use std::net::{Ipv4Addr, SocketAddrV4};

use deston::datapath::{Action, Ran};
use deston_common::flow::FlowEntry;
use deston_common::listener::{FlowTimeouts, ListenerEntry, ListenerKey};
use deston_common::net::{Be16, Mac, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerEntry, ServerId, ServerState};
use deston_common::table::{Member, Table};
use deston_common::{hash, sequence};

use crate::packet::Packet;
pub use loan::Loan;

/// Address clients connect to.
pub const LISTENER: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 10), 80);
/// Address packets to servers come from.
pub const SNAT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Ethernet address of the balancer towards servers.
pub const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xb];
/// An interface that exists in every namespace: the loopback.
pub const IFINDEX: u32 = 1;

/// Flows that a lab has room for.
pub const FLOWS: u32 = 4_096;

const SECOND: u64 = 1_000_000_000;

/// The timeouts of sample configurations.
pub const TIMEOUTS: FlowTimeouts = FlowTimeouts {
    tcp_syn_ns: 20 * SECOND,
    tcp_established_ns: 7_200 * SECOND,
    tcp_fin_ns: 30 * SECOND,
    tcp_rst_ns: 5 * SECOND,
    udp_one_way_ns: 30 * SECOND,
    udp_two_way_ns: 180 * SECOND,
};

/// Whether kernel specs can run: root is needed. Says why not, and fails where a skip must not be.
pub fn available(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let required = std::env::var_os("DESTON_REQUIRE_KERNEL").is_some_and(|value| value == "1");
        assert!(!required, "{test} needs root, and DESTON_REQUIRE_KERNEL=1 forbids to skip it");
        println!("skipped: {test} needs root to load programs into the kernel");
    }
    root
}

/// Skips a kernel spec, by name and with a reason, where the kernel cannot be had.
#[macro_export]
macro_rules! require_kernel {
    () => {
        if !$crate::kernel::available(&$crate::kernel::test_name()) {
            return;
        }
    };
}

/// The name of the running test: the test runner names its threads so.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a kernel spec").to_owned()
}

/// A balancer with one listener and one pool, attached to nothing.
pub struct Lab {
    /// The programs.
    pub kernel: Loan,
    counted: [u64; Outcome::COUNT as usize],
}

/// The address of the `n`th server, from 1.
pub fn server_address(n: u16) -> SocketAddrV4 {
    let [high, low] = n.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(198, 51, high + 100, low), 8_000)
}

/// The Ethernet address of the `n`th server's next hop.
pub fn server_mac(n: u16) -> [u8; 6] {
    let [high, low] = n.to_be_bytes();
    [2, 0, 0, 1, high, low]
}

/// Members as `control` would make them.
pub fn members(ids: impl IntoIterator<Item = (u16, u16)>) -> Vec<Member> {
    ids.into_iter()
        .map(|(n, weight)| Member {
            id: ServerId(n),
            identity: hash::siphash13(hash::Seed::default(), n.into(), 7),
            weight,
        })
        .collect()
}

impl Lab {
    /// A TCP and UDP listener with `servers` servers in round robin, 1,000 flows each.
    pub fn new(servers: u16) -> Self {
        Self::with_limit(servers, 1_000)
    }

    /// The same with another `max_connections`.
    pub fn with_limit(servers: u16, max_connections: u32) -> Self {
        let mut kernel = Loan::new(FLOWS);
        for n in 1..=servers {
            kernel.put_server(ServerId(n), &server_entry(n, max_connections)).unwrap();
        }
        let mut table = Box::new(Table::EMPTY);
        sequence::fill(&mut table, &members((1..=servers).map(|n| (n, 1)))).unwrap();
        kernel.put_table(0, &table).unwrap();
        for protocol in [TCP, UDP] {
            kernel.put_listener(&listener_key(protocol), &listener_entry()).unwrap();
        }
        let counted = kernel.outcomes().unwrap();
        Self { kernel, counted }
    }

    /// Runs one packet.
    pub fn send(&mut self, packet: &Packet) -> Ran {
        self.send_bytes(&packet.bytes())
    }

    /// Runs one packet given as bytes.
    pub fn send_bytes(&mut self, packet: &[u8]) -> Ran {
        self.kernel.run(packet, 1).unwrap()
    }

    /// Runs one packet that must be forwarded, and returns the server it went to.
    pub fn server_of(&mut self, packet: &Packet) -> u16 {
        let ran = self.send(packet);
        assert_eq!(ran.action, Action::Redirect);
        u16::from_be_bytes([ran.packet[32] - 100, ran.packet[33]])
    }

    /// The one flow there is.
    pub fn only_flow(&self) -> FlowEntry {
        let flows: Vec<_> = self.kernel.flows().collect();
        assert_eq!(flows.len(), 1, "{flows:?}");
        flows[0]
    }

    /// Asserts the outcomes since the last call: these, and no others.
    #[track_caller]
    pub fn assert_outcomes(&mut self, expected: &[(Outcome, u64)]) {
        let now = self.kernel.outcomes().unwrap();
        let seen: Vec<(Outcome, u64)> = Outcome::ALL
            .into_iter()
            .zip(now.iter().zip(self.counted).map(|(now, before)| now - before))
            .filter(|(_, delta)| *delta > 0)
            .collect();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(seen, expected);
        self.counted = now;
    }
}

/// Key of the lab's listener.
pub fn listener_key(protocol: u8) -> ListenerKey {
    ListenerKey { address: LISTENER.0.into(), port: Be16::from_host(LISTENER.1), protocol, pad: 0 }
}

/// The lab's listener.
pub fn listener_entry() -> ListenerEntry {
    ListenerEntry {
        pool: 0,
        open: 1,
        snat_port_min: 10_240,
        snat_port_max: 32_767,
        timeouts: TIMEOUTS,
        ..ListenerEntry::default()
    }
}

/// The `n`th server.
pub fn server_entry(n: u16, max_connections: u32) -> ServerEntry {
    let address = server_address(n);
    ServerEntry {
        address: (*address.ip()).into(),
        snat_address: SNAT.into(),
        port: Be16::from_host(address.port()),
        state: ServerState::Active as u8,
        reachable: 1,
        max_connections,
        ifindex: IFINDEX,
        source_mac: Mac::from_octets(SOURCE_MAC),
        next_hop_mac: Mac::from_octets(server_mac(n)),
    }
}
