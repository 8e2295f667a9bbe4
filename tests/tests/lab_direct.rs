//! Direct return: servers answer clients past the balancer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use deston::datapath::Hook;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, datagram_echoed, echoed};
use deston_tests::lab::visit::{PORT, visit_within};
use deston_tests::lab::{
    Beyond, Config, Deston, Lab, Links, TcpServer, TunnelEnd, UdpServer, listener_of, server_of,
};
use deston_tests::require_lab;

/// Bytes that a client sends on a connection, and gets back.
const BODY: usize = 300_000;

/// Servers that have the listener's address too, and a way to the client past the balancer.
struct Servers {
    _tcp: Vec<TcpServer>,
    _udp: Vec<UdpServer>,
}

impl Servers {
    fn start(lab: &Lab, family: Family) -> Self {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for (host, n) in lab.servers.iter().zip(1..) {
            lab.join_direct(n);
            let address = listener_of(family, PORT);
            lab.share_address(n, address.ip());
            tcp.push(TcpServer::start_at(host, n, address));
            udp.push(UdpServer::start_at(host, n, address));
        }
        Self { _tcp: tcp, _udp: udp }
    }
}

/// TCP and UDP listeners with a forwarding, and servers with addresses of a family.
fn config(setting: Setting, forwarding: &str, servers: Family, count: u8) -> String {
    let addresses: Vec<SocketAddr> =
        (1..=count).map(|n| (server_of(servers, n), PORT).into()).collect();
    let mut config = Config::new();
    for protocol in ["tcp", "udp"] {
        let keys = format!("protocol = \"{protocol}\"\nforwarding = \"{forwarding}\"");
        let listener = listener_of(setting.family, PORT);
        config = config.listener(protocol, setting.hook, listener, &keys);
        config = config.pool(protocol, "[pool.health]\nkind = \"off\"", &addresses);
    }
    config.text()
}

/// Two servers; `at_tc` is what their links leave to interfaces where the hook is TC.
fn lab(setting: Setting, at_tc: Links) -> Lab {
    Lab::with(2, if setting.hook == Hook::Xdp { Links::Xdp } else { at_tc })
}

/// Both servers answer, over TCP and UDP, and nothing comes back through the balancer.
fn answers_come_directly(lab: &Lab, setting: Setting, deston: &Deston) {
    let to = listener_of(setting.family, PORT);
    let answers = lab.client.within(move || {
        let mut answers = BTreeSet::new();
        // A server whose next hop is still cold gets no new flow at first.
        let deadline = Instant::now() + Duration::from_secs(15);
        while answers.len() < 4 && Instant::now() < deadline {
            answers.insert(("tcp", echoed(to, &bytes(BODY, 1)).unwrap()));
            answers.insert(("udp", datagram_echoed(to, &bytes(1_000, 2)).unwrap()));
        }
        answers
    });
    assert_eq!(answers, [("tcp", 1), ("tcp", 2), ("udp", 1), ("udp", 2)].into(), "{setting}");
    assert_eq!(deston.counted(Outcome::Replied), 0, "{setting}");
    assert!(deston.counted(Outcome::Forwarded) > 20, "{setting}");
    assert_eq!(lab.checksum_errors(), 0, "{setting}");
}

#[test]
fn servers_on_the_link_answer_past_the_balancer() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = lab(setting, Links::Offloaded);
        let _servers = Servers::start(&lab, setting.family);
        let text = config(setting, "dsr-l2", setting.family, 2);
        let deston = Deston::serving(&lab.balancer, &text);
        answers_come_directly(&lab, setting, &deston);
    }
}

#[test]
fn servers_at_the_end_of_a_tunnel_answer_past_the_balancer() {
    require_lab!();
    let same = Setting::ALL.map(|setting| (setting, setting.family));
    let four_in_six = Setting::IPV4.map(|setting| (setting, Family::V6));
    for (setting, servers) in same.into_iter().chain(four_in_six) {
        // Out of the tunnel's end come bytes alone, so their checksums have to be complete.
        let lab = lab(setting, Links::Completed);
        let _servers = Servers::start(&lab, setting.family);
        let ends = [1, 2].map(|n| TunnelEnd::start(lab.server(n)));
        let text = config(setting, "dsr-ipip", servers, 2);
        let deston = Deston::serving(&lab.balancer, &text);
        answers_come_directly(&lab, setting, &deston);
        assert!(ends.iter().all(|end| end.taken() > 10), "{setting}");
        // Clients are told how much fits into the tunnel.
        let outer = if servers == Family::V4 { 20 } else { 40 };
        let to = listener_of(setting.family, PORT).ip();
        assert_eq!(Beyond::known_mtu(&lab.client, to), 1_500 - outer, "{setting}");
        assert!(deston.counted(Outcome::TooBig) > 0, "{setting}");
    }
}

#[test]
fn a_host_without_the_listeners_address_answers_nobody() {
    // The control: the packets that servers answered were those of the client, unaltered.
    require_lab!();
    let setting = Setting::XDP4;
    let lab = lab(setting, Links::Offloaded);
    lab.join_direct(1);
    let _server = TcpServer::start_at(lab.server(1), 1, (server_of(Family::V4, 1), PORT).into());
    let text = config(setting, "dsr-l2", setting.family, 1);
    let _deston = Deston::serving(&lab.balancer, &text);
    let to = listener_of(setting.family, PORT);
    let limit = std::time::Duration::from_millis(1_500);
    assert_eq!(lab.client.within(move || visit_within(to, limit)), None);
}
