//! What the loaded programs make of headers: whatever cannot be read is passed as it came, and what
//! can be read is carried whatever stands between its headers.

use deston_common::outcome::Outcome;
use deston_tests::kernel::{Connection, Family, Lab, Setting, each, rows};
use deston_tests::packet::{Extension, Packet, Tag, ether_type, flags, kind, protocol};
use deston_tests::require_kernel;

const CUSTOMER: Tag = Tag { tpid: ether_type::VLAN, tci: 0x2064 };
const SERVICE: Tag = Tag { tpid: ether_type::SERVICE_VLAN, tci: 0x0007 };

/// Packets with something between all headers that can have it.
fn elaborate(lab: &Lab) -> [(&'static str, Packet); 3] {
    let between = |packet: Packet| {
        if packet.is_v4() {
            Packet { options: vec![1, 1, 1, 0], ..packet }
        } else {
            let before = [Extension::options(kind::HOP_BY_HOP, 16), Extension::routing()];
            packet.extensions(&before)
        }
    };
    [
        ("TCP with options", between(lab.syn(1).tcp_options(&[2, 4, 5, 0xb4]))),
        ("UDP", between(lab.query(1))),
        ("TCP behind two tags", lab.syn(1).tags(&[SERVICE, CUSTOMER])),
    ]
}

/// Lengths that the kernel takes for a test run at this hook.
fn least_length(setting: Setting) -> usize {
    match setting {
        Setting::XDP4 | Setting::XDP6 => 14,
        // What a socket buffer of that family has to hold.
        _ => 14 + setting.family.header_len(),
    }
}

#[test]
fn frames_that_are_not_ip_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let ip = lab.syn(1).bytes();
        let types = [
            ("ARP", ether_type::ARP),
            ("LLDP", 0x88cc),
            ("MPLS", 0x8847),
            ("PPPoE", 0x8864),
            ("an IEEE 802.3 length", 0x0040),
            ("an unknown type", 0xffff),
        ];
        let count = rows(types, |kind: u16| {
            let mut frame = ip.clone();
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            lab.passes(&frame, Outcome::OtherProtocol);
        });
        assert_eq!(count, 6);
    });
}

#[test]
fn one_and_two_vlan_tags_are_read_and_a_third_is_not() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let carried: [(&str, &[Tag]); 4] = [
            ("a customer tag", &[CUSTOMER]),
            ("a service tag", &[SERVICE]),
            ("a service and a customer tag", &[SERVICE, CUSTOMER]),
            ("two customer tags", &[CUSTOMER, CUSTOMER]),
        ];
        let mut client = 0;
        let count = rows(carried, |tags| {
            client += 1;
            let connection = lab.opens(&lab.syn(client).tags(tags));
            lab.replies(&connection, &connection.from_server(flags::SYN_ACK));
        });
        assert_eq!(count, 4);
        let nested = lab.syn(9).tags(&[SERVICE, CUSTOMER, CUSTOMER]);
        lab.passes(&nested, Outcome::OtherProtocol);
        let mut arp = lab.syn(9).tags(&[CUSTOMER]).bytes();
        arp[16..18].copy_from_slice(&ether_type::ARP.to_be_bytes());
        lab.passes(&arp, Outcome::OtherProtocol);
    });
}

#[test]
fn a_frame_cut_anywhere_is_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let mut cut = 0;
        let count = rows(elaborate(&lab), |packet| {
            let whole = packet.bytes();
            for len in least_length(setting)..whole.len() {
                lab.passes(&whole[..len], Outcome::Malformed);
                cut += 1;
            }
        });
        assert_eq!(count, 3);
        assert!(cut > 60, "{cut} frames");
    });
}

#[test]
fn an_ip_packet_that_ends_anywhere_in_its_headers_is_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let mut short = 0;
        let count = rows(elaborate(&lab), |packet| {
            let whole = packet.bytes();
            let ip = packet.network_at();
            let headers = packet.transport_at() + whole.len() - packet.transport_at();
            let headers = headers - packet.payload.len();
            for end in ip + setting.family.header_len()..headers {
                let mut frame = whole[..end].to_vec();
                let (place, len) = match setting.family {
                    Family::V4 => (ip + 2, end - ip),
                    Family::V6 => (ip + 4, end - ip - 40),
                };
                frame[place..place + 2].copy_from_slice(&(len as u16).to_be_bytes());
                lab.passes(&frame, Outcome::Malformed);
                // With the bytes still there, as the frame's padding.
                let mut padded = whole.clone();
                padded[..end].copy_from_slice(&frame);
                lab.passes(&padded, Outcome::Malformed);
                short += 2;
            }
        });
        assert_eq!(count, 3);
        assert!(short > 100, "{short} frames");
    });
}

