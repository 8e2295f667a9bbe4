//! Next hops that are forgotten, and that move, under load.

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::{
    Deston, Echoes, Lab, LoadOfBoth, TcpServer, config_of_both, server_of, servers_of_both,
};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// Connections of each family that stay; half of them are with each server.
const ECHOES: usize = 100;

/// Two servers of each family behind a listener of each, under load.
struct Scene {
    lab: Lab,
    deston: Deston,
    load: LoadOfBoth,
    _servers: [Vec<TcpServer>; 2],
}

impl Scene {
    fn new(hook: Hook) -> Self {
        let lab = Lab::new(2);
        let servers = servers_of_both(&lab);
        let no_health = "[pool.health]\nkind = \"off\"";
        let text = config_of_both(hook, no_health, &[(1, ""), (2, "")]);
        let deston = Deston::serving(&lab.balancer, &text.text());
        let load = LoadOfBoth::start(&lab, ECHOES);
        for echoes in &load.echoes {
            // Those that come and go take turns with those that stay.
            assert!((1..=2).all(|n| echoes.at_server(n) >= ECHOES / 4));
        }
        Self { lab, deston, load, _servers: servers }
    }

    /// The first server's host gets another link address, and says so as hosts do.
    fn moves(&self, address: &str) {
        let host = self.lab.server(1);
        host.set("net/ipv4/conf/eth0/arp_notify", "1");
        host.set("net/ipv6/conf/eth0/ndisc_notify", "1");
        host.batch(&[format!("link set eth0 address {address}")]);
    }

    #[track_caller]
    fn stop_unharmed(self) {
        let (exchanged, visits) = self.load.stop_unharmed(&self.lab);
        let counts = visits.map(|visits| visits.len());
        assert!(exchanged > 1_000 && counts.iter().all(|count| *count >= 100), "{counts:?}");
        println!("{exchanged} exchanges, {counts:?} connections");
    }
}

fn neighbours_are_forgotten(hook: Hook) {
    let scene = Scene::new(hook);
    for _ in 0..5 {
        for (family, n) in Family::BOTH.into_iter().flat_map(|family| [(family, 1), (family, 2)]) {
            let address = server_of(family, n).to_string();
            let line = ["ip", "-statistics", "neighbour", "flush", "to", &address];
            let said = scene.lab.balancer.run(&line);
            assert!(said.contains("deleting 1 entries"), "{said}");
        }
        scene.load.goes_on();
    }
    scene.stop_unharmed();
}

#[test]
fn neighbours_that_are_forgotten_under_load_at_xdp_cost_no_connection() {
    require_lab!();
    neighbours_are_forgotten(Hook::Xdp);
}

#[test]
fn neighbours_that_are_forgotten_under_load_at_tc_cost_no_connection() {
    require_lab!();
    neighbours_are_forgotten(Hook::Tc);
}

fn a_server_moves(hook: Hook) {
    let scene = Scene::new(hook);
    scene.moves("02:00:00:00:77:01");
    scene.load.goes_on();

    // The control: while the process is stopped, nobody follows.
    let echoes = &scene.load.echoes;
    scene.deston.freeze();
    scene.moves("02:00:00:00:77:02");
    let others_go_on = || echoes.iter().for_each(|echoes| echoes.wait_for_another_round_of(&[2]));
    others_go_on();
    let exchanged = |n| echoes.each_ref().map(|echoes: &Echoes| echoes.exchanged_with(n));
    let (held_up, others) = (exchanged(1), exchanged(2));
    others_go_on();
    assert_eq!(exchanged(1), held_up, "{hook:?}");
    assert!(exchanged(2).iter().zip(others).all(|(now, then)| *now > then), "{hook:?}");
    scene.deston.signal(Signal::SIGCONT);
    scene.load.goes_on();
    scene.stop_unharmed();
}

#[test]
fn a_server_whose_link_address_changes_is_followed_at_xdp() {
    require_lab!();
    a_server_moves(Hook::Xdp);
}

#[test]
fn a_server_whose_link_address_changes_is_followed_at_tc() {
    require_lab!();
    a_server_moves(Hook::Tc);
}
