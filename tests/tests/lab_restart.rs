//! The process is killed and started again; what it has put into the kernel goes on.

use std::time::Duration;

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::visit::PORT;
use deston_tests::lab::{
    Config, Deston, Echoes, Lab, Lost, TcpServer, Visits, listener_of, resets_received, server_of,
};
use deston_tests::require_lab;

/// Connections of each family that stay.
const ECHOES: usize = 100;

/// Servers of both families, and a listener of each.
fn servers(lab: &Lab, family: Family) -> Vec<TcpServer> {
    let start = |(host, n)| TcpServer::start_at(host, n, (server_of(family, n), 3_000).into());
    lab.servers.iter().zip(1..).map(start).collect()
}

fn config(hook: Hook, servers: [&[TcpServer]; 2]) -> Config {
    let mut config = Config::new();
    for (family, servers) in Family::BOTH.into_iter().zip(servers) {
        let name = format!("{family:?}");
        let addresses: Vec<_> = servers.iter().map(TcpServer::address).collect();
        config = config.listener(&name, hook, listener_of(family, PORT), "");
        config = config.pool(&name, "[pool.health]\nkind = \"off\"", &addresses);
    }
    config
}

/// Clients of both families: those that stay, and those that come and go.
struct Load {
    echoes: [Echoes; 2],
    visits: [Visits; 2],
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let to = Family::BOTH.map(|family| listener_of(family, PORT));
        let pause = Duration::from_millis(20);
        Self {
            echoes: to.map(|to| Echoes::start(&lab.client, to, ECHOES, pause)),
            visits: to.map(|to| Visits::start(&lab.client, to, 1, Duration::from_millis(5))),
        }
    }

    /// Waits until everybody has been served while something is as it is.
    fn goes_on(&self) {
        self.echoes.iter().for_each(Echoes::wait_for_another_round);
        self.visits.iter().for_each(|visits| visits.wait_for(50));
    }
}

fn a_killed_process_is_not_missed(hook: Hook) {
    let lab = Lab::new(2);
    let [v4, v6] = Family::BOTH.map(|family| servers(&lab, family));
    let mut deston = Deston::serving(&lab.balancer, &config(hook, [&v4, &v6]).text());
    let load = Load::start(&lab);
    for _ in 0..2 {
        deston.kill();
        load.goes_on();
        deston.start_again();
        load.goes_on();
    }
    let exchanged: u64 = load.echoes.iter().map(Echoes::exchanged).sum();
    assert_eq!(load.echoes.map(Echoes::stop), [Lost::new(), Lost::new()]);
    let visits = load.visits.map(Visits::stop).concat();
    let failed: Vec<_> = visits.iter().filter(|visit| visit.server.is_none()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    println!("{exchanged} exchanges, {} connections, at {hook:?}: none failed", visits.len());
    assert!(exchanged > 1_000 && visits.len() >= 400, "{exchanged}, {}", visits.len());
    assert_eq!(lab.hosts().map(resets_received).sum::<u64>(), 0);
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
    let [v4, v6] = Family::BOTH.map(|family| servers(&lab, family));
    let unpinned = config(Hook::Tc, [&v4, &v6]).section("[kernel]\npin = false");
    let mut deston = Deston::serving(&lab.balancer, &unpinned.text());
    let load = Load::start(&lab);
    deston.kill();
    load.echoes.iter().for_each(Echoes::wait_for_another_round);
    assert_eq!(load.echoes.map(|echoes| echoes.stop().values().sum::<usize>()), [ECHOES; 2]);
}
