//! What the maps hold that the process alone writes, servers and tables aside: as a value, and as
//! the writes that make one value of another.
//!
//! The order is that of [`writes`]: whatever is named by something else is written first and
//! removed last, so that no packet meets a listener whose lists or SNAT addresses are missing, nor
//! an address whose listener is. A packet first asks what its address means.

#[cfg(test)]
mod tests;
mod wanted;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use deston_common::address::AddressEntry;
use deston_common::address::flags::{ECHO, SNAT};
use deston_common::globals::Globals;
use deston_common::listener::ListenerEntry;
use ipnet::IpNet;

pub(super) use wanted::{Facts, OUR_FLAGS, wanted};

use super::kernel::{Hook, Kernel, KernelError};

/// Where a listener is found: its address, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Address and port; port 0 is any.
    pub(super) address: SocketAddr,
    /// IP protocol number.
    pub(super) protocol: u8,
}

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    /// GLOBALS, without what others switch.
    pub(super) globals: Globals,
    /// MTUS: interface -> bytes of the largest IP packet.
    pub(super) mtus: BTreeMap<u32, u32>,
    /// SOURCES: listener's number and prefix -> verdict.
    pub(super) sources: BTreeMap<(u32, IpNet), u32>,
    /// SNAT_ADDRESSES, by the listener's number.
    pub(super) snat: BTreeMap<u32, Vec<IpAddr>>,
    /// LISTENERS.
    pub(super) listeners: BTreeMap<Place, ListenerEntry>,
    /// STATIC_REPLIES: a server -> its listener, and where that is.
    pub(super) replies: BTreeMap<Place, (SocketAddr, Hook)>,
    /// ADDRESSES.
    pub(super) addresses: BTreeMap<IpAddr, AddressEntry>,
}

/// One change of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Globals(Globals),
    PutMtu(u32, u32),
    PutSource((u32, IpNet), u32),
    PutSnat(u32, Vec<IpAddr>),
    PutListener(Place, ListenerEntry),
    PutReply(Place, (SocketAddr, Hook)),
    PutAddress(IpAddr, AddressEntry),
    RemoveAddress(IpAddr),
    RemoveReply(Place),
    RemoveListener(Place),
    RemoveSnat(u32),
    RemoveSource((u32, IpNet)),
    RemoveMtu(u32),
}

/// The writes that make `want` of `have`, in order.
pub(super) fn writes(have: &Contents, want: &Contents) -> Vec<Write> {
    let mut writes = Vec::new();
    // A flag only adds work for the programs: it comes first and goes last.
    let both = Globals { flags: have.globals.flags | want.globals.flags, ..want.globals };
    if both != have.globals {
        writes.push(Write::Globals(both));
    }
    put(&have.mtus, &want.mtus, Write::PutMtu, &mut writes);
    put(&have.sources, &want.sources, Write::PutSource, &mut writes);
    put(&have.snat, &want.snat, Write::PutSnat, &mut writes);
    put(&have.listeners, &want.listeners, Write::PutListener, &mut writes);
    put(&have.replies, &want.replies, Write::PutReply, &mut writes);
    put(&have.addresses, &want.addresses, Write::PutAddress, &mut writes);
    remove(&have.addresses, &want.addresses, Write::RemoveAddress, &mut writes);
    remove(&have.replies, &want.replies, Write::RemoveReply, &mut writes);
    remove(&have.listeners, &want.listeners, Write::RemoveListener, &mut writes);
    remove(&have.snat, &want.snat, Write::RemoveSnat, &mut writes);
    remove(&have.sources, &want.sources, Write::RemoveSource, &mut writes);
    remove(&have.mtus, &want.mtus, Write::RemoveMtu, &mut writes);
    if both != want.globals {
        writes.push(Write::Globals(want.globals));
    }
    writes
}

fn put<K: Ord + Clone, V: PartialEq + Clone>(
    have: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
    write: impl Fn(K, V) -> Write,
    writes: &mut Vec<Write>,
) {
    let new = want.iter().filter(|(key, value)| have.get(key) != Some(value));
    writes.extend(new.map(|(key, value)| write(key.clone(), value.clone())));
}

