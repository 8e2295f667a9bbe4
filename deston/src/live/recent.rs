//! What is remembered of clients, shared by all workers.
//!
//! Bounded, so that a flood of addresses costs no more memory than many honest clients do: those
//! that were not heard of for longest are forgotten. A lock is held for one look-up and never
//! across an await.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use deston_common::limits::MAX_STICKY;

/// Locks, so that workers seldom meet at one.
const SHARDS: usize = 16;

/// Clients in one generation of a shard: two generations of all are as many as the kernel remembers.
const GENERATION: usize = MAX_STICKY as usize / SHARDS / 2;

/// A value for each of the clients heard of lately, known by their address unless otherwise said.
pub(super) struct Recent<V, K = IpAddr> {
    shards: [Mutex<Shard<V, K>>; SHARDS],
    hasher: RandomState,
}

/// When `young` is full, it becomes `old`, and what was old is forgotten.
struct Shard<V, K> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<V: Copy, K: Copy + Eq + Hash> Recent<V, K> {
    /// Nobody was heard of.
    pub(super) fn new() -> Self {
        let shard = || Mutex::new(Shard { young: HashMap::new(), old: HashMap::new() });
        Self { shards: std::array::from_fn(|_| shard()), hasher: RandomState::new() }
    }

    /// Looks at what is remembered of a client; what `look` gives back first is remembered instead.
    pub(super) fn with<T>(&self, client: K, look: impl FnOnce(Option<V>) -> (Option<V>, T)) -> T {
        let place = self.hasher.hash_one(client) as usize % SHARDS;
        let Some(shard) = self.shards.get(place) else { return look(None).1 };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shard.young.get(&client).or_else(|| shard.old.get(&client)).copied();
        let (value, result) = look(known);
        if let Some(value) = value {
            shard.young.insert(client, value);
            if shard.young.len() >= GENERATION {
                shard.old = std::mem::take(&mut shard.young);
            }
        }
        result
    }
}

/// The part of a client's address that counts as one client: an IPv4 address, or an IPv6 /64, which
/// one subscriber has for himself (RFC 6177, section 2).
pub(super) fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        // Far more than are remembered.
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n)))
    }

    /// Remembers a number of a client and gives what was remembered.
    fn swap(recent: &Recent<u32>, n: u32) -> Option<u32> {
        recent.with(client(n), |known| (Some(n), known))
    }

    #[test]
    fn what_is_remembered_is_found() {
        let recent = Recent::new();
        assert_eq!(swap(&recent, 1), None);
        assert_eq!(swap(&recent, 1), Some(1));
        assert_eq!(recent.with(client(2), |known| (None, known)), None);
    }

    #[test]
    fn a_flood_of_clients_takes_bounded_room_and_spares_whoever_comes_back() {
        let recent = Recent::new();
        swap(&recent, 0);
        for n in 1..200_000 {
            swap(&recent, n);
            if n % 1_000 == 0 {
                assert_eq!(swap(&recent, 0), Some(0));
            }
        }
        let shards = recent.shards.iter().map(|shard| shard.lock().unwrap());
        let known: usize = shards.map(|shard| shard.young.len() + shard.old.len()).sum();
        assert!(known <= MAX_STICKY as usize, "{known}");
        assert_eq!(swap(&recent, 1), None, "the first of the flood is forgotten");
    }

    #[test]
    fn a_subscriber_of_ipv6_has_a_64() {
        let subscriber_of = |text: &str| subscriber(text.parse().unwrap()).to_string();
        assert_eq!(subscriber_of("2001:db8:0:1:2:3:4:5"), "2001:db8:0:1::");
        assert_eq!(subscriber_of("192.0.2.7"), "192.0.2.7");
        assert_eq!(subscriber_of("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
