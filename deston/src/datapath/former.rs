//! What the process before left in the maps: listeners with their flows, and servers.
//!
//! Until this process has opened its own listeners, all of it stays in force. A listener that is
//! configured again goes on under its number, so that flows mean what they meant; what is not is
//! closed then, and forgotten when its flows have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use deston_common::globals::{Globals, flags as global};
use deston_common::limits::MAX_SERVERS;
use deston_common::listener::flags::{OPEN, TC};
use deston_common::server::{ServerEntry, ServerId};
use ipnet::IpNet;

use super::contents::{Contents, OUR_FLAGS, Place};
use super::kernel::{Hook, Kernel, KernelError};

/// What is left of the process before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Former {
    /// All that it had written.
    pub(super) contents: Contents,
    /// Its listeners that are not configured again, by number: whether they take new flows.
    left: BTreeMap<u32, bool>,
}

impl Former {
    /// Reads what is there.
    pub(super) fn read(kernel: &Kernel) -> Result<Self, KernelError> {
        let globals = kernel.globals()?;
        let mut contents = Contents {
            globals: Globals { flags: globals.flags & OUR_FLAGS, ..globals },
            addresses: kernel.addresses()?.into_iter().collect(),
            ..Contents::default()
        };
        for (address, protocol, entry) in kernel.listeners()? {
            contents.listeners.insert(Place { address, protocol }, entry);
            if entry.snat_count > 0 {
                let addresses = kernel.snat_addresses(entry.number, entry.snat_count)?;
                contents.snat.insert(entry.number, addresses);
            }
        }
        for (number, (address, bits), verdict) in kernel.sources()? {
            if let Ok(network) = IpNet::new(address, bits) {
                contents.sources.insert((number, network), verdict);
            }
        }
        for (address, protocol, listener, is_tc) in kernel.static_replies()? {
            let hook = if is_tc { Hook::Tc } else { Hook::Xdp };
            contents.replies.insert(Place { address, protocol }, (listener, hook));
        }
        Ok(Self::of(contents))
    }

    fn of(contents: Contents) -> Self {
        let mut left = BTreeMap::new();
        for entry in contents.listeners.values() {
            *left.entry(entry.number).or_insert(false) |= entry.flags & OPEN != 0;
        }
        Self { contents, left }
    }

    /// The number of the listener at `address`, which is configured again and therefore no longer
    /// one of these. A listener on every address is known by any of its addresses.
    pub(super) fn claim(&mut self, address: SocketAddr, protocol: u8) -> Option<u32> {
        let (every, family) = (address.ip().is_unspecified(), address.is_ipv4());
        let is = |place: &Place| {
            let same = place.address == address;
            let among = every && place.address.is_ipv4() == family;
            place.protocol == protocol && (same || among && place.address.port() == address.port())
        };
        // One that has several places was on every address.
        let places = |number| {
            self.contents.listeners.values().filter(|entry| entry.number == number).count()
        };
        let found = self.contents.listeners.iter().find(|(place, entry)| {
            is(place)
                && self.left.contains_key(&entry.number)
                && (place.address == address || places(entry.number) > 1)
        });
        let number = found.map(|(_, entry)| entry.number)?;
        self.left.remove(&number);
        Some(number)
    }

    /// Numbers in use.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.left.keys().copied()
    }

    /// Pools that listeners in use have, by index.
    pub(super) fn pools(&self) -> BTreeSet<u32> {
        let entries = self.contents.listeners.values();
        entries.filter(|entry| self.left.contains_key(&entry.number)).map(|e| e.pool).collect()
    }

    /// The hooks of listeners in use.
    pub(super) fn hooks(&self) -> impl Iterator<Item = Hook> {
        let entries = self.contents.listeners.values();
        let left = entries.filter(|entry| self.left.contains_key(&entry.number));
        left.map(|entry| if entry.flags & TC == 0 { Hook::Xdp } else { Hook::Tc })
    }

    /// Takes no new flow for what is left.
    pub(super) fn close(&mut self) {
        self.left.values_mut().for_each(|is_open| *is_open = false);
    }

    /// Forgets closed listeners without flows. `busy` are the numbers of those that have some.
    pub(super) fn forget_finished(&mut self, busy: &BTreeMap<u32, BTreeSet<IpAddr>>) {
        self.left.retain(|number, is_open| *is_open || busy.contains_key(number));
    }

    /// Adds to `wanted` what stays in force of this. What addresses mean stays as a whole, while
    /// `has_servers` says that servers are left, or listeners are.
    pub(super) fn keep(&self, wanted: &mut Contents, has_servers: bool) {
        for (place, entry) in &self.contents.listeners {
            if let Some(is_open) = self.left.get(&entry.number) {
                let mut entry = *entry;
                entry.flags &= if *is_open { u32::MAX } else { !OPEN };
                let own = wanted.listeners.entry(*place).or_insert(entry);
                // What is closed has nothing to take: one that is open goes before it.
                if own.flags & OPEN == 0 && entry.flags & OPEN != 0 {
                    *own = entry;
                }
            }
        }
        for (key, verdict) in &self.contents.sources {
            if self.left.contains_key(&key.0) {
                wanted.sources.entry(*key).or_insert(*verdict);
            }
        }
        for (number, addresses) in &self.contents.snat {
            if self.left.contains_key(number) {
                wanted.snat.entry(*number).or_insert_with(|| addresses.clone());
            }
        }
        if self.left.is_empty() && !has_servers {
            return;
        }
        wanted.globals.flags |= self.contents.globals.flags & global::DNAT;
        for (server, listener) in &self.contents.replies {
            wanted.replies.entry(*server).or_insert(*listener);
        }
        for (address, entry) in &self.contents.addresses {
            wanted.add_address(*address, entry);
        }
    }
}

