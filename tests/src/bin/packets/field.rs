//! The balancer that is measured: listeners of each way of forwarding, servers, and flows.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use deston::datapath::{Hook, Kernel, Sizes};
use deston_common::address::{AddressEntry, flags};
use deston_common::conntrack::State;
use deston_common::flow::{FlowEntry, FlowKey, ReplyEntry};
use deston_common::listener::{Forwarding, ListenerEntry};
use deston_common::net::{Be16, Ipv6Be, TCP};
use deston_common::sequence;
use deston_common::server::ServerId;
use deston_common::table::Table;
use deston_tests::kernel::{self, Family, SNAT_PORTS, TIMEOUTS};
use nix::time::{ClockId, clock_gettime};

use crate::inject::PORT_BITS;

/// Promoted flows that there is room for: twice as many as the largest case has.
const FLOWS: u32 = 1 << 20;
/// Half-open flows that there is room for: the default.
const HALF_OPEN: u32 = 1 << 16;
/// Promoted flows with `nat`.
pub(crate) const NAT_FLOWS: u32 = 1 << 19;
/// Promoted flows of each other kind.
pub(crate) const DSR_FLOWS: u32 = 1 << 16;
/// Servers of each family: one for each port range of the flows with `nat`.
const SERVERS: u16 = (NAT_FLOWS >> PORT_BITS) as u16;
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

/// Where packets of the listener with this forwarding go.
pub(crate) fn listener(family: Family, forwarding: Forwarding) -> SocketAddr {
    let port = 8_000 + forwarding as u16;
    SocketAddr::new(family.listener().ip(), port)
}

/// Where the first flow's server sends its packets from, and to.
pub(crate) fn reply(family: Family) -> (SocketAddr, SocketAddr) {
    (family.server(1), SocketAddr::new(family.snat(1), *SNAT_PORTS.start()))
}

/// Loads and fills the balancer.
pub(crate) fn fill() -> Result<Kernel> {
    let mut kernel = Kernel::load(Sizes { flows: FLOWS, half_open: HALF_OPEN })?;
    for family in [Family::V4, Family::V6] {
        servers(&mut kernel, family, Pool::Known)?;
        servers(&mut kernel, family, Pool::Fresh)?;
        addresses(&mut kernel, family)?;
        listeners(&mut kernel, family)?;
        for number in 0..NAT_FLOWS {
            flow(&mut kernel, family, Forwarding::Nat, number)?;
        }
        for number in 0..DSR_FLOWS {
            flow(&mut kernel, family, Forwarding::DsrL2, number)?;
            flow(&mut kernel, family, Forwarding::DsrIpip, number)?;
        }
    }
    Ok(kernel)
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

fn listeners(kernel: &mut Kernel, family: Family) -> Result<()> {
    let mut put = |address: SocketAddr, pool: Pool, forwarding| {
        let pool = pool.number(family);
        let entry = ListenerEntry {
            pool,
            forwarding: forwarding as u8,
            ..kernel::listener_entry(Hook::Xdp)
        };
        kernel.put_listener(address.ip(), address.port(), TCP, &entry)
    };
    for forwarding in [Forwarding::Nat, Forwarding::DsrL2, Forwarding::DsrIpip] {
        put(listener(family, forwarding), Pool::Known, forwarding)?;
    }
    put(fresh_listener(family), Pool::Fresh, Forwarding::Nat)?;
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
        let to = listener(family, forwarding);
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
