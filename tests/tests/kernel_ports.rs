//! SNAT ports: in which order they are tried, and that none is left out.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    Connection, Lab, SNAT_PORTS, Setting, TCP_LISTENER, UDP_LISTENER, each, rows,
};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, SYN};
use deston_tests::require_kernel;

fn syn_from(lab: &Lab, client: SocketAddr) -> Packet {
    Packet::tcp(client, lab.listener_address(), SYN)
}

#[test]
fn a_clients_own_port_is_kept_if_it_is_in_the_range() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let (first, last) = (*SNAT_PORTS.start(), *SNAT_PORTS.end());
        let table = [
            ("the first", first, true),
            ("one of them", 20_000, true),
            ("the last", last, true),
            ("one too low", first - 1, false),
            ("one too high", last + 1, false),
            ("the lowest of all", 1, false),
            ("the highest of all", u16::MAX, false),
        ];
        let mut lab = Lab::new(setting);
        let table = table.map(|(name, port, kept)| (name, (port, kept)));
        let count = rows(table, |(port, kept)| {
            let connection = lab.opens(&syn_from(&lab, lab.client_at(1, port)));
            assert_eq!(connection.source.port() == port, kept);
            assert!(SNAT_PORTS.contains(&connection.source.port()));
        });
        assert_eq!(count, 7);
    });
}

#[test]
fn clients_with_the_same_port_get_different_ports_towards_one_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for port in [20_000, 40_000] {
            let mut lab = Lab::new(setting);
            let ports: BTreeSet<u16> = (1..=200)
                .map(|client| lab.opens(&syn_from(&lab, lab.client_at(client, port))))
                .map(|connection| connection.source.port())
                .collect();
            assert_eq!(ports.len(), 200);
        }
    });
}

#[test]
fn ports_towards_different_servers_and_protocols_do_not_meet() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        lab.server(2, |_| ());
        lab.round_robin([1, 2]);
        let (one, two) = (lab.establish(1), lab.establish(2));
        assert_eq!((one.number, two.number), (1, 2));
        let (three, four) = (lab.exchange(3), lab.exchange(4));
        for connection in [&one, &two, &three, &four] {
            assert_eq!(connection.source.port(), 20_000);
        }
        lab.replies(&one, &one.from_server(ACK).payload(b"1"));
        lab.replies(&two, &two.from_server(ACK).payload(b"2"));
    });
}

#[test]
fn several_snat_addresses_multiply_the_ports() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 1);
        let addresses: Vec<_> = (1..=4).map(|n| lab.snat_address(n)).collect();
        for listener in [TCP_LISTENER, UDP_LISTENER] {
            lab.kernel.put_snat_addresses(listener, &addresses).unwrap();
        }
        lab.listener(|entry| entry.snat_count = 4);
        let sources: BTreeSet<SocketAddr> =
            (1..=4).map(|client| lab.establish(client).source).collect();
        let all: BTreeSet<SocketAddr> =
            addresses.into_iter().map(|address| (address, 20_000).into()).collect();
        assert_eq!(sources, all);
        lab.drops(&lab.syn(5), Outcome::SnatExhausted);
    });
}

#[test]
fn of_a_few_ports_the_last_free_one_is_found() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 3);
        let held = [lab.establish(1).source, lab.establish(2).source];
        for client in 3..=40 {
            assert!(!held.contains(&lab.open(client).source));
        }
    });
}

#[test]
fn every_port_of_every_snat_address_is_used() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_ports(setting, 32);
        let addresses: Vec<_> = (1..=2).map(|n| lab.snat_address(n)).collect();
        lab.kernel.put_snat_addresses(TCP_LISTENER, &addresses).unwrap();
        lab.listener(|entry| entry.snat_count = 2);
        let sources: BTreeSet<SocketAddr> =
            (1..=200).map(|client| lab.open(client).source).collect();
        assert_eq!(sources.len(), 64);
    });
}

#[test]
fn no_port_comes_twice_before_all_have_come() {
    require_kernel!();
    // Of 25 ports, a stride with the factor 5 would meet five alone. Fewer are held than are tried.
    each(Setting::XDP, |setting| {
        let mut lab = Lab::with_ports(setting, 25);
        let held: BTreeSet<_> = (1..=14).map(|client| lab.establish(client).source).collect();
        for client in 15..=600 {
            assert!(!held.contains(&lab.open(client).source));
        }
    });
}

#[test]
fn half_of_a_range_is_found_by_probing() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::with_ports(setting, 64);
        let established: Vec<Connection> = (1..=32).map(|client| lab.establish(client)).collect();
        let ports: BTreeSet<u16> = established.iter().map(|c| c.source.port()).collect();
        assert_eq!(ports.len(), 32);
        assert!(ports.iter().all(|port| (20_000..20_064).contains(port)));
    });
}
