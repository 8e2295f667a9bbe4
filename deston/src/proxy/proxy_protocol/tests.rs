//! What is a header of the PROXY protocol and what is none, and what is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const VERSIONS: [ProxyProtocol; 2] = [ProxyProtocol::V1, ProxyProtocol::V2];

fn proxied(client: &str, reached: &str) -> Header {
    let (client, reached) = (client.parse().unwrap(), reached.parse().unwrap());
    Header::Proxied(Ends { client, reached })
}

fn whole(header: Header, length: usize) -> Result<Progress, Malformed> {
    Ok(Progress::Whole { header, length })
}

/// A header of version 2.
fn v2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, kind], &length, rest].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x1f, 0x90, 0, 80];

fn tcp4(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&TCP4, fields].concat())
}

#[test]
fn a_line_names_client_and_destination() {
    let text = b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 80\r\nGET /";
    assert_eq!(parse(text), whole(proxied("192.0.2.7:8080", "198.51.100.1:80"), text.len() - 5));
    let text = b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 0\r\n";
    assert_eq!(parse(text), whole(proxied("[2001:db8::7]:65535", "[2001:db8::1]:0"), text.len()));
    for text in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 whatever\r\n"] {
        assert_eq!(parse(text.as_bytes()), whole(Header::Own, text.len()));
    }
}

