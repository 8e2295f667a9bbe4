//! What a lab's maps hold at first.

use deston::datapath::Hook;
use deston_common::flow;
use deston_common::hash;
use deston_common::hop::Hop;
use deston_common::listener::{FlowTimeouts, ListenerEntry, flags};
use deston_common::net::{Be16, Mac};
use deston_common::server::{ServerEntry, ServerId, ServerState};
use deston_common::table::Member;

use super::{Family, SECOND, Setting};

/// Ethernet address of the balancer towards servers.
pub const BALANCER_TO_SERVERS_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xb];
/// An interface that exists in every namespace: the loopback.
pub const IFINDEX: u32 = 1;
/// Ports towards servers.
pub const SNAT_PORTS: std::ops::RangeInclusive<u16> = 10_240..=32_767;
/// Number of the lab's TCP listener.
pub const TCP_LISTENER: u32 = 1;
/// Number of the lab's UDP listener.
pub const UDP_LISTENER: u32 = 2;

/// The timeouts of sample configurations.
pub const TIMEOUTS: FlowTimeouts = FlowTimeouts {
    tcp_syn_ns: 20 * SECOND,
    tcp_established_ns: 7_200 * SECOND,
    tcp_fin_ns: 30 * SECOND,
    tcp_rst_ns: 5 * SECOND,
    udp_one_way_ns: 30 * SECOND,
    udp_two_way_ns: 180 * SECOND,
};

/// The lab's listener, open at a hook: nat with the server's own SNAT address.
pub fn listener_entry(hook: Hook) -> ListenerEntry {
    let at_tc = match hook {
        Hook::Xdp => 0,
        Hook::Tc => flags::TC,
    };
    ListenerEntry {
        number: TCP_LISTENER,
        flags: flags::OPEN | at_tc,
        pool: 0,
        snat_port_min: *SNAT_PORTS.start(),
        snat_port_max: *SNAT_PORTS.end(),
        timeouts: TIMEOUTS,
        ..ListenerEntry::default()
    }
}

/// The `n`th server.
pub fn server_entry(family: Family, n: u16, max_connections: u32) -> ServerEntry {
    let address = family.server(n);
    ServerEntry {
        address: address.ip().into(),
        snat_address: family.snat(1).into(),
        hop: server_hop(n),
        max_connections,
        weight: 1,
        port: Be16::from_host(address.port()),
        state: ServerState::Active as u8,
        reachable: 1,
        on_down: 0,
        pad: 0,
    }
}

/// The way to the `n`th server: no limit of length, no tags.
pub fn server_hop(n: u16) -> Hop {
    Hop {
        ifindex: IFINDEX,
        source_mac: Mac::from_octets(BALANCER_TO_SERVERS_MAC),
        next_hop_mac: Mac::from_octets(server_mac(n)),
        ..Hop::default()
    }
}

/// The Ethernet address of the `n`th server's next hop.
pub fn server_mac(n: u16) -> [u8; 6] {
    let [high, low] = n.to_be_bytes();
    [2, 0, 0, 1, high, low]
}

/// Members as `control` would make them: identifiers and weights.
pub fn members(ids: impl IntoIterator<Item = (u16, u16)>) -> Vec<Member> {
    ids.into_iter()
        .map(|(n, weight)| Member {
            id: ServerId(n),
            identity: hash::siphash13(hash::Seed::default(), n.into(), 7),
            weight,
        })
        .collect()
}

impl Setting {
    /// The bit that flow entries of this setting's hook carry.
    pub fn flow_flag(self) -> u16 {
        match self.hook {
            Hook::Xdp => 0,
            Hook::Tc => flow::flags::TC,
        }
    }
}
