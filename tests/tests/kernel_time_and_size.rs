//! Packets whose time to live runs out, and packets longer than the way takes: answered by us, where
//! the host's stack could not.

use deston::datapath::Hook;
use deston_common::listener::Forwarding;
use deston_common::outcome::Outcome;
use deston_tests::kernel::{
    Connection, Entries, Family, IFINDEX, Lab, SECOND, Setting, each, rows,
};
use deston_tests::packet::flags::{ACK, FIN_ACK, RST, SYN_ACK};
use deston_tests::packet::{Extension, Packet, Quote, Tag, Transport, ether_type, oracle, v4, v6};
use deston_tests::require_kernel;

/// Type, code and second word of an error.
type Kind = ((u8, u8), [u8; 4]);

fn time_exceeded(family: Family) -> Kind {
    match family {
        Family::V4 => ((v4::TIME_EXCEEDED, 0), [0; 4]),
        Family::V6 => ((v6::TIME_EXCEEDED, 0), [0; 4]),
    }
}

fn too_big(family: Family, mtu: u16) -> Kind {
    let [high, low] = mtu.to_be_bytes();
    match family {
        Family::V4 => ((v4::UNREACHABLE, v4::NEEDS_FRAGMENTS), [0, 0, high, low]),
        Family::V6 => ((v6::TOO_BIG, 0), [0, 0, high, low]),
    }
}

/// The frame is answered with an error from its destination, which quotes it well enough for its
/// sender to know it: the IP header as it came, ports, and for TCP the sequence number. What of a
/// checksum is left to hardware cannot be quoted, so at TC no more is asked.
#[track_caller]
fn answered(lab: &mut Lab, packet: &Packet, why: Outcome, (kind_code, rest): Kind) {
    let ran = lab.step(packet, why);
    assert_ne!(ran.action, deston::datapath::Action::Drop, "not answered");
    assert_eq!(oracle::verify_around_quote(&ran.packet), Ok(()));
    let answer = Packet::read(&ran.packet);
    let Transport::Icmp { kind, code, rest: word } = answer.transport else {
        panic!("{answer:?} is no error")
    };
    assert_eq!(((kind, code), word), (kind_code, rest));
    assert_eq!(answer.source.ip(), packet.destination.ip(), "from");
    assert_eq!(answer.destination.ip(), packet.source.ip(), "to");
    assert_eq!(answer.source_mac, packet.destination_mac);
    assert_eq!(answer.destination_mac, packet.source_mac);
    assert_eq!(answer.tags, packet.tags);
    assert!(answer.ttl >= 64);
    let quoted = packet.ip_bytes();
    let sure = packet.ip_header_len() + 8;
    assert!(answer.payload.len() >= sure, "{} bytes quoted", answer.payload.len());
    let same = match (lab.setting.hook, &packet.transport) {
        (Hook::Xdp, _) => answer.payload.len(),
        (Hook::Tc, Transport::Udp { .. }) => sure - 2,
        (Hook::Tc, _) => sure,
    };
    assert_eq!(answer.payload[..same], quoted[..same], "the quote");
}

#[test]
fn a_client_whose_packets_cannot_live_on_is_told() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let kind = time_exceeded(setting.family);
        for forwarding in [Forwarding::Nat, Forwarding::Dnat, Forwarding::DsrIpip] {
            let mut lab = Lab::new(setting);
            lab.forwarding(forwarding);
            for ttl in [0, 1] {
                for packet in [lab.syn(1).ttl(ttl), lab.query(1).ttl(ttl)] {
                    answered(&mut lab, &packet, Outcome::TtlExpired, kind);
                }
            }
            lab.assert_entries(Entries::default());
            assert_eq!(lab.kernel.cursor(0).unwrap(), 0);
        }
    });
}

