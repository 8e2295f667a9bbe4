//! Which server a new flow is given: sequences, hashes, loads, and what a client is bound to.

use std::collections::BTreeSet;

use deston_common::hash::Seed;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_common::server::{Load, ServerId, ServerState};
use deston_common::sticky::StickyEntry;
use deston_common::table::{Index, Table};
use deston_common::{maglev, sequence};
use deston_tests::kernel::{Change, Entries, Lab, SECOND, Setting, each, members, rows};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::SYN;
use deston_tests::require_kernel;

/// The servers of a client's next flows, from ports of their own.
fn next(lab: &mut Lab, client: u16, ports: std::ops::Range<u16>) -> Vec<u16> {
    let server = |port| {
        let syn = Packet::tcp(lab.client_at(client, port), lab.listener_address(), SYN);
        lab.server_of(&syn)
    };
    ports.map(server).collect()
}

#[test]
fn one_clients_connections_see_the_sequence() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        assert_eq!(next(&mut lab, 1, 2_000..2_006), [1, 2, 3, 1, 2, 3]);
    });
}

#[test]
fn weights_are_exact_over_one_cycle() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        let mut table = Box::new(Table::EMPTY);
        sequence::fill_weighted(&mut table, &members([(1, 3), (2, 1)])).unwrap();
        lab.table(&table);
        let servers = next(&mut lab, 1, 2_000..2_008);
        assert_eq!(servers.iter().filter(|server| **server == 1).count(), 6);
        assert_eq!(servers[..4], servers[4..]);
    });
}

#[test]
fn a_pool_has_a_cursor_of_its_own() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        assert_eq!(next(&mut lab, 1, 2_000..2_002), [1, 2]);
        let mut table = Box::new(Table::EMPTY);
        sequence::fill(&mut table, &members((1..=3).map(|n| (n, 1)))).unwrap();
        lab.kernel.put_table(5, &table).unwrap();
        lab.listener(|entry| entry.pool = 5);
        assert_eq!(next(&mut lab, 1, 2_002..2_004), [1, 2]);
        assert_eq!((lab.kernel.cursor(0).unwrap(), lab.kernel.cursor(5).unwrap()), (2, 2));
    });
}

#[test]
fn a_cursor_beyond_the_table_starts_over() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 3);
        lab.kernel.put_cursor(0, u64::MAX - 1).unwrap();
        // 2^64 - 2 is 2 modulo 3, and the counter wraps after two.
        assert_eq!(next(&mut lab, 1, 2_000..2_004), [3, 1, 1, 2]);
    });
}

fn hashed(lab: &mut Lab, index: Index) {
    let mut table = Box::new(Table::EMPTY);
    let all: Vec<u16> = lab.server_numbers();
    let members = members(all.into_iter().map(|n| (n, 1)));
    maglev::fill_weighted(&mut table, &members, Seed::from_text("spec"), index).unwrap();
    lab.table(&table);
}

#[test]
fn one_client_keeps_its_server_with_ip_hashing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 8);
        hashed(&mut lab, Index::Client);
        let mut reached = BTreeSet::new();
        for client in 1..=20 {
            let servers: BTreeSet<u16> = next(&mut lab, client, 2_000..2_010).into_iter().collect();
            assert_eq!(servers.len(), 1);
            reached.extend(servers);
        }
        assert!(reached.len() > 3, "{reached:?}");
    });
}

#[test]
fn hashes_of_more_than_the_client_spread_its_flows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for index in [Index::ClientPort, Index::Flow] {
            let mut lab = Lab::with_servers(setting, 8);
            hashed(&mut lab, index);
            let servers: BTreeSet<u16> = next(&mut lab, 1, 2_000..2_040).into_iter().collect();
            assert!(servers.len() > 4, "{index:?}: {servers:?}");
        }
    });
}

#[test]
fn a_full_servers_clients_are_spread_and_come_back() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 4);
        hashed(&mut lab, Index::Client);
        let own = next(&mut lab, 1, 2_000..2_001)[0];
        lab.server(own, |entry| entry.max_connections = 0);
        assert_ne!(next(&mut lab, 1, 2_001..2_002)[0], own);
        lab.server(own, |entry| entry.max_connections = 100);
        assert_eq!(next(&mut lab, 1, 2_002..2_003)[0], own);
    });
}

/// A table that compares the loads of `samples` servers.
fn least(setting: Setting, weights: &[u16], samples: u32) -> Lab {
    let mut lab = Lab::with_servers(setting, weights.len() as u16);
    let numbered: Vec<(u16, u16)> = (1..).zip(weights.iter().copied()).collect();
    for (n, weight) in &numbered {
        lab.server(*n, |entry| entry.weight = *weight);
    }
    let mut table = Box::new(Table::EMPTY);
    sequence::fill_least(&mut table, &members(numbered), samples).unwrap();
    lab.table(&table);
    lab
}

fn load(lab: &mut Lab, n: u16, in_use: u64) {
    lab.kernel.put_load(ServerId(n), &Load { in_use, ..Load::default() }).unwrap();
}

#[test]
fn of_few_servers_the_least_loaded_is_chosen() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = least(setting, &[1, 1, 1, 1], 4);
        for light in 1..=4 {
            for n in 1..=4 {
                load(&mut lab, n, if n == light { 3 } else { 5 + u64::from(n) });
            }
            let ports = 2_000 + light * 10..2_010 + light * 10;
            assert!(next(&mut lab, 1, ports).iter().all(|n| *n == light), "{light}");
        }
    });
}

#[test]
fn a_heavier_server_may_have_more_flows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = least(setting, &[1, 3], 2);
        load(&mut lab, 1, 2);
        load(&mut lab, 2, 5);
        assert_eq!(next(&mut lab, 1, 2_000..2_004), [2; 4]);
        load(&mut lab, 2, 7);
        assert_eq!(next(&mut lab, 1, 2_010..2_014), [1; 4]);
    });
}

