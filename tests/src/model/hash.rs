//! Keyed hashes of clients and flows, by the `siphasher` crate.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

use super::tuple::{Tuple, widened};

/// The two halves of a key.
pub type Seed = (u64, u64);

fn siphash(seed: Seed, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed.0, seed.1);
    hasher.write(bytes);
    hasher.finish()
}

fn siphash_words(seed: Seed, first: u64, second: u64) -> u64 {
    siphash(seed, &[first.to_le_bytes(), second.to_le_bytes()].concat())
}

/// Hash of a client's address.
pub fn client(seed: Seed, address: IpAddr) -> u64 {
    siphash(seed, &widened(address))
}

/// Hash of a client's address and port.
pub fn client_port(seed: Seed, client_side: SocketAddr) -> u64 {
    siphash_words(seed, client(seed, client_side.ip()), client_side.port().into())
}

/// Hash of a 5-tuple. The source is hashed; the destination is folded to 64 bits, its words as they
/// stand in the memory of a little-endian machine.
pub fn flow(seed: Seed, tuple: &Tuple) -> u64 {
    let bytes = widened(tuple.destination.ip());
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    let folded = (word(0) ^ word(8)) << 32 | (word(4) ^ word(12));
    let ports = u64::from(tuple.protocol) << 32
        | u64::from(tuple.source.port()) << 16
        | u64::from(tuple.destination.port());
    siphash_words(seed, client(seed, tuple.source.ip()) ^ folded, ports)
}