#[test]
fn packets_of_known_flows_age_too() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let kind = time_exceeded(setting.family);
        let mut lab = Lab::new(setting);
        let (tcp, udp) = (lab.establish(1), lab.exchange(1));
        let half_open = lab.open(2);
        let table = [
            ("a client's data", tcp.from_client(ACK).payload(b"data")),
            ("a server's data", tcp.from_server(ACK).payload(b"data")),
            ("a client's datagram", udp.query(b"0123456789")),
            ("a server's datagram", udp.response(b"0123456789")),
            ("a server's SYN-ACK", half_open.from_server(SYN_ACK)),
        ];
        let count = rows(table, |packet| {
            answered(&mut lab, &packet.ttl(1), Outcome::TtlExpired, kind);
        });
        assert_eq!(count, 5);
        assert_eq!(lab.half_flow(&half_open).unwrap().state, 0, "an answer that never came");
        lab.forwards(&tcp, &tcp.from_client(ACK).ttl(2));
        lab.replies(&tcp, &tcp.from_server(ACK).ttl(2));
    });
}

#[test]
fn the_error_goes_back_with_the_packets_tags() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let outer = Tag { tpid: ether_type::SERVICE_VLAN, tci: 7 };
        let inner = Tag { tpid: ether_type::VLAN, tci: 9 };
        let kind = time_exceeded(setting.family);
        for tags in [&[inner][..], &[outer, inner]] {
            let syn = lab.syn(1).ttl(1).tags(tags);
            answered(&mut lab, &syn, Outcome::TtlExpired, kind);
        }
    });
}

#[test]
fn small_and_empty_datagrams_are_quoted_whole() {
    require_kernel!();
    each(Setting::XDP, |setting| {
        let mut lab = Lab::new(setting);
        for len in 0..20 {
            let query = Packet { payload: vec![7; len], ..lab.query(1) }.ttl(1);
            answered(&mut lab, &query, Outcome::TtlExpired, time_exceeded(setting.family));
        }
    });
}

#[test]
fn nothing_is_said_about_resets_options_and_extension_headers() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        lab.ttl_expires_silently(&connection.from_client(RST).ttl(1));
        lab.ttl_expires_silently(&connection.from_server(RST | ACK).ttl(1));
        let more = match setting.family {
            Family::V4 => Packet { options: vec![1; 4], ..lab.query(1) },
            Family::V6 => lab.query(1).extensions(&[Extension::options(60, 8)]),
        };
        lab.ttl_expires_silently(&more.ttl(1));
    });
}

#[test]
fn nothing_is_said_about_later_fragments() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.exchange(1);
        let first = connection.query(&[7; 392]).fragment(3, 0, true);
        lab.step(&first, Outcome::Forwarded);
        lab.ttl_expires_silently(&first.later_fragment(3, 400, false, b"rest").ttl(1));
    });
}

/// A lab whose way to the server takes IP packets of `mtu` bytes.
fn narrow(setting: Setting, forwarding: Forwarding, mtu: u16) -> Lab {
    let mut lab = Lab::new(setting);
    lab.forwarding(forwarding);
    lab.server(1, |entry| entry.hop.mtu = mtu);
    lab
}

/// The client's data in an IP packet of `len` bytes.
fn sized(connection: &Connection, len: usize) -> Packet {
    let empty = connection.from_client(ACK);
    let headers = empty.ip_bytes().len();
    empty.payload(&vec![0x33; len - headers]).dont_fragment()
}

#[test]
fn a_packet_as_long_as_the_way_takes_is_carried_and_a_longer_one_answered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        for forwarding in [Forwarding::Nat, Forwarding::Dnat] {
            let mut lab = narrow(setting, forwarding, 1_300);
            let connection = lab.establish(1);
            lab.forwards(&connection, &sized(&connection, 1_300));
            let kind = too_big(setting.family, 1_300);
            for len in [1_301, 1_500] {
                let packet = sized(&connection, len);
                answered(&mut lab, &packet, Outcome::TooBig, kind);
            }
            lab.replies(&connection, &connection.from_server(ACK).payload(&[0; 1_400]));
        }
    });
}

