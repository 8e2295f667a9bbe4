//! The builder, the reader and the oracle agree with each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{
    Extension, Packet, Quote, Tag, ether_type, flags, join, kind, oracle, protocol, split,
};

const V4: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 200))];
const V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2)),
];

fn extension() -> impl Strategy<Value = Extension> {
    prop_oneof![
        (1_usize..4).prop_map(|words| Extension::options(kind::DESTINATION, 8 * words)),
        Just(Extension::routing()),
    ]
}

/// Hop-by-hop options stand first or nowhere (RFC 8200, section 4.1).
fn hop_by_hop_first(mut extensions: Vec<Extension>) -> Vec<Extension> {
    if extensions.len() == 3 {
        extensions.insert(0, Extension::options(kind::HOP_BY_HOP, 8));
    }
    extensions
}

/// Packets of all shapes but fragments.
fn packets() -> impl Strategy<Value = Packet> {
    let ends = prop_oneof![Just(V4), Just(V6)];
    let tags = prop::collection::vec(any::<bool>(), 0..3);
    let options = (0_usize..11, 0_usize..11);
    let words = any::<(u16, u16, u8, u8, u8, u32, u32)>();
    let payload = prop::collection::vec(any::<u8>(), 0..100);
    let extensions = prop::collection::vec(extension(), 0..4);
    (ends, 0..4, tags, options, words, payload, extensions, 0_usize..8).prop_map(
        |(ends, shape, tags, options, words, payload, extensions, padding)| {
            let (from, to) = ((ends[0], words.0), (ends[1], words.1));
            let packet = match shape {
                0 => {
                    let options = vec![1; 4 * options.0];
                    Packet::tcp(from, to, words.2).seq(words.5).ack(words.6).tcp_options(&options)
                }
                1 => Packet::udp(from, to, b""),
                2 => Packet::udp(from, to, b"").without_checksum(),
                _ => Packet::echo(ends[0], ends[1], b""),
            };
            let tags = tags.into_iter().map(|service| Tag {
                tpid: if service { ether_type::SERVICE_VLAN } else { ether_type::VLAN },
                tci: words.0,
            });
            let v4 = packet.is_v4();
            Packet {
                tags: tags.collect(),
                ttl: words.3,
                traffic_class: words.4,
                flow_label: if v4 { 0 } else { words.5 & 0xf_ffff },
                id: if v4 { words.1 } else { 0 },
                options: vec![1; if v4 { 4 * options.1 } else { 0 }],
                extensions: if v4 { vec![] } else { hop_by_hop_first(extensions) },
                payload,
                padding: vec![0xaa; padding],
                ..packet
            }
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read_back_and_the_oracle_agrees(packet in packets()) {
        let frame = packet.bytes();
        prop_assert_eq!(Packet::read(&frame), packet);
        prop_assert_eq!(oracle::verify(&frame), Ok(()));
    }

    #[test]
    fn a_datagram_is_put_together_from_its_fragments(packet in packets(), units in 1_usize..6) {
        let packet = Packet { padding: vec![], extensions: vec![], id: 0, ..packet };
        let frames = split(&packet, 0, 8 * units);
        prop_assume!(frames.len() > 1);
        for frame in &frames {
            prop_assert_eq!(oracle::verify(frame), Ok(()));
        }
        prop_assert_eq!(join(&frames), packet);
    }
}

#[test]
fn the_oracle_notices_every_flipped_bit_that_a_checksum_covers() {
    let mut judged = 0;
    for [client, server] in [V4, V6] {
        let (client_end, server_end) = ((client, 4_000), (server, 80));
        let tcp = Packet::tcp(client_end, server_end, flags::SYN).payload(b"payload");
        let udp = Packet::udp(client_end, server_end, b"payload");
        let echo = Packet::echo(client, server, b"payload");
        let error = udp.unreachable(server, Quote::Bytes(8));
        for packet in [tcp, udp, echo, error] {
            let frame = packet.bytes();
            assert_eq!(oracle::verify(&frame), Ok(()));
            for at in packet.transport_at()..frame.len() {
                let mut broken = frame.clone();
                broken[at] ^= 1;
                assert!(oracle::verify(&broken).is_err(), "byte {at} of {packet:?}");
                judged += 1;
            }
        }
    }
    assert!(judged > 200, "{judged} bytes");
}

#[test]
fn the_oracle_looks_into_tunnels_and_quotes() {
    for (inner, outer) in [(V4, V4), (V6, V6), (V4, V6), (V6, V4)] {
        let packet = Packet::udp((inner[0], 1), (inner[1], 2), b"payload");
        for carrier in
            [packet.tunnelled(outer[0], outer[1]), packet.unreachable(inner[1], Quote::Whole)]
        {
            let mut frame = carrier.bytes();
            assert_eq!(oracle::verify(&frame), Ok(()));
            // The payload's last byte, with the outer checksum made right again where there is one.
            let mut changed = carrier.clone();
            *changed.payload.last_mut().expect("a payload") ^= 1;
            frame = changed.bytes();
            let error = oracle::verify(&frame).expect_err("a broken inner packet");
            assert!(error.starts_with("inner: UDP checksum"), "{error}");
        }
    }
}

#[test]
fn an_outer_header_names_what_it_carries() {
    let v4 = Packet::udp((V4[0], 1), (V4[1], 2), b"");
    let v6 = Packet::udp((V6[0], 1), (V6[1], 2), b"");
    assert_eq!(v4.tunnelled(V6[0], V6[1]).protocol(), protocol::IPIP);
    assert_eq!(v6.tunnelled(V4[0], V4[1]).protocol(), protocol::IPV6);
    let outer = Packet::read(&v4.tunnelled(V6[0], V6[1]).bytes());
    assert_eq!(Packet::read_ip(&outer.payload), v4);
}
