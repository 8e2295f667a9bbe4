//! How the kernel datapath stops.

use std::net::TcpStream;

use deston_tests::lab::visit::{LIMIT, PORT, attached, config, echo, greeted, visit};
use deston_tests::lab::{Deston, Lab, TcpServer, listener, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

#[test]
fn a_stopped_process_leaves_no_program_behind() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    let log = deston.rest_of_log();
    assert!(log.contains("forwarded="), "{log}");
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    assert!(!links.contains("\"xdp\":{"), "{links}");
}

#[test]
fn stopping_lets_a_flow_of_the_kernel_finish() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    wait_until("new connections are refused", || {
        let refused = lab.client.within(|| TcpStream::connect_timeout(&listener(PORT), LIMIT));
        refused.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    echo(&mut open);
    assert_eq!(attached(&lab), ["clients", "server1"]);
    drop(open);
    assert_eq!(deston.wait().code(), Some(0));
    assert_eq!(attached(&lab), [""; 0]);
}

#[test]
fn next_hops_are_followed_while_flows_drain() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    lab.servers[0].run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"]);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    echo(&mut open);
    drop(open);
    assert_eq!(deston.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_flows_of_the_kernel_at_once() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston = Deston::serving(&lab.balancer, &config("", "", &[(server.address(), "")]));
    let _open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    deston.signal(Signal::SIGINT);
    assert_eq!(deston.wait().code(), Some(130));
    assert_eq!(attached(&lab), [""; 0]);
}
