//! The loaded program leaves alone what is not a listener's.

use std::net::Ipv4Addr;

use deston::datapath::Action;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{LISTENER, Lab};
use deston_tests::packet::{Packet, Transport, flags};
use deston_tests::require_kernel;

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 77), 40_000);

/// Sends `frame` and asserts that it is passed as it is, for `why`.
#[track_caller]
fn passes(lab: &mut Lab, frame: &[u8], why: Outcome) {
    let ran = lab.send_bytes(frame);
    assert_eq!(ran.action, Action::Pass);
    assert_eq!(ran.packet, frame);
    lab.assert_outcomes(&[(why, 1)]);
    assert_eq!(lab.kernel.flows().count(), 0);
}

#[test]
fn traffic_to_another_port_or_address_is_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let elsewhere = (LISTENER.0, LISTENER.1 + 1);
    passes(&mut lab, &Packet::tcp(CLIENT, elsewhere, flags::SYN).bytes(), Outcome::Unrelated);
    let elsewhere = (Ipv4Addr::new(192, 0, 2, 11), LISTENER.1);
    passes(&mut lab, &Packet::tcp(CLIENT, elsewhere, flags::SYN).bytes(), Outcome::Unrelated);
    passes(&mut lab, &Packet::udp(CLIENT, elsewhere, b"x").bytes(), Outcome::Unrelated);
}

#[test]
fn packets_of_a_server_that_belong_to_no_flow_are_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let server = deston_tests::kernel::server_address(1);
    let probe_answer = Packet::tcp(
        (*server.ip(), server.port()),
        (deston_tests::kernel::SNAT, 40_001),
        flags::SYN | flags::ACK,
    );
    passes(&mut lab, &probe_answer.bytes(), Outcome::Unrelated);
}

#[test]
fn arp_ipv6_and_vlan_frames_are_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    for kind in [0x0806_u16, 0x86dd, 0x8100, 0x88a8] {
        let mut frame = Packet::tcp(CLIENT, LISTENER, flags::SYN).bytes();
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        passes(&mut lab, &frame, Outcome::OtherProtocol);
    }
}

#[test]
fn icmp_to_a_listeners_address_is_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let mut frame = Packet::udp(CLIENT, LISTENER, b"echo request").bytes();
    frame[23] = 1;
    passes(&mut lab, &frame, Outcome::OtherProtocol);
}

#[test]
fn fragments_are_passed_first_and_later_ones_alike() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let more_fragments = 0x2000;
    for fragment in [more_fragments, more_fragments | 185, 185] {
        let packet = Packet { fragment, ..Packet::udp(CLIENT, LISTENER, &[7; 64]) };
        passes(&mut lab, &packet.bytes(), Outcome::Fragment);
    }
}

#[test]
fn a_packet_cut_anywhere_in_its_headers_is_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let options = vec![1, 1, 1, 1];
    for packet in [
        Packet { options: options.clone(), ..Packet::tcp(CLIENT, LISTENER, flags::SYN) },
        Packet { options, ..Packet::udp(CLIENT, LISTENER, b"") },
    ] {
        let whole = packet.bytes();
        // The kernel takes no test frame shorter than an Ethernet header.
        for len in 14..whole.len() {
            passes(&mut lab, &whole[..len], Outcome::Malformed);
        }
    }
}

#[test]
fn lengths_that_contradict_each_other_are_passed() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let tcp = Packet::tcp(CLIENT, LISTENER, flags::SYN).bytes();
    let udp = Packet::udp(CLIENT, LISTENER, b"abcd").bytes();
    let mut cases = Vec::new();
    for (offset, bytes, frame) in [
        (14, vec![0x44], &tcp),       // IHL of 16 bytes
        (14, vec![0x65], &tcp),       // version 6 under the IPv4 type
        (14, vec![0x4f], &tcp),       // IHL past the end
        (16, vec![0xff, 0xff], &tcp), // total length past the end
        (16, vec![0x00, 0x14], &tcp), // total length without the TCP header
        (46, vec![0x40], &tcp),       // data offset of 16 bytes
        (46, vec![0xf0], &tcp),       // data offset past the end
        (38, vec![0x00, 0x07], &udp), // UDP length under its header's
        (38, vec![0x01, 0x00], &udp), // UDP length past the end
    ] {
        let mut frame = frame.clone();
        frame[offset..offset + bytes.len()].copy_from_slice(&bytes);
        cases.push(frame);
    }
    for frame in cases {
        passes(&mut lab, &frame, Outcome::Malformed);
    }
}

#[test]
fn padding_after_the_packet_is_kept() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let mut frame = Packet::udp(CLIENT, LISTENER, b"x").bytes();
    let unpadded = lab.send_bytes(&frame).packet;
    frame.resize(60, 0xaa);
    let padded = lab.send_bytes(&frame);
    assert_eq!(padded.action, Action::Redirect);
    assert_eq!(padded.packet[..unpadded.len()], unpadded);
    assert_eq!(padded.packet[unpadded.len()..], frame[unpadded.len()..]);
}

#[test]
fn a_closed_listener_passes_new_flows_and_carries_old_ones() {
    require_kernel!();
    let mut lab = Lab::new(1);
    let syn = Packet::tcp(CLIENT, LISTENER, flags::SYN);
    lab.send(&syn);
    let key = deston_tests::kernel::listener_key(deston_common::net::TCP);
    let closed = deston_common::listener::ListenerEntry {
        open: 0,
        ..deston_tests::kernel::listener_entry()
    };
    lab.kernel.put_listener(&key, &closed).unwrap();

    let old = Packet { transport: Transport::Tcp { flags: flags::ACK, seq: 1, ack: 1 }, ..syn };
    assert_eq!(lab.send(&old).action, Action::Redirect);
    let new = Packet::tcp((CLIENT.0, CLIENT.1 + 1), LISTENER, flags::SYN).bytes();
    let ran = lab.send_bytes(&new);
    assert_eq!((ran.action, ran.packet), (Action::Pass, new));
    lab.assert_outcomes(&[(Outcome::Forwarded, 2), (Outcome::ListenerClosed, 1)]);
}
