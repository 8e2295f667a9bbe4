//! What becomes of servers: health, limits.

use std::net::UdpSocket;
use std::time::Duration;

use deston_tests::kernel::Setting;
use deston_tests::lab::visit::{
    NO_HEALTH, PORT, briefly, config, config_for, counted, greeted, visit,
};
use deston_tests::lab::{
    Deston, Echoes, Lab, TcpServer, UdpServer, Visits, listener, listener_of, server_of, wait_until,
};
use deston_tests::require_lab;
use nix::sys::signal::Signal;
use tokio::time::Instant;

#[test]
fn a_dead_server_gets_no_connection_and_comes_back() {
    require_lab!();
    let lab = Lab::new(2);
    let first = TcpServer::start(&lab.servers[0], 1, 0);
    let second = TcpServer::start(&lab.servers[1], 2, 0);
    let health =
        "[load_balancer.health]\ninterval = \"50ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2";
    let addresses = [(first.address(), ""), (second.address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", health, &addresses));
    let visits = |lab: &Lab| {
        lab.client.within(|| (0..10).map(|_| visit(listener(PORT)).unwrap()).collect::<Vec<_>>())
    };
    assert_eq!(visits(&lab).iter().filter(|n| **n == 1).count(), 5);

    let port = first.address().port();
    first.stop();
    deston.wait_for_log("server is down");
    assert_eq!(visits(&lab), [2; 10]);

    let _first = TcpServer::start(&lab.servers[0], 1, port);
    deston.wait_for_log("server is up");
    assert_eq!(visits(&lab).iter().filter(|n| **n == 1).count(), 5);
}

/// How a server goes.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Its process is killed: its host ends its connections and refuses new ones.
    Process,
    /// Its host is gone: nobody answers.
    Host,
}

/// Connections that stay; a third of them is with each server.
const ECHOES: usize = 60;

/// One of three servers goes under load.
fn a_server_goes(setting: Setting, end: End) {
    let lab = Lab::new(3);
    let mut servers: Vec<_> = (1..=3)
        .map(|n| {
            let address = (server_of(setting.family, n), 3_000).into();
            TcpServer::start_at(lab.server(n), n, address)
        })
        .collect();
    let addresses: Vec<_> = servers.iter().map(|server| (server.address(), "")).collect();
    let health =
        "[load_balancer.health]\ninterval = \"100ms\"\ntimeout = \"300ms\"\nrise = 1\nfall = 2";
    let text = config_for(setting, "", health, &addresses);
    let mut deston = Deston::serving(&lab.balancer, &text);
    let to = listener_of(setting.family, PORT);
    let echoes = Echoes::start(&lab.client, to, ECHOES, Duration::from_millis(20));
    let visits = Visits::start(&lab.client, to, 2, Duration::from_millis(5));
    assert_eq!([1, 2, 3].map(|n| echoes.at_server(n)), [ECHOES / 3; 3]);
    visits.wait_for(30);

    match end {
        End::Process => servers.remove(0).stop(),
        End::Host => lab.server(1).batch(&["link set eth0 down"]),
    }
    deston.wait_for_log("server is down");
    let detected = Instant::now();
    visits.wait_for(200);
    echoes.wait_for_another_round_of(&[2, 3]);
    let visits = visits.stop();
    let later: Vec<_> = visits.iter().filter(|visit| visit.began > detected).collect();
    assert!(later.len() >= 190, "{} connections after detection", later.len());
    let wrong: Vec<_> = later.iter().filter(|v| !matches!(v.server, Some(2 | 3))).collect();
    assert!(wrong.is_empty(), "{setting}, {end:?}: {wrong:?}");
    // Before that some may have met the server while it went; afterwards nobody waits for it.
    let slow = later.iter().filter(|visit| visit.took > Duration::from_millis(900)).count();
    assert_eq!(slow, 0, "{setting}, {end:?}");
    let lost = echoes.lost();
    assert!(lost.keys().all(|(server, _)| *server == 1), "{setting}, {end:?}: {lost:?}");
    if matches!(end, End::Process) {
        // The control: whoever was connected to it noticed.
        assert_eq!(lost.values().sum::<usize>(), ECHOES / 3);
    }
}

#[test]
fn a_server_that_is_killed_under_load_takes_only_its_own_connections_with_it() {
    require_lab!();
    a_server_goes(Setting::XDP4, End::Process);
    a_server_goes(Setting::TC6, End::Process);
}

#[test]
fn a_host_that_is_gone_under_load_takes_only_its_own_connections_with_it() {
    require_lab!();
    a_server_goes(Setting::XDP6, End::Host);
    a_server_goes(Setting::TC4, End::Host);
}

#[test]
fn that_no_server_is_reachable_is_logged() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let health = "[load_balancer.health]\ninterval = \"50ms\"\ntimeout = \"500ms\"\nfall = 1";
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", health, &addresses));
    servers.into_iter().for_each(TcpServer::stop);
    let line = deston.wait_for_log("no server is reachable");
    assert!(line.contains("ERROR"), "{line}");
}

#[test]
fn no_server_ever_has_more_connections_than_its_limit() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let limit = "max_connections = 5";
    let addresses = [(servers[0].address(), limit), (servers[1].address(), limit)];
    let _deston = Deston::serving(&lab.balancer, &config("", "", &addresses));

    // 20 clients at a time for 10 places: some SYNs are dropped and sent again a second later.
    let threads: Vec<_> = (0..20)
        .map(|_| {
            lab.client.spawn(|| {
                for _ in 0..10 {
                    visit(listener(PORT)).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for server in &servers {
        let most = server.most_open();
        assert!((1..=5).contains(&most), "{most} connections at once");
    }
    assert_eq!(servers[0].served() + servers[1].served(), 200);
}

#[test]
fn connections_that_the_kernel_drops_are_told_of_while_it_happens() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let one_port = "snat_ports = \"20000-20000\"";
    let text = config(one_port, "", &[(server.address(), "")]);
    let mut deston = Deston::serving(&lab.balancer, &text);
    let first = lab.client.within(|| greeted(listener(PORT)));
    assert!(lab.client.within(|| briefly(listener(PORT))).is_none());
    let line = deston.wait_for_log("the kernel dropped packets: ");
    assert!(line.contains("snat_exhausted=") && line.contains("`snat_ports`"), "{line}");
    drop(first);
}

#[test]
fn a_datagram_flow_takes_one_of_the_servers_connections() {
    require_lab!();
    let lab = Lab::new(1);
    let server = UdpServer::start(&lab.servers[0], 1, 0);
    let one = [(server.address(), "max_connections = 1")];
    let mut deston = Deston::serving(&lab.balancer, &config("protocol = \"udp\"", NO_HEALTH, &one));
    let answered = |socket: &UdpSocket| {
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    };
    let [first, second] = [(); 2].map(|()| {
        lab.client.within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.connect(listener(PORT)).unwrap();
            socket
        })
    });
    wait_until("the first client is answered", || answered(&first));
    assert!(!answered(&second), "the server has one flow, and room for one");
    assert!(answered(&first));
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0), "datagrams are not waited for");
    assert_eq!(counted(&deston.rest_of_log(), "servers_full"), 1);
}
