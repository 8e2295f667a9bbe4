//! A pool's table changes under load: servers come, weigh more, drain and go.

use std::collections::BTreeSet;

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::visit::{PORT, visit};
use deston_tests::lab::{
    Deston, Echoes, Lab, LoadOfBoth, TcpServer, Visit, Visits, config_of_both, listener_of,
    servers_of_both, wait_until,
};
use deston_tests::require_lab;
use tokio::time::Instant;

/// Connections of each family that stay.
const ECHOES: usize = 100;

/// A pool in proportion to weights, whose removed servers may finish for so long.
fn config(hook: Hook, drain_timeout: &str, servers: &[(u8, &str)]) -> String {
    let pool = "algorithm = \"weighted_round_robin\"\n[pool.health]\nkind = \"off\"";
    let config = config_of_both(hook, pool, servers);
    config.section(&format!("[runtime]\ndrain_timeout = \"{drain_timeout}\"")).text()
}

/// Three servers of each family, of which two are in use, under load.
struct Scene {
    lab: Lab,
    deston: Deston,
    load: LoadOfBoth,
    _servers: [Vec<TcpServer>; 2],
}

/// A time in which one table was in use, and the share of each server.
type Phase = (Instant, Instant, [u64; 3]);

impl Scene {
    fn new(hook: Hook, drain_timeout: &str) -> Self {
        let lab = Lab::new(3);
        let servers = servers_of_both(&lab);
        let text = config(hook, drain_timeout, &[(1, ""), (2, "")]);
        let deston = Deston::serving(&lab.balancer, &text);
        let load = LoadOfBoth::start(&lab, ECHOES);
        for echoes in &load.echoes {
            let [first, second] = [1, 2].map(|n| echoes.at_server(n));
            assert_eq!(first + second, ECHOES);
            assert!(first >= ECHOES / 4 && second >= ECHOES / 4, "{first}, {second}");
        }
        Self { lab, deston, load, _servers: servers }
    }

    /// The table changes, and everybody is served; `shares` are those of new connections.
    #[track_caller]
    fn changes(&mut self, config: &str, shares: [u64; 3]) -> Phase {
        self.deston.reload(config);
        let line = self.deston.wait_for_log("reloaded");
        assert!(!line.contains("not reloaded"), "{line}");
        // The way to a server that comes may have to be asked for.
        for to in Family::BOTH.map(|family| listener_of(family, PORT)) {
            let mut left: BTreeSet<u8> =
                (1..).zip(shares).filter(|(_, share)| *share != 0).map(|(n, _)| n).collect();
            wait_until("every server is in use", || {
                left.remove(&self.lab.client.within(move || visit(to).unwrap()));
                left.is_empty()
            });
        }
        let began = Instant::now();
        self.load.goes_on();
        (began, Instant::now(), shares)
    }
}

/// Whether new connections went where the tables of their time say.
#[track_caller]
fn are_shared(visits: &[Visit], phases: &[Phase]) {
    for (began, ended, shares) in phases {
        let within = visits.iter().filter(|visit| (*began..*ended).contains(&visit.began));
        let servers: Vec<u8> = within.filter_map(|visit| visit.server).collect();
        assert!(servers.len() >= 40, "{} new connections", servers.len());
        for (n, share) in (1..).zip(shares) {
            let expected = servers.len() as u64 * share / shares.iter().sum::<u64>();
            let got = servers.iter().filter(|server| **server == n).count() as u64;
            // Every turn is whole but the first and the last.
            let spread = if *share == 0 { 0 } else { *shares.iter().max().unwrap() + 1 };
            assert!(got.abs_diff(expected) <= spread, "{got} of {servers:?}, not {expected}");
        }
    }
}

fn tables_change(hook: Hook) {
    let mut scene = Scene::new(hook, "1h");
    let of = |servers: &[(u8, &str)]| config(hook, "1h", servers);
    let phases = [
        scene.changes(&of(&[(1, ""), (2, ""), (3, "")]), [1, 1, 1]),
        scene.changes(&of(&[(1, ""), (2, ""), (3, "weight = 4")]), [1, 1, 4]),
        scene.changes(&of(&[(1, "drain = true"), (2, ""), (3, "weight = 4")]), [0, 1, 4]),
        scene.changes(&of(&[(2, ""), (3, "weight = 4")]), [0, 1, 4]),
        scene.changes(&of(&[(2, "")]), [0, 1, 0]),
        scene.changes(&of(&[(1, ""), (2, "")]), [1, 1, 0]),
    ];
    // Those that stayed are where they were, at a server that drained and was gone as well.
    assert!(scene.load.echoes.iter().all(|echoes| echoes.at_server(1) >= ECHOES / 4));
    let (exchanged, visits) = scene.load.stop_unharmed(&scene.lab);
    let counts = visits.each_ref().map(Vec::len);
    println!("{exchanged} exchanges, {counts:?} connections over {} tables", phases.len());
    assert!(exchanged > 2_000 && counts.iter().all(|count| *count >= 300), "{counts:?}");
    visits.iter().for_each(|visits| are_shared(visits, &phases));
}

#[test]
fn tables_that_change_under_load_at_xdp_cost_no_connection() {
    require_lab!();
    tables_change(Hook::Xdp);
}

#[test]
fn tables_that_change_under_load_at_tc_cost_no_connection() {
    require_lab!();
    tables_change(Hook::Tc);
}

fn a_deadline_passes(hook: Hook) {
    let mut scene = Scene::new(hook, "2s");
    let at_first = scene.load.echoes.each_ref().map(|echoes| echoes.at_server(1));
    let phase = scene.changes(&config(hook, "2s", &[(2, ""), (3, "")]), [0, 1, 1]);
    for _ in Family::BOTH {
        scene.deston.wait_for_log("`drain_timeout` is over");
    }
    scene.load.goes_on();
    let LoadOfBoth { echoes, visits } = scene.load;
    let reset = |echoes: Echoes| {
        let lost = echoes.stop();
        assert!(lost.keys().all(|(server, error)| *server == 1 && error.contains("reset")));
        lost.values().sum::<usize>()
    };
    assert_eq!(echoes.map(reset), at_first, "{hook:?}");
    for visits in visits.map(Visits::stop) {
        assert!(visits.iter().all(|visit| visit.server.is_some()), "{hook:?}");
        are_shared(&visits, &[phase]);
    }
}

#[test]
fn a_removed_servers_deadline_ends_its_connections_alone() {
    // The control of the above: the same load notices what it may.
    require_lab!();
    a_deadline_passes(Hook::Xdp);
    a_deadline_passes(Hook::Tc);
}