#[test]
fn a_reply_longer_than_the_clients_link_takes_is_answered() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        lab.kernel.put_mtu(IFINDEX, 1_300).unwrap();
        let connection = lab.establish(1);
        let reply = |len: usize| {
            let empty = connection.from_server(ACK);
            let headers = empty.ip_bytes().len();
            empty.payload(&vec![0x44; len - headers]).dont_fragment()
        };
        lab.replies(&connection, &reply(1_300));
        let kind = too_big(setting.family, 1_300);
        answered(&mut lab, &reply(1_301), Outcome::TooBig, kind);
        // A FIN, and the first words after a silence, are no different.
        answered(&mut lab, &reply(1_400).flags(FIN_ACK), Outcome::TooBig, kind);
        lab.wait(2 * SECOND);
        answered(&mut lab, &reply(1_400), Outcome::TooBig, kind);
        // What was known when the flow began holds for it.
        lab.kernel.remove_mtu(IFINDEX).unwrap();
        answered(&mut lab, &reply(1_400), Outcome::TooBig, kind);
        let later = lab.establish(2);
        lab.replies(&later, &later.from_server(ACK).payload(&[0; 1_400]));
    });
}

#[test]
fn a_link_that_takes_more_than_any_packet_is_no_limit() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        // More than 16 bits hold, as a loopback's.
        for mtu in [65_536, 65_536 + 1_300] {
            lab.kernel.put_mtu(IFINDEX, mtu).unwrap();
            let connection = lab.establish(if mtu == 65_536 { 1 } else { 2 });
            lab.replies(&connection, &connection.from_server(ACK).payload(&[0; 1_400]));
        }
    });
}

#[test]
fn a_tunnel_needs_room_for_its_header() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let overhead = setting.family.header_len() as u16;
        let mut lab = narrow(setting, Forwarding::DsrIpip, 1_400);
        let syn = lab.syn(1);
        let headers = syn.ip_bytes().len();
        let room = usize::from(1_400 - overhead) - headers;
        let fits = syn.clone().payload(&vec![7; room]).dont_fragment();
        let ran = lab.step(&fits, Outcome::Forwarded);
        assert_eq!(ran.packet.len(), 14 + 1_400);
        let long = syn.payload(&vec![7; room + 1]).dont_fragment();
        let kind = too_big(setting.family, 1_400 - overhead);
        answered(&mut lab, &long, Outcome::TooBig, kind);
    });
}

#[test]
fn direct_return_does_not_carry_what_the_link_does_not_take() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = narrow(setting, Forwarding::DsrL2, 1_300);
        let long = lab.query(1).payload(&[7; 1_400]).dont_fragment();
        answered(&mut lab, &long, Outcome::TooBig, too_big(setting.family, 1_300));
    });
}

#[test]
fn a_packet_that_may_be_cut_is_dropped_without_an_error() {
    require_kernel!();
    each(Setting::IPV4, |setting| {
        let mut lab = narrow(setting, Forwarding::Nat, 1_300);
        let connection = lab.establish(1);
        let packet = Packet { fragment: 0, ..sized(&connection, 1_301) };
        let ran = lab.run(&packet);
        assert_eq!(ran.action, deston::datapath::Action::Drop);
        lab.assert_outcomes(&[(Outcome::TooBig, 1)]);
    });
}

#[test]
fn a_way_of_unknown_length_takes_everything() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = narrow(setting, Forwarding::Nat, 0);
        let connection = lab.establish(1);
        lab.forwards(&connection, &sized(&connection, 1_500));
    });
}

#[test]
fn a_packet_that_is_answered_counts_no_more_than_once() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = narrow(setting, Forwarding::Nat, 1_300);
        let connection = lab.establish(1);
        let before = lab.flow(&connection).unwrap().bytes;
        let long = sized(&connection, 1_301);
        lab.step(&long, Outcome::TooBig);
        let counted = lab.flow(&connection).unwrap().bytes - before;
        assert!([0, 1_301].contains(&counted), "{counted}");
    });
}

#[test]
fn our_own_errors_answer_no_error() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let sent = connection.to_server(&connection.from_client(ACK));
        let error = sent.time_exceeded(setting.family.router(), Quote::Whole);
        lab.ttl_expires_silently(&error.ttl(1));
    });
}
