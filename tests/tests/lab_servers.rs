//! What becomes of servers: health, limits.

use std::net::UdpSocket;
use std::time::Duration;

use deston_tests::lab::visit::{NO_HEALTH, PORT, briefly, config, counted, greeted, visit};
use deston_tests::lab::{Deston, Lab, TcpServer, UdpServer, listener, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

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
    let line = deston.wait_for_log("dropped packets that open flows");
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
