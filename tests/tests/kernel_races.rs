//! Processors that run the programs at the same time: limits hold, and nothing is counted twice.

use std::collections::HashSet;
use std::sync::Barrier;

use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_common::server::ServerId;
use deston_tests::kernel::{Connection, Lab, SECOND, Setting, TIMEOUTS, each};
use deston_tests::packet::Packet;
use deston_tests::packet::flags::{ACK, RST, SYN, SYN_ACK};
use deston_tests::require_kernel;

const THREADS: u16 = 4;

/// Runs `packets(thread)` on each of some threads at the same time.
fn at_once(lab: &Lab, packets: impl Fn(u16) -> Vec<Packet>) {
    let barrier = Barrier::new(THREADS.into());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (frames, barrier) = (packets(thread), &barrier);
            scope.spawn(move || {
                barrier.wait();
                for frame in frames {
                    lab.kernel.run(lab.setting.hook, &frame.bytes()).unwrap();
                }
            });
        }
    });
}

/// The SYN of the `n`th client.
fn syn(lab: &Lab, n: u16) -> Packet {
    Packet::tcp(lab.client_at(1 + n % 50, 2_000 + n / 50), lab.listener_address(), SYN)
}

/// Flows whose servers have answered.
fn answered(lab: &mut Lab, count: u16) -> Vec<Connection> {
    (0..count)
        .map(|n| {
            let connection = lab.opens(&syn(lab, n).ack(0));
            lab.replies(&connection, &connection.from_server(SYN_ACK));
            connection
        })
        .collect()
}

#[test]
fn promotions_that_race_never_pass_the_limit() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let limit = 100;
        let mut lab = Lab::new(setting);
        let flows = answered(&mut lab, 1_000);
        lab.server(1, |entry| entry.max_connections = limit);
        at_once(&lab, |thread| {
            let mine = flows.iter().skip(thread.into()).step_by(THREADS.into());
            mine.map(|flow| flow.from_client(ACK)).collect()
        });
        assert_eq!(lab.in_use(1), u64::from(limit));
        assert_eq!(lab.kernel.flows().count(), limit as usize);
        assert_eq!(lab.kernel.replies().unwrap().len(), limit as usize);
        assert_eq!(lab.load(1).entries, u64::from(limit));
    });
}

#[test]
fn one_flow_is_promoted_once_whoever_comes_first() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let flows = answered(&mut lab, 300);
        at_once(&lab, |_| flows.iter().map(|flow| flow.from_client(ACK)).collect());
        assert_eq!((lab.in_use(1), lab.load(1).entries), (300, 300));
        assert_eq!(lab.kernel.flows().count(), 300);
        assert_eq!(lab.kernel.half_flows().count(), 0);
        let seen = lab.outcomes();
        let carried = seen.iter().find(|(outcome, _)| *outcome == Outcome::Forwarded);
        assert!(carried.is_some_and(|(_, count)| *count >= 300), "{seen:?}");
    });
}

#[test]
fn one_flow_is_ended_once_whoever_comes_first() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let flows = answered(&mut lab, 300);
        for flow in &flows {
            lab.forwards(flow, &flow.from_client(ACK));
        }
        lab.wait(TIMEOUTS.tcp_established_ns + 1);
        // Client and server wake up at once; some threads bring resets too.
        at_once(&lab, |thread| {
            let wakes =
                flows.iter().flat_map(|flow| [flow.from_client(ACK), flow.from_server(ACK)]);
            let resets = flows.iter().map(|flow| flow.from_server(RST | ACK));
            if thread == 0 { resets.collect() } else { wakes.collect() }
        });
        let named = lab.kernel.flows().count() as u64;
        let load = lab.kernel.load_of(ServerId(1)).unwrap();
        assert_eq!(load.entries, named);
        assert!(load.in_use <= named, "{load:?}");
    });
}

#[test]
fn one_syn_on_many_processors_opens_one_flow() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let lab = Lab::with_servers(setting, 4);
        at_once(&lab, |_| (0..300).map(|n| syn(&lab, n)).collect());
        assert_eq!(lab.kernel.half_flows().count(), 300);
        assert_eq!(
            lab.kernel.half_replies().unwrap().len(),
            300,
            "claims of losers are given back"
        );
    });
}

#[test]
fn one_syn_on_many_processors_has_one_claim_with_dnat() {
    require_kernel!();
    let rounds = Setting::ALL.into_iter().flat_map(|setting| [setting; 8]);
    each(rounds, |setting| {
        let mut lab = Lab::new(setting);
        lab.forwarding(Forwarding::Dnat);
        // A third copy of a SYN would make a lost claim anew.
        at_once(&lab, |thread| {
            (0..if thread < 2 { 300 } else { 0 }).map(|n| syn(&lab, n)).collect()
        });
        assert_eq!(lab.kernel.half_flows().count(), 300);
        assert_eq!(lab.kernel.half_replies().unwrap().len(), 300);
    });
}

#[test]
fn packets_that_open_one_flow_at_once_are_all_carried_with_direct_return() {
    require_kernel!();
    let rounds = Setting::ALL.into_iter().flat_map(|setting| [setting; 4]);
    each(rounds, |setting| {
        let mut lab = Lab::new(setting);
        lab.forwarding(Forwarding::DsrL2);
        let before = lab.kernel.outcomes().unwrap()[Outcome::Raced as usize];
        at_once(&lab, |_| (0..300).map(|n| syn(&lab, n)).collect());
        assert_eq!(lab.kernel.half_flows().count(), 300);
        assert_eq!(lab.kernel.outcomes().unwrap()[Outcome::Raced as usize], before);
    });
}

#[test]
fn a_port_that_is_stolen_while_its_flow_is_promoted_stays_with_one_of_both() {
    require_kernel!();
    let rounds = Setting::ALL.into_iter().flat_map(|setting| [setting; 8]);
    each(rounds, |setting| {
        // One port towards each server: who comes there steals it from the flow that has it.
        let servers = 200;
        let mut lab = Lab::with_servers(setting, servers);
        lab.ports(1);
        let flows = answered(&mut lab, servers);
        lab.wait(SECOND + 1);
        at_once(&lab, |thread| {
            let new = |n| lab.client_at(100 + n % 50, 3_000 + 10 * thread + n / 50);
            if thread % 2 == 0 {
                flows.iter().map(|flow| flow.from_client(ACK)).collect()
            } else {
                (0..servers).map(|n| Packet::tcp(new(n), lab.listener_address(), SYN)).collect()
            }
        });
        let promoted: HashSet<_> =
            lab.kernel.replies().unwrap().iter().map(|reply| reply.key).collect();
        let claims = lab.kernel.half_replies().unwrap();
        let both = claims.iter().filter(|claim| promoted.contains(&claim.key));
        assert_eq!(both.count(), 0, "ports with two claims");
        assert_eq!(promoted.len(), lab.kernel.flows().count());
    });
}

#[test]
fn clients_that_race_for_ports_get_one_each() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.ports(1_000);
        at_once(&lab, |thread| {
            (0..200)
                .map(|n| {
                    let client = lab.client_at(1 + n, 3_000 + thread);
                    Packet::tcp(client, lab.listener_address(), SYN)
                })
                .collect()
        });
        let mut ports: Vec<u16> =
            lab.kernel.half_flows().map(|flow| flow.reply.destination_port.to_host()).collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count, "two flows with one port");
        assert!(count > 750, "{count}");
    });
}