#[test]
fn a_line_that_is_not_exactly_one_is_refused() {
    for line in [
        "TCP4 192.0.2.7 198.51.100.1 8080 80\n",
        "TCP4 192.0.2.7 198.51.100.1 8080\r\n",
        "TCP4 192.0.2.7 198.51.100.1 8080 80 90\r\n",
        "TCP4 192.0.2.7 198.51.100.1 8080 80 \r\n",
        "TCP4  192.0.2.7 198.51.100.1 8080 80\r\n",
        "TCP4 192.0.2.7 198.51.100.1 +8080 80\r\n",
        "TCP4 192.0.2.7 198.51.100.1 08080 80\r\n",
        "TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
        "TCP4 192.0.2.7 198.51.100.1 8080 \r\n",
        "TCP4 192.0.2.07 198.51.100.1 8080 80\r\n",
        "TCP4 2001:db8::7 2001:db8::1 8080 80\r\n",
        "TCP6 192.0.2.7 198.51.100.1 8080 80\r\n",
        "UDP4 192.0.2.7 198.51.100.1 8080 80\r\n",
        "tcp4 192.0.2.7 198.51.100.1 8080 80\r\n",
        "UNKNOWNS\r\n",
        "\r\n",
        "\r",
    ] {
        let text = format!("PROXY {line}\n");
        assert_eq!(parse(text.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
}

#[test]
fn a_line_has_an_end_within_107_bytes() {
    let text = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(parse(text.as_bytes()), whole(Header::Own, 107));
    let text = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    assert_eq!(parse(text.as_bytes()), Err(Malformed::Length));
    assert_eq!(parse(&text.as_bytes()[..106]), Ok(Progress::Partial));
}

#[test]
fn a_binary_header_names_client_and_destination() {
    let header = proxied("192.0.2.7:8080", "198.51.100.1:80");
    assert_eq!(parse(&[tcp4(&[]), b"GET /".to_vec()].concat()), whole(header, 28));
    let addresses = [
        &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..],
        &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets(),
        &[0x1f, 0x90, 0, 80],
    ];
    let header = proxied("[2001:db8::7]:8080", "[2001:db8::1]:80");
    assert_eq!(parse(&v2(0x21, 0x21, &addresses.concat())), whole(header, 52));
}

#[test]
fn a_binary_header_without_a_tcp_client_leaves_what_the_socket_says() {
    for (command, kind, rest) in [
        (0x20, 0x00, &[][..]),
        // LOCAL: what follows is to be ignored, whatever it is.
        (0x20, 0x11, &[1, 2, 3]),
        (0x20, 0x11, &TCP4),
        (0x21, 0x00, &[1, 2, 3]),
        (0x21, 0x12, &TCP4),
        (0x21, 0x31, &[0; 216]),
        (0x21, 0x32, &[0; 216]),
    ] {
        assert_eq!(parse(&v2(command, kind, rest)), whole(Header::Own, 16 + rest.len()));
    }
}

#[test]
fn a_binary_header_of_another_kind_is_refused_as_soon_as_it_shows() {
    for (command, kind) in [(0x11, 0x11), (0x31, 0x11), (0x22, 0x11), (0x21, 0x41), (0x21, 0x13)] {
        assert_eq!(parse(&v2(command, kind, &TCP4)[..14]), Err(Malformed::Kind));
    }
}

#[test]
fn a_binary_header_too_short_or_too_long_is_refused() {
    for (kind, length) in [(0x11, 11), (0x21, 35), (0x31, 215)] {
        assert_eq!(parse(&v2(0x21, kind, &vec![0; length])), Err(Malformed::Length));
    }
    assert_eq!(parse(&v2(0x20, 0, &[0; LONGEST - 16])), whole(Header::Own, LONGEST));
    // Its length alone is enough: the rest is not waited for.
    assert_eq!(parse(&v2(0x20, 0, &[0; LONGEST - 15])[..16]), Err(Malformed::Length));
}

#[test]
fn further_fields_are_passed_over_if_they_fit() {
    let header = proxied("192.0.2.7:8080", "198.51.100.1:80");
    let fields = [0x01, 0, 2, b'h', b'2', 0x04, 0, 0, 0xee, 0, 1, 9];
    assert_eq!(parse(&tcp4(&fields)), whole(header, 40));
    for fields in [&[0x01][..], &[0x01, 0], &[0x01, 0, 2, b'h'], &[0x03, 0, 1, 0]] {
        assert_eq!(parse(&tcp4(fields)), Err(Malformed::Length), "{fields:?}");
    }
}

#[test]
fn a_checksum_is_checked() {
    let mut bytes = tcp4(&[0x03, 0, 4, 0, 0, 0, 0, 0x01, 0, 2, b'h', b'2']);
    assert_eq!(parse(&bytes), Err(Malformed::Checksum));
    let sum = crc32c::crc32c(bytes.iter().copied()).to_be_bytes();
    bytes[31..35].copy_from_slice(&sum);
    assert!(matches!(parse(&bytes), Ok(Progress::Whole { .. })));
    bytes[16] ^= 1;
    assert_eq!(parse(&bytes), Err(Malformed::Checksum));
}

#[test]
fn what_no_header_begins_with_is_told_by_its_first_bytes() {
    for text in ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0", "PROXYTCP4", "\r\nGET", "\x16\x03\x01"] {
        assert_eq!(parse(text.as_bytes()), Ok(Progress::Absent), "{text:?}");
    }
    for text in ["", "P", "PR", "PROXY", "\r", "\r\n\r\n\0\r\nQUIT"] {
        assert_eq!(parse(text.as_bytes()), Ok(Progress::Partial), "{text:?}");
    }
}

#[test]
fn ends_of_two_families_are_sent_as_ipv6() {
    let header = proxied("192.0.2.7:8080", "[2001:db8::1]:80");
    let wide = proxied("[::ffff:192.0.2.7]:8080", "[2001:db8::1]:80");
    for version in VERSIONS {
        let bytes = compose(version, header);
        assert_eq!(parse(&bytes), whole(wide, bytes.len()));
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

/// Bytes that get past the first checks.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let text = "PROXY (TCP4|TCP6|UNKNOWN|[A-Z]{0,5})( [0-9a-f.:]{0,20}){0,6}(\r|\n|\r\n)?";
    let binary = (0x1f..0x23u8, 0..0x34u8, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(command, kind, rest)| v2(command, kind, &rest));
    prop_oneof![
        text.prop_map(String::into_bytes),
        binary,
        prop::collection::vec(any::<u8>(), 0..200)
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_understood(client in address(), reached in address()) {
        let header = Header::Proxied(Ends { client, reached });
        for version in VERSIONS {
            for header in [header, Header::Own] {
                let bytes = compose(version, header);
                let Ok(Progress::Whole { header: read, length }) = parse(&bytes) else {
                    panic!("{bytes:?}");
                };
                prop_assert_eq!(length, bytes.len());
                let plain = |header| match header {
                    Header::Own => None,
                    Header::Proxied(Ends { client, reached }) => {
                        Some([client, reached].map(|end| (end.ip().to_canonical(), end.port())))
                    }
                };
                prop_assert_eq!(plain(read), plain(header));
            }
        }
    }

    #[test]
    fn whatever_comes_is_judged_within_bounds(bytes in hostile()) {
        match parse(&bytes) {
            Ok(Progress::Whole { length, .. }) => {
                prop_assert!(length <= bytes.len() && length <= LONGEST);
                // What follows changes nothing, and no part of it is a whole header.
                let more = [&bytes[..length], b"more"].concat();
                prop_assert_eq!(parse(&more), parse(&bytes));
                for part in 0..length {
                    prop_assert_eq!(parse(&bytes[..part]), Ok(Progress::Partial));
                }
            }
            Ok(Progress::Partial) => prop_assert!(bytes.len() < LONGEST),
            Ok(Progress::Absent) | Err(_) => {}
        }
    }
}
