//! The balancer that is measured: listeners of each way of forwarding, servers, and flows.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use deston::datapath::{Hook, Kernel, Sizes};
use deston_common::address::{AddressEntry, flags};
use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::limits::DEFAULT_FLOWS;
use deston_common::listener::{Forwarding, ListenerEntry};
use deston_common::net::{Be16, Ipv6Be, TCP};
use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::Table;
use deston_tests::kernel::{self, Family, SNAT_PORTS, TIMEOUTS};
use nix::time::{ClockId, clock_gettime};

use crate::inject::PORT_BITS;

/// A balancer with flows of both families.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    /// Tables of the default size, and 65,536 flows with `nat`.
    Nat,
    /// The same with `dsr-l2`.
    DsrL2,
    /// The same with `dsr-ipip`.
    DsrIpip,
    /// Tables four times as large, and eight times as many flows with `nat`.
    Large,
}

impl Field {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Nat, Self::DsrL2, Self::DsrIpip, Self::Large];

    /// How many flows there are in each family.
    pub(crate) fn flows(self) -> u32 {
        match self {
            Self::Nat | Self::DsrL2 | Self::DsrIpip => 1 << 16,
            Self::Large => 1 << 19,
        }
    }

    pub(crate) fn forwarding(self) -> Forwarding {
        match self {
            Self::Nat | Self::Large => Forwarding::Nat,
            Self::DsrL2 => Forwarding::DsrL2,
            Self::DsrIpip => Forwarding::DsrIpip,
        }
    }

    fn sizes(self) -> Sizes {
        match self {
            Self::Nat | Self::DsrL2 | Self::DsrIpip => Sizes::default(),
            Self::Large => Sizes { flows: 4 * DEFAULT_FLOWS, ..Sizes::default() },
        }
    }

    /// Loads and fills the balancer.
    pub(crate) fn fill(self) -> Result<Kernel> {
        let mut kernel = Kernel::load(self.sizes())?;
        for family in [Family::V4, Family::V6] {
            servers(&mut kernel, family, Pool::Known)?;
            servers(&mut kernel, family, Pool::Fresh)?;
            addresses(&mut kernel, family)?;
            listeners(&mut kernel, family, self.forwarding())?;
            for number in 0..self.flows() {
                flow(&mut kernel, family, self.forwarding(), number)?;
            }
        }
        Ok(kernel)
    }
}

/// Servers of each pool: one for each port range of the flows with `nat`.
const SERVERS: u16 = 1 << (19 - PORT_BITS);
/// Port of the first flow's client, above the range of SNAT ports as a Linux client's is.
const CLIENT_PORT: u16 = 32_768;

/// Port of the listener whose flows are opened while they are measured.
const FRESH_PORT: u16 = 9_000;

/// The first flow's client; see `Frames`.
pub(crate) fn client(family: Family) -> SocketAddr {
    SocketAddr::new(family.client(1).ip(), CLIENT_PORT)
}

/// Where packets that open flows go. Its servers have no flows yet, so their ports are free.
pub(crate) fn fresh_listener(family: Family) -> SocketAddr {
    SocketAddr::new(family.listener().ip(), FRESH_PORT)
}

/// Where packets of known flows go.
pub(crate) fn listener(family: Family) -> SocketAddr {
    family.listener()
}

/// Where the first flow's server sends its packets from, and to.
pub(crate) fn reply(family: Family) -> (SocketAddr, SocketAddr) {
    (family.server(1), SocketAddr::new(family.snat(1), *SNAT_PORTS.start()))
}

/// Removes what new flows have left.
pub(crate) fn forget_half_open(kernel: &mut Kernel) -> Result<()> {
    let flows: Vec<_> = kernel.half_flows().map(|flow| flow.key).collect();
    for key in flows {
        kernel.remove_half_flow(&key)?;
    }
    for reply in kernel.half_replies()? {
        kernel.remove_half_reply(&reply.key)?;
    }
    Ok(())
}

/// A pool of [`SERVERS`] servers.
#[derive(Clone, Copy)]
enum Pool {
    /// Of the flows that are there from the beginning.
    Known,
    /// Of those that are opened.
    Fresh,
}

