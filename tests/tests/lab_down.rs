//! What the connections of a server that went down do, as its pool says.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use deston::datapath::Hook;
use deston_tests::kernel::Family;
use deston_tests::lab::visit::{LIMIT, PORT, visit};
use deston_tests::lab::{
    Config, Deston, Echoes, Lab, Lost, TcpServer, UdpServer, listener_of, resets_received,
    server_of, servers_of_both,
};
use deston_tests::require_lab;

/// Connections of each family; half of them are with each server.
const ECHOES: usize = 40;

/// Clients of datagrams, of each family.
const ASKING: usize = 10;

/// A listener of each family and protocol. Datagram servers are probed at the TCP servers' port,
/// which is their own.
fn config(hook: Hook, on_down: &str) -> String {
    let pool = format!(
        "on_down = \"{on_down}\"\n[pool.health]\nkind = \"tcp\"\ninterval = \"50ms\"\n\
         timeout = \"500ms\"\nrise = 1\nfall = 2"
    );
    let mut config = Config::new();
    for family in Family::BOTH {
        for protocol in ["tcp", "udp"] {
            let name = format!("{protocol}-{family:?}");
            let keys = format!("protocol = \"{protocol}\"");
            let servers = [1, 2].map(|n| (server_of(family, n), 3_000).into());
            config = config.listener(&name, hook, listener_of(family, PORT), &keys);
            config = config.pool(&name, &pool, &servers);
        }
    }
    config.text()
}

/// Clients whose flows stay open, and who answered each.
struct Asking {
    sockets: Vec<UdpSocket>,
}

impl Asking {
    fn new(lab: &Lab, to: SocketAddr) -> Self {
        let sockets = lab.client.within(move || {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = || {
                let socket = UdpSocket::bind(any).unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket.connect(to).unwrap();
                socket
            };
            (0..ASKING).map(|_| socket()).collect()
        });
        Self { sockets }
    }

    fn answers(&self) -> Vec<u8> {
        let answer = |socket: &UdpSocket| {
            socket.send(b"x").unwrap();
            let mut answer = [0; 2];
            socket.recv(&mut answer).unwrap();
            answer[0]
        };
        self.sockets.iter().map(answer).collect()
    }
}

/// What is told of each of the four pools.
#[track_caller]
fn told(deston: &mut Deston, what: &str) {
    for _ in 0..4 {
        deston.wait_for_log(what);
    }
}

fn a_server_goes_down(hook: Hook) {
    let lab = Lab::new(2);
    let _datagrams: Vec<_> = Family::BOTH
        .into_iter()
        .flat_map(|family| [1, 2].map(|n| (n, (server_of(family, n), 3_000).into())))
        .map(|(n, address)| UdpServer::start_at(lab.server(n), n, address))
        .collect();
    let mut servers = servers_of_both(&lab);
    let mut deston = Deston::serving(&lab.balancer, &config(hook, "drain"));
    let to = Family::BOTH.map(|family| listener_of(family, PORT));
    for on_down in ["drain", "rehash", "reset"] {
        deston.reload(&config(hook, on_down));
        assert!(!deston.wait_for_log("reloaded").contains("not reloaded"));
        let resets = resets_received(&lab.client);
        let pause = Duration::from_millis(10);
        let echoes = to.map(|to| Echoes::start(&lab.client, to, ECHOES, pause));
        let asking = to.map(|to| Asking::new(&lab, to));
        let answers = asking.each_ref().map(Asking::answers);
        for (echoes, answers) in echoes.iter().zip(&answers) {
            assert_eq!([1, 2].map(|n| echoes.at_server(n)), [ECHOES / 2; 2], "{on_down}");
            assert!([1, 2].iter().all(|n| answers.contains(n)), "{on_down}: {answers:?}");
        }

        // Nobody listens there any more; what is open goes on.
        servers.iter().for_each(|servers| servers[0].close());
        told(&mut deston, "server is down");
        echoes.iter().for_each(Echoes::wait_for_another_round);
        echoes.iter().for_each(Echoes::wait_for_another_round);
        for to in to {
            let visits = lab.client.within(move || [(); 10].map(|()| visit(to).unwrap()));
            assert_eq!(visits, [2; 10], "{on_down} at {hook:?}");
        }
        // Flows of datagrams move but where they are told to stay.
        let moved =
            answers.map(|answers| if on_down == "drain" { answers } else { vec![2; ASKING] });
        assert_eq!(asking.each_ref().map(Asking::answers), moved, "{on_down} at {hook:?}");
        for lost in echoes.map(Echoes::stop) {
            if on_down == "reset" {
                assert!(lost.keys().all(|(server, error)| *server == 1 && error.contains("reset")));
                assert_eq!(lost.values().sum::<usize>(), ECHOES / 2, "{hook:?}");
            } else {
                assert_eq!(lost, Lost::new(), "{on_down} at {hook:?}");
            }
        }
        let resets = resets_received(&lab.client) - resets;
        assert_eq!(resets, if on_down == "reset" { ECHOES as u64 } else { 0 }, "{hook:?}");

        for (family, servers) in Family::BOTH.into_iter().zip(&mut servers) {
            let again = TcpServer::start_at(lab.server(1), 1, (server_of(family, 1), 3_000).into());
            servers[0] = again;
        }
        told(&mut deston, "server is up");
    }
}

#[test]
fn connections_of_a_server_that_went_down_do_as_told_at_xdp() {
    require_lab!();
    a_server_goes_down(Hook::Xdp);
}

#[test]
fn connections_of_a_server_that_went_down_do_as_told_at_tc() {
    require_lab!();
    a_server_goes_down(Hook::Tc);
}
