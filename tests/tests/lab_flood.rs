//! A flood of forged SYNs.

use std::time::{Duration, Instant};

use deston_common::outcome::Outcome;
use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for};
use deston_tests::lab::{
    Deston, Echoes, Lab, Lost, SynFlood, TcpServer, Visits, listener_of, server_of, wait_long_until,
};
use deston_tests::require_lab;

/// Connections that stay.
const ECHOES: usize = 1_000;
/// Forged SYNs.
const SYNS: u64 = 1_000_000;
/// How long sending them may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Floods a balancer while connections stay and clients come; the clients that were served and those
/// that were not within `limit`.
fn flood(setting: Setting, kernel: &str, syns: u64, limit: Duration) -> (usize, usize) {
    let lab = Lab::new(2);
    let servers: Vec<_> = (1..=2)
        .map(|n| {
            let address = (server_of(setting.family, n), 3_000).into();
            TcpServer::start_at(lab.server(n), n, address)
        })
        .collect();
    let addresses: Vec<_> = servers.iter().map(|server| (server.address(), "")).collect();
    let text = config_for(setting, "", NO_HEALTH, &addresses) + kernel;
    let deston = Deston::serving(&lab.balancer, &text);
    let to = listener_of(setting.family, PORT);
    let echoes = Echoes::start(&lab.client, to, ECHOES, Duration::from_millis(500));

    let began = Instant::now();
    let flood = SynFlood::start(&lab, to, syns);
    let visits = Visits::patient(&lab.client, to, 4, Duration::from_millis(20), limit);
    wait_long_until(PATIENCE, "the flood is over", || flood.is_over());
    let took = began.elapsed();
    assert_eq!(flood.sent(), syns);
    let visits = visits.stop();
    let served = visits.iter().filter(|visit| visit.server.is_some()).count();
    let counts = [Outcome::Forwarded, Outcome::SnatExhausted, Outcome::Flooded, Outcome::Raced]
        .map(|outcome| format!("{} {}", deston.counted(outcome), outcome.name()));
    println!(
        "{syns} SYNs in {took:?} at {setting}: {served} of {} clients served; {counts:?}",
        visits.len()
    );
    echoes.wait_for_another_round();
    assert_eq!(echoes.stop(), Lost::new());
    (served, visits.len() - served)
}

#[test]
fn a_flood_of_syns_harms_no_connection_and_new_clients_still_connect() {
    require_lab!();
    // A SYN may be shed and sent again, after one second and after three.
    let limit = Duration::from_secs(8);
    for setting in [Setting::XDP4, Setting::TC6] {
        let (served, failed) = flood(setting, "", SYNS, limit);
        assert!(served >= 10 && failed == 0, "{served} served, {failed} not, {setting}");
    }
}

#[test]
fn a_gate_that_is_too_low_sheds_new_clients_with_the_flood() {
    // The control: the same flood is felt where Deston is told to be careful.
    require_lab!();
    let low = "\n[kernel]\nflood_gate = 2000\n";
    let (_, failed) = flood(Setting::XDP4, low, SYNS / 5, Duration::from_millis(500));
    assert!(failed > 0);
}
