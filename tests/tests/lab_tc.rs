//! The kernel datapath at the TC hook, in both families.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use deston_tests::kernel::Family;
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config, counted, greeted, visit};
use deston_tests::lab::{
    BALANCER, BALANCER6, Deston, Lab, TcpServer, listener, listener_of, server_of,
};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// Bytes of a bulk transfer.
const BULK: usize = 8 << 20;

/// The configuration of a listener at TC, of either family.
fn tc(servers: &[SocketAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(|address| (*address, "")).collect();
    config("", NO_HEALTH, &servers).replace("\"xdp\"", "\"tc\"")
}

fn tc6(servers: &[SocketAddr]) -> String {
    tc(servers).replace(&BALANCER.to_string(), &BALANCER6.to_string())
}

/// What the kernel had counted of an outcome when a process that is told to stop has stopped.
fn stopped(mut deston: Deston, outcome: &str) -> u64 {
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    counted(&deston.rest_of_log(), outcome)
}

/// Sends `BULK` bytes on a connection, and reads as many back.
fn exchange(to: SocketAddr) {
    let mut stream = greeted(to);
    let mut writing = stream.try_clone().unwrap();
    let sent = std::thread::spawn(move || writing.write_all(&vec![7; BULK]));
    let mut received = vec![0; BULK];
    stream.read_exact(&mut received).unwrap();
    assert!(received.iter().all(|byte| *byte == 7));
    sent.join().unwrap().unwrap();
}

#[test]
fn ipv4_connections_are_balanced_at_tc() {
    require_lab!();
    let lab = Lab::new(2);
    let servers = [1, 2].map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0));
    let config = tc(&[servers[0].address(), servers[1].address()]);
    let deston = Deston::serving(&lab.balancer, &config);
    let answers = lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap()));
    assert_eq!(answers, [1, 2, 1, 2]);
    lab.client.within(|| exchange(listener(PORT)));
    assert!(stopped(deston, "replied") > 20, "the kernel has carried them");
}

#[test]
fn ipv6_connections_are_balanced_at_tc() {
    require_lab!();
    let lab = Lab::new(2);
    let servers = [1, 2].map(|n: u8| {
        let address = SocketAddr::new(server_of(Family::V6, n), 0);
        TcpServer::start_at(&lab.servers[usize::from(n) - 1], n, address)
    });
    let config = tc6(&[servers[0].address(), servers[1].address()]);
    let deston = Deston::serving(&lab.balancer, &config);
    let answers =
        lab.client.within(|| [(); 4].map(|()| visit(listener_of(Family::V6, PORT)).unwrap()));
    assert_eq!(answers, [1, 2, 1, 2]);
    lab.client.within(|| exchange(listener_of(Family::V6, PORT)));
    assert!(stopped(deston, "replied") > 20, "the kernel has carried them");
}

#[test]
fn ipv6_connections_are_balanced_at_xdp() {
    require_lab!();
    let lab = Lab::new(1);
    let address = SocketAddr::new(server_of(Family::V6, 1), 0);
    let server = TcpServer::start_at(&lab.servers[0], 1, address);
    let config = tc6(&[server.address()]).replace("\"tc\"", "\"xdp\"");
    let deston = Deston::serving(&lab.balancer, &config);
    assert_eq!(lab.client.within(|| visit(listener_of(Family::V6, PORT)).unwrap()), 1);
    lab.client.within(|| exchange(listener_of(Family::V6, PORT)));
    assert!(stopped(deston, "replied") > 20, "the kernel has carried them");
}

#[test]
fn a_listener_on_every_address_follows_the_addresses_of_its_interfaces() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let every = tc(&[server.address()])
        .replace(&BALANCER.to_string(), "0.0.0.0")
        .replace("\"tc\"", "\"tc\"\ninterfaces = [\"clients\"]");
    let mut deston = Deston::serving(&lab.balancer, &every);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
    lab.balancer.address("clients", "198.51.100.9/24");
    deston.wait_for_log("the listener has a new address");
    let new = SocketAddr::from(([198, 51, 100, 9], PORT));
    assert_eq!(lab.client.within(move || visit(new).unwrap()), 1);
    // Addresses that no client's packets come in by are served beside the kernel.
    let loopback = SocketAddr::from(([127, 0, 0, 1], PORT));
    assert_eq!(lab.balancer.within(move || visit(loopback).unwrap()), 1);
    lab.balancer.run(&["ip", "address", "del", "198.51.100.9/24", "dev", "clients"]);
    deston.wait_for_log("the listener has lost an address");
    // Two connections, of four packets each and an acknowledgement that may come later.
    assert!(stopped(deston, "forwarded") >= 8);
}

#[test]
fn a_listener_whose_address_goes_and_comes_back_says_so_once_each() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    lab.balancer.address("clients", "198.51.100.9/24");
    let named = tc(&[server.address()]).replace(&BALANCER.to_string(), "198.51.100.9");
    let mut deston = Deston::serving(&lab.balancer, &named);
    let address = SocketAddr::from(([198, 51, 100, 9], PORT));
    assert_eq!(lab.client.within(move || visit(address).unwrap()), 1);
    lab.balancer.run(&["ip", "address", "del", "198.51.100.9/24", "dev", "clients"]);
    let line = deston.wait_for_log("no interface has the listener's address");
    assert!(line.contains("WARN") && line.contains("198.51.100.9"), "{line}");
    lab.balancer.address("clients", "198.51.100.9/24");
    let line = deston.wait_for_log("an interface has the listener's address");
    assert!(line.contains("INFO"), "{line}");
    assert_eq!(lab.client.within(move || visit(address).unwrap()), 1);
    deston.signal(Signal::SIGTERM);
    deston.wait();
    let log = deston.rest_of_log();
    assert_eq!(log.matches("no interface has the listener's address").count(), 1, "{log}");
    assert_eq!(log.matches("an interface has the listener's address").count(), 1, "{log}");
}

#[test]
fn who_only_keeps_the_port_serves_nobody() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let dnat = tc(&[server.address()]).replace("\"tc\"", "\"tc\"\nforwarding = \"dnat\"");
    let _deston = Deston::serving(&lab.balancer, &dnat);
    let refused = lab.balancer.within(|| TcpStream::connect_timeout(&listener(PORT), LIMIT));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(lab.balancer.within(|| TcpListener::bind(listener(PORT))).is_err());
}
