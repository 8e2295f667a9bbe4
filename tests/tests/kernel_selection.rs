//! The loaded program chooses what the host code chooses.

use std::net::{IpAddr, Ipv4Addr};

use deston::datapath::{Action, Kernel};
use deston_common::hash::{self, Seed};
use deston_common::listener::ListenerKey;
use deston_common::net::{Be16, TCP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerId, ServerState};
use deston_common::table::{Index, Member, Table};
use deston_common::{maglev, select, sequence};
use deston_tests::effort;
use deston_tests::kernel::{self, LISTENER, Loan};
use deston_tests::packet::{Packet, flags};
use deston_tests::require_kernel;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Pools tried, each with all its servers and with one removed.
fn pools_tried() -> u32 {
    effort::amount(60, 6)
}

/// Flows opened on each of the two tables of a pool.
fn flows_of_each() -> u32 {
    effort::amount(1_600, 200)
}

#[derive(Clone, Copy, Debug)]
enum Algorithm {
    RoundRobin,
    Weighted,
    IpHashing,
}

#[derive(Clone, Debug)]
struct Pool {
    algorithm: Algorithm,
    weights: Vec<u16>,
    removed: usize,
    seed: Seed,
    cursor: u64,
    clients: u32,
    /// Bit `n`: the `n`th server takes no flow, being down or full.
    refusing: u64,
}

impl Pool {
    fn takes(&self, id: ServerId) -> bool {
        self.refusing >> id.0 & 1 == 0
    }

    /// Writes the servers: those that refuse are down or full by turns.
    fn put_servers(&self, kernel: &mut Kernel) {
        for id in 1..60 {
            let mut entry = kernel::server_entry(id, u32::MAX);
            match (self.takes(ServerId(id)), id % 2) {
                (true, _) => {}
                (false, 0) => entry.max_connections = 0,
                (false, _) => entry.state = ServerState::Down as u8,
            }
            kernel.put_server(ServerId(id), &entry).unwrap();
        }
    }
}

fn pools() -> impl Strategy<Value = Pool> {
    let algorithm = prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::Weighted),
        Just(Algorithm::IpHashing)
    ];
    let weights = prop::collection::vec(1_u16..40, 2..60);
    let cursor = prop_oneof![0_u64..1_000, any::<u64>().prop_map(|cursor| cursor >> 1)];
    // None, some, or nearly all of the servers refuse.
    let refusing = prop_oneof![
        4 => Just(0_u64),
        3 => any::<u64>(),
        1 => (0_u32..60).prop_map(|but| !(1_u64 << but)),
    ];
    let numbers = (any::<usize>(), any::<(u64, u64)>(), cursor, any::<u32>(), refusing);
    (algorithm, weights, numbers).prop_map(
        |(algorithm, weights, (removed, (k0, k1), cursor, clients, refusing))| Pool {
            refusing,
            removed: removed % weights.len(),
            seed: Seed { k0, k1 },
            algorithm,
            weights,
            cursor,
            clients,
        },
    )
}

fn table(pool: &Pool, members: &[Member]) -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    match pool.algorithm {
        Algorithm::RoundRobin => sequence::fill(&mut table, members),
        Algorithm::Weighted => sequence::fill_weighted(&mut table, members),
        Algorithm::IpHashing => maglev::fill(&mut table, members, pool.seed),
    }
    .unwrap();
    table
}

/// Opens flows and returns how many the kernel gave to another server than the host code would.
fn differing(
    kernel: &mut Kernel,
    listener_port: u16,
    pool_index: u32,
    pool: &Pool,
    table: &Table,
) -> u32 {
    kernel.put_table(pool_index, table).unwrap();
    kernel.put_cursor(pool_index, pool.cursor).unwrap();
    let mut differing = 0;
    for n in 0..flows_of_each() {
        let client = Ipv4Addr::from(pool.clients.wrapping_add(n.wrapping_mul(2_654_435_761)));
        let syn = Packet::tcp((client, 1_024), (LISTENER.0, listener_port), flags::SYN);
        let start = if table.index == Index::Client as u32 {
            hash::client(table.seed, IpAddr::V4(client))
        } else {
            pool.cursor + u64::from(n)
        };
        let expected = select::choose(table, start, |id| pool.takes(id));
        let ran = kernel.run(&syn.bytes(), 1).unwrap();
        let went_to: [u8; 4] = ran.packet[30..34].try_into().unwrap();
        let agrees = match expected {
            Some(id) => {
                ran.action == Action::Redirect
                    && went_to == kernel::server_address(id.0).ip().octets()
            }
            None => ran.action == Action::Drop,
        };
        if !agrees {
            differing += 1;
        }
    }
    differing
}

