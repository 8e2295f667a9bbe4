//! A flood of forged SYNs.

use std::time::{Duration, Instant};

use deston_common::outcome::Outcome;
use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for};
use deston_tests::lab::{
    Attacker, Deston, Echoes, Lab, Lost, TcpServer, Visits, listener_of, server_of, wait_long_until,
};
use deston_tests::require_lab;

/// Connections that stay.
const ECHOES: usize = 1_000;
/// Forged SYNs.
const SYNS: u64 = 1_000_000;
/// Servers: so many that the ports towards them outlast a second of the flood, and are more than the
/// half-open table has room for, so that the flood both evicts entries and takes ports.
const SERVERS: u8 = 4;
/// How long sending them may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What became of clients that came during a flood, and of packets.
#[derive(Debug)]
struct Seen {
    served: usize,
    failed: usize,
    forwarded: u64,
    flooded: u64,
}

/// Floods a balancer while connections stay, of which none may be lost, and clients come; each of
/// them waits for `limit`.
fn flood(setting: Setting, kernel: &str, syns: u64, limit: Duration) -> Seen {
    let lab = Lab::new(SERVERS);
    let attacker = Attacker::new(&lab);
    let servers: Vec<_> = (1..=SERVERS)
        .map(|n| {
            let address = (server_of(setting.family, n), 3_000).into();
            TcpServer::start_at(lab.server(n), n, address)
        })
        .collect();
    let addresses: Vec<_> = servers.iter().map(|server| (server.address(), "")).collect();
    let interfaces = format!("interfaces = [\"clients\", \"{}\"]", Attacker::DEVICE);
    let text = config_for(setting, &interfaces, NO_HEALTH, &addresses) + kernel;
    let deston = Deston::serving(&lab.balancer, &text);
    let to = listener_of(setting.family, PORT);
    let echoes = Echoes::start(&lab.client, to, ECHOES, Duration::from_millis(500));

    let began = Instant::now();
    let flood = attacker.flood(to, syns);
    let visits = Visits::patient(&lab.client, to, 4, Duration::from_millis(20), limit);
    wait_long_until(PATIENCE, "the flood is over", || flood.is_over());
    let took = began.elapsed();
    assert_eq!(flood.sent(), syns);
    let visits = visits.stop();
    let served = visits.iter().filter(|visit| visit.server.is_some()).count();
    let slowest = visits.iter().map(|visit| visit.took).max();
    let [forwarded, flooded] =
        [Outcome::Forwarded, Outcome::Flooded].map(|outcome| deston.counted(outcome));
    let seen = Seen { served, failed: visits.len() - served, forwarded, flooded };
    println!("{setting}: {syns} SYNs in {took:?}, {seen:?}, slowest {slowest:?}");
    echoes.wait_for_another_round();
    assert_eq!(echoes.stop(), Lost::new(), "{setting}");
    seen
}

#[test]
fn a_million_forged_syns_harm_no_connection_and_every_new_client_is_served() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        // A SYN may be lost on the way and sent again.
        let seen = flood(setting, "", SYNS, Duration::from_secs(8));
        assert!(seen.served >= 100 && seen.failed == 0, "{seen:?}, {setting}");
        // The flood was let in: nearly all of it got a claim of its own.
        assert!(seen.forwarded > SYNS * 9 / 10, "{seen:?}, {setting}");
    }
}

#[test]
fn a_gate_that_is_too_low_sheds_new_clients_with_the_flood() {
    // The control: the same flood is felt where nothing but the gate stands against it.
    require_lab!();
    let low = "\n[kernel]\nflood_gate = 2000\n";
    let seen = flood(Setting::XDP4, low, SYNS / 5, Duration::from_millis(500));
    assert!(seen.failed > 0 && seen.flooded > SYNS / 10, "{seen:?}");
}
