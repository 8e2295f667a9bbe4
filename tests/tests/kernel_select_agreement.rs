//! The loaded programs choose what the host's code chooses, over many flows of many pools.

use std::net::{IpAddr, SocketAddr};

use deston::datapath::{Action, Sizes};
use deston_common::flow::FlowKey;
use deston_common::hash::{self, Seed};
use deston_common::listener::Forwarding;
use deston_common::net::{Address, Be16, Ipv4Be, Ipv6Be, TCP};
use deston_common::outcome::Outcome;
use deston_common::server::{ServerId, ServerState};
use deston_common::table::{Index, Member, Table};
use deston_common::{maglev, select, sequence};
use deston_tests::effort;
use deston_tests::kernel::{Family, Lab, Setting, each, members};
use deston_tests::packet::{Packet, flags};
use deston_tests::require_kernel;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Pools tried in each setting, each with all its servers and with one removed.
fn pools_tried() -> u32 {
    effort::amount(16, 2)
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
    ClientAndPort,
    FiveTuple,
}

#[derive(Clone, Debug)]
struct Pool {
    algorithm: Algorithm,
    weights: Vec<u16>,
    removed: usize,
    seed: Seed,
    cursor: u64,
    clients: u32,
    /// Bit `n`: the `n`th server takes no flow, being down, draining, unreachable or full.
    refusing: u64,
}

impl Pool {
    fn takes(&self, id: ServerId) -> bool {
        self.refusing >> id.0 & 1 == 0
    }

    /// Writes the servers: those that refuse do so in four ways by turns.
    fn put_servers(&self, lab: &mut Lab) {
        for n in 1..60 {
            let takes = self.takes(ServerId(n));
            lab.server(n, |entry| {
                entry.max_connections = if takes || n % 4 != 0 { u32::MAX } else { 0 };
                entry.reachable = u8::from(takes || n % 4 != 1);
                entry.state = match n % 4 {
                    2 if !takes => ServerState::Down as u8,
                    3 if !takes => ServerState::Draining as u8,
                    _ => ServerState::Active as u8,
                };
            });
        }
    }

    fn table(&self, members: &[Member]) -> Box<Table> {
        let mut table = Box::new(Table::EMPTY);
        let hashed =
            |table: &mut Table, index| maglev::fill_weighted(table, members, self.seed, index);
        match self.algorithm {
            Algorithm::RoundRobin => sequence::fill(&mut table, members),
            Algorithm::Weighted => sequence::fill_weighted(&mut table, members),
            Algorithm::IpHashing => maglev::fill(&mut table, members, self.seed),
            Algorithm::ClientAndPort => hashed(&mut table, Index::ClientPort),
            Algorithm::FiveTuple => hashed(&mut table, Index::Flow),
        }
        .unwrap();
        table
    }

    /// Where the `n`th flow enters its table.
    fn start(&self, table: &Table, n: u32, client: SocketAddr, listener: SocketAddr) -> u64 {
        match self.algorithm {
            Algorithm::RoundRobin | Algorithm::Weighted => self.cursor + u64::from(n),
            Algorithm::IpHashing => hash::client(table.seed, client.ip()),
            Algorithm::ClientAndPort => {
                let port = Be16::from_host(client.port());
                match client.ip() {
                    IpAddr::V4(v4) => hash::client_port(table.seed, Ipv4Be::from(v4), port),
                    IpAddr::V6(v6) => hash::client_port(table.seed, Ipv6Be::from(v6), port),
                }
            }
            Algorithm::FiveTuple => {
                let end = |end: SocketAddr| {
                    (Ipv6Be::from(end.ip()).widened(), Be16::from_host(end.port()))
                };
                hash::flow(table.seed, &FlowKey::new(end(client), end(listener), TCP))
            }
        }
    }
}

