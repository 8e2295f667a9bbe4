//! Servers that do not take a SYN: clients are moved, and the server is found out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deston_common::outcome::Outcome;
use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, visit_within};
use deston_tests::lab::{Deston, Lab, TcpServer, listener_of, server_of, wait_until};
use deston_tests::require_lab;

/// How long a client waits: Linux sends a SYN again after one second, and then after two more.
const LIMIT: Duration = Duration::from_millis(2_500);

/// A lab whose first server does not take SYNs, and the second does.
struct Failing {
    lab: Lab,
    servers: Vec<TcpServer>,
    to: SocketAddr,
}

impl Failing {
    fn new(setting: Setting) -> Self {
        let lab = Lab::new(2);
        let servers = (1..=2)
            .map(|n| {
                let address = (server_of(setting.family, n), 3_000).into();
                TcpServer::start_at(lab.server(n), n, address)
            })
            .collect();
        Self { lab, servers, to: listener_of(setting.family, PORT) }
    }

    /// The first server's host drops SYNs.
    fn drop_syns(&self) {
        let rules = "table inet deaf { chain in { type filter hook input priority 0; \
                     tcp flags syn / syn,ack drop; }; }";
        self.lab.server(1).run(&["nft", rules]);
    }

    /// And takes them again.
    fn take_syns(&self) {
        self.lab.server(1).run(&["nft", "delete", "table", "inet", "deaf"]);
    }

    /// The addresses of `count` servers, for a configuration.
    fn addresses(&self, count: usize) -> Vec<(SocketAddr, &'static str)> {
        self.servers.iter().take(count).map(|server| (server.address(), "")).collect()
    }

    /// The server that answers a client, and how long that took.
    fn visit(&self) -> (Option<u8>, Duration) {
        let to = self.to;
        self.lab.client.within(move || {
            let began = Instant::now();
            (visit_within(to, LIMIT), began.elapsed())
        })
    }
}

/// Keys of a pool that is judged by its traffic alone, and not soon.
fn patient() -> String {
    format!("{NO_HEALTH}\n[load_balancer.outlier]\nfailures = 1000")
}

#[test]
fn a_syn_that_is_not_answered_is_given_to_another_server_when_it_comes_again() {
    require_lab!();
    for setting in Setting::ALL {
        let failing = Failing::new(setting);
        let text = config_for(setting, "", &patient(), &failing.addresses(2));
        let _deston = Deston::serving(&failing.lab.balancer, &text);
        failing.drop_syns();
        let visits = [(); 4].map(|()| failing.visit());
        assert_eq!(visits.map(|(server, _)| server), [Some(2); 4], "{setting}");
        // Whoever met the deaf one first sent its SYN twice, and not a third time.
        let second = Duration::from_secs(1);
        assert!(visits.iter().any(|(_, took)| *took >= second), "{setting}: {visits:?}");
        assert!(visits.iter().all(|(_, took)| *took < second * 3 / 2), "{setting}: {visits:?}");
    }
}

#[test]
fn a_syn_that_is_refused_is_given_to_another_server_when_it_comes_again() {
    require_lab!();
    for setting in [Setting::XDP6, Setting::TC4] {
        let mut failing = Failing::new(setting);
        let text = config_for(setting, "", &patient(), &failing.addresses(2));
        let deston = Deston::serving(&failing.lab.balancer, &text);
        failing.servers.remove(0).stop();
        let visits = [(); 4].map(|()| failing.visit());
        assert_eq!(visits.map(|(server, _)| server), [Some(2); 4], "{setting}");
        assert!(deston.counted(Outcome::RefusalSwallowed) >= 2, "{setting}");
    }
}

#[test]
fn where_there_is_no_other_server_clients_are_refused_or_left_alone() {
    // The control: who has one server alone meets what it does.
    require_lab!();
    let setting = Setting::XDP4;
    let mut failing = Failing::new(setting);
    let text = config_for(setting, "", &patient(), &failing.addresses(1));
    let _deston = Deston::serving(&failing.lab.balancer, &text);
    failing.drop_syns();
    let (server, took) = failing.visit();
    assert!(server.is_none() && took >= LIMIT, "{server:?} after {took:?}");
    failing.take_syns();
    failing.servers.remove(0).stop();
    let (server, took) = failing.visit();
    assert!(server.is_none() && took < Duration::from_secs(1), "{server:?} after {took:?}");
}

#[test]
fn a_server_that_takes_no_syn_is_ejected_and_comes_back() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let failing = Failing::new(setting);
        let outlier = "[load_balancer.outlier]\nfailures = 2\neject = \"2s\"";
        let keys = format!("{NO_HEALTH}\n{outlier}");
        let text = config_for(setting, "", &keys, &failing.addresses(2));
        let mut deston = Deston::serving(&failing.lab.balancer, &text);
        failing.drop_syns();
        while failing.servers[1].served() < 4 {
            failing.visit();
        }
        deston.wait_for_log("a server is ejected");
        let visits = [(); 10].map(|()| failing.visit());
        assert!(visits.iter().all(|visit| visit.0 == Some(2)), "{setting}: {visits:?}");
        let waited = visits.iter().filter(|visit| visit.1 > LIMIT / 4).count();
        assert_eq!(waited, 0, "{setting}: {visits:?}");

        failing.take_syns();
        deston.wait_for_log("an ejected server is back");
        wait_until("the server is visited again", || failing.visit().0 == Some(1));
    }
}
