//! What is not a listener's and of no flow is passed unaltered, whatever its shape.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use deston_common::address::flags::{DNAT_SERVER, SNAT};
use deston_common::globals;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Entries, Family, Lab, Setting, each, rows};
use deston_tests::packet::{Packet, Quote, flags, protocol};
use deston_tests::require_kernel;

#[test]
fn packets_to_foreign_addresses_are_passed_whatever_they_are() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (client, away) = (lab.client(1), lab.setting.family.stranger());
        let to = (away, 80);
        let tcp = Packet::tcp(client, to, flags::SYN);
        let error = tcp.unreachable(away, Quote::Bytes(8));
        let mut bad_offset = tcp.bytes();
        bad_offset[tcp.transport_at() + 12] = 0;
        let table = [
            ("a SYN", tcp.bytes()),
            ("an ACK", tcp.clone().flags(flags::ACK).bytes()),
            ("a datagram", Packet::udp(client, to, b"x").bytes()),
            ("an echo request", Packet::echo(client.ip(), away, b"x").bytes()),
            ("an error", error.bytes()),
            ("GRE", Packet::other(client.ip(), away, 47, b"x").bytes()),
            ("a tunnel", tcp.tunnelled(client.ip(), away).bytes()),
            ("a TCP header without length", bad_offset),
            ("half a UDP header", Packet::other(client.ip(), away, protocol::UDP, b"1234").bytes()),
            ("a first fragment", tcp.clone().fragment(1, 0, true).bytes()),
            ("a later fragment", tcp.later_fragment(1, 1_480, false, b"rest").bytes()),
            ("a last breath", tcp.clone().ttl(1).bytes()),
            ("no breath", tcp.clone().ttl(0).bytes()),
        ];
        let count = rows(table, |frame| lab.passes(&frame, Outcome::Unrelated));
        assert_eq!(count, 13);
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn broadcasts_and_multicasts_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let groups: [IpAddr; 2] = match setting.family {
            Family::V4 => [Ipv4Addr::BROADCAST.into(), Ipv4Addr::new(224, 0, 0, 1).into()],
            Family::V6 => {
                [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into()]
            }
        };
        for group in groups {
            lab.passes(&Packet::udp(lab.client(1), (group, 80), b"x"), Outcome::Unrelated);
        }
    });
}

#[test]
fn other_ports_of_a_listeners_address_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let address = lab.listener_address().ip();
        for port in [0, 22, 79, 81, 8_080, 20_000, 65_535] {
            let client = lab.client(1);
            lab.passes(&Packet::tcp(client, (address, port), flags::SYN), Outcome::Unrelated);
            lab.passes(&Packet::tcp(client, (address, port), flags::ACK), Outcome::Unrelated);
            lab.passes(&Packet::udp(client, (address, port), b"x"), Outcome::Unrelated);
        }
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn tcp_and_udp_listeners_are_two() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let listener = lab.listener_address();
        lab.kernel.remove_listener(listener.ip(), listener.port(), protocol::UDP).unwrap();
        lab.passes(&lab.query(1), Outcome::Unrelated);
        lab.open(1);
    });
}

#[test]
fn packets_to_a_snat_address_that_are_of_no_flow_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (server, snat) = (setting.family.server(1), setting.family.snat(1));
        // In the range of ports and out of it: answers to probes, the host's own connections.
        for port in [10_239, 10_240, 20_000, 32_767, 32_768, 40_001] {
            let answer = Packet::tcp(server, (snat, port), flags::SYN_ACK);
            lab.passes(&answer, Outcome::Unrelated);
            lab.passes(&Packet::udp(server, (snat, port), b"x"), Outcome::Unrelated);
        }
        lab.passes(&Packet::other(server.ip(), snat, 47, b"x"), Outcome::OtherProtocol);
    });
}

#[test]
fn a_listener_on_a_snat_address_and_port_is_served() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.move_listener(20_000);
        lab.address(lab.listener_address().ip(), |entry| {
            entry.flags |= SNAT;
            (entry.snat_port_min, entry.snat_port_max) = (10_240, 32_767);
        });
        lab.establish(1);
        lab.exchange(1);
    });
}

#[test]
fn an_address_that_is_taken_away_is_foreign_again() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let address = lab.listener_address().ip();
        lab.kernel.remove_address(address).unwrap();
        lab.passes(&connection.from_client(flags::ACK), Outcome::Unrelated);
        lab.passes(&lab.syn(2), Outcome::Unrelated);
    });
}

#[test]
fn while_a_listener_forwards_by_dnat_foreign_packets_still_pass() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.forwarding(Forwarding::Dnat);
        let (client, away) = (lab.client(1), setting.family.stranger());
        let server = setting.family.server(1);
        let from_server = Packet::tcp(server, (away, 443), flags::SYN);
        let table = [
            ("a client's SYN", Packet::tcp(client, (away, 80), flags::SYN), Outcome::Unrelated),
            ("a client's datagram", Packet::udp(client, (away, 80), b"x"), Outcome::Unrelated),
            ("GRE", Packet::other(client.ip(), away, 47, b"x"), Outcome::Unrelated),
            ("a server's own SYN", from_server.clone(), Outcome::Unrelated),
            ("a server's datagram", Packet::udp(server, (away, 53), b"x"), Outcome::Unrelated),
            ("a client's echo", Packet::echo(client.ip(), away, b"x"), Outcome::IcmpUnrelated),
            ("a server's echo", Packet::echo(server.ip(), away, b"x"), Outcome::IcmpUnrelated),
            (
                "an error about a connection of the server",
                from_server.unreachable(away, Quote::Bytes(8)),
                Outcome::IcmpUnrelated,
            ),
            ("a server's GRE", Packet::other(server.ip(), away, 47, b"x"), Outcome::OtherProtocol),
        ];
        let table = table.map(|(name, packet, outcome)| (name, (packet, outcome)));
        let count = rows(table, |(packet, outcome)| lab.passes(&packet, outcome));
        assert_eq!(count, 9);
        lab.assert_entries(Entries::default());
    });
}

#[test]
fn without_dnat_the_mark_of_a_server_means_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let server = setting.family.server(1);
        lab.address(server.ip(), |entry| entry.flags |= DNAT_SERVER);
        lab.globals(|globals| globals.flags &= !globals::flags::DNAT);
        let packet = Packet::echo(server.ip(), setting.family.stranger(), b"x");
        lab.passes(&packet, Outcome::Unrelated);
    });
}

#[test]
fn icmp_that_is_about_no_flow_is_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (client, listener) = (lab.client(1), lab.listener_address());
        let snat = setting.family.snat(1);
        let server = setting.family.server(1);
        let probe = Packet::tcp((snat, 40_001), server, flags::SYN);
        let reply = Packet::tcp(listener, client, flags::SYN_ACK);
        let router = setting.family.router();
        let table = [
            ("an echo request", Packet::echo(client.ip(), listener.ip(), b"x")),
            ("an echo reply", Packet::echo(listener.ip(), client.ip(), b"x").echo_reply()),
            ("an error about a probe of the host's", probe.unreachable(router, Quote::Bytes(8))),
            ("an error about an unknown reply", reply.unreachable(router, Quote::Bytes(8))),
            ("a datagram too big", reply.too_big(router, 1_400, Quote::Whole)),
        ];
        let count = rows(table, |packet| lab.passes(&packet, Outcome::IcmpUnrelated));
        assert_eq!(count, 5);
    });
}
