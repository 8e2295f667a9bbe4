//! The world of a run: addresses, listeners of every kind, pools of few servers, few clients and
//! fewer ports, so that flows meet, and limits that are met.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::against::routes;
use super::super::settings::{
    Forwarding, Globals, Hook, Hop, Id, Index, Listener, Meaning, OnDown, Server, Stand,
    StaticReply, Table, Timeouts,
};
use super::super::step::Step;
use super::super::tuple::{TCP, UDP};
use super::dice::Dice;

const SECOND: u64 = 1_000_000_000;
/// First SNAT port of every listener.
pub(crate) const SNAT_PORT: u16 = 10_240;
/// When a run begins, nanoseconds.
pub(crate) const BEGIN: u64 = 1_000 * SECOND;
/// Servers of each family.
const SERVERS: u16 = 12;

/// What the generator has to know of the world, besides what the model knows.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// Clients' addresses.
    pub(crate) clients: Vec<IpAddr>,
    /// Their ports.
    pub(crate) ports: Vec<u16>,
    /// Listeners: where, protocol, number.
    pub(crate) listeners: Vec<(SocketAddr, u8)>,
    /// Ways that frames come by.
    pub(crate) ways: Vec<Hop>,
    /// Servers.
    pub(crate) servers: Vec<Id>,
    /// Pools.
    pub(crate) pools: Vec<(u32, bool)>,
    /// Servers of `dnat` and strangers, of each family, that packets may come from.
    pub(crate) strangers: Vec<IpAddr>,
    /// Nanoseconds between two packets, at most.
    pub(crate) pace: u64,
}

/// The `n`th address of a kind.
pub(crate) fn address(v6: bool, kind: Kind, n: u16) -> IpAddr {
    let low = (n & 0xff) as u8;
    if v6 {
        let kind = match kind {
            Kind::Listener => 1,
            Kind::Snat => 2,
            Kind::Server => 3,
            Kind::Client => 4,
            Kind::Router => 5,
        };
        // Pairs of clients share a /64.
        return Ipv6Addr::new(0x2001, 0xdb8, kind, n / 2, 0, 0, 0, n + 1).into();
    }
    match kind {
        Kind::Listener => Ipv4Addr::new(192, 0, 2, 10 + low),
        Kind::Snat => Ipv4Addr::new(192, 0, 2, 200 + low),
        Kind::Server => Ipv4Addr::new(198, 51, 100, 1 + low),
        Kind::Client => Ipv4Addr::new(203, 0, 113, 1 + low),
        Kind::Router => Ipv4Addr::new(198, 51, 100, 250 + low),
    }
    .into()
}

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Clients connect to it.
    Listener,
    /// Packets to servers come from it.
    Snat,
    /// A server has it.
    Server,
    /// A client has it.
    Client,
    /// A router or stranger has it.
    Router,
}

/// Makes a world, and the steps that build it.
pub(crate) fn build(dice: &mut Dice, hook: Hook) -> (World, Vec<Step>) {
    let mut world = World {
        clients: Vec::new(),
        ports: vec![1_024, 40_000, 40_001, SNAT_PORT, SNAT_PORT + 1, 65_535],
        listeners: Vec::new(),
        ways: (0..4).map(|n| way(dice, n)).collect(),
        servers: Vec::new(),
        pools: Vec::new(),
        strangers: Vec::new(),
        pace: dice.of(&[SECOND / 1_000, SECOND / 100, SECOND / 20]),
    };
    let globals = Globals {
        dnat: !dice.permille(100),
        flood_gate: dice.of(&[0, 0, 3, 20]),
        clock: BEGIN,
        random: dice.any() | 1,
    };
    let mtu = Step::Mtu(1, dice.of(&[0, 1_500, 600]));
    let mut steps = vec![Step::Globals(globals), mtu];
    steps
        .extend(known_clients().into_iter().map(|client| Step::Route(client, routes::hop(client))));
    // The loopback has no Ethernet addresses.
    if dice.permille(200) {
        (world.ways[3].source, world.ways[3].destination) = ([0; 6], [0; 6]);
    }
    for v6 in [false, true] {
        let count = dice.between(3, 6) as u16;
        world.clients.extend((0..count).map(|n| address(v6, Kind::Client, n)));
        world.strangers.extend((0..2).map(|n| address(v6, Kind::Router, n)));
        servers(dice, &mut world, &mut steps, v6);
        addresses(dice, &mut steps, v6);
        listeners(dice, &mut world, &mut steps, v6, hook);
    }
    (world, steps)
}

/// The clients that the host has routes to.
pub(in crate::model) fn known_clients() -> Vec<IpAddr> {
    let of = |v6: bool| (0..2).map(move |n| address(v6, Kind::Client, n));
    of(false).chain(of(true)).collect()
}

