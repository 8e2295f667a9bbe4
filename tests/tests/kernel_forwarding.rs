//! The loaded program: a packet in, and what comes of it.

use std::net::Ipv4Addr;

use deston::datapath::Action;
use deston_common::net::Be16;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{self, LISTENER, Lab, SNAT, SOURCE_MAC};
use deston_tests::packet::{BALANCER_MAC, CLIENT_MAC, Packet, flags};
use deston_tests::require_kernel;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 77), 40_000);

#[test]
fn a_syn_is_translated_and_sent_to_a_server() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let syn = Packet::tcp(CLIENT, LISTENER, flags::SYN);
    let ran = lab.send(&syn);

    let port = lab.only_flow().reply.destination_port.to_host();
    assert!((10_240..=32_767).contains(&port));
    let server = kernel::server_address(1);
    let expected = Packet {
        source_mac: SOURCE_MAC,
        destination_mac: kernel::server_mac(1),
        source: (SNAT, port),
        destination: (*server.ip(), server.port()),
        ttl: 63,
        ..syn
    };
    assert_eq!(ran.action, Action::Redirect);
    assert_eq!(ran.packet, expected.bytes());
    lab.assert_outcomes(&[(Outcome::Forwarded, 1)]);
}

#[test]
fn a_reply_comes_from_the_listeners_address() {
    require_kernel!();
    let mut lab = Lab::new(1);
    lab.send(&Packet::tcp(CLIENT, LISTENER, flags::SYN));
    let flow = lab.only_flow();
    let server = kernel::server_address(1);
    let answer = Packet {
        source_mac: kernel::server_mac(1),
        destination_mac: SOURCE_MAC,
        ..Packet::tcp(
            (*server.ip(), server.port()),
            (SNAT, flow.reply.destination_port.to_host()),
            flags::SYN | flags::ACK,
        )
    };
    let ran = lab.send(&answer);

    let expected = Packet {
        source_mac: BALANCER_MAC,
        destination_mac: CLIENT_MAC,
        source: LISTENER,
        destination: CLIENT,
        ttl: 63,
        ..answer
    };
    assert_eq!(ran.action, Action::Redirect);
    assert_eq!(ran.packet, expected.bytes());
    assert_eq!(flow.key.source_port, Be16::from_host(CLIENT.1));
    lab.assert_outcomes(&[(Outcome::Forwarded, 1), (Outcome::Replied, 1)]);
}
