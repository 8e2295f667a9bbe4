//! The guard in the kernel, in front of layer 4: connections and datagram flows.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for, visit_within};
use deston_tests::lab::{Deston, Lab, TcpServer, UdpServer, listener_of, server_of};
use deston_tests::require_lab;

/// How long a client waits that may be refused: less than a SYN takes to be sent again.
const SOON: Duration = Duration::from_millis(400);
/// Flows that a client tries to open.
const TRIED: usize = 3;
/// Flows that it may.
const BURST: usize = 1;

/// Whether a new flow to a listener is answered within a time.
fn is_served(protocol: &str, to: SocketAddr, limit: Duration) -> bool {
    if protocol == "tcp" {
        return visit_within(to, limit).is_some();
    }
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(limit)).unwrap();
    socket.connect(to).unwrap();
    socket.send(b"x").is_ok() && socket.recv(&mut [0; 2]).is_ok()
}

/// How many of the flows of a client are served, one after the other.
fn served(lab: &Lab, protocol: &'static str, to: SocketAddr, limit: Duration) -> usize {
    lab.client.within(move || (0..TRIED).filter(|_| is_served(protocol, to, limit)).count())
}

#[test]
fn denied_and_hasty_clients_of_layer_4_do_not_reach_a_server() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        for protocol in ["tcp", "udp"] {
            let lab = Lab::new(1);
            let at = SocketAddr::new(server_of(setting.family, 1), 3_000);
            let _tcp = TcpServer::start_at(lab.server(1), 1, at);
            let _udp = UdpServer::start_at(lab.server(1), 1, at);
            let to = listener_of(setting.family, PORT);
            let config = |guard: &str| {
                let keys = format!("protocol = \"{protocol}\"\n{guard}");
                config_for(setting, &keys, NO_HEALTH, &[(at, "")])
            };
            let mut deston = Deston::serving(&lab.balancer, &config(""));
            // The control: without a guard, all are served.
            assert_eq!(served(&lab, protocol, to, LIMIT), TRIED, "{setting}, {protocol}");

            deston.reload(&config(&format!("rate_limit = {{ rate = \"1/h\", burst = {BURST} }}")));
            deston.wait_for_log("reloaded");
            assert_eq!(served(&lab, protocol, to, SOON), BURST, "{setting}, {protocol}");
            let limited = deston.counted(Outcome::RateLimited);
            assert!(limited >= (TRIED - BURST) as u64, "{setting}, {protocol}: {limited}");

            let clients = match setting.family {
                Family::V4 => "198.51.100.0/24",
                Family::V6 => "2001:db8:c::/64",
            };
            deston.reload(&config(&format!("deny = [\"{clients}\"]")));
            deston.wait_for_log("reloaded");
            assert_eq!(served(&lab, protocol, to, SOON), 0, "{setting}, {protocol}");
            let denied = deston.counted(Outcome::Denied);
            assert!(denied >= TRIED as u64, "{setting}, {protocol}: {denied}");
        }
    }
}
