//! Addresses, listeners and what belongs to one listener alone.

use std::net::{IpAddr, SocketAddr};

use aya::maps::lpm_trie::Key;
use deston_common::address::AddressEntry;
use deston_common::guard::{LISTENER_BITS, SourceKey};
use deston_common::listener::{
    ListenerEntry, ListenerKey, MAX_SNAT_ADDRESSES, SnatAddresses, StaticReply,
};
use deston_common::net::{Address, Be16, Ipv6Be};

use super::error::map;
use super::family::{Wire as _, in_family};
use super::{KernelError, Maps};

impl Maps {
    /// Says what an address means.
    pub fn put_address(
        &mut self,
        address: IpAddr,
        entry: &AddressEntry,
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, address, |maps, address| {
            maps.addresses.insert(address.bytes(), entry, 0)
        })
        .map_err(map("ADDRESSES"))
    }

    /// Forgets an address: packets to it are passed from here on.
    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), KernelError> {
        in_family!(&mut, self, address, |maps, address| maps.addresses.remove(&address.bytes()))
            .map_err(map("ADDRESSES"))
    }

    /// Every address that means something to us.
    pub fn addresses(&self) -> Result<Vec<(IpAddr, AddressEntry)>, KernelError> {
        let v4 = self.v4.addresses.iter();
        let v4 = v4.map(|entry| entry.map(|(octets, entry)| (IpAddr::from(octets), entry)));
        let v6 = self.v6.addresses.iter();
        let v6 = v6.map(|entry| entry.map(|(octets, entry)| (IpAddr::from(octets), entry)));
        v4.chain(v6).collect::<Result<_, _>>().map_err(map("ADDRESSES"))
    }

    /// Every listener: address, port, protocol and what to do.
    pub fn listeners(&self) -> Result<Vec<(SocketAddr, u8, ListenerEntry)>, KernelError> {
        let v4 = self.v4.listeners.iter().map(|entry| entry.map(widen_listener));
        let v6 = self.v6.listeners.iter().map(|entry| entry.map(widen_listener));
        v4.chain(v6).collect::<Result<_, _>>().map_err(map("LISTENERS"))
    }

    /// Opens or changes a listener; port 0 is any port. Its pool's table and servers must stand
    /// already.
    pub fn put_listener(
        &mut self,
        address: IpAddr,
        port: u16,
        protocol: u8,
        entry: &ListenerEntry,
    ) -> Result<(), KernelError> {
        let port = Be16::from_host(port);
        in_family!(&mut, self, address, |maps, address| {
            maps.listeners.insert(ListenerKey::new(address, port, protocol), entry, 0)
        })
        .map_err(map("LISTENERS"))
    }

    /// Forgets a listener; packets of its flows are carried on.
    pub fn remove_listener(
        &mut self,
        address: IpAddr,
        port: u16,
        protocol: u8,
    ) -> Result<(), KernelError> {
        let port = Be16::from_host(port);
        in_family!(&mut, self, address, |maps, address| {
            maps.listeners.remove(&ListenerKey::new(address, port, protocol))
        })
        .map_err(map("LISTENERS"))
    }

    /// Writes the SNAT addresses of the listener with a number: the first `MAX_SNAT_ADDRESSES`.
    pub fn put_snat_addresses(
        &mut self,
        number: u32,
        addresses: &[IpAddr],
    ) -> Result<(), KernelError> {
        let mut entry = SnatAddresses { addresses: [Ipv6Be::default(); MAX_SNAT_ADDRESSES] };
        for (place, address) in entry.addresses.iter_mut().zip(addresses) {
            *place = Ipv6Be::from(*address);
        }
        self.shared.snat_addresses.set(number, entry, 0).map_err(map("SNAT_ADDRESSES"))
    }

    /// Says that a server serves one `dnat` listener alone, so that its packets are given back the
    /// listener's address without a flow. `tc`: the listener is at the TC hook.
    pub fn put_static_reply(
        &mut self,
        server: SocketAddr,
        protocol: u8,
        listener: SocketAddr,
        tc: bool,
    ) -> Result<(), KernelError> {
        let port = Be16::from_host(server.port());
        let wide = Ipv6Be::from(listener.ip());
        in_family!(&mut, self, server.ip(), |maps, address| {
            let entry = StaticReply {
                address: narrowed_like(address, wide),
                port: Be16::from_host(listener.port()),
                tc: tc.into(),
            };
            maps.static_replies.insert(ListenerKey::new(address, port, protocol), entry, 0)
        })
        .map_err(map("STATIC_REPLIES"))
    }

    /// Takes back `put_static_reply`.
    pub fn remove_static_reply(
        &mut self,
        server: SocketAddr,
        protocol: u8,
    ) -> Result<(), KernelError> {
        let port = Be16::from_host(server.port());
        in_family!(&mut, self, server.ip(), |maps, address| {
            maps.static_replies.remove(&ListenerKey::new(address, port, protocol))
        })
        .map_err(map("STATIC_REPLIES"))
    }

    /// Gives a prefix of clients a `guard::verdict` at the listener with a number.
    pub fn put_source(
        &mut self,
        listener: u32,
        (address, bits): (IpAddr, u8),
        verdict: u32,
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, address, |maps, address| {
            let key = SourceKey { listener, address };
            maps.sources.insert(&Key::new(LISTENER_BITS + u32::from(bits), key), verdict, 0)
        })
        .map_err(map("SOURCES"))
    }

    /// Takes back `put_source`.
    pub fn remove_source(
        &mut self,
        listener: u32,
        (address, bits): (IpAddr, u8),
    ) -> Result<(), KernelError> {
        in_family!(&mut, self, address, |maps, address| {
            let key = SourceKey { listener, address };
            maps.sources.remove(&Key::new(LISTENER_BITS + u32::from(bits), key))
        })
        .map_err(map("SOURCES"))
    }
}

/// `wide` in the family of `like`.
fn narrowed_like<A: Address>(_like: A, wide: Ipv6Be) -> A {
    A::narrowed(wide)
}

fn widen_listener<A: Address>(
    (key, entry): (ListenerKey<A>, ListenerEntry),
) -> (SocketAddr, u8, ListenerEntry) {
    let address = IpAddr::from(key.address.widened());
    (SocketAddr::new(address, key.port.to_host()), key.protocol, entry)
}