/// The servers that the process before knew.
pub(super) fn servers(kernel: &Kernel) -> Result<Vec<(ServerId, ServerEntry)>, KernelError> {
    let mut servers = Vec::new();
    for id in (1..MAX_SERVERS as u16).map(ServerId) {
        let entry = kernel.server(id)?;
        if entry.state != 0 {
            servers.push((id, entry));
        }
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use deston_common::address::AddressEntry;
    use deston_common::address::flags::{LISTENER, SNAT};
    use deston_common::listener::ListenerEntry;
    use deston_common::net::{TCP, UDP};

    use super::*;

    fn place(text: &str) -> Place {
        Place { address: text.parse().unwrap(), protocol: TCP }
    }

    fn entry(number: u32, pool: u32) -> ListenerEntry {
        ListenerEntry { number, pool, flags: OPEN, ..ListenerEntry::default() }
    }

    /// Listener 1 at one address, listener 2 at two.
    fn former() -> Former {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let snat = AddressEntry {
            flags: LISTENER | SNAT,
            snat_port_min: 10_240,
            snat_port_max: 32_767,
            echo_pool: 0,
        };
        Former::of(Contents {
            listeners: [
                (place("192.0.2.1:80"), entry(1, 3)),
                (place("192.0.2.1:81"), entry(2, 4)),
                (place("192.0.2.2:81"), entry(2, 4)),
            ]
            .into(),
            sources: [((1, "198.51.100.0/24".parse().unwrap()), 2)].into(),
            addresses: [(address("192.0.2.1"), snat)].into(),
            ..Contents::default()
        })
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_written_stays_in_force_at_first() {
        let mut wanted = Contents::default();
        former().keep(&mut wanted, false);
        assert_eq!(wanted, former().contents);
    }

    #[test]
    fn a_listener_that_is_configured_again_keeps_its_number() {
        let mut former = former();
        assert_eq!(former.claim(socket("192.0.2.1:80"), UDP), None);
        assert_eq!(former.claim(socket("192.0.2.9:80"), TCP), None);
        assert_eq!(former.claim(socket("192.0.2.1:80"), TCP), Some(1));
        assert_eq!(former.claim(socket("192.0.2.1:80"), TCP), None, "once");
        assert_eq!(former.numbers().collect::<Vec<_>>(), [2]);
        assert_eq!(former.pools(), [4].into());
        let mut wanted = Contents::default();
        former.keep(&mut wanted, false);
        assert_eq!((wanted.listeners.len(), wanted.sources.len()), (2, 0));
    }

    #[test]
    fn a_listener_on_every_address_is_known_by_having_several() {
        let mut former = former();
        assert_eq!(former.claim(socket("0.0.0.0:80"), TCP), None, "it had one address");
        assert_eq!(former.claim(socket("[::]:81"), TCP), None);
        assert_eq!(former.claim(socket("0.0.0.0:81"), TCP), Some(2));
    }

    #[test]
    fn what_is_not_configured_again_closes_and_goes_with_its_flows() {
        let mut former = former();
        former.close();
        let mut wanted = Contents::default();
        former.keep(&mut wanted, false);
        assert_eq!(wanted.listeners[&place("192.0.2.1:80")].flags, 0);

        former.forget_finished(&[(2, BTreeSet::new())].into());
        assert_eq!(former.numbers().collect::<Vec<_>>(), [2]);
        former.forget_finished(&BTreeMap::new());
        let mut wanted = Contents::default();
        former.keep(&mut wanted, true);
        assert_eq!(wanted.addresses, former.contents.addresses, "servers are left");
        let mut wanted = Contents::default();
        former.keep(&mut wanted, false);
        assert_eq!(wanted, Contents::default());
    }
}