#[test]
fn lengths_that_contradict_each_other_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let ip = 14;
        let l4 = ip + setting.family.header_len();
        let (tcp, udp) = (lab.syn(1), lab.query(1));
        let transport: [(&str, &Packet, usize, &[u8]); 5] = [
            ("a TCP header of 16 bytes", &tcp, l4 + 12, &[0x40]),
            ("a TCP header without length", &tcp, l4 + 12, &[0x00]),
            ("a TCP header past the end", &tcp, l4 + 12, &[0x60]),
            ("a UDP length under its header's", &udp, l4 + 4, &[0, 7]),
            ("a UDP length past the end", &udp, l4 + 4, &[0, 14]),
        ];
        let network: &[(&str, &Packet, usize, &[u8])] = match setting.family {
            Family::V4 => &[
                ("a header of 16 bytes", &tcp, ip, &[0x44]),
                ("a header past the end", &tcp, ip, &[0x4f]),
                ("version 6 under the type of IPv4", &tcp, ip, &[0x65]),
                ("a length past the end", &tcp, ip + 2, &[0, 41]),
                ("a length of the header alone", &tcp, ip + 2, &[0, 20]),
                ("a length under the header's", &tcp, ip + 2, &[0, 19]),
                ("no length", &tcp, ip + 2, &[0, 0]),
            ],
            Family::V6 => &[
                ("version 4 under the type of IPv6", &tcp, ip, &[0x45]),
                ("a length past the end", &tcp, ip + 4, &[0, 21]),
                ("no length", &tcp, ip + 4, &[0, 0]),
            ],
        };
        let all = transport.iter().chain(network).map(|row| (row.0, row));
        let count = rows(all, |(_, packet, at, bytes)| {
            let mut frame = packet.bytes();
            frame[*at..at + bytes.len()].copy_from_slice(bytes);
            lab.passes(&frame, Outcome::Malformed);
        });
        assert_eq!(count, 5 + network.len());
    });
}

#[test]
fn a_udp_packet_shorter_than_its_ip_packet_is_carried_with_what_follows() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = lab.query(1);
        let mut frame = query.bytes();
        // The last of its five bytes is not the datagram's; the checksum is absent.
        frame[query.transport_at() + 4..][..4].copy_from_slice(&[0, 12, 0, 0]);
        let ran = lab.step(&frame, Outcome::Forwarded);
        assert_eq!(ran.packet.last(), frame.last());
        assert_eq!(ran.packet.len(), frame.len());
    });
}

#[test]
fn ip_options_of_every_length_are_honoured() {
    require_kernel!();
    each(Setting::IPV4, |setting| {
        let mut lab = Lab::new(setting);
        for words in 1..=10 {
            let options = vec![1; 4 * usize::from(words)];
            let connection = lab.opens(&Packet { options: options.clone(), ..lab.syn(words) });
            let answer = connection.from_server(flags::SYN_ACK);
            lab.replies(&connection, &Packet { options, ..answer });
        }
    });
}

#[test]
fn tcp_options_of_every_length_are_kept() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        for words in 1..=10 {
            let options = vec![1; 4 * usize::from(words)];
            let syn = lab.syn(words).tcp_options(&options).payload(b"fast open");
            let connection = lab.opens(&syn);
            let answer = connection.from_server(flags::SYN_ACK).tcp_options(&options);
            lab.replies(&connection, &answer);
        }
    });
}

#[test]
fn up_to_four_extension_headers_are_walked() {
    require_kernel!();
    each(Setting::IPV6, |setting| {
        let mut lab = Lab::new(setting);
        let hops = Extension::options(kind::HOP_BY_HOP, 8);
        let long = Extension::options(kind::DESTINATION, 40);
        let whole = Extension::fragment(7, 0, false);
        let chains = [
            ("hop-by-hop options", vec![hops.clone()]),
            ("a routing header", vec![Extension::routing()]),
            ("destination options", vec![long.clone()]),
            ("a fragment header around a whole packet", vec![whole.clone()]),
            ("four", vec![hops.clone(), Extension::routing(), whole.clone(), long.clone()]),
        ];
        let mut client = 0;
        let count = rows(chains, |chain| {
            client += 1;
            let connection = lab.opens(&lab.syn(client).extensions(&chain));
            let answer = connection.from_server(flags::SYN_ACK).extensions(&chain);
            lab.replies(&connection, &answer);
            lab.opens(&lab.query(client).extensions(&chain));
        });
        assert_eq!(count, 5);
        let five = vec![long.clone(); 5];
        lab.passes(&lab.syn(9).extensions(&five), Outcome::OtherProtocol);
        assert_eq!(client, 5);
    });
}

