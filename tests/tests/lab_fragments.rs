//! Datagrams that are longer than the links take, through nat.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use deston::datapath::Hook;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, datagram_echoed};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for};
use deston_tests::lab::{
    Beyond, Deston, Lab, Links, SHORT_MTU, UdpServer, gateway_of, listener_of, reassembled,
    server_of, wait_until,
};
use deston_tests::require_lab;

/// One that fits, and others that fill three and more packets.
const LENGTHS: [usize; 3] = [1_400, 4_000, 60_000];

/// Datagrams of each length.
const EACH: usize = 20;

fn links(hook: Hook) -> Links {
    if hook == Hook::Xdp { Links::Xdp } else { Links::Completed }
}

fn config(setting: Setting, servers: &[SocketAddr]) -> String {
    let servers: Vec<_> = servers.iter().map(|address| (*address, "")).collect();
    config_for(setting, "protocol = \"udp\"", NO_HEALTH, &servers)
}

fn start(lab: &Lab, family: Family) -> Vec<UdpServer> {
    let start = |(host, n)| UdpServer::start_at(host, n, (server_of(family, n), 3_000).into());
    lab.servers.iter().zip(1..).map(start).collect()
}

/// Packets that a datagram fills on a link of 1,500 bytes.
fn packets(family: Family, length: usize) -> u64 {
    let with_header = length + 8;
    // IPv6 has a header more in fragments; both cut at a multiple of eight.
    let (whole, part) = if family == Family::V4 { (1_480, 1_480) } else { (1_460, 1_448) };
    if with_header <= whole { 1 } else { with_header.div_ceil(part) as u64 }
}

#[test]
fn datagrams_that_fill_several_packets_come_back_whole() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = Lab::with(2, links(setting.hook));
        let servers = start(&lab, setting.family);
        let addresses: Vec<_> = servers.iter().map(UdpServer::address).collect();
        let deston = Deston::serving(&lab.balancer, &config(setting, &addresses));
        let to = listener_of(setting.family, PORT);
        let answers = lab.client.within(move || {
            let lengths = LENGTHS.into_iter().cycle().take(LENGTHS.len() * EACH);
            lengths
                .map(|length| datagram_echoed(to, &bytes(length, length as u32)).unwrap())
                .collect::<Vec<_>>()
        });
        let count = |n| answers.iter().filter(|server| **server == n).count();
        assert_eq!(count(1) + count(2), LENGTHS.len() * EACH);
        assert!(count(1) > EACH && count(2) > EACH, "{setting}: {answers:?}");

        // Every packet was carried, and joined where it belongs.
        let sent = LENGTHS.map(|length| packets(setting.family, length));
        let back = LENGTHS.map(|length| packets(setting.family, length + 1));
        let times = |packets: [u64; 3]| packets.iter().sum::<u64>() * EACH as u64;
        assert_eq!(deston.counted(Outcome::Forwarded), times(sent), "{setting}");
        assert_eq!(deston.counted(Outcome::Replied), times(back), "{setting}");
        let long = (LENGTHS.len() - 1) * EACH;
        assert_eq!(lab.servers.iter().map(reassembled).sum::<u64>(), long as u64, "{setting}");
        assert_eq!(reassembled(&lab.client), long as u64, "{setting}");
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn a_datagram_that_loses_a_packet_is_not_answered() {
    // The control: long datagrams do come in pieces, and every piece is needed.
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::with(1, links(setting.hook));
        let servers = start(&lab, setting.family);
        let lossy = "table netdev lossy { chain in { type filter hook ingress device eth0 \
                     priority 0; ip frag-off & 0x1fff != 0 drop; frag frag-off != 0 drop; }; }";
        lab.server(1).run(&["nft", lossy]);
        let _deston = Deston::serving(&lab.balancer, &config(setting, &[servers[0].address()]));
        let to = listener_of(setting.family, PORT);
        let [fits, long] = [1_400, 4_000]
            .map(|length| lab.client.within(move || answered(&client(to), &bytes(length, 1))));
        assert!(fits && !long, "{setting}: {fits}, {long}");
        assert_eq!(reassembled(lab.server(1)), 0, "{setting}");
    }
}

/// A client's socket that waits a moment for answers.
fn client(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Whether a datagram is answered soon.
fn answered(client: &UdpSocket, body: &[u8]) -> bool {
    let mut answer = vec![0; body.len() + 2];
    client.send(body).is_ok()
        && client.recv(&mut answer).is_ok_and(|length| answer[1..length] == *body)
}

/// A path with short links behind the balancer on both sides.
struct Path {
    _lab: Lab,
    beyond: Beyond,
    deston: Deston,
    _server: UdpServer,
}

impl Path {
    fn new(setting: Setting, prepare: impl FnOnce(&Lab)) -> Self {
        let lab = Lab::new(1);
        let beyond = Beyond::new(&lab);
        prepare(&lab);
        let address = Beyond::server_address(setting.family);
        let server = UdpServer::start_at(&beyond.server, 1, address);
        let deston = Deston::serving(&lab.balancer, &config(setting, &[address]));
        Self { _lab: lab, beyond, deston, _server: server }
    }
}

#[test]
fn routers_cut_the_packets_of_long_datagrams_over_ipv4() {
    require_lab!();
    let path = Path::new(Setting::XDP4, |_| {});
    let to = listener_of(Family::V4, PORT);
    assert!(path.beyond.client.within(move || answered(&client(to), &bytes(4_000, 3))));
    assert_eq!(path.deston.counted(Outcome::ErrorReplied), 0);
}

#[test]
fn senders_of_long_datagrams_over_ipv6_learn_what_the_path_takes() {
    require_lab!();
    for setting in Setting::IPV6 {
        let path = Path::new(setting, |_| {});
        let to = listener_of(setting.family, PORT);
        path.beyond.client.within(move || {
            let (client, body) = (client(to), bytes(4_000, 3));
            wait_until("a long datagram is answered", || answered(&client, &body));
        });
        assert_eq!(Beyond::known_mtu(&path.beyond.client, to.ip()), SHORT_MTU, "{setting}");
        let balancer = gateway_of(setting.family, 1);
        assert_eq!(Beyond::known_mtu(&path.beyond.server, balancer), SHORT_MTU, "{setting}");
        assert!(path.deston.counted(Outcome::ErrorReplied) > 0, "{setting}");
        assert!(path.deston.counted(Outcome::ErrorForwarded) > 0, "{setting}");
    }
}

#[test]
fn without_a_word_of_the_routers_no_long_datagram_over_ipv6_is_answered() {
    // The control: the errors are what makes the difference.
    require_lab!();
    let path = Path::new(Setting::TC6, |lab| {
        let silent = "table inet silent { chain out { type filter hook output priority 0; \
                      icmpv6 type packet-too-big drop; }; }";
        for router in [&lab.client, lab.server(1)] {
            router.run(&["nft", silent]);
        }
    });
    let to = listener_of(Family::V6, PORT);
    let answers = path.beyond.client.within(move || {
        let client = client(to);
        [1_000, 4_000, 4_000, 4_000].map(|length| answered(&client, &bytes(length, 3)))
    });
    assert_eq!(answers, [true, false, false, false]);
}
