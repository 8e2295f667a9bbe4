//! What a process leaves in the kernel, and the next one adopts with another configuration.

use std::io::ErrorKind;
use std::net::SocketAddr;

use deston_tests::lab::visit::{NO_HEALTH, PORT, config, echo, greeted, visit};
use deston_tests::lab::{Deston, Lab, TcpServer, listener};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// The configuration of a listener at TC.
fn tc(kernel: &str, servers: &[SocketAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(|address| (*address, "")).collect();
    let keys = format!("{NO_HEALTH}\n[kernel]\n{kernel}");
    config("", &keys, &servers).replace("\"xdp\"", "\"tc\"")
}

#[test]
fn told_to_keep_it_the_datapath_outlives_the_process() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let config = tc("on_stop = \"keep\"", &[server.address()]);
    let mut deston = Deston::serving(&lab.balancer, &config);
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.signal(Signal::SIGTERM);
    assert_eq!(deston.wait().code(), Some(0));
    assert!(deston.rest_of_log().contains("the kernel datapath goes on"));
    echo(&mut open);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);

    deston.start_again();
    echo(&mut open);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn a_server_that_is_not_configured_again_only_finishes_its_connections() {
    require_lab!();
    let lab = Lab::new(2);
    let servers = [1, 2].map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0));
    let addresses = [servers[0].address(), servers[1].address()];
    let mut deston = Deston::serving(&lab.balancer, &tc("", &addresses));
    let mut open = lab.client.within(|| [(); 2].map(|()| greeted(listener(PORT))));
    deston.kill();
    deston.start_again_with(&tc("", &addresses[1..]));
    open.iter_mut().for_each(echo);
    assert_eq!(lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap())), [2; 4]);
    open.iter_mut().for_each(echo);
    assert_eq!(servers[0].open(), 1, "its connection goes on");
}

#[test]
fn a_listener_that_is_not_configured_again_only_finishes_its_connections() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let config = tc("", &[server.address()]);
    let mut deston = Deston::serving(&lab.balancer, &config);
    let mut open = lab.client.within(|| greeted(listener(PORT)));
    deston.kill();
    deston.start_again_with(&config.replace("port = 8000", "port = 8001"));
    echo(&mut open);
    assert_eq!(lab.client.within(|| visit(listener(PORT + 1)).unwrap()), 1);
    let refused = lab.client.within(|| visit(listener(PORT)));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    echo(&mut open);
}
