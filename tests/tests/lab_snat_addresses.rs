//! More than one source address towards servers.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for, visit_within};
use deston_tests::lab::{Deston, Lab, listener_of, server_of};
use deston_tests::require_lab;

/// Ports of each address.
const PORTS: usize = 2;

/// Two more addresses of the balancer on the first server's link.
fn sources(family: Family) -> [IpAddr; 2] {
    match family {
        Family::V4 => [20, 21].map(|n| IpAddr::from([203, 0, 113, n])),
        Family::V6 => [20, 21].map(|n| IpAddr::from([0x2001, 0xdb8, 5, 1, 0, 0, 0, n])),
    }
}

#[test]
fn two_source_addresses_carry_what_one_does_not() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::new(1);
        let sources = sources(setting.family);
        let bits = if setting.family == Family::V4 { 28 } else { 64 };
        sources.iter().for_each(|ip| lab.balancer.address("server1", &format!("{ip}/{bits}")));
        let at = SocketAddr::new(server_of(setting.family, 1), 3_000);
        let server = lab.server(1).within(move || TcpListener::bind(at).unwrap());
        let [one, two] = sources;
        let keys = format!("snat_ips = [\"{one}\", \"{two}\"]\nsnat_ports = \"20000-20001\"");
        let deston =
            Deston::serving(&lab.balancer, &config_for(setting, &keys, NO_HEALTH, &[(at, "")]));
        let to = listener_of(setting.family, PORT);

        let mut seen = BTreeSet::new();
        let mut held = Vec::new();
        for _ in 0..2 * PORTS {
            let mut client =
                lab.client.within(move || TcpStream::connect_timeout(&to, LIMIT)).unwrap();
            let (mut accepted, peer) = server.accept().unwrap();
            client.write_all(b"x").unwrap();
            accepted.read_exact(&mut [0]).unwrap();
            seen.insert((peer.ip(), peer.port()));
            held.push((client, accepted));
        }
        let expected = sources.into_iter().flat_map(|ip| [(ip, 20_000), (ip, 20_001)]);
        assert_eq!(seen, expected.collect(), "{setting}");
        // The control: that is all there is.
        let limit = std::time::Duration::from_millis(600);
        assert_eq!(lab.client.within(move || visit_within(to, limit)), None, "{setting}");
        assert!(deston.counted(Outcome::SnatExhausted) > 0, "{setting}");
    }
}
