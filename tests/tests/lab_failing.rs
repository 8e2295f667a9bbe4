//! Servers that fail, drain and go, and clients that are denied.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use deston_common::outcome::Outcome;
use deston_tests::lab::visit::{
    LIMIT, NO_HEALTH, PORT, config, counted, echo, greeted, second_listener, visit,
};
use deston_tests::lab::{CLIENT, Deston, Lab, TcpServer, listener, server_address, wait_until};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

/// Whether a connection is reset, without a byte before that.
fn is_reset(stream: &mut TcpStream) -> bool {
    use std::io::Write as _;
    let told = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0]));
    told.is_err_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    })
}

#[test]
fn a_server_that_refuses_connections_is_ejected_and_no_client_fails() {
    require_lab!();
    for hook in ["xdp", "tc"] {
        let lab = Lab::new(2);
        let server = TcpServer::start(&lab.servers[1], 2, 0);
        let closed = SocketAddr::new(server_address(1).into(), 9);
        let servers = [(closed, ""), (server.address(), "")];
        let config = config("", NO_HEALTH, &servers).replace("\"xdp\"", &format!("\"{hook}\""));
        let mut deston = Deston::serving(&lab.balancer, &config);
        let visits = lab.client.within(|| {
            let visiting = [(); 8].map(|()| std::thread::spawn(|| visit(listener(PORT))));
            visiting.map(|visit| visit.join().unwrap().unwrap())
        });
        assert_eq!(visits, [2; 8]);
        let line = deston.wait_for_log("a server is ejected");
        assert!(line.contains(&closed.to_string()), "{line}");
        deston.signal(Signal::SIGTERM);
        deston.wait();
        assert!(counted(&deston.rest_of_log(), "refusal_swallowed") > 0);
    }
}

#[test]
fn a_removed_server_finishes_its_flows_until_the_deadline() {
    require_lab!();
    let lab = Lab::new(2);
    let servers = [1, 2].map(|n| TcpServer::start(&lab.servers[usize::from(n) - 1], n, 0));
    let runtime = format!("{NO_HEALTH}\n[runtime]\ndrain_timeout = \"2s\"");
    let both = [(servers[0].address(), ""), (servers[1].address(), "")];
    let mut deston = Deston::serving(&lab.balancer, &config("", &runtime, &both));
    let mut open = lab.client.within(|| [(); 2].map(|()| greeted(listener(PORT))));
    deston.reload(&config("", &runtime, &both[1..]));
    deston.wait_for_log("reloaded");
    open.iter_mut().for_each(echo);
    let line = deston.wait_for_log("`drain_timeout` is over");
    assert!(line.contains("flows=1"), "{line}");
    wait_until("the connection is reset", || is_reset(&mut open[0]));
    echo(&mut open[1]);
}

#[test]
fn a_deny_that_is_added_ends_the_flows_it_matches() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let servers = [(server.address(), "")];
    let other = second_listener(PORT + 1, server.address());
    let text = |deny: &str| config(deny, NO_HEALTH, &servers) + &other;
    let mut deston = Deston::serving(&lab.balancer, &text(""));
    let [mut denied, mut admitted] =
        lab.client.within(|| [PORT, PORT + 1].map(|port| greeted(listener(port))));
    deston.reload(&text(&format!("deny = [\"{CLIENT}/32\"]")));
    deston.wait_for_log("flows of clients that are denied");
    wait_until("the connection is reset", || is_reset(&mut denied));
    echo(&mut admitted);
    let soon = Duration::from_millis(300);
    let attempt = move || TcpStream::connect_timeout(&listener(PORT), soon).unwrap_err().kind();
    assert_eq!(lab.client.within(attempt), std::io::ErrorKind::TimedOut);
    drop(admitted);
    deston.signal(Signal::SIGTERM);
    deston.wait();
    assert!(counted(&deston.rest_of_log(), "denied") > 0);
}

#[test]
fn the_kernel_guards_listeners_of_userspace() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    let guarded = |deny: &str| {
        format!("[load_balancer]\naddress = \"198.51.100.1\"\nport = {PORT}\nlayer = \"L7\"\n")
            + &format!("deny = [\"{deny}\"]\n[[server]]\naddress = \"{}\"\n", server_address(1))
            + &format!("port = {}\n", server.address().port())
    };
    let mut deston = Deston::start(&lab.balancer, &guarded("192.0.2.0/24"));
    let line = deston.wait_for_log("guarded in the kernel");
    assert!(line.contains("hook=\"tc\""), "{line}");
    deston.wait_for_log("ready");
    lab.client.within(|| TcpStream::connect_timeout(&listener(PORT), LIMIT)).unwrap();
    deston.reload(&guarded(&format!("{CLIENT}/32")));
    deston.wait_for_log("reloaded");
    let soon = Duration::from_millis(300);
    let attempt = move || TcpStream::connect_timeout(&listener(PORT), soon).unwrap_err().kind();
    assert_eq!(lab.client.within(attempt), std::io::ErrorKind::TimedOut);
    deston.signal(Signal::SIGTERM);
    deston.wait();
    let log = deston.rest_of_log();
    assert!(counted(&log, "denied") > 0 && counted(&log, "to_stack") > 0, "{log}");
}

#[test]
fn servers_of_dnat_answer_the_probes_of_the_balancer() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(&lab.servers[0], 1, 0);
    lab.servers[0].run(&["ip", "route", "add", "default", "via", "203.0.113.17"]);
    let probes = "[load_balancer.health]\nkind = \"tcp\"\ninterval = \"100ms\"";
    let dnat = config("forwarding = \"dnat\"", probes, &[(server.address(), "")]);
    let deston = Deston::serving(&lab.balancer, &dnat.replace("\"xdp\"", "\"tc\""));
    wait_until("probes are answered", || deston.counted(Outcome::Unrelated) > 20);
    assert_eq!(deston.counted(Outcome::NoNextHop), 0);
    assert_eq!(lab.client.within(|| visit(listener(PORT)).unwrap()), 1);
}
