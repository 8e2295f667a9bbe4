//! Who may connect to a listener: source lists and a limit on new connections.
//!
//! One meaning on every datapath: the longest prefix that holds a client's address decides, deny on
//! a tie; without one, a client is admitted unless there is an allow list. Replies, probes and other
//! traffic of the host never meet a guard.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::nanoseconds;

/// `allow`, `deny` and `[listener.rate_limit]` of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Clients that are served; empty: all that are not denied.
    pub allow: Prefixes,
    /// Clients that are refused.
    pub deny: Prefixes,
    /// Limit on new connections of one client; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
}

impl Guard {
    /// Whether the lists let `client` in. The rate limit is counted elsewhere.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        match (self.allow.longest(client), self.deny.longest(client)) {
            (Some(allowed), Some(denied)) => allowed > denied,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.allow.is_empty(),
        }
    }

    /// Whether nobody is refused.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty() && self.rate_limit.is_none()
    }
}

/// A set of address prefixes, of either family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Without host bits, in order, each once.
    networks: Vec<IpNet>,
    /// Lengths of IPv4 prefixes, longest first, each once.
    v4_lengths: Vec<u8>,
    /// Lengths of IPv6 prefixes, longest first, each once.
    v6_lengths: Vec<u8>,
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        let mut networks: Vec<IpNet> =
            networks.into_iter().map(|network| network.trunc()).collect();
        networks.sort_unstable();
        networks.dedup();
        let lengths = |v4: bool| {
            let family = networks.iter().filter(|network| network.addr().is_ipv4() == v4);
            let mut lengths: Vec<u8> = family.map(IpNet::prefix_len).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
            lengths
        };
        let (v4_lengths, v6_lengths) = (lengths(true), lengths(false));
        Self { networks, v4_lengths, v6_lengths }
    }
}

impl Prefixes {
    /// Every prefix once, in the order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether a prefix holds `address`; one of IPv4 is not looked for in its IPv6 form.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.longest(address).is_some()
    }

    /// Length of the longest prefix that holds `address`.
    fn longest(&self, address: IpAddr) -> Option<u8> {
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        let holds = |length: &u8| {
            let network = IpNet::new(address, *length).map(|network| network.trunc());
            network.is_ok_and(|network| self.networks.binary_search(&network).is_ok())
        };
        lengths.iter().copied().find(holds)
    }
}

/// `[listener.rate_limit]` of connections: a token bucket for each client, where a client is an
/// IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Time after which a client has one more connection; at least 1 ns.
    pub interval: Duration,
    /// Connections that a client who was quiet may open at once.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// Time after which a token comes, in ns.
    pub fn interval_ns(&self) -> u64 {
        nanoseconds(self.interval)
    }

    /// How much before its time a token may be taken, in ns: what makes a burst.
    pub fn tolerance_ns(&self) -> u64 {
        self.interval_ns().saturating_mul(u64::from(self.burst.get() - 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard(allow: &[&str], deny: &[&str]) -> Guard {
        let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Guard { allow: prefixes(allow), deny: prefixes(deny), rate_limit: None }
    }

    fn admits(guard: &Guard, client: &str) -> bool {
        guard.admits(client.parse().unwrap())
    }

    #[test]
    fn without_lists_everybody_is_admitted() {
        let guard = guard(&[], &[]);
        assert!(guard.is_open());
        assert!(admits(&guard, "192.0.2.1") && admits(&guard, "2001:db8::1"));
    }

    #[test]
    fn with_an_allow_list_others_are_refused_in_both_families() {
        let guard = guard(&["192.0.2.0/24"], &[]);
        assert!(admits(&guard, "192.0.2.1"));
        assert!(!admits(&guard, "198.51.100.1"));
        assert!(!admits(&guard, "2001:db8::1"));
    }

    #[test]
    fn the_longest_prefix_decides() {
        let guard = guard(&["192.0.2.0/24", "192.0.2.9/32"], &["192.0.2.8/30"]);
        assert!(admits(&guard, "192.0.2.1"));
        assert!(!admits(&guard, "192.0.2.8"));
        assert!(admits(&guard, "192.0.2.9"));
    }

    #[test]
    fn of_two_equal_prefixes_deny_decides() {
        let guard = guard(&["2001:db8::/32"], &["2001:db8::/32"]);
        assert!(!admits(&guard, "2001:db8::1"));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
        assert!(!admits(&guard(&[], &["192.0.2.0/24"]), "::ffff:192.0.2.1"));
    }

    #[test]
    fn a_prefix_of_no_length_is_everybody_of_its_family() {
        let guard = guard(&[], &["0.0.0.0/0"]);
        assert!(!admits(&guard, "192.0.2.1"));
        assert!(admits(&guard, "2001:db8::1"));
    }

    fn any_prefix() -> impl Strategy<Value = IpNet> {
        // Few bits, so that prefixes nest and clients fall into them.
        (any::<bool>(), 0_u8..8, 0_u8..=8).prop_map(|(v4, bits, length)| {
            let address: IpAddr = if v4 {
                [bits << 5, 0, 0, 0].into()
            } else {
                let mut octets = [0_u8; 16];
                octets[0] = bits << 5;
                octets.into()
            };
            IpNet::new(address, length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_decision_is_that_of_a_scan_of_all_prefixes(
            allow in prop::collection::vec(any_prefix(), 0..6),
            deny in prop::collection::vec(any_prefix(), 0..6),
            client in any_prefix(),
        ) {
            let client = client.addr();
            let longest = |list: &[IpNet]| {
                list.iter().filter(|net| net.contains(&client)).map(IpNet::prefix_len).max()
            };
            let expected = match (longest(&allow), longest(&deny)) {
                (allowed, Some(denied)) => allowed > Some(denied),
                (allowed, None) => allowed.is_some() || allow.is_empty(),
            };
            let guard = Guard {
                allow: allow.into_iter().collect(),
                deny: deny.into_iter().collect(),
                rate_limit: None,
            };
            prop_assert_eq!(guard.admits(client), expected);
        }
    }
}