#[test]
fn the_kernel_chooses_what_the_host_code_chooses_over_100_000_flows() {
    require_kernel!();
    let flows = 2 * pools_tried() * flows_of_each();
    let kernel = Loan::new((flows + 1_000).max(kernel::FLOWS));
    let mut runner =
        TestRunner::new(Config { cases: pools_tried(), max_shrink_iters: 0, ..Config::default() });
    let kernel = std::cell::RefCell::new(kernel);
    let next = std::cell::Cell::new(0_u32);
    runner
        .run(&pools(), |pool| {
            let mut kernel = kernel.borrow_mut();
            let index = next.replace(next.get() + 1);
            pool.put_servers(&mut kernel);
            let all = kernel::members((1..).zip(pool.weights.iter().copied()));
            let mut fewer = all.clone();
            fewer.remove(pool.removed);
            for (place, members) in [&all, &fewer].into_iter().enumerate() {
                // A listener of its own for each table, so that every flow is new.
                let port = 1_000 + (2 * index + place as u32) as u16;
                let key = ListenerKey {
                    address: LISTENER.0.into(),
                    port: Be16::from_host(port),
                    protocol: TCP,
                    pad: 0,
                };
                let mut entry = kernel::listener_entry();
                entry.pool = index;
                // Every pool's flows share the servers' ports.
                (entry.snat_port_min, entry.snat_port_max) = (1, u16::MAX);
                kernel.put_listener(&key, &entry).unwrap();
                let table = table(&pool, members);
                prop_assert_eq!(differing(&mut kernel, port, index, &pool, &table), 0);
            }
            Ok(())
        })
        .unwrap();
    let outcomes = kernel.borrow().outcomes().unwrap();
    let chosen = outcomes[Outcome::Forwarded as usize];
    let refused = outcomes[Outcome::NoServer as usize] + outcomes[Outcome::ServersFull as usize];
    println!("{chosen} flows went where the host code says, {refused} were refused as it says");
    assert_eq!(chosen + refused, u64::from(flows));
    assert!(chosen >= effort::amount(100_000, 1_000).into());
}

#[test]
fn one_clients_connections_see_the_sequence() {
    require_kernel!();
    let mut lab = kernel::Lab::new(3);
    let client = Ipv4Addr::new(203, 0, 113, 9);
    let servers: Vec<u16> = (0..6)
        .map(|n| lab.server_of(&Packet::tcp((client, 2_000 + n), LISTENER, flags::SYN)))
        .collect();
    assert_eq!(servers, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn weights_are_exact_over_one_cycle() {
    require_kernel!();
    let mut lab = kernel::Lab::new(2);
    let mut table = Box::new(Table::EMPTY);
    sequence::fill_weighted(&mut table, &kernel::members([(1, 3), (2, 1)])).unwrap();
    lab.kernel.put_table(0, &table).unwrap();
    let client = Ipv4Addr::new(203, 0, 113, 9);
    let servers: Vec<u16> = (0..8)
        .map(|n| lab.server_of(&Packet::tcp((client, 2_000 + n), LISTENER, flags::SYN)))
        .collect();
    assert_eq!(servers.iter().filter(|server| **server == 1).count(), 6);
    assert_eq!(servers[..4], servers[4..]);
}

#[test]
fn one_client_keeps_its_server_with_ip_hashing() {
    require_kernel!();
    let mut lab = kernel::Lab::new(8);
    let mut table = Box::new(Table::EMPTY);
    let members = kernel::members((1..=8).map(|n| (n, 1)));
    maglev::fill(&mut table, &members, Seed::from_text("spec")).unwrap();
    lab.kernel.put_table(0, &table).unwrap();
    for client in 1..=20 {
        let client = Ipv4Addr::new(203, 0, 113, client);
        let first = lab.server_of(&Packet::tcp((client, 2_000), LISTENER, flags::SYN));
        for port in 2_001..2_010 {
            let again = lab.server_of(&Packet::tcp((client, port), LISTENER, flags::SYN));
            assert_eq!(again, first);
        }
    }
}

#[test]
fn an_empty_table_drops_new_flows_and_counts_them() {
    require_kernel!();
    let mut lab = kernel::Lab::new(1);
    lab.kernel.put_table(0, &Table::EMPTY).unwrap();
    let syn = Packet::tcp((Ipv4Addr::new(203, 0, 113, 9), 2_000), LISTENER, flags::SYN);
    assert_eq!(lab.send(&syn).action, Action::Drop);
    lab.assert_outcomes(&[(Outcome::NoServer, 1)]);
}
