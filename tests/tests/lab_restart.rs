//! The process is killed and started again; what it has put into the kernel goes on.

use deston::datapath::Hook;
use deston_tests::lab::{
    Config, Deston, Echoes, Lab, LoadOfBoth, config_of_both, retransmitted, servers_of_both,
};
use deston_tests::require_lab;

/// Connections of each family that stay.
const ECHOES: usize = 100;

fn config(hook: Hook) -> Config {
    config_of_both(hook, "[pool.health]\nkind = \"off\"", &[(1, ""), (2, "")])
}

fn a_killed_process_is_not_missed(hook: Hook) {
    let lab = Lab::new(2);
    let _servers = servers_of_both(&lab);
    let mut deston = Deston::serving(&lab.balancer, &config(hook).text());
    let load = LoadOfBoth::start(&lab, ECHOES);
    let again = || lab.hosts().map(retransmitted).sum::<u64>();
    let before = again();
    for _ in 0..2 {
        deston.kill();
        load.goes_on();
        deston.start_again();
        load.goes_on();
    }
    let sent_again = again() - before;
    let (exchanged, visits) = load.stop_unharmed(&lab);
    let visits = visits.concat().len();
    println!("{exchanged} exchanges, {visits} connections, at {hook:?}: none failed");
    assert_eq!(sent_again, 0, "segments were sent again, at {hook:?}");
    assert!(exchanged > 1_000 && visits >= 400, "{exchanged}, {visits}");
}

#[test]
fn killing_and_starting_again_resets_no_connection_at_xdp() {
    require_lab!();
    a_killed_process_is_not_missed(Hook::Xdp);
}

#[test]
fn killing_and_starting_again_resets_no_connection_at_tc() {
    require_lab!();
    a_killed_process_is_not_missed(Hook::Tc);
}

#[test]
fn without_pins_a_killed_process_takes_its_connections_with_it() {
    // The control: the same load notices when the datapath goes.
    require_lab!();
    let lab = Lab::new(2);
    let _servers = servers_of_both(&lab);
    let unpinned = config(Hook::Tc).section("[kernel]\npin = false");
    let mut deston = Deston::serving(&lab.balancer, &unpinned.text());
    let load = LoadOfBoth::start(&lab, ECHOES);
    deston.kill();
    load.echoes.iter().for_each(Echoes::wait_for_another_round);
    assert_eq!(load.echoes.map(|echoes| echoes.stop().values().sum::<usize>()), [ECHOES; 2]);
}