/// A way that frames come by: Ethernet addresses and tags.
fn way(dice: &mut Dice, n: u8) -> Hop {
    let tags =
        [vec![], vec![], vec![[0x81, 0, 0, 7]], vec![[0x88, 0xa8, 0x20, 9], [0x81, 0, 0, 5]]];
    Hop {
        ifindex: 1,
        source: [2, 0, 0, 0, 1, n],
        destination: [2, 0, 0, 0, 2, 0],
        mtu: 0,
        tags: dice.of(&tags),
    }
}

fn servers(dice: &mut Dice, world: &mut World, steps: &mut Vec<Step>, v6: bool) {
    for n in 0..SERVERS {
        let id = 1 + n + if v6 { SERVERS } else { 0 };
        world.servers.push(id);
        steps.push(Step::Server(id, Box::new(server(dice, v6, n))));
    }
}

/// A server as it may be at some time.
pub(crate) fn server(dice: &mut Dice, v6: bool, n: u16) -> Server {
    let is_known = !dice.permille(60);
    let tags = [vec![], vec![], vec![[0x81, 0, 0, 3]], vec![[0x81, 0, 0, 7]]];
    let pair = vec![[0x88, 0xa8, 0, 2], [0x81, 0, 0, 1]];
    let tags = if dice.permille(100) { pair } else { dice.of(&tags) };
    // Two servers each share an address.
    let side = SocketAddr::new(address(v6, Kind::Server, n / 2), 8_000 + n % 2);
    let is_here = dice.permille(50);
    Server {
        side,
        snat: address(v6, Kind::Snat, 0),
        hop: Hop {
            ifindex: if !is_known {
                0
            } else if is_here {
                1
            } else {
                2
            },
            source: [2, 0, 0, 0, 3, 0],
            destination: if is_here { [0; 6] } else { [2, 0, 0, 0, 4, n as u8] },
            mtu: dice.of(&[0, 0, 1_500, 400, 200]),
            tags,
        },
        reachable: is_known,
        max_connections: dice.of(&[1, 4, 1_000, 1_000, 1_000]),
        weight: dice.between(1, 4) as u16,
        stand: match dice.below(10) {
            0 => Stand::Down,
            1 => Stand::Draining,
            _ => Stand::Active,
        },
        on_down: dice.of(&[
            OnDown::Drain,
            OnDown::Reset,
            OnDown::Reset,
            OnDown::Reset,
            OnDown::Rehash,
        ]),
    }
}

fn addresses(dice: &mut Dice, steps: &mut Vec<Step>, v6: bool) {
    let last = SNAT_PORT + dice.of(&[1, 3, 7]);
    for n in 0..4 {
        let is_ours_alone = n != 1;
        let meaning = Meaning {
            listener: true,
            // The second is the host's own, and is used towards servers too.
            snat: n == 1,
            dedicated: is_ours_alone,
            echo: is_ours_alone && n != 3,
            snat_ports: (SNAT_PORT, last),
            echo_pool: dice.below(6) as u32 + if v6 { 100 } else { 0 },
            ..Meaning::default()
        };
        steps.push(Step::Address(address(v6, Kind::Listener, n), Some(meaning)));
    }
    for n in 0..3 {
        let meaning = Meaning {
            snat: true,
            snat_ports: (SNAT_PORT, last),
            dedicated: n == 2,
            ..Meaning::default()
        };
        steps.push(Step::Address(address(v6, Kind::Snat, n), Some(meaning)));
    }
}

/// A kind of listener: address, port, protocol, and what else is special.
struct Plan(u16, u16, u8, fn(&mut Listener));

fn plans() -> Vec<Plan> {
    vec![
        Plan(0, 80, TCP, |_| {}),
        Plan(0, 53, UDP, |_| {}),
        Plan(0, 82, TCP, |it| it.rate = (2 * SECOND, 2 * SECOND)),
        Plan(0, 55, UDP, |it| it.one_packet = true),
        Plan(0, 90, TCP, |it| it.sticky = 5 * SECOND),
        Plan(1, 81, TCP, |it| it.forwarding = Forwarding::Dnat),
        Plan(1, 84, TCP, |it| it.forwarding = Forwarding::Dnat),
        Plan(1, 54, UDP, |it| it.forwarding = Forwarding::Dnat),
        Plan(1, 443, TCP, |it| (it.stack, it.rate) = (true, (3 * SECOND, SECOND))),
        Plan(1, 443, UDP, |it| (it.stack, it.lists, it.default_deny) = (true, true, true)),
        Plan(1, 8, TCP, |it| it.open = false),
        Plan(1, 85, TCP, |it| (it.lists, it.default_deny) = (true, true)),
        Plan(2, 0, TCP, |it| it.keep_port = true),
        Plan(2, 0, UDP, |it| it.keep_port = true),
        Plan(2, 83, TCP, |it| it.hook = Hook::Tc),
        Plan(3, 80, TCP, |it| it.forwarding = Forwarding::DsrL2),
        Plan(3, 53, UDP, |it| it.forwarding = Forwarding::DsrL2),
        Plan(3, 81, TCP, |it| it.forwarding = Forwarding::DsrIpip),
        Plan(3, 54, UDP, |it| it.forwarding = Forwarding::DsrIpip),
        Plan(3, 56, UDP, |it| (it.forwarding, it.one_packet) = (Forwarding::Dnat, true)),
    ]
}