fn remove<K: Ord + Clone, V>(
    have: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
    write: impl Fn(K) -> Write,
    writes: &mut Vec<Write>,
) {
    let gone = have.keys().filter(|key| !want.contains_key(key));
    writes.extend(gone.map(|key| write(key.clone())));
}

impl Contents {
    /// Makes the maps hold `want`. On an error they hold what they held, as far as the kernel lets
    /// us.
    pub(super) fn become_in(
        &mut self,
        want: &Self,
        kernel: &mut Kernel,
    ) -> Result<(), KernelError> {
        let before = self.clone();
        for write in writes(self, want) {
            if let Err(error) = write.carry_out(kernel) {
                for back in writes(self, &before) {
                    if let Err(error) = back.carry_out(kernel) {
                        tracing::error!(%error, "a change of the kernel's maps is half done");
                        continue;
                    }
                    self.note(back);
                }
                return Err(error);
            }
            self.note(write);
        }
        Ok(())
    }

    /// Makes an address mean what `entry` says too.
    pub(super) fn add_address(&mut self, address: IpAddr, entry: &AddressEntry) {
        let own = self.addresses.entry(address).or_insert(*entry);
        if entry.flags & SNAT != 0 {
            let has_ports = own.flags & SNAT != 0;
            let first = if has_ports { own.snat_port_min } else { entry.snat_port_min };
            own.snat_port_min = first.min(entry.snat_port_min);
            own.snat_port_max = own.snat_port_max.max(entry.snat_port_max);
        }
        if own.flags & ECHO == 0 {
            own.echo_pool = entry.echo_pool;
        }
        own.flags |= entry.flags;
    }

    /// Takes note of a write.
    fn note(&mut self, write: Write) {
        match write {
            Write::Globals(globals) => self.globals = globals,
            Write::PutMtu(interface, mtu) => drop(self.mtus.insert(interface, mtu)),
            Write::PutSource(key, verdict) => drop(self.sources.insert(key, verdict)),
            Write::PutSnat(number, addresses) => drop(self.snat.insert(number, addresses)),
            Write::PutListener(place, entry) => drop(self.listeners.insert(place, entry)),
            Write::PutReply(server, listener) => drop(self.replies.insert(server, listener)),
            Write::PutAddress(address, entry) => drop(self.addresses.insert(address, entry)),
            Write::RemoveAddress(address) => drop(self.addresses.remove(&address)),
            Write::RemoveReply(server) => drop(self.replies.remove(&server)),
            Write::RemoveListener(place) => drop(self.listeners.remove(&place)),
            Write::RemoveSnat(number) => drop(self.snat.remove(&number)),
            Write::RemoveSource(key) => drop(self.sources.remove(&key)),
            Write::RemoveMtu(interface) => drop(self.mtus.remove(&interface)),
        }
    }
}

impl Write {
    fn carry_out(&self, kernel: &mut Kernel) -> Result<(), KernelError> {
        let prefix = |network: &IpNet| (network.addr(), network.prefix_len());
        match self {
            Self::Globals(globals) => {
                // Bits that are not ours are left as they stand.
                let others = kernel.globals()?.flags & !OUR_FLAGS;
                kernel.put_globals(&Globals { flags: globals.flags | others, ..*globals })
            }
            Self::PutMtu(interface, mtu) => kernel.put_mtu(*interface, *mtu),
            Self::PutSource((number, network), verdict) => {
                kernel.put_source(*number, prefix(network), *verdict)
            }
            Self::PutSnat(number, addresses) => kernel.put_snat_addresses(*number, addresses),
            Self::PutListener(Place { address, protocol }, entry) => {
                kernel.put_listener(address.ip(), address.port(), *protocol, entry)
            }
            Self::PutReply(Place { address, protocol }, (listener, hook)) => {
                kernel.put_static_reply(*address, *protocol, *listener, *hook == Hook::Tc)
            }
            Self::PutAddress(address, entry) => kernel.put_address(*address, entry),
            Self::RemoveAddress(address) => kernel.remove_address(*address),
            Self::RemoveReply(Place { address, protocol }) => {
                kernel.remove_static_reply(*address, *protocol)
            }
            Self::RemoveListener(Place { address, protocol }) => {
                kernel.remove_listener(address.ip(), address.port(), *protocol)
            }
            Self::RemoveSnat(number) => kernel.put_snat_addresses(*number, &[]),
            Self::RemoveMtu(interface) => kernel.remove_mtu(*interface),
            Self::RemoveSource((number, network)) => kernel.remove_source(*number, prefix(network)),
        }
    }
}

