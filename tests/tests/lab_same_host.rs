//! Clients, listeners and servers on the balancer's own host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use deston::datapath::Hook;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, datagram_echoed, echoed};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, greeted, visit};
use deston_tests::lab::{
    Config, Deston, Lab, Namespace, TcpServer, UdpServer, gateway_of, listener_of, server_of,
};
use deston_tests::require_lab;

/// Bytes of a bulk transfer, each way.
const BULK: usize = 8 << 20;

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Bytes of the longest segment on loopback, whose packets are of 65,536 bytes at the most; IPv4
/// allows a byte less, and the rest is headers with timestamps.
fn segment(family: Family) -> usize {
    match family {
        Family::V4 => 65_535 - 20 - 32,
        Family::V6 => 65_536 - 40 - 32,
    }
}

/// Sends bodies of a length, one after the other, and waits for each to come back.
fn send_segments(to: SocketAddr, length: usize) {
    let mut stream = greeted(to);
    let (body, mut answer) = (bytes(length, 9), vec![0; length]);
    // The window opens on the way to segments as long as this.
    for n in 0..100 {
        stream.write_all(&body).unwrap();
        let read = stream.read_exact(&mut answer);
        assert!(read.is_ok() && answer == body, "{length} bytes, {n} times before: {read:?}");
    }
}

/// Whether a listener of both protocols at `to` serves a host: a connection and a datagram.
fn serves(host: &Namespace, to: SocketAddr) -> [u8; 2] {
    host.within(move || [visit(to).unwrap(), datagram_echoed(to, b"x").unwrap()])
}

/// A listener of each protocol at an address, which Deston finds a datapath for, and its servers.
fn auto(at: SocketAddr, tcp: &[SocketAddr], udp: &[SocketAddr]) -> String {
    let mut config = Config::new();
    for (protocol, servers) in [("tcp", tcp), ("udp", udp)] {
        let keys = format!("protocol = \"{protocol}\"");
        config = config.listener(protocol, Hook::Tc, at, &keys);
        config = config.pool(protocol, "[pool.health]\nkind = \"off\"", servers);
    }
    config.text().replace("datapath = \"tc\"", "datapath = \"auto\"")
}

#[test]
fn loopback_clients_and_servers_are_balanced_in_the_kernel() {
    require_lab!();
    for family in Family::BOTH {
        let lab = Lab::new(0);
        let own = SocketAddr::new(loopback(family), 0);
        let tcp = [1, 2].map(|n| TcpServer::start_at(&lab.balancer, n, own));
        let udp = [1, 2].map(|n| UdpServer::start_at(&lab.balancer, n, own));
        let to = SocketAddr::new(own.ip(), PORT);
        let text = auto(
            to,
            &tcp.each_ref().map(TcpServer::address),
            &udp.each_ref().map(UdpServer::address),
        );
        let mut deston = Deston::start(&lab.balancer, &text);
        for _ in 0..2 {
            let line = deston.wait_for_log("datapath chosen");
            assert!(line.contains("datapath=\"tc\"") && line.contains("loopback interface"));
        }
        deston.wait_for_log("ready");
        let answers = [(); 4].map(|()| serves(&lab.balancer, to));
        assert_eq!(answers, [[1; 2], [2; 2], [1; 2], [2; 2]], "{family:?}");
        let few = [Outcome::Forwarded, Outcome::Replied].map(|outcome| deston.counted(outcome));
        // A datagram each way, and at least four packets of each connection.
        assert!(few.iter().all(|count| *count >= 4 * (1 + 3)), "{family:?}: {few:?}");
        lab.balancer.within(move || {
            echoed(to, &bytes(BULK, 5)).unwrap();
            send_segments(to, segment(family));
        });
        let all = [Outcome::Forwarded, Outcome::Replied].map(|outcome| deston.counted(outcome));
        // Segments of 64 kB at the most.
        let least = BULK as u64 >> 16;
        assert!(all.iter().zip(few).all(|(all, few)| all - few >= least), "{family:?}: {all:?}");
        assert_eq!(lab.checksum_errors(), 0);
    }
}

#[test]
fn clients_on_the_balancers_host_are_served_beside_the_kernel() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = Lab::new(1);
        let address = (server_of(setting.family, 1), 3_000).into();
        let _tcp = TcpServer::start_at(lab.server(1), 1, address);
        let _udp = UdpServer::start_at(lab.server(1), 1, address);
        let to = listener_of(setting.family, PORT);
        let text = auto(to, &[address], &[address])
            .replace("\"auto\"", &format!("\"{:?}\"", setting.hook).to_lowercase());
        let deston = Deston::serving(&lab.balancer, &text);
        assert_eq!(serves(&lab.balancer, to), [1; 2], "{setting}");
        let own = deston.counted(Outcome::Forwarded) + deston.counted(Outcome::Replied);
        assert_eq!(own, 0, "{setting}: the kernel carries none of them");
        // The others meanwhile are the kernel's.
        assert_eq!(serves(&lab.client, to), [1; 2], "{setting}");
        assert!(deston.counted(Outcome::Forwarded) >= 4, "{setting}");
        assert!(deston.counted(Outcome::Replied) >= 3, "{setting}");
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn what_the_kernel_cannot_carry_on_one_host_is_served_from_userspace_and_said() {
    require_lab!();
    for family in Family::BOTH {
        let own = loopback(family);
        let listener = listener_of(family, 0).ip();
        let cases = [
            ("a loopback server of the network's clients", listener, own, "is a loopback"),
            (
                "a server at another address of the host",
                listener,
                gateway_of(family, 1),
                "on this host",
            ),
            ("a remote server of loopback clients", own, server_of(family, 1), "loopback"),
        ];
        for (name, at, server, reason) in cases {
            let lab = Lab::new(1);
            let is_remote = server == server_of(family, 1);
            let host = if is_remote { lab.server(1) } else { &lab.balancer };
            let address = SocketAddr::new(server, 3_000);
            let _tcp = TcpServer::start_at(host, 4, address);
            let _udp = UdpServer::start_at(host, 4, address);
            let to = SocketAddr::new(at, PORT);
            let mut deston = Deston::start(&lab.balancer, &auto(to, &[address], &[address]));
            for _ in 0..2 {
                let line = deston.wait_for_log("datapath chosen");
                assert!(line.contains("userspace") && line.contains(reason), "{name}: {line}");
            }
            deston.wait_for_log("ready");
            let client = if at.is_loopback() { &lab.balancer } else { &lab.client };
            assert_eq!(serves(client, to), [4; 2], "{name}");
            let told = deston.doctor();
            let notes = told.lines().filter(|line| {
                line.contains("\"kind\":\"carrier\"")
                    && line.contains("is served from userspace")
                    && line.contains(reason)
            });
            assert_eq!(notes.count(), 2, "{name}: {told}");
        }
    }
}

#[test]
fn an_explicit_datapath_is_not_given_up_silently() {
    // The control: it is `auto` that lets Deston choose.
    require_lab!();
    let lab = Lab::new(0);
    for setting in Setting::ALL {
        let server = SocketAddr::new(loopback(setting.family), 3_000);
        let mut deston =
            Deston::start(&lab.balancer, &config_for(setting, "", NO_HEALTH, &[(server, "")]));
        assert_ne!(deston.wait().code(), Some(0), "{setting}");
        let told = deston.rest_of_log();
        assert!(told.contains("between loopback and other addresses"), "{setting}: {told}");
    }
}
