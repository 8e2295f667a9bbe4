//! SipHash-1-3 of a client address, keyed so that nobody outside can aim clients at one server.
//!
//! SipHash: Aumasson and Bernstein, 2012. One compression and three finalisation rounds, the
//! variant that hash tables use; the message is always the 16 bytes of an IPv6 address, IPv4 mapped
//! (RFC 4291, section 2.5.5.2).

use core::net::{IpAddr, SocketAddr};

use crate::flow::FlowKey;
use crate::net::{Address, Be16};

/// The key of all hashing; the same on every node that shall choose alike (`hash_seed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Seed {
    /// First half of the key.
    pub k0: u64,
    /// Second half of the key.
    pub k1: u64,
}

impl Seed {
    /// A seed from a text of any length: its FNV-1a hash from two offsets.
    pub fn from_text(text: &str) -> Self {
        let fnv = |offset: u64| {
            text.bytes()
                .fold(offset, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        };
        Self { k0: fnv(0xcbf2_9ce4_8422_2325), k1: fnv(0x6c62_272e_07bb_0142) }
    }
}

/// Hash of an IPv4 client, given as its word in network byte order.
#[inline(always)]
pub fn client_v4(seed: Seed, octets: [u8; 4]) -> u64 {
    let address = u32::from_le_bytes(octets);
    // ::ffff:a.b.c.d as two little-endian words.
    siphash13(seed, 0, 0xffff_0000 | ((address as u64) << 32))
}

/// Hash of a client of either family.
pub fn client(seed: Seed, address: IpAddr) -> u64 {
    let octets = match address {
        IpAddr::V4(v4) => return client_v4(seed, v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    };
    let [a, b, c, d, e, f, g, h, rest @ ..] = octets;
    siphash13(seed, u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest))
}

/// Hash of a client and its port.
#[inline(always)]
pub fn client_port<A: Address>(seed: Seed, client: A, port: Be16) -> u64 {
    siphash13(seed, client.hash(seed), port.to_host().into())
}

/// Hash of a flow's 5-tuple, the same whether its addresses are widened or not. The client's side,
/// which strangers choose, is keyed twice; the listener's is folded in.
#[inline(always)]
pub fn flow<A: Address>(seed: Seed, key: &FlowKey<A>) -> u64 {
    let [a, b, c, d] = key.destination.widened().words();
    let listener = u64::from(a ^ c) << 32 | u64::from(b ^ d);
    let ports = u64::from(key.source_port.to_host()) << 16
        | u64::from(key.destination_port.to_host())
        | u64::from(key.protocol) << 32;
    siphash13(seed, key.source.hash(seed) ^ listener, ports)
}

/// Identity of a server: what ranks it and gives it its slots, the same on every node.
pub fn server(seed: Seed, address: SocketAddr) -> u64 {
    siphash13(seed, client(seed, address.ip()), address.port().into())
}

/// SipHash-1-3 of 16 bytes, given as two little-endian words.
///
/// A function of its own in the kernel programs too: it is long, and used in many places.
#[inline(never)]
pub fn siphash13(seed: Seed, first: u64, second: u64) -> u64 {
    let mut v = [
        seed.k0 ^ 0x736f_6d65_7073_6575,
        seed.k1 ^ 0x646f_7261_6e64_6f6d,
        seed.k0 ^ 0x6c79_6765_6e65_7261,
        seed.k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in [first, second, 16 << 56] {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_hashes_as_its_mapped_ipv6_address() {
        let seed = Seed::from_text("a");
        let v4: IpAddr = "192.0.2.77".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.77".parse().unwrap();
        assert_eq!(client(seed, v4), client(seed, mapped));
    }

    #[test]
    fn a_flow_hashes_alike_when_its_addresses_are_widened() {
        use crate::net::{Ipv4Be, TCP};
        let seed = Seed::from_text("a");
        let side = |n, port| (Ipv4Be::from_octets([192, 0, 2, n]), Be16::from_host(port));
        let key = FlowKey::new(side(1, 40_000), side(2, 80), TCP);
        assert_eq!(flow(seed, &key), flow(seed, &key.widened()));
        let other = FlowKey::new(side(1, 40_001), side(2, 80), TCP);
        assert_ne!(flow(seed, &key), flow(seed, &other));
    }

    #[test]
    fn servers_differ_by_address_and_by_port() {
        let seed = Seed::from_text("a");
        let identity = |text: &str| server(seed, text.parse().unwrap());
        assert_eq!(identity("192.0.2.1:80"), identity("192.0.2.1:80"));
        assert_ne!(identity("192.0.2.1:80"), identity("192.0.2.1:81"));
        assert_ne!(identity("192.0.2.1:80"), identity("192.0.2.2:80"));
    }

    #[test]
    fn another_seed_gives_another_hash() {
        let client_address: IpAddr = "192.0.2.77".parse().unwrap();
        assert_ne!(
            client(Seed::from_text("a"), client_address),
            client(Seed::from_text("b"), client_address)
        );
    }
}
