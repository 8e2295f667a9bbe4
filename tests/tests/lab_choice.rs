//! Which datapath a listener gets, and what is said about it.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config, visit};
use deston_tests::lab::{BALANCER, Deston, Lab, TcpServer, listener, server_address};
use deston_tests::require_lab;

#[test]
fn auto_takes_xdp_where_it_is_the_better_choice() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let auto = config("", generic, &[(server.address(), "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("xdp") && !line.contains("userspace"), "{line}");
    deston.wait_for_log("ready");
    let links = lab.balancer.run(&["ip", "-oneline", "link", "show"]);
    assert_eq!(links.matches("prog/xdp").count(), 2, "{links}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn auto_takes_userspace_for_servers_on_loopback_and_says_why() {
    require_lab!();
    let lab = Lab::new(1);
    let own = lab.balancer.within(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = own.local_addr().unwrap();
    let auto = config("", "", &[(address, "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("userspace") && line.contains("127.0.0.1 is a loopback"), "{line}");
    deston.wait_for_log("ready");
    let client = lab.client.spawn(|| TcpStream::connect_timeout(&listener(PORT), LIMIT));
    own.accept().unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn auto_takes_tc_on_veth_and_says_why() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let config = config("", "", &[(server.address(), "")]).replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start(&lab.balancer, &config);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("datapath=\"tc\"") && line.contains("is a veth"), "{line}");
    deston.wait_for_log("ready");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_explicit_xdp_that_cannot_be_had_is_an_error() {
    require_lab!();
    let lab = Lab::new(1);
    let cases = [
        (config("", "", &[(SocketAddr::from(([203, 0, 113, 17], 80)), "")]), "on this host"),
        (config("", "", &[(SocketAddr::from(([192, 0, 2, 7], 80)), "")]), "no route"),
        (
            config(
                "interfaces = [\"nic9\"]",
                "",
                &[(SocketAddr::from((server_address(1), 80)), "")],
            ),
            "no interface `nic9`",
        ),
    ];
    for (config, reason) in cases {
        let mut deston = Deston::start(&lab.balancer, &config);
        let status = deston.wait();
        let log = deston.rest_of_log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(reason), "{log}");
    }
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    assert!(!links.contains("\"xdp\":{"), "{links}");
}

#[test]
fn without_privileges_auto_takes_userspace_and_says_what_is_missing() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let explicit = config("", generic, &[(server.address(), "")]);
    let auto = explicit.replace("\"xdp\"", "\"auto\"");
    let mut deston = Deston::start_as_nobody(&lab.balancer, &auto);
    let line = deston.wait_for_log("datapath chosen");
    assert!(line.contains("userspace") && line.contains("CAP_BPF"), "{line}");
    deston.wait_for_log("ready");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
    drop(deston);

    let mut deston = Deston::start_as_nobody(&lab.balancer, &explicit);
    assert_eq!(deston.wait().code(), Some(1));
    assert!(deston.rest_of_log().contains("CAP_BPF"));
}

#[test]
fn generic_mode_is_had_where_it_is_asked_for() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\nxdp_mode = \"generic\"\n";
    let _deston = Deston::serving(&lab.balancer, &config("", generic, &[(server.address(), "")]));
    let links = lab.balancer.run(&["ip", "-details", "-json", "link", "show"]);
    // XDP_ATTACHED_SKB (linux/if_link.h).
    assert_eq!(links.matches("\"xdp\":{\"mode\":2").count(), 2, "{links}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn an_interface_with_another_xdp_program_is_refused_clearly() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let unpinned = config("", "[kernel]\npin = false\n", &[(server.address(), "")]);
    let _first = Deston::serving(&lab.balancer, &unpinned);
    let mut second = Deston::start(&lab.balancer, &unpinned);
    let status = second.wait();
    let log = second.rest_of_log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("has another XDP program"), "{log}");
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}

#[test]
fn auto_takes_tc_where_another_xdp_program_is_and_says_so() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let generic = "[kernel]\npin = false\nxdp_mode = \"generic\"\n";
    let xdp = config("", generic, &[(server.address(), "")]);
    let _first = Deston::serving(&lab.balancer, &xdp);
    let auto = xdp.replace("\"xdp\"", "\"auto\"").replace("port = 8000", "port = 8001");
    let mut second = Deston::start(&lab.balancer, &auto);
    let line = second.wait_for_log("datapath chosen");
    assert!(line.contains("datapath=\"tc\"") && line.contains("has another XDP program"), "{line}");
    second.wait_for_log("ready");
    let ports = [PORT, PORT + 1];
    let answers = lab.client.within(move || ports.map(|port| visit(listener(port)).unwrap()));
    assert_eq!(answers, [1, 1]);
}

#[test]
fn a_port_of_another_process_is_not_taken() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let tcp = config("", NO_HEALTH, &[(server.address(), "")]);
    let udp = config("protocol = \"udp\"", NO_HEALTH, &[(server.address(), "")]);
    let refused = |config: &str| {
        let mut deston = Deston::start(&lab.balancer, config);
        assert_eq!(deston.wait().code(), Some(1));
        let log = deston.rest_of_log();
        assert!(log.contains("is in use by another process"), "{log}");
    };
    let other = lab.balancer.within(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    refused(&tcp);
    drop(other);
    let other = lab.balancer.within(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    refused(&udp);
    drop(other);

    let deston = Deston::serving(&lab.balancer, &tcp);
    let bound = lab.balancer.within(|| TcpListener::bind((BALANCER, PORT)).is_ok());
    assert!(!bound, "nobody else gets the port while the listener is open");
    drop(deston);
    let deston = Deston::serving(&lab.balancer, &udp);
    assert!(lab.balancer.within(|| UdpSocket::bind((BALANCER, PORT)).is_err()));
    drop(deston);
}
