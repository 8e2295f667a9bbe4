//! Interfaces and next hops: attaching, letting go, following.

use std::net::SocketAddr;

use deston_tests::lab::visit::{
    NO_HEALTH, PORT, attached, config, echo, greeted, second_listener, visit, visit_soon,
};
use deston_tests::lab::{
    Deston, Lab, TcpServer, listener, put_another_program, server_address, wait_until,
};
use deston_tests::require_lab;

#[test]
fn a_refused_reload_attaches_to_nothing_new() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let first = config("", "", &[(servers[0].address(), "")]);
    let mut deston = Deston::serving(&lab.balancer, &first);
    assert_eq!(attached(&lab), ["clients", "server1"]);

    let nowhere = second_listener(PORT + 2, SocketAddr::from(([192, 0, 2, 7], 80)));
    let nowhere = nowhere.replace("\"second\"", "\"third\"");
    deston.reload(&(first + &second_listener(PORT + 1, servers[1].address()) + &nowhere));
    deston.wait_for_log("not reloaded");
    assert_eq!(attached(&lab), ["clients", "server1"]);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_interface_is_let_go_once_the_last_flow_that_needs_it_has_ended() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let first = config("", "", &[(servers[0].address(), "")]);
    let both = first.clone() + &second_listener(PORT + 1, servers[1].address());
    let mut deston = Deston::serving(&lab.balancer, &both);
    assert_eq!(attached(&lab), ["clients", "server1", "server2"]);
    let mut open = lab.client.within(|| greeted(listener(PORT + 1)));

    deston.reload(&first);
    assert!(!deston.wait_for_log("reloaded").contains("not reloaded"));
    assert_eq!(attached(&lab), ["clients", "server1", "server2"]);
    echo(&mut open);
    drop(open);
    wait_until("server2's interface is let go", || attached(&lab) == ["clients", "server1"]);

    deston.reload(&first.replace("\"xdp\"", "\"userspace\""));
    assert!(!deston.wait_for_log("reloaded").contains("not reloaded"));
    wait_until("every interface is let go", || attached(&lab).is_empty());
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn a_next_hop_nobody_has_asked_for_is_resolved_at_start() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    let _deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn next_hops_are_kept_resolved() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let _deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
    lab.servers[0].run(&["ip", "link", "set", "eth0", "address", "02:00:00:00:77:01"]);
    lab.balancer.run(&["ip", "neighbour", "flush", "all"]);
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn an_interface_that_is_made_anew_is_attached_again() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston =
        Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    assert_eq!(visit_soon(&lab), 1);
    lab.balancer.run(&["ip", "link", "del", "server1"]);
    deston.wait_for_log("an interface is gone");
    lab.join(1);
    deston.wait_for_log("attached: traffic moved here");
    assert_eq!(attached(&lab), ["clients", "server1"]);
    assert_eq!(visit_soon(&lab), 1);

    lab.balancer.run(&["ip", "link", "del", "clients"]);
    deston.wait_for_log("an interface is gone");
    lab.join_client();
    deston.wait_for_log("attached: traffic moved here");
    assert_eq!(visit_soon(&lab), 1);
}

#[test]
fn a_server_behind_an_interface_that_takes_no_program_gets_no_new_connection() {
    require_lab!();
    let lab = Lab::new(2);
    let servers =
        [TcpServer::start(&lab.servers[0], 1, 0), TcpServer::start(&lab.servers[1], 2, 0)];
    let addresses = [(servers[0].address(), ""), (servers[1].address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", NO_HEALTH, &addresses));
    let to_first = format!("{}/32", server_address(1));
    // A bridge has no native XDP.
    lab.balancer.run(&["ip", "link", "add", "other", "type", "bridge"]);
    lab.balancer.run(&["ip", "link", "set", "other", "up"]);
    lab.balancer.run(&[
        "ip",
        "neighbour",
        "add",
        &server_address(1).to_string(),
        "lladdr",
        "02:00:00:00:77:02",
        "dev",
        "other",
        "nud",
        "permanent",
    ]);
    lab.balancer.run(&["ip", "route", "add", &to_first, "dev", "other"]);
    let line = deston.wait_for_log("traffic moved to an interface without our program");
    assert!(line.contains("WARN") && line.contains("has no native XDP"), "{line}");
    deston.wait_for_log("it gets no new flow");
    assert_eq!(lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap())), [2; 4]);

    lab.balancer.run(&["ip", "route", "del", &to_first]);
    deston.wait_for_log("it gets new flows");
    let answers = lab.client.within(|| [(); 4].map(|()| visit(listener(PORT)).unwrap()));
    assert_eq!(answers.iter().filter(|n| **n == 1).count(), 2);
}

#[test]
fn an_interface_that_takes_the_program_later_is_attached_then() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let mut deston =
        Deston::serving(&lab.balancer, &config("", NO_HEALTH, &[(server.address(), "")]));
    let to_server = format!("{}/32", server_address(1));
    lab.balancer.batch(&["link add other type veth peer name beyond", "link set beyond up"]);
    put_another_program(&lab, "other");
    lab.balancer.batch(&[
        "link set other up".to_owned(),
        format!("neighbour add {} lladdr 02:00:00:00:77:02 dev other", server_address(1)),
        format!("route add {to_server} dev other"),
    ]);
    let line = deston.wait_for_log("traffic moved to an interface without our program");
    assert!(line.contains("another XDP program"), "{line}");

    lab.balancer.run(&["ip", "link", "set", "dev", "other", "xdp", "off"]);
    deston.wait_for_log("attached: traffic moved here");
    assert!(attached(&lab).contains(&"other".to_owned()));
}
