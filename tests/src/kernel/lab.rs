//! A balancer attached to nothing, with maps of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use deston::datapath::{Event, Hook, Sizes};
use deston_common::address::{self, AddressEntry};
use deston_common::globals::{self, Globals};
use deston_common::hop::Vlan;
use deston_common::listener::{Forwarding, ListenerEntry};
use deston_common::net::{Be16, TCP, UDP};
use deston_common::outcome::Outcome;
use deston_common::sequence;
use deston_common::server::{ServerEntry, ServerId, ServerState};
use deston_common::table::Table;

use super::seed::{SNAT_PORTS, TCP_LISTENER, UDP_LISTENER, listener_entry, members, server_entry};
use super::{Loan, SECOND, Setting};
use crate::packet::Tag;

/// Room for flows, unless a spec asks for another.
pub const SIZES: Sizes = Sizes { flows: 4_096, half_open: 4_096 };

/// A balancer with a TCP and a UDP listener on one port, and a pool.
pub struct Lab {
    /// The programs and their maps.
    pub kernel: Loan,
    /// Where the spec takes place.
    pub setting: Setting,
    pub(super) counted: [u64; Outcome::COUNT as usize],
    now_ns: u64,
    globals: Globals,
    /// Where the listeners are.
    listener: SocketAddr,
    tcp: ListenerEntry,
    udp: ListenerEntry,
    addresses: BTreeMap<IpAddr, AddressEntry>,
    servers: BTreeMap<u16, ServerEntry>,
}

/// What a case does to a lab before its packets.
pub type Change = fn(&mut Lab);

impl Lab {
    /// With one server.
    pub fn new(setting: Setting) -> Self {
        Self::with_servers(setting, 1)
    }

    /// With `count` servers in round robin, 1,000 flows each.
    pub fn with_servers(setting: Setting, count: u16) -> Self {
        Self::with_sizes(setting, count, SIZES)
    }

    /// With `count` SNAT ports, from 20,000 on.
    pub fn with_ports(setting: Setting, count: u16) -> Self {
        let mut lab = Self::new(setting);
        lab.ports(count);
        lab
    }

    /// With room for so many flows.
    pub fn with_sizes(setting: Setting, count: u16, sizes: Sizes) -> Self {
        let kernel = Loan::new(sizes);
        let counted = kernel.outcomes().unwrap();
        let tcp = ListenerEntry { number: TCP_LISTENER, ..listener_entry(setting.hook) };
        let udp = ListenerEntry { number: UDP_LISTENER, ..tcp };
        let globals = Globals { random: 0x9e37_79b9_7f4a_7c15, ..Globals::default() };
        let mut lab = Self {
            kernel,
            setting,
            counted,
            now_ns: 1_000_000 * SECOND,
            globals,
            listener: setting.family.listener(),
            tcp,
            udp,
            addresses: BTreeMap::new(),
            servers: BTreeMap::new(),
        };
        lab.globals(|_| ());
        lab.address(lab.listener.ip(), |entry| entry.flags |= address::flags::LISTENER);
        lab.snat_address(1);
        for n in 1..=count {
            lab.server(n, |_| ());
        }
        lab.round_robin(1..=count);
        lab.listener(|_| ());
        lab
    }

    /// Makes the `n`th SNAT address one of ours.
    pub fn snat_address(&mut self, n: u8) -> IpAddr {
        let address = self.setting.family.snat(n);
        self.address(address, |entry| {
            entry.flags |= address::flags::SNAT;
            entry.snat_port_min = *SNAT_PORTS.start();
            entry.snat_port_max = *SNAT_PORTS.end();
        });
        address
    }

    /// Where clients connect to.
    pub fn listener_address(&self) -> SocketAddr {
        self.listener
    }

    /// The `n`th client.
    pub fn client(&self, n: u16) -> SocketAddr {
        self.setting.family.client(n)
    }

    /// The `n`th client, from another port.
    pub fn client_at(&self, n: u16, port: u16) -> SocketAddr {
        SocketAddr::new(self.client(n).ip(), port)
    }

    /// Nanoseconds of the programs' clock.
    pub fn now(&self) -> u64 {
        self.now_ns
    }

    /// Moves the programs' clock on.
    pub fn wait(&mut self, nanoseconds: u64) {
        self.now_ns += nanoseconds;
        self.globals(|_| ());
    }

    /// Changes what all packets share.
    pub fn globals(&mut self, change: impl FnOnce(&mut Globals)) {
        change(&mut self.globals);
        self.globals.clock_ns = self.now_ns;
        self.kernel.put_globals(&self.globals).unwrap();
    }

