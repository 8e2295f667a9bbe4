//! dsr-ipip to the end of the tunnel: what the programs wrap, a server's own stack takes out and
//! answers.
//!
//! Frames that left a test run go by a veth pair to a host whose tunnel ends in the kernel's `ipip`
//! or `ip6tnl` device where `DESTON_TUNNEL_DEVICES=1` says that it has them (`cargo xtask vm` does),
//! and in a program elsewhere.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{BALANCER_TO_SERVERS_MAC, Family, Lab, Setting, each, server_mac};
use deston_tests::lab::{FarEnd, Namespace, UdpServer, packet_socket, pause, received};
use deston_tests::require_kernel;

/// An answer that takes longer does not come.
const LIMIT: Duration = Duration::from_secs(20);

/// The link by which the balancer's frames come, named as each end sees it.
const TO_SERVERS: &str = "servers";
const OF_SERVER: &str = "eth0";

/// A host that sends what the balancer wraps and has the client's address, and a server.
struct Hosts {
    client: Namespace,
    server: Namespace,
    end: FarEnd,
    _answering: UdpServer,
}

impl Hosts {
    /// Server 1 of a lab at the end of a tunnel of the family `outer`.
    fn new(lab: &Lab, outer: Family) -> Self {
        let (client, server) = (Namespace::new("client"), Namespace::new("server"));
        let (from, to) = (lab.client(1).ip(), lab.listener_address());
        let end = outer.server(1).ip();
        // The server's end comes up last, and so is ready to answer at once.
        let [ours, theirs] = [vec![alone(from)], vec![alone(end)]];
        client.link_all(TO_SERVERS, &ours, &server, OF_SERVER, &theirs);
        let balancer = mac(BALANCER_TO_SERVERS_MAC);
        client.batch(&[format!("link set {TO_SERVERS} address {balancer}")]);
        server.address("lo", &alone(to.ip()));
        server.batch(&[
            format!("link set {OF_SERVER} address {}", mac(server_mac(1))),
            format!("route add {} dev {OF_SERVER}", alone(from)),
            format!("neighbour add {from} lladdr {balancer} dev {OF_SERVER} nud permanent"),
        ]);
        let end = FarEnd::start(&server, end);
        let _answering = UdpServer::start_at(&server, 1, to);
        Self { client, server, end, _answering }
    }

    /// Sends a frame to the server, and returns what then comes to the client.
    fn answer(&self, lab: &Lab, frame: Vec<u8>) -> Vec<u8> {
        let (client, listener) = (lab.client(1), lab.listener_address());
        self.client.within(move || {
            let socket = UdpSocket::bind(client).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let by = packet_socket(TO_SERVERS);
            while let Err(error) = by.send(&frame) {
                // The link is not quite up yet.
                let is_early = error.kind() == ErrorKind::NetworkDown
                    || error.raw_os_error() == Some(nix::libc::ENOBUFS);
                assert!(is_early, "{error}");
                pause(Duration::from_millis(1));
            }
            let mut answer = vec![0; 2_000];
            let (length, from) = socket.recv_from(&mut answer).expect("an answer");
            assert_eq!(from, listener);
            answer.truncate(length);
            answer
        })
    }
}

/// An address without a network.
fn alone(address: std::net::IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// Datagrams of a client come to the server's socket by a tunnel of the family `outer`, and the
/// socket's answers to the client.
fn answered(setting: Setting, outer: Family) {
    let mut lab = Lab::new(setting);
    lab.forwarding(Forwarding::DsrIpip);
    lab.server(1, |entry| {
        entry.address = outer.server(1).ip().into();
        entry.snat_address = outer.snat(1).into();
    });
    let hosts = Hosts::new(&lab, outer);
    println!("{setting}, tunnel over {outer:?}: it ends in {}", hosts.end.what());
    let bodies = [b"query".to_vec(), vec![7; 1_400]];
    for body in &bodies {
        let query = lab.query(1).payload(body);
        let wrapped = lab.step(&query, Outcome::Forwarded).packet;
        let answer = hosts.answer(&lab, wrapped);
        assert!(answer == [&[1][..], body].concat(), "{setting}, over {outer:?}: another answer");
    }
    // They came out of the tunnel, and by no other way.
    let (_, packets) = received(&hosts.server, FarEnd::DEVICE);
    assert_eq!(packets, bodies.len() as u64, "{setting}, over {outer:?}");
}

#[test]
fn what_a_tunnel_carries_comes_out_at_its_end_and_is_answered() {
    require_kernel!();
    each(Setting::ALL, |setting| answered(setting, setting.family));
}

#[test]
fn ipv4_comes_out_of_a_tunnel_over_ipv6_and_is_answered() {
    require_kernel!();
    each(Setting::IPV4, |setting| answered(setting, Family::V6));
}