#[test]
fn of_two_choices_the_most_loaded_is_never_taken() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = least(setting, &[1; 6], 2);
        for n in 1..=6 {
            load(&mut lab, n, u64::from(n) * 10);
        }
        let servers = next(&mut lab, 1, 2_000..2_200);
        let reached: BTreeSet<u16> = servers.iter().copied().collect();
        assert!(!reached.contains(&6), "{reached:?}");
        assert!(reached.len() >= 4, "{reached:?}");
        let lightest = servers.iter().filter(|n| **n == 1).count();
        let heavy = servers.iter().filter(|n| **n == 5).count();
        assert!(lightest > 2 * heavy, "{lightest} and {heavy}");
    });
}

#[test]
fn the_least_loaded_must_be_able_to_take_a_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = least(setting, &[1, 1, 1], 4);
        for (n, in_use) in [(1, 0), (2, 1), (3, 50)] {
            load(&mut lab, n, in_use);
        }
        lab.state(1, ServerState::Down);
        lab.server(2, |entry| entry.max_connections = 1);
        assert_eq!(next(&mut lab, 1, 2_000..2_004), [3; 4]);
        lab.server(3, |entry| entry.max_connections = 50);
        lab.drops(&lab.syn(1), Outcome::ServersFull);
    });
}

#[test]
fn loads_are_those_that_connections_make() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = least(setting, &[1, 1], 2);
        let first = lab.establish(1);
        let second = lab.establish(2);
        assert_ne!(first.number, second.number);
        let third = lab.establish(3);
        lab.close(&third);
        lab.close(if third.number == first.number { &first } else { &second });
        assert_eq!(lab.establish(4).number, third.number);
    });
}

/// Bindings live for a minute.
fn sticky(setting: Setting, servers: u16) -> Lab {
    let mut lab = Lab::with_servers(setting, servers);
    lab.listener(|entry| entry.sticky_ns = 60 * SECOND);
    lab
}

#[test]
fn a_client_is_bound_to_its_server() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = sticky(setting, 3);
        assert_eq!(next(&mut lab, 1, 2_000..2_004), [1; 4]);
        assert_eq!(next(&mut lab, 2, 2_000..2_004), [2; 4]);
        assert_eq!(lab.opens(&lab.query(1)).number, 1, "a pool's listeners share it");
        assert_eq!(lab.kernel.stickies().unwrap().len(), 2);
    });
}

#[test]
fn a_binding_lives_while_it_is_used() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = sticky(setting, 3);
        for n in 0..4 {
            assert_eq!(next(&mut lab, 1, 2_000 + n..2_001 + n), [1]);
            lab.wait(60 * SECOND);
        }
        lab.wait(1);
        assert_eq!(next(&mut lab, 1, 3_000..3_001), [2]);
    });
}

#[test]
fn a_bound_server_that_takes_nothing_is_left() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let table: [(&str, Change); 4] = [
            ("down", |lab| lab.state(1, ServerState::Down)),
            ("draining", |lab| lab.state(1, ServerState::Draining)),
            ("not to be reached", |lab| lab.server(1, |entry| entry.reachable = 0)),
            ("full", |lab| lab.server(1, |entry| entry.max_connections = 0)),
        ];
        let count = rows(table, |spoil| {
            let mut lab = sticky(setting, 2);
            assert_eq!(next(&mut lab, 1, 2_000..2_001), [1]);
            spoil(&mut lab);
            assert_eq!(next(&mut lab, 1, 2_001..2_003), [2; 2]);
            // The client is bound to the new one.
            lab.state(1, ServerState::Active);
            lab.server(1, |entry| (entry.reachable, entry.max_connections) = (1, 1_000));
            assert_eq!(next(&mut lab, 1, 2_003..2_005), [2; 2]);
        });
        assert_eq!(count, 4);
    });
}

#[test]
fn bindings_are_of_one_client_and_pool() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = sticky(setting, 3);
        let entry =
            StickyEntry { last_used_ns: lab.now(), server: ServerId(3), ..StickyEntry::default() };
        lab.kernel.put_sticky(lab.setting.family.client(1).ip(), 0, &entry).unwrap();
        lab.kernel.put_sticky(lab.setting.family.client(2).ip(), 9, &entry).unwrap();
        assert_eq!(next(&mut lab, 1, 2_000..2_001), [3]);
        assert_eq!(next(&mut lab, 2, 2_000..2_001), [1]);
    });
}

#[test]
fn a_binding_to_no_server_is_none() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = sticky(setting, 2);
        for server in [0, 77, u16::MAX] {
            let last_used_ns = lab.now();
            let entry =
                StickyEntry { last_used_ns, server: ServerId(server), ..StickyEntry::default() };
            lab.kernel.put_sticky(lab.setting.family.client(1).ip(), 0, &entry).unwrap();
            lab.opens(&Packet::tcp(
                lab.client_at(1, 3_000 + server % 7),
                lab.listener_address(),
                SYN,
            ));
        }
    });
}

#[test]
fn without_affinity_nothing_is_bound() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 2);
        lab.open(1);
        assert_eq!(lab.kernel.stickies().unwrap(), []);
        lab.assert_entries(Entries::half_open(1));
    });
}

#[test]
fn affinity_holds_for_direct_return_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = sticky(setting, 3);
        lab.forwarding(Forwarding::DsrL2);
        for port in 2_000..2_004 {
            let syn = Packet::tcp(lab.client_at(1, port), lab.listener_address(), SYN);
            let ran = lab.step(&syn, Outcome::Forwarded);
            assert_eq!(ran.packet[4..6], [0, 1]);
        }
    });
}
