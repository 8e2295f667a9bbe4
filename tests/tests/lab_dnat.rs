//! Destination nat: servers see the client, and answer by way of the balancer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use deston::datapath::Hook;
use deston_tests::kernel::Setting;
use deston_tests::lab::body::{bytes, datagram_echoed, echoed};
use deston_tests::lab::visit::{LIMIT, NO_HEALTH, PORT, config_for, visit_within};
use deston_tests::lab::{
    Deston, Lab, Links, TcpServer, UdpServer, gateway_of, listener_of, server_of,
};
use deston_tests::require_lab;

/// Bytes that a client sends on a connection, and gets back.
const BODY: usize = 300_000;

/// One server, whose way to everybody leads through the balancer, or nowhere.
fn lab(setting: Setting, has_way: bool) -> Lab {
    let lab = Lab::with(1, if setting.hook == Hook::Xdp { Links::Xdp } else { Links::Completed });
    if has_way {
        let gateway = gateway_of(setting.family, 1);
        lab.server(1).batch(&[format!("route add default via {gateway}")]);
    }
    lab
}

fn address(setting: Setting) -> SocketAddr {
    (server_of(setting.family, 1), 3_000).into()
}

fn config(setting: Setting, protocol: &str) -> String {
    let keys = format!("forwarding = \"dnat\"\nprotocol = \"{protocol}\"");
    config_for(setting, &keys, NO_HEALTH, &[(address(setting), "")])
}

#[test]
fn servers_of_dnat_see_the_clients_address_and_port() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = lab(setting, true);
        let at = address(setting);
        let server = lab.server(1).within(move || TcpListener::bind(at).unwrap());
        let _deston = Deston::serving(&lab.balancer, &config(setting, "tcp"));
        let to = listener_of(setting.family, PORT);
        let client = lab.client.spawn(move || {
            let mut stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
            stream.write_all(b"x").unwrap();
            stream.local_addr().unwrap()
        });
        let (mut accepted, seen) = server.accept().unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        assert_eq!(seen, client.join().unwrap(), "{setting}");
    }
}

#[test]
fn bodies_arrive_unchanged_through_dnat() {
    require_lab!();
    for setting in Setting::ALL {
        let lab = lab(setting, true);
        let _tcp = TcpServer::start_at(lab.server(1), 1, address(setting));
        let _udp = UdpServer::start_at(lab.server(1), 1, address(setting));
        let to = listener_of(setting.family, PORT);
        for protocol in ["tcp", "udp"] {
            let _deston = Deston::serving(&lab.balancer, &config(setting, protocol));
            let answer = lab.client.within(move || match protocol {
                "tcp" => echoed(to, &bytes(BODY, 1)).unwrap(),
                _ => datagram_echoed(to, &bytes(1_000, 1)).unwrap(),
            });
            assert_eq!(answer, 1, "{setting}, {protocol}");
        }
        assert_eq!(lab.checksum_errors(), 0, "{setting}");
    }
}

#[test]
fn a_server_of_dnat_without_a_way_back_answers_nobody() {
    // The control: the server answers the client, and not the balancer.
    require_lab!();
    let setting = Setting::XDP4;
    let lab = lab(setting, false);
    let _server = TcpServer::start_at(lab.server(1), 1, address(setting));
    let _deston = Deston::serving(&lab.balancer, &config(setting, "tcp"));
    let to = listener_of(setting.family, PORT);
    let limit = Duration::from_millis(1_500);
    assert_eq!(lab.client.within(move || visit_within(to, limit)), None);
}