fn listeners(dice: &mut Dice, world: &mut World, steps: &mut Vec<Step>, v6: bool, hook: Hook) {
    let offset = if v6 { 100 } else { 0 };
    for (place, Plan(host, port, protocol, special)) in plans().into_iter().enumerate() {
        let pool = offset + place as u32;
        let mut listener = Listener {
            number: pool + 1,
            open: true,
            pool,
            snat_ports: (SNAT_PORT, SNAT_PORT + dice.of(&[0, 1, 3, 3])),
            timeouts: timeouts(dice),
            ..Listener::default()
        };
        special(&mut listener);
        // The hook at which the run is, or for one listener the other.
        listener.hook =
            if (hook == Hook::Tc) == (listener.hook == Hook::Tc) { Hook::Xdp } else { Hook::Tc };
        if dice.permille(400) {
            let all = [(Kind::Snat, 0), (Kind::Snat, 1), (Kind::Snat, 2), (Kind::Listener, 1)];
            let count = 1 + dice.below(all.len());
            let chosen = all[..count].iter();
            listener.snat_addresses = chosen.map(|(kind, n)| address(v6, *kind, *n)).collect();
        }
        let side = SocketAddr::new(address(v6, Kind::Listener, host), port);
        let table = table(dice, v6, listener.forwarding);
        if listener.forwarding == Forwarding::Dnat {
            dnat_servers(dice, steps, &table, (side, protocol, listener.hook), v6);
        }
        if listener.lists {
            sources(dice, steps, listener.number, v6);
        }
        steps.push(Step::Table(pool, table));
        steps.push(Step::Listener(side, protocol, Some(Box::new(listener))));
        world.listeners.push((side, protocol));
        world.pools.push((pool, v6));
    }
}

fn timeouts(dice: &mut Dice) -> Timeouts {
    let mut seconds = |first, last| dice.between(first, last) * SECOND;
    Timeouts {
        tcp_syn: seconds(2, 20),
        tcp_established: seconds(5, 100),
        tcp_fin: seconds(1, 30),
        tcp_rst: seconds(1, 5),
        udp_one_way: seconds(1, 30),
        udp_two_way: seconds(2, 100),
    }
}

/// A table of some servers of a family. Tunnels may run over either.
pub(crate) fn table(dice: &mut Dice, v6: bool, forwarding: Forwarding) -> Table {
    let over_v6 = if forwarding == Forwarding::DsrIpip { dice.permille(500) } else { v6 };
    let first = 1 + if over_v6 { SERVERS } else { 0 };
    let share = dice.of(&[0, 100, 300, 300, 300, 300, 500, 500]);
    let members = (0..SERVERS).filter(|_| dice.permille(share)).map(|n| first + n);
    let members: Vec<Id> = members.collect();
    let count = if members.is_empty() { 0 } else { dice.between(1, 13) };
    Table {
        index: dice.of(&[
            Index::Cursor,
            Index::Client,
            Index::ClientPort,
            Index::Flow,
            Index::Random,
            Index::Least,
        ]),
        seed: (dice.any(), dice.any()),
        samples: dice.of(&[2, 4]),
        slots: (0..count).map(|_| dice.of(&members)).collect(),
        members,
    }
}

/// The table's servers become servers of `dnat`; the first may give replies back without a flow.
fn dnat_servers(
    dice: &mut Dice,
    steps: &mut Vec<Step>,
    table: &Table,
    (listener, protocol, hook): (SocketAddr, u8, Hook),
    v6: bool,
) {
    for (place, id) in table.members.iter().enumerate() {
        let n = (id - 1) % SERVERS;
        let side = SocketAddr::new(address(v6, Kind::Server, n / 2), 8_000 + n % 2);
        let meaning = Meaning { dnat_server: true, ..Meaning::default() };
        steps.push(Step::Address(side.ip(), Some(meaning)));
        if place == 0 && dice.permille(500) {
            let reply = StaticReply { listener, hook };
            steps.push(Step::StaticReply(side, protocol, reply));
        }
    }
}

fn sources(dice: &mut Dice, steps: &mut Vec<Step>, number: u32, v6: bool) {
    let most = if v6 { 128 } else { 32 };
    for n in 0..4 {
        let bits = dice.of(&[most, most, most - 1, most - 8]);
        let prefix = address(v6, Kind::Client, n);
        steps.push(Step::Source(number, (masked(prefix, bits), bits), !dice.permille(300)));
    }
}

/// The address with all bits after the first `bits` zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & !host).into()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & !host).into()
        }
    }
}
