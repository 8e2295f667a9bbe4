//! A listener on every port of an address that no interface has.

use std::net::{IpAddr, SocketAddr};

use deston_tests::kernel::{Family, Setting};
use deston_tests::lab::visit::{NO_HEALTH, PORT, config_for, visit};
use deston_tests::lab::{Config, Deston, Lab, TcpServer, listener_of, server_of};
use deston_tests::require_lab;

/// The address that is routed to the balancer.
fn dedicated(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([192, 0, 2, 200]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1]),
    }
}

#[test]
fn every_port_is_balanced_but_those_of_others_and_the_hosts_own_address() {
    require_lab!();
    const NAMED: u16 = 3_003;
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::new(2);
        let (own, address) = (listener_of(setting.family, 0).ip(), dedicated(setting.family));
        lab.client.batch(&[format!("route add {address} via {own}")]);
        let [first, second] = [1, 2].map(|n| server_of(setting.family, n));
        let start = |host, n, ip, port| TcpServer::start_at(host, n, SocketAddr::new(ip, port));
        let _any = [3_001, 3_002].map(|port| start(lab.server(1), 1, first, port));
        let _named = start(lab.server(2), 2, second, NAMED);
        let _host = start(&lab.balancer, 9, own, 3_001);

        let (clients, off) = ("interfaces = [\"clients\"]", "[pool.health]\nkind = \"off\"");
        let config = Config::new()
            .listener("any", setting.hook, SocketAddr::new(address, 0), clients)
            .listener("named", setting.hook, SocketAddr::new(address, NAMED), clients)
            .pool("any", off, &[SocketAddr::new(first, 0)])
            .pool("named", off, &[SocketAddr::new(second, NAMED)]);
        let _deston = Deston::serving(&lab.balancer, &config.text());
        let cases =
            [(address, 3_001, 1), (address, 3_002, 1), (address, NAMED, 2), (own, 3_001, 9)];
        for (ip, port, expected) in cases {
            let to = SocketAddr::new(ip, port);
            let answer = lab.client.within(move || visit(to).unwrap());
            assert_eq!(answer, expected, "{setting}, {to}");
        }
    }
}

#[test]
fn every_port_of_an_address_that_the_host_has_is_refused() {
    require_lab!();
    for setting in [Setting::XDP4, Setting::TC6] {
        let lab = Lab::new(1);
        let server = SocketAddr::new(server_of(setting.family, 1), 0);
        let text = config_for(setting, "", NO_HEALTH, &[(server, "")]);
        let text = text.replace(&format!("port = {PORT}"), "port = 0");
        let mut deston = Deston::start(&lab.balancer, &text);
        assert_eq!(deston.wait().code(), Some(1), "{setting}");
        let log = deston.rest_of_log();
        let own = listener_of(setting.family, 0).ip().to_string();
        assert!(log.contains("port = 0") && log.contains(&own), "{setting}: {log}");
    }
}