    /// Gives the listeners `count` SNAT ports, from 20,000 on.
    pub fn ports(&mut self, count: u16) {
        self.listener(|entry| {
            (entry.snat_port_min, entry.snat_port_max) = (20_000, 19_999 + count)
        });
    }

    /// Changes both listeners. Their numbers stay.
    pub fn listener(&mut self, change: impl Fn(&mut ListenerEntry)) {
        change(&mut self.tcp);
        change(&mut self.udp);
        self.put_listeners();
    }

    /// The TCP listener as it stands.
    pub fn listener_entry(&self) -> ListenerEntry {
        self.tcp
    }

    /// Moves both listeners to a port; 0: any.
    pub fn move_listener(&mut self, port: u16) {
        for protocol in [TCP, UDP] {
            self.kernel
                .remove_listener(self.listener.ip(), self.listener.port(), protocol)
                .unwrap();
        }
        self.listener.set_port(port);
        self.put_listeners();
    }

    fn put_listeners(&mut self) {
        let (address, port) = (self.listener.ip(), self.listener.port());
        for (protocol, entry) in [(TCP, self.tcp), (UDP, self.udp)] {
            self.kernel.put_listener(address, port, protocol, &entry).unwrap();
        }
    }

    /// Changes what an address means.
    pub fn address(&mut self, address: IpAddr, change: impl FnOnce(&mut AddressEntry)) {
        let entry = self.addresses.entry(address).or_default();
        change(entry);
        self.kernel.put_address(address, entry).unwrap();
    }

    /// Makes the listener's address ours alone.
    pub fn dedicate(&mut self) {
        self.address(self.listener.ip(), |entry| entry.flags |= address::flags::DEDICATED);
    }

    /// Changes the `n`th server, which is made if there is none.
    pub fn server(&mut self, n: u16, change: impl FnOnce(&mut ServerEntry)) {
        let family = self.setting.family;
        let entry = self.servers.entry(n).or_insert_with(|| server_entry(family, n, 1_000));
        change(entry);
        self.kernel.put_server(ServerId(n), entry).unwrap();
    }

    /// Puts tags on the way to the `n`th server.
    pub fn server_tags(&mut self, n: u16, tags: &[Tag]) {
        self.server(n, |entry| {
            for (place, tag) in entry.hop.vlans.iter_mut().zip(tags) {
                *place = Vlan { tpid: Be16::from_host(tag.tpid), tci: Be16::from_host(tag.tci) };
            }
            entry.hop.vlan_count = tags.len() as u16;
        });
    }

    /// The tags on the way to the `n`th server.
    pub fn tags_of(&self, n: u16) -> Vec<Tag> {
        let hop = self.servers[&n].hop;
        let tags = hop.vlans.iter().take(hop.vlan_count.into());
        tags.map(|tag| Tag { tpid: tag.tpid.to_host(), tci: tag.tci.to_host() }).collect()
    }

    /// The `n`th server's entry as it was written.
    pub fn server_entry(&self, n: u16) -> ServerEntry {
        self.servers[&n]
    }

    /// The numbers of all servers.
    pub fn server_numbers(&self) -> Vec<u16> {
        self.servers.keys().copied().collect()
    }

    /// Sets the `n`th server's state.
    pub fn state(&mut self, n: u16, state: ServerState) {
        self.server(n, |entry| entry.state = state as u8);
    }

    /// Gives the pool a table.
    pub fn table(&mut self, table: &Table) {
        self.kernel.put_table(0, table).unwrap();
    }

    /// Gives the pool a table with these servers, each in turn.
    pub fn round_robin(&mut self, ids: impl IntoIterator<Item = u16>) {
        let mut table = Box::new(Table::EMPTY);
        sequence::fill(&mut table, &members(ids.into_iter().map(|id| (id, 1)))).unwrap();
        self.table(&table);
    }

    /// Has both listeners forward in another way, with all that goes with it.
    pub fn forwarding(&mut self, forwarding: Forwarding) {
        self.listener(|entry| entry.forwarding = forwarding as u8);
        if forwarding == Forwarding::Dnat {
            self.globals(|globals| globals.flags |= globals::flags::DNAT);
            for n in self.server_numbers() {
                let address = self.setting.family.server(n).ip();
                self.address(address, |entry| entry.flags |= address::flags::DNAT_SERVER);
            }
        }
    }

    /// Says that a server serves this listener alone (`dnat`).
    pub fn static_reply(&mut self, n: u16) {
        let server = self.setting.family.server(n);
        let tc = self.setting.hook == Hook::Tc;
        for protocol in [TCP, UDP] {
            self.kernel.put_static_reply(server, protocol, self.listener, tc).unwrap();
        }
    }

    /// What the programs have told since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        self.kernel.events()
    }
}