#[test]
fn long_extension_headers_are_walked_or_passed_and_never_spoiled() {
    require_kernel!();
    each(Setting::IPV6, |setting| {
        let mut lab = Lab::new(setting);
        let connection = lab.establish(1);
        let tag = Tag { tpid: ether_type::VLAN, tci: 5 };
        lab.server_tags(1, &[tag]);
        let tagged = lab.opens(&lab.syn(2).tags(&[tag]));
        lab.shake_hands(&tagged);
        let mut carried = 0;
        for (connection, bytes) in
            (8..=2_048).step_by(8).flat_map(|bytes| [(&connection, bytes), (&tagged, bytes)])
        {
            // What is longer than one header takes several.
            let mut chain: Vec<Extension> = Vec::new();
            let mut left = bytes;
            while left > 0 {
                let one = left.min(256);
                chain.push(Extension::options(kind::DESTINATION, one));
                left -= one;
            }
            let data = connection.from_client(flags::ACK).extensions(&chain).payload(b"data");
            if data.transport_at() > 384 {
                lab.passes(&data, Outcome::OtherProtocol);
            } else {
                let sent =
                    Connection { server_tags: vec![tag], ..connection.clone() }.to_server(&data);
                lab.emits_exactly(&data, Outcome::Forwarded, &sent);
                carried += 1;
            }
        }
        assert_eq!(carried, 41 + 40);
    });
}

#[test]
fn extension_headers_past_the_end_are_passed() {
    require_kernel!();
    each(Setting::IPV6, |setting| {
        let mut lab = Lab::new(setting);
        let first = 14 + 40;
        let count =
            rows([("a long one", 0xff), ("one that ends with the packet", 4)], |len: u8| {
                let chain = [Extension::options(kind::DESTINATION, 8)];
                let mut frame = lab.syn(1).tcp_options(&[1; 12]).extensions(&chain).bytes();
                frame[first + 1] = len;
                lab.passes(&frame, Outcome::Malformed);
            });
        assert_eq!(count, 2);
    });
}

#[test]
fn other_protocols_to_a_listeners_address_are_passed() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let (client, listener) = (lab.client(1).ip(), lab.listener_address().ip());
        let numbers = [
            ("IGMP", 2),
            ("a tunnel of IPv4", protocol::IPIP),
            ("a tunnel of IPv6", protocol::IPV6),
            ("GRE", 47),
            ("encrypted", kind::ENCRYPTED),
            ("authenticated", kind::AUTHENTICATION),
            ("nothing", kind::NONE),
            ("SCTP", 132),
            ("UDP-Lite", 136),
            ("reserved", 255),
        ];
        let count = rows(numbers, |number: u8| {
            for payload in [&[0x11; 40][..], &[]] {
                let packet = Packet::other(client, listener, number, payload);
                lab.passes(&packet, Outcome::OtherProtocol);
            }
        });
        assert_eq!(count, 10);
        // The control protocol of the other family.
        let other = if setting.family == Family::V4 { protocol::ICMPV6 } else { protocol::ICMP };
        lab.passes(&Packet::other(client, listener, other, &[8; 40]), Outcome::OtherProtocol);
    });
}

#[test]
fn padding_after_the_packet_is_kept_and_counts_for_nothing() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let query = Packet { padding: vec![0xaa; 18], ..lab.query(1) };
        let connection = lab.opens(&query);
        let response = Packet { padding: vec![0xbb; 9], ..connection.response(b"r") };
        lab.replies(&connection, &response);
        let ip_len = (query.bytes().len() - 14 - 18) as u64;
        let flow = lab.flow(&connection).expect("promoted by the response");
        assert_eq!(flow.bytes, ip_len);
    });
}

#[test]
fn classes_labels_and_numbers_of_the_packet_are_left_alone() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        let marked = |packet: Packet| Packet {
            traffic_class: 0xb9,
            flow_label: if packet.is_v4() { 0 } else { 0xf_1234 },
            id: if packet.is_v4() { 0xfedc } else { 0 },
            ..packet.dont_fragment()
        };
        let connection = lab.opens(&marked(lab.syn(1)));
        lab.replies(&connection, &marked(connection.from_server(flags::SYN_ACK)));
    });
}

#[test]
fn urgent_and_reserved_tcp_flags_are_no_one_elses_business() {
    require_kernel!();
    each(Setting::ALL, |setting| {
        let mut lab = Lab::new(setting);
        // ECN set-up (RFC 3168): SYN with ECE and CWR opens.
        lab.opens(&lab.syn(1).flags(flags::SYN | 0xc0));
        let connection = lab.establish(2);
        for extra in [flags::PSH, flags::URG, 0x40, 0x80] {
            let data = connection.from_client(flags::ACK | extra).payload(b"data");
            lab.forwards(&connection, &data);
        }
    });
}
