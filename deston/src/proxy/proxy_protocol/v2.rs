//! Version 2: binary, with further fields (type, length, value) after the addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::crc32c;
use super::{Ends, Header, LONGEST, Malformed, Progress};

/// Begins every header: bytes that no other protocol begins with.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of what follows.
const FIXED: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The type of the field that holds a checksum of the whole header.
const CRC32C: u8 = 0x03;

/// Parses bytes that begin like a header.
pub(super) fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    let command = bytes.get(SIGNATURE.len()).copied();
    let kind = bytes.get(SIGNATURE.len() + 1).copied();
    if command.is_some_and(|command| command != LOCAL && command != PROXY) {
        return Err(Malformed::Kind);
    }
    if kind.is_some_and(|kind| kind >> 4 > 3 || kind & 0xf > 2) {
        return Err(Malformed::Kind);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Partial);
    };
    let [.., high, low] = *fixed;
    let following = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED + following;
    if length > LONGEST {
        return Err(Malformed::Length);
    }
    let (Some(rest), Some(whole)) = (rest.get(..following), bytes.get(..length)) else {
        return Ok(Progress::Partial);
    };
    let header = match (command, kind) {
        // The family and all that follows is to be ignored.
        (Some(LOCAL), _) | (_, None) => Header::Own,
        (_, Some(kind)) => proxied(kind, rest, whole)?,
    };
    Ok(Progress::Whole { header, length })
}

/// What a header of the command PROXY says; `rest` follows its fixed part.
fn proxied(kind: u8, rest: &[u8], whole: &[u8]) -> Result<Header, Malformed> {
    // Of an unspecified family: it is not said what follows.
    let addresses = match kind >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return Ok(Header::Own),
    };
    let fields = rest.get(addresses..).ok_or(Malformed::Length)?;
    check_fields(fields, whole)?;
    let ends = match kind {
        TCP4 => rest.first_chunk().map(|&addresses| tcp4(addresses)),
        TCP6 => rest.first_chunk().map(|&addresses| tcp6(addresses)),
        // A socket of the host, datagrams, or no transport: what is known of our socket holds.
        _ => None,
    };
    Ok(ends.map_or(Header::Own, Header::Proxied))
}

fn tcp4(addresses: [u8; 12]) -> Ends {
    let [a, b, c, d, e, f, g, h, from @ .., t, o] = addresses;
    Ends {
        client: (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(from)).into(),
        reached: (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([t, o])).into(),
    }
}

fn tcp6(addresses: [u8; 36]) -> Ends {
    let address = |start: usize| {
        let mut octets = [0; 16];
        octets.iter_mut().zip(addresses.iter().skip(start)).for_each(|(to, from)| *to = *from);
        Ipv6Addr::from(octets)
    };
    let [.., from_high, from_low, to_high, to_low] = addresses;
    Ends {
        client: (address(0), u16::from_be_bytes([from_high, from_low])).into(),
        reached: (address(16), u16::from_be_bytes([to_high, to_low])).into(),
    }
}

/// Walks the fields, of which the checksum alone means something here.
fn check_fields(mut fields: &[u8], whole: &[u8]) -> Result<(), Malformed> {
    while let Some((&kind, rest)) = fields.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Length)?;
        if kind == CRC32C {
            let claimed: [u8; 4] = value.try_into().map_err(|_| Malformed::Length)?;
            // Computed with zeros in its place.
            let before = whole.len() - rest.len() - value.len();
            let head = whole.get(..before).unwrap_or_default();
            let computed = crc32c(head.iter().chain(&[0; 4]).chain(rest).copied());
            if computed != u32::from_be_bytes(claimed) {
                return Err(Malformed::Checksum);
            }
        }
        fields = rest;
    }
    Ok(())
}

/// A header, ready to be sent.
pub(super) fn compose(header: Header) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    let Header::Proxied(Ends { client, reached }) = header else {
        bytes.extend([LOCAL, 0, 0, 0]);
        return bytes;
    };
    match (client, reached) {
        (SocketAddr::V4(client), SocketAddr::V4(reached)) => {
            bytes.extend([PROXY, TCP4, 0, 12]);
            bytes.extend(client.ip().octets());
            bytes.extend(reached.ip().octets());
        }
        (client, reached) => {
            bytes.extend([PROXY, TCP6, 0, 36]);
            bytes.extend(wide(client.ip()).octets());
            bytes.extend(wide(reached.ip()).octets());
        }
    }
    bytes.extend(client.port().to_be_bytes());
    bytes.extend(reached.port().to_be_bytes());
    bytes
}

/// An address of IPv6; one of IPv4 mapped, where its peer's is of the other family.
pub(super) fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