impl Pool {
    fn number(self, family: Family) -> u32 {
        let first = match family {
            Family::V4 => 0,
            Family::V6 => 2,
        };
        first + self as u32
    }

    /// The `n`th server, from 0.
    fn server(self, family: Family, n: u16) -> ServerId {
        ServerId(1 + n + self.number(family) as u16 * SERVERS)
    }
}

fn servers(kernel: &mut Kernel, family: Family, pool: Pool) -> Result<()> {
    for n in 0..SERVERS {
        let entry = kernel::server_entry(family, 1 + n + pool as u16 * SERVERS, u32::MAX);
        kernel.put_server(pool.server(family, n), &entry)?;
    }
    let mut table = Box::new(Table::EMPTY);
    let members = kernel::members((0..SERVERS).map(|n| (pool.server(family, n).0, 1)));
    sequence::fill(&mut table, &members).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    kernel.put_table(pool.number(family), &table)?;
    Ok(())
}

fn addresses(kernel: &mut Kernel, family: Family) -> Result<()> {
    let snat = AddressEntry {
        flags: flags::SNAT,
        snat_port_min: *SNAT_PORTS.start(),
        snat_port_max: *SNAT_PORTS.end(),
        ..AddressEntry::default()
    };
    let ours = AddressEntry { flags: flags::LISTENER, ..AddressEntry::default() };
    kernel.put_address(family.listener().ip(), &ours)?;
    kernel.put_address(family.snat(1), &snat)?;
    Ok(())
}

fn listeners(kernel: &mut Kernel, family: Family, forwarding: Forwarding) -> Result<()> {
    let mut put = |address: SocketAddr, pool: Pool| {
        let pool = pool.number(family);
        let entry = ListenerEntry {
            pool,
            forwarding: forwarding as u8,
            ..kernel::listener_entry(Hook::Xdp)
        };
        kernel.put_listener(address.ip(), address.port(), TCP, &entry)
    };
    put(listener(family), Pool::Known)?;
    put(fresh_listener(family), Pool::Fresh)?;
    Ok(())
}

/// Writes a promoted flow. Its number tells its port and address, as it does in the frames.
fn flow(kernel: &mut Kernel, family: Family, forwarding: Forwarding, number: u32) -> Result<()> {
    let (port, address) = (number & ((1 << PORT_BITS) - 1), number >> PORT_BITS);
    let client = {
        let first = client(family);
        (after(first.ip(), address), Be16::from_host(first.port() + port as u16))
    };
    let to = {
        let to = listener(family);
        (to.ip().into(), Be16::from_host(to.port()))
    };
    let key = FlowKey::new(client, to, TCP);
    let nat = forwarding == Forwarding::Nat;
    let reply = if nat {
        let (server, ours) = reply(family);
        let server = (after(server.ip(), address), Be16::from_host(server.port()));
        let ours = (ours.ip().into(), Be16::from_host(ours.port() + port as u16));
        FlowKey::new(server, ours, TCP)
    } else {
        key.reversed()
    };
    let now = now()?.as_nanos() as u64;
    let server = Pool::Known.server(family, address as u16 % SERVERS);
    let flow = FlowEntry {
        key,
        reply,
        state: State::REPLIED | State::ESTABLISHED,
        last_seen_ns: now,
        idle_limit_ns: TIMEOUTS.tcp_established_ns,
        listener: 1,
        server,
        flags: forwarding as u16,
        opened_ns: now,
        ..FlowEntry::default()
    };
    kernel.put_flow(&flow)?;
    if nat {
        let reply = ReplyEntry {
            key: reply,
            flow: key,
            last_seen_ns: now,
            opened_ns: now,
            hop: kernel::server_hop(1),
            listener: 1,
            server,
            ..ReplyEntry::default()
        };
        kernel.put_reply(&reply)?;
    }
    Ok(())
}

/// The address `more` after another, both of which differ in their last two bytes alone.
fn after(address: IpAddr, more: u32) -> Ipv6Be {
    let [a, b, c, last] = Ipv6Be::from(address).words();
    Ipv6Be::from_words([a, b, c, (u32::from_be(last) + more).to_be()])
}

/// `CLOCK_MONOTONIC`, which the programs read.
fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
