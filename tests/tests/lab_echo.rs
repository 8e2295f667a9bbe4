//! Echo: a listener's own address answers for its pool, the host's addresses for the host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::body::{bytes, datagram_echoed};
use deston_tests::lab::visit::{LIMIT, PORT, config_for, visit};
use deston_tests::lab::{Deston, Lab, TcpServer, UdpServer, listener_of, server_of};
use deston_tests::require_lab;

/// Echo requests of each look.
const REQUESTS: u64 = 5;

/// Probes that notice soon.
const HEALTH: &str =
    "[load_balancer.health]\ninterval = \"50ms\"\ntimeout = \"500ms\"\nrise = 1\nfall = 2";

/// An address that no interface has, on the balancer's side of the client.
fn dedicated(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 200]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 200]),
    }
}

/// Echo requests with so many bytes; how many were answered, with the same bytes.
fn pinged(lab: &Lab, to: IpAddr, bytes: usize) -> u64 {
    let mut command = lab.client.command("ping");
    let (count, size) = (REQUESTS.to_string(), bytes.to_string());
    command.args(["-c", &count, "-i", "0.05", "-W", "1", "-s", &size, &to.to_string()]);
    let output = String::from_utf8(command.output().expect("ping starts").stdout).unwrap();
    assert!(!output.contains("wrong data byte"), "{output}");
    let words: Vec<&str> = output.split_whitespace().collect();
    let received = words.windows(2).find(|pair| pair[1].starts_with("received")).expect(&output);
    received[0].parse().unwrap()
}

#[test]
fn an_address_of_nobody_else_answers_while_its_pool_has_a_server() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = Lab::new(1);
        let (own, near) = (dedicated(setting.family), listener_of(setting.family, 0).ip());
        lab.client.batch(&[format!("route add {own} via {near}")]);
        let address = (server_of(setting.family, 1), 3_000).into();
        let server = TcpServer::start_at(lab.server(1), 1, address);
        let text = config_for(setting, "interfaces = [\"clients\"]", HEALTH, &[(address, "")])
            .replace(&format!("\"{near}\""), &format!("\"{own}\""));
        let mut deston = Deston::serving(&lab.balancer, &text);
        let to = SocketAddr::new(own, PORT);
        assert_eq!(lab.client.within(move || visit(to).unwrap()), 1, "{setting}");
        for size in [0, 56, 1_001] {
            assert_eq!(pinged(&lab, own, size), REQUESTS, "{setting}, {size} bytes");
        }
        assert_eq!(deston.counted(Outcome::Echoed), 3 * REQUESTS, "{setting}");

        server.stop();
        deston.wait_for_log("server is down");
        assert_eq!(pinged(&lab, own, 56), 0, "{setting}");
        assert_eq!(deston.counted(Outcome::EchoUnhealthy), REQUESTS, "{setting}");

        let _server = TcpServer::start_at(lab.server(1), 1, address);
        deston.wait_for_log("server is up");
        assert_eq!(pinged(&lab, own, 56), REQUESTS, "{setting}");
        assert_eq!(deston.counted(Outcome::Echoed), 4 * REQUESTS, "{setting}");
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn an_address_of_the_host_stays_the_hosts() {
    require_lab!();
    for setting in [Setting::XDP6, Setting::TC4] {
        let lab = Lab::new(1);
        // Nobody listens there: the pool has no server, which is no concern of the host's.
        let nobody = (server_of(setting.family, 1), 3_000).into();
        let mut deston =
            Deston::serving(&lab.balancer, &config_for(setting, "", HEALTH, &[(nobody, "")]));
        deston.wait_for_log("server is down");
        let own = listener_of(setting.family, 0).ip();
        assert_eq!(pinged(&lab, own, 56), REQUESTS, "{setting}");
        // In fragments.
        assert_eq!(pinged(&lab, own, 4_000), REQUESTS, "{setting}");
        assert_eq!(deston.counted(Outcome::IcmpUnrelated), REQUESTS, "{setting}");
        assert_eq!(deston.counted(Outcome::Fragment), 3 * REQUESTS, "{setting}");

        // Other ports: a connection, and datagrams whose later fragments have no port.
        let tcp = TcpServer::start_at(&lab.balancer, 7, (own, 0).into());
        let udp = UdpServer::start_at(&lab.balancer, 8, (own, 0).into());
        let (stream, datagrams) = (tcp.address(), udp.address());
        let before = deston.counted(Outcome::Fragment);
        let answers = lab.client.within(move || {
            let mut stream = TcpStream::connect_timeout(&stream, LIMIT).unwrap();
            stream.write_all(b"x").unwrap();
            let mut greeting = [0; 2];
            stream.read_exact(&mut greeting).unwrap();
            let long = (0..REQUESTS as u32).map(|n| datagram_echoed(datagrams, &bytes(4_000, n)));
            (greeting, long.map(Result::unwrap).collect::<Vec<_>>())
        });
        assert_eq!(answers, ([7, b'x'], vec![8; REQUESTS as usize]), "{setting}");
        assert_eq!(deston.counted(Outcome::Fragment) - before, 2 * REQUESTS, "{setting}");
        assert_eq!(deston.counted(Outcome::Echoed) + deston.counted(Outcome::EchoUnhealthy), 0);
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}