fn pools() -> impl Strategy<Value = Pool> {
    let algorithm = prop_oneof![
        Just(Algorithm::RoundRobin),
        Just(Algorithm::Weighted),
        Just(Algorithm::IpHashing),
        Just(Algorithm::ClientAndPort),
        Just(Algorithm::FiveTuple),
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

fn client(family: Family, n: u32) -> SocketAddr {
    let host: IpAddr = match family {
        // Below 127 and above 0 all are addresses of hosts.
        Family::V4 => {
            let [a, b, c, d] = n.to_be_bytes();
            [1 + a % 126, b, c, d].into()
        }
        Family::V6 => (0x2001_0db8_u128 << 96 | u128::from(n) << 40 | 7).to_be_bytes().into(),
    };
    (host, 1_024 + (n >> 20) as u16).into()
}

/// Opens flows and returns how many the kernel gave to another server than the host's code would,
/// and how many it dropped.
fn differing(lab: &mut Lab, pool: &Pool, table: &Table) -> (u32, u64) {
    lab.table(table);
    lab.kernel.put_cursor(0, pool.cursor).unwrap();
    let (mut differing, mut dropped) = (0, 0);
    let listener = lab.listener_address();
    for n in 0..flows_of_each() {
        let client =
            client(lab.setting.family, pool.clients.wrapping_add(n.wrapping_mul(2_654_435_761)));
        let start = pool.start(table, n, client, listener);
        let expected = select::choose(table, start, |id| pool.takes(id));
        let ran = lab.run(&Packet::tcp(client, listener, flags::SYN));
        let agrees = match expected {
            // The server's next hop tells the server.
            Some(id) => ran.action == Action::Redirect && ran.packet[4..6] == id.0.to_be_bytes(),
            None => ran.action == Action::Drop,
        };
        dropped += u64::from(expected.is_none());
        differing += u32::from(!agrees);
    }
    // So that the next table's flows are all new.
    for flow in lab.kernel.half_flows().collect::<Vec<_>>() {
        lab.kernel.remove_half_flow(&flow.key).unwrap();
    }
    (differing, dropped)
}

#[test]
fn the_kernel_chooses_what_the_host_code_chooses_over_100_000_flows() {
    require_kernel!();
    let mut chosen = 0;
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_sizes(setting, 1, Sizes { flows: 4_096, half_open: 16_384 });
        // Without ports to claim, nothing but the choice can end a flow.
        lab.forwarding(Forwarding::DsrL2);
        let lab = std::cell::RefCell::new(lab);
        let flows = u64::from(2 * pools_tried() * flows_of_each());
        let dropped = std::cell::Cell::new(0);
        TestRunner::new(Config { cases: pools_tried(), max_shrink_iters: 0, ..Config::default() })
            .run(&pools(), |pool| {
                let mut lab = lab.borrow_mut();
                pool.put_servers(&mut lab);
                let all = members((1..).zip(pool.weights.iter().copied()));
                let mut fewer = all.clone();
                fewer.remove(pool.removed);
                for members in [&all, &fewer] {
                    let (differing, lost) = differing(&mut lab, &pool, &pool.table(members));
                    prop_assert_eq!(differing, 0);
                    dropped.set(dropped.get() + lost);
                }
                Ok(())
            })
            .unwrap();
        let seen: u64 = lab
            .borrow_mut()
            .outcomes()
            .iter()
            .map(|(outcome, count)| {
                assert!(
                    matches!(
                        outcome,
                        Outcome::Forwarded | Outcome::NoServer | Outcome::ServersFull
                    ),
                    "{outcome:?}"
                );
                count
            })
            .sum();
        assert_eq!(seen, flows);
        chosen += flows - dropped.get();
    });
    println!("{chosen} flows went where the host's code says");
    assert!(chosen >= effort::amount(100_000, 1_000).into());
}

/// Every server's flows of `n` clients, by the kernel.
fn spread(lab: &mut Lab, n: u32) -> Vec<u32> {
    let mut counts = vec![0; 9];
    for n in 0..n {
        let client = client(lab.setting.family, n.wrapping_mul(2_654_435_761));
        let ran = lab.run(&Packet::tcp(client, lab.listener_address(), flags::SYN));
        assert_eq!(ran.action, Action::Redirect);
        counts[usize::from(ran.packet[5])] += 1;
    }
    counts
}

#[test]
fn random_choice_follows_the_weights() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 4);
        lab.forwarding(Forwarding::DsrL2);
        let mut table = Box::new(Table::EMPTY);
        sequence::fill_random(&mut table, &members([(1, 1), (2, 2), (3, 5), (4, 0x20)])).unwrap();
        lab.table(&table);
        // Both with a given source of chance and with the kernel's own.
        for random in [7, 0] {
            lab.globals(|globals| globals.random = random);
            let counts = spread(&mut lab, 4_000);
            for (n, expected) in [(1, 100), (2, 200), (3, 500), (4, 3_200)] {
                let seen = counts[n];
                assert!((expected / 2..expected * 2).contains(&seen), "{n}: {seen} of {expected}");
            }
            for flow in lab.kernel.half_flows().collect::<Vec<_>>() {
                lab.kernel.remove_half_flow(&flow.key).unwrap();
            }
        }
    });
}

#[test]
fn random_choice_skips_those_that_take_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::with_servers(setting, 4);
        lab.forwarding(Forwarding::DsrL2);
        let mut table = Box::new(Table::EMPTY);
        sequence::fill_random(&mut table, &members((1..=4).map(|n| (n, 1)))).unwrap();
        lab.table(&table);
        lab.state(2, ServerState::Down);
        lab.server(3, |entry| entry.max_connections = 0);
        let counts = spread(&mut lab, 1_000);
        assert_eq!((counts[2], counts[3]), (0, 0));
        // A quarter each draws itself, and what draws the others goes on to the next.
        assert!(counts[1] > 200 && counts[4] > 200, "{counts:?}");
    });
}
