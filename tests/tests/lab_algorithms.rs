//! What an algorithm promises, end to end, in both families.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::visit::{PORT, greeted_by, visit};
use deston_tests::lab::{
    Deston, Lab, config_of_both, listener_of, pause, servers_of_both, wait_until,
};
use deston_tests::require_lab;

const NO_HEALTH: &str = "[pool.health]\nkind = \"off\"";

/// Connections one after the other, and who answered each.
fn visits(lab: &Lab, to: SocketAddr, count: usize) -> Vec<u8> {
    lab.client.within(move || (0..count).map(|_| visit(to).unwrap()).collect())
}

fn clients_stick(hook: Hook) {
    const TTL: Duration = Duration::from_secs(3);
    let lab = Lab::new(2);
    let _servers = servers_of_both(&lab);
    let keys = format!("{NO_HEALTH}\n[pool.sticky]\nby = \"ip\"\nttl = \"{}s\"", TTL.as_secs());
    let text = config_of_both(hook, &keys, &[(1, ""), (2, "")]);
    let _deston = Deston::serving(&lab.balancer, &text.text());
    let to = Family::BOTH.map(|family| listener_of(family, PORT));
    let look = || to.map(|to| visits(&lab, to, 20));
    assert_eq!(look(), [vec![1; 20], vec![1; 20]], "{hook:?}");
    // Whoever connects is remembered for longer.
    pause(TTL / 3);
    assert_eq!(look(), [vec![1; 20], vec![1; 20]], "{hook:?}");
    pause(TTL + TTL / 10);
    // The next in turn, which is kept as well.
    assert_eq!(look(), [vec![2; 20], vec![2; 20]], "{hook:?}");
}

#[test]
fn a_client_keeps_its_server_until_it_has_been_silent() {
    require_lab!();
    clients_stick(Hook::Xdp);
    clients_stick(Hook::Tc);
}

#[test]
fn without_it_a_client_meets_every_server() {
    // The control.
    require_lab!();
    let lab = Lab::new(2);
    let _servers = servers_of_both(&lab);
    let text = config_of_both(Hook::Tc, NO_HEALTH, &[(1, ""), (2, "")]);
    let _deston = Deston::serving(&lab.balancer, &text.text());
    for family in Family::BOTH {
        assert_eq!(visits(&lab, listener_of(family, PORT), 4), [1, 2, 1, 2]);
    }
}

/// How many of the connections are with each of three servers.
fn counts(open: &[(u8, TcpStream)]) -> [usize; 3] {
    [1, 2, 3].map(|n| open.iter().filter(|(server, _)| *server == n).count())
}

/// Connections of a host that both sides have closed.
fn closed(lab: &Lab) -> usize {
    lab.client.run(&["ss", "-Htn", "state", "time-wait"]).lines().count()
}

fn the_least_is_chosen(hook: Hook) {
    let lab = Lab::new(3);
    let _servers = servers_of_both(&lab);
    let keys = format!("algorithm = \"least_connections\"\n{NO_HEALTH}");
    let text = config_of_both(hook, &keys, &[(1, ""), (2, ""), (3, "weight = 2")]);
    let _deston = Deston::serving(&lab.balancer, &text.text());
    for family in Family::BOTH {
        let to = listener_of(family, PORT);
        let open = |count| {
            lab.client.within(move || (0..count).map(|_| greeted_by(to)).collect::<Vec<_>>())
        };
        let mut held = open(40);
        assert_eq!(counts(&held), [10, 10, 20], "{family:?} at {hook:?}");
        let before = closed(&lab);
        held.retain(|(server, _)| *server != 1);
        wait_until("the first server's connections are closed", || closed(&lab) == before + 10);
        held.extend(open(10));
        assert_eq!(counts(&held), [10, 10, 20], "{family:?} at {hook:?}");
    }
}

#[test]
fn new_connections_go_where_the_fewest_are() {
    require_lab!();
    the_least_is_chosen(Hook::Xdp);
    the_least_is_chosen(Hook::Tc);
}
