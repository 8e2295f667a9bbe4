//! What routers and hosts on the way tell: ICMP errors through nat, both ways.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use deston::datapath::Hook;
use deston_common::outcome::Outcome;
use deston_tests::kernel::Setting;
use deston_tests::lab::body::{bytes, echoed, echoed_within};
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for};
use deston_tests::lab::{
    Beyond, Deston, Lab, Links, SHORT_MTU, TcpServer, gateway_of, listener_of,
};
use deston_tests::require_lab;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes that are sent through a path with short links, each way.
const BODY: usize = 1_000_000;

/// What a path with short links needs to carry a body.
struct Path {
    lab: Lab,
    beyond: Beyond,
    deston: Deston,
    _server: TcpServer,
}

impl Path {
    fn new(setting: Setting) -> Self {
        let links = if setting.hook == Hook::Xdp { Links::Xdp } else { Links::Offloaded };
        let lab = Lab::with(1, links);
        let beyond = Beyond::new(&lab);
        let address = Beyond::server_address(setting.family);
        let server = TcpServer::start_at(&beyond.server, 1, address);
        let text = config_for(setting, "", NO_HEALTH, &[(address, "")]);
        let deston = Deston::serving(&lab.balancer, &text);
        Self { lab, beyond, deston, _server: server }
    }
}

#[test]
fn path_mtu_discovery_works_through_nat_in_both_directions() {
    require_lab!();
    for setting in Setting::ALL {
        let path = Path::new(setting);
        let to = listener_of(setting.family, PORT);
        assert_eq!(path.beyond.client.within(move || echoed(to, &bytes(BODY, 3)).unwrap()), 1);
        assert_eq!(Beyond::known_mtu(&path.beyond.client, to.ip()), SHORT_MTU, "{setting}");
        let balancer = gateway_of(setting.family, 1);
        assert_eq!(Beyond::known_mtu(&path.beyond.server, balancer), SHORT_MTU, "{setting}");
        assert!(path.deston.counted(Outcome::ErrorReplied) > 0, "{setting}");
        assert!(path.deston.counted(Outcome::ErrorForwarded) > 0, "{setting}");
        assert_eq!(path.lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn a_path_whose_routers_say_nothing_carries_no_body() {
    // The control: the path's limit is felt where its errors do not arrive.
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let path = Path::new(setting);
        let silent = "table inet silent { chain out { type filter hook output priority 0; \
                      icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }";
        for router in [&path.lab.client, path.lab.server(1)] {
            router.run(&["nft", silent]);
        }
        let to = listener_of(setting.family, PORT);
        let limit = Duration::from_secs(2);
        let echoed = path.beyond.client.within(move || echoed_within(to, &bytes(BODY, 3), limit));
        assert_eq!(echoed.unwrap_err().kind(), io::ErrorKind::WouldBlock, "{setting}");
    }
}

/// A datagram socket that is told of every error.
fn listening_to_errors(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    match to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap(),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap(),
    }
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// The error that a datagram meets which may take so many hops.
fn error_after_hops(to: SocketAddr, hops: u32) -> Option<i32> {
    let socket = listening_to_errors(to);
    match to {
        SocketAddr::V4(_) => socket.set_ttl(hops).unwrap(),
        SocketAddr::V6(_) => socket2::SockRef::from(&socket).set_unicast_hops_v6(hops).unwrap(),
    }
    socket.send(b"x").unwrap();
    socket.recv(&mut [0; 16]).unwrap_err().raw_os_error()
}

#[test]
fn errors_about_datagrams_reach_the_client_that_sent_them() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = Lab::new(1);
        let beyond = Beyond::new(&lab);
        // Nothing listens there.
        let address = Beyond::server_address(setting.family);
        let text = config_for(setting, "protocol = \"udp\"", NO_HEALTH, &[(address, "")]);
        let deston = Deston::serving(&lab.balancer, &text);
        let to = listener_of(setting.family, PORT);
        let errors =
            beyond.client.within(move || [2, 3, 64].map(|hops| error_after_hops(to, hops)));
        // The balancer is the second hop, and the router behind it the third.
        let expected = [libc::EHOSTUNREACH, libc::EHOSTUNREACH, libc::ECONNREFUSED];
        assert_eq!(errors, expected.map(Some), "{setting}");
        assert_eq!(deston.counted(Outcome::TtlExpired), 1, "{setting}");
        assert_eq!(deston.counted(Outcome::ErrorReplied), 2, "{setting}");
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}