#[cfg(test)]
mod order {
    use deston_common::globals::flags::{CSUM_IPV6, DNAT};
    use deston_common::guard::verdict::{ALLOW, DENY};
    use deston_common::net::TCP;

    use super::*;

    fn place(text: &str) -> Place {
        Place { address: text.parse().unwrap(), protocol: TCP }
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn full() -> Contents {
        Contents {
            globals: Globals { flags: DNAT | CSUM_IPV6, ..Globals::default() },
            mtus: [(2, 1500)].into(),
            sources: [((1, net("198.51.100.0/24")), DENY)].into(),
            snat: [(1, vec!["203.0.113.1".parse().unwrap()])].into(),
            listeners: [(place("192.0.2.1:80"), ListenerEntry::default())].into(),
            replies: [(place("192.0.2.11:80"), (place("192.0.2.1:80").address, Hook::Xdp))].into(),
            addresses: [("192.0.2.1".parse().unwrap(), AddressEntry::default())].into(),
        }
    }

    fn kinds(writes: &[Write]) -> Vec<&'static str> {
        let kind = |write: &Write| match write {
            Write::Globals(_) => "globals",
            Write::PutMtu(..) => "mtu",
            Write::PutSource(..) => "source",
            Write::PutSnat(..) => "snat",
            Write::PutListener(..) => "listener",
            Write::PutReply(..) => "reply",
            Write::PutAddress(..) => "address",
            Write::RemoveAddress(_) => "no address",
            Write::RemoveReply(_) => "no reply",
            Write::RemoveListener(_) => "no listener",
            Write::RemoveSnat(_) => "no snat",
            Write::RemoveSource(_) => "no source",
            Write::RemoveMtu(_) => "no mtu",
        };
        writes.iter().map(kind).collect()
    }

    #[test]
    fn what_names_another_thing_comes_after_it_and_goes_before_it() {
        let (none, all) = (Contents::default(), full());
        assert_eq!(
            kinds(&writes(&none, &all)),
            ["globals", "mtu", "source", "snat", "listener", "reply", "address"]
        );
        assert_eq!(
            kinds(&writes(&all, &none)),
            ["no address", "no reply", "no listener", "no snat", "no source", "no mtu", "globals"]
        );
    }

    #[test]
    fn only_what_differs_is_written() {
        let (have, mut want) = (full(), full());
        assert_eq!(writes(&have, &want), []);
        want.sources.insert((1, net("198.51.100.0/24")), ALLOW);
        assert_eq!(writes(&have, &want), [Write::PutSource((1, net("198.51.100.0/24")), ALLOW)]);
    }

    #[test]
    fn a_new_flag_comes_first_and_an_old_one_goes_last() {
        let (mut have, want) = (full(), full());
        have.globals.flags = CSUM_IPV6;
        assert_eq!(writes(&have, &want), [Write::Globals(want.globals)]);
        have.globals.flags = DNAT;
        let mut want = full();
        want.globals.flags = CSUM_IPV6;
        want.addresses.clear();
        assert_eq!(kinds(&writes(&have, &want)), ["globals", "no address", "globals"]);
    }

    #[test]
    fn every_write_is_noted_as_what_it_does() {
        let (none, all) = (Contents::default(), full());
        for (from, to) in [(&none, &all), (&all, &none)] {
            let mut contents = from.clone();
            writes(from, to).into_iter().for_each(|write| contents.note(write));
            assert_eq!(&contents, to);
        }
    }
}
