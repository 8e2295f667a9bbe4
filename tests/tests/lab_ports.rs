//! SNAT ports towards a server: how their use is told.

use deston_tests::lab::visit::{NO_HEALTH, PORT, config, greeted};
use deston_tests::lab::{Deston, Lab, TcpServer, listener};
use deston_tests::require_lab;
use nix::sys::signal::Signal;

#[test]
fn the_use_of_ports_is_told_before_they_come_to_an_end() {
    require_lab!();
    let lab = Lab::new(1);
    let server = TcpServer::start(lab.server(1), 1, 0);
    let ten = "snat_ports = \"20000-20009\"";
    let mut deston =
        Deston::serving(&lab.balancer, &config(ten, NO_HEALTH, &[(server.address(), "")]));
    let held: Vec<_> = (0..8).map(|_| lab.client.within(|| greeted(listener(PORT)))).collect();

    let line = deston.wait_for_log("come to an end");
    assert!(line.contains("used=8 available=10"), "{line}");
    // The second ends them at once.
    deston.signal(Signal::SIGTERM);
    deston.wait_for_log("stopping");
    deston.signal(Signal::SIGTERM);
    let line = deston.wait_for_log("the kernel counted packets");
    assert!(line.contains("SNAT ports:") && line.contains("=8/10"), "{line}");
    drop(held);
}
