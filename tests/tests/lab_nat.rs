//! Bodies through nat, both ways, with stacks that verify every checksum.

use std::net::{SocketAddr, UdpSocket};

use deston::datapath::Hook;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, datagram_echoed, echoed};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config, config_for};
use deston_tests::lab::{
    Config, Deston, Lab, Links, TcpServer, UdpServer, listener, listener_of, received, server_of,
    wait_until,
};
use deston_tests::require_lab;

/// Connections, and datagrams, of each family.
const EACH: u32 = 100;

/// A TCP and a UDP server on each server's host, of both families.
struct Servers {
    tcp: Vec<TcpServer>,
    udp: Vec<UdpServer>,
}

impl Servers {
    fn start(lab: &Lab) -> Self {
        let mut servers = Self { tcp: Vec::new(), udp: Vec::new() };
        for family in Family::BOTH {
            for (host, n) in lab.servers.iter().zip(1..) {
                let address = (server_of(family, n), 3_000).into();
                servers.tcp.push(TcpServer::start_at(host, n, address));
                servers.udp.push(UdpServer::start_at(host, n, address));
            }
        }
        servers
    }

    /// A listener of each family and protocol, each with every server of its family.
    fn config(&self, hook: Hook) -> String {
        let mut config = Config::new();
        for family in Family::BOTH {
            let of_family = |address: &SocketAddr| address.is_ipv4() == (family == Family::V4);
            let listener = listener_of(family, PORT);
            let tcp: Vec<_> = self.tcp.iter().map(TcpServer::address).filter(of_family).collect();
            let udp: Vec<_> = self.udp.iter().map(UdpServer::address).filter(of_family).collect();
            let health = NO_HEALTH.replace("load_balancer", "pool");
            for (protocol, servers) in [("tcp", tcp), ("udp", udp)] {
                let name = format!("{protocol}-{family:?}");
                let keys = format!("protocol = \"{protocol}\"");
                config =
                    config.listener(&name, hook, listener, &keys).pool(&name, &health, &servers);
            }
        }
        config.text()
    }
}

/// Sends bodies of many lengths through every listener; wrong checksums that anybody met.
fn exchange(lab: &Lab) -> u64 {
    for family in Family::BOTH {
        let to = listener_of(family, PORT);
        let answers = lab.client.within(move || {
            let tcp = (0..EACH).map(|n| {
                // From one byte to several windows.
                let length = 1 + (n * n * 13) as usize;
                echoed(to, &bytes(length, n)).unwrap()
            });
            let udp = (0..EACH).map(|n| datagram_echoed(to, &bytes(14 * n as usize, n)).unwrap());
            [tcp.collect::<Vec<_>>(), udp.collect()]
        });
        for answers in answers {
            let count = |n| answers.iter().filter(|server| **server == n).count();
            assert_eq!(count(1) + count(2), EACH as usize);
            // A client that gets a port once more keeps its server.
            assert!(count(1).abs_diff(count(2)) <= 20, "{answers:?}");
        }
    }
    lab.checksum_errors()
}

fn bodies_arrive(hook: Hook, links: Links) {
    let lab = Lab::with(2, links);
    let servers = Servers::start(&lab);
    let _deston = Deston::serving(&lab.balancer, &servers.config(hook));
    assert_eq!(exchange(&lab), 0, "wrong checksums at {hook:?}, {links:?}");
}

#[test]
fn bodies_arrive_unchanged_through_xdp() {
    require_lab!();
    bodies_arrive(Hook::Xdp, Links::Xdp);
}

#[test]
fn bodies_arrive_unchanged_through_tc() {
    require_lab!();
    bodies_arrive(Hook::Tc, Links::Xdp);
}

#[test]
fn bodies_arrive_unchanged_through_tc_where_checksums_are_completed_behind_it() {
    require_lab!();
    bodies_arrive(Hook::Tc, Links::Completed);
}

#[test]
fn checksums_that_a_client_leaves_to_its_interface_arrive_wrong_through_xdp() {
    // The control: that no wrong checksum is counted means something.
    require_lab!();
    let lab = Lab::new(1);
    lab.client.tune("eth0", &["tx", "on"]);
    let server = UdpServer::start(&lab.servers[0], 1, 0);
    let text = config("protocol = \"udp\"", NO_HEALTH, &[(server.address(), "")]);
    let _deston = Deston::serving(&lab.balancer, &text);
    lab.client.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        (0..10).for_each(|_| drop(socket.send_to(b"x", listener(PORT))));
    });
    wait_until("the server has met wrong checksums", || lab.checksum_errors() == 10);
}

/// Sends so many bytes through TC and back; the mean length of packets that arrived at the balancer
/// from the client, and at the server.
fn bulk_through_tc(setting: Setting, links: Links, length: usize) -> [u64; 2] {
    let lab = Lab::with(1, links);
    let address = (server_of(setting.family, 1), 3_000).into();
    let server = TcpServer::start_at(&lab.servers[0], 1, address);
    let text = config_for(setting, "", NO_HEALTH, &[(server.address(), "")]);
    let deston = Deston::serving(&lab.balancer, &text);
    let to = listener_of(setting.family, PORT);
    assert_eq!(lab.client.within(move || echoed(to, &bytes(length, 1)).unwrap()), 1);
    assert_eq!(lab.checksum_errors(), 0);
    assert!(deston.counted(Outcome::Forwarded) >= length as u64 >> 16, "{setting}");
    assert!(deston.counted(Outcome::Replied) >= length as u64 >> 16, "{setting}");
    [(&lab.balancer, "clients"), (lab.server(1), "eth0")].map(|(host, device)| {
        let (bytes, packets) = received(host, device);
        assert!(bytes > length as u64, "{bytes} bytes, {setting}");
        bytes / packets
    })
}

#[test]
fn segments_longer_than_the_link_takes_pass_tc_whole() {
    require_lab!();
    for setting in [Setting::TC4, Setting::TC6] {
        let [before, behind] = bulk_through_tc(setting, Links::Offloaded, 100_000_000);
        assert!(before > 5_000 && behind > 5_000, "{before}, {behind} bytes a packet, {setting}");
    }
}

#[test]
fn segments_are_cut_with_right_checksums_behind_tc() {
    // The control: here the balancer's stack cuts them, as an interface would.
    require_lab!();
    for setting in [Setting::TC4, Setting::TC6] {
        let [before, behind] = bulk_through_tc(setting, Links::Completed, 50_000_000);
        assert!(before > 5_000 && behind < 1_515, "{before}, {behind} bytes a packet, {setting}");
    }
}
