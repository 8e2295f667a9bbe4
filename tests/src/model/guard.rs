//! Who may open flows, and how many.

use std::net::IpAddr;

use super::balance::Model;
use super::frame::Packet;
use super::outcome::Outcome;
use super::settings::Listener;
use super::tuple::UDP;

/// Length of the flood gate's window, nanoseconds.
const WINDOW: u64 = 1_000_000_000;

impl Model {
    /// Admits a packet that opens a flow.
    pub(super) fn admit(&mut self, packet: &Packet, listener: &Listener) -> Result<(), Outcome> {
        let client = packet.tuple.source.ip();
        if (listener.lists || listener.default_deny) && !self.is_allowed(client, listener) {
            return Err(Outcome::Denied);
        }
        let is_counted = !listener.stack || packet.tuple.protocol != UDP;
        if listener.rate.0 != 0 && is_counted && !self.take_token(client, listener) {
            return Err(Outcome::RateLimited);
        }
        Ok(())
    }

    /// What the longest prefix says of a client.
    fn is_allowed(&self, client: IpAddr, listener: &Listener) -> bool {
        self.settings
            .sources
            .iter()
            .filter(|((number, prefix, bits), _)| {
                *number == listener.number && covers(*prefix, *bits, client)
            })
            .max_by_key(|((_, _, bits), _)| *bits)
            .map_or(!listener.default_deny, |(_, allowed)| *allowed)
    }

    /// The generic cell rate algorithm (ITU-T I.371, annex A), as virtual scheduling: a flow conforms
    /// if it comes no more than the tolerance before it is due; the next is due an interval later.
    fn take_token(&mut self, client: IpAddr, listener: &Listener) -> bool {
        let (interval, tolerance) = listener.rate;
        let now = self.now();
        let due = self.tables.buckets.entry((subscriber(client), listener.number)).or_insert(0);
        if *due > now.saturating_add(tolerance) {
            return false;
        }
        *due = now.max(*due).saturating_add(interval);
        true
    }

    /// Whether one more flow may be opened in this second.
    pub(super) fn pass_flood_gate(&mut self) -> bool {
        let limit = u64::from(self.settings.globals.flood_gate);
        if limit == 0 {
            return true;
        }
        let now = self.now();
        let (since, count) = &mut self.tables.flood;
        if now.wrapping_sub(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        if *count < limit {
            *count += 1;
            return true;
        }
        false
    }
}

/// Whether a prefix covers an address of its family.
fn covers(prefix: IpAddr, bits: u8, address: IpAddr) -> bool {
    let shared =
        |a: u128, b: u128, len: u32| (a ^ b).leading_zeros() >= 128 - len + u32::from(bits);
    match (prefix, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => shared(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => shared(a.into(), b.into(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// What limits count as one client: an IPv4 address, an IPv6 /64.
fn subscriber(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_shares_its_first_bits() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(covers(address("192.0.2.0"), 24, address("192.0.2.255")));
        assert!(!covers(address("192.0.2.0"), 24, address("192.0.3.0")));
        assert!(covers(address("0.0.0.0"), 0, address("203.0.113.1")));
        assert!(covers(address("2001:db8::"), 32, address("2001:db8:ffff::1")));
        assert!(!covers(address("::"), 0, address("192.0.2.1")));
    }
}
