//! What clients and servers say, as the state of their flow makes plausible, and sometimes not.

use std::net::SocketAddr;

use super::super::balance::Model;
use super::super::phase::tcp::{ACK, FIN, PSH, RST, SYN};
use super::super::settings::Hop;
use super::super::tables::{Flow, Reply};
use super::super::tuple::{ICMP, ICMPV6, TCP, Tuple, UDP};
use super::Generator;
use super::shape::{Carried, Shape};
use super::world::{Kind, SNAT_PORT, address};

/// What both sides have sent: the next number of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    client: u32,
    server: u32,
}

impl Generator {
    /// A client and a listener, of one family.
    fn pair(&mut self) -> Tuple {
        let (listener, protocol) = self.dice.of(&self.world.listeners);
        let clients: Vec<_> = self.world.clients.clone();
        let clients: Vec<_> =
            clients.into_iter().filter(|ip| ip.is_ipv6() == listener.is_ipv6()).collect();
        let client = SocketAddr::new(self.dice.of(&clients), self.dice.of(&self.world.ports));
        let mut listener = listener;
        if listener.port() == 0 {
            listener.set_port(self.dice.of(&[22, 443, 8_000]));
        }
        Tuple::new(client, listener, protocol)
    }

    /// A tuple that a client uses: one of a flow that is there, or any.
    fn client_tuple(&mut self, model: &Model) -> Tuple {
        let tables = &model.tables;
        match self.dice.below(10) {
            0..4 => any_key(&mut self.dice, &tables.flows),
            4..7 => any_key(&mut self.dice, &tables.half_flows),
            _ => None,
        }
        .unwrap_or_else(|| self.pair())
    }

    /// A client's packet.
    pub(super) fn client_says(&mut self, model: &Model) -> Shape {
        let tuple = self.client_tuple(model);
        let carried = if tuple.protocol == TCP {
            let promoted = model.tables.flows.get(&tuple);
            let half = model.tables.half_flows.get(&tuple);
            self.client_tcp(model, &tuple, promoted, half)
        } else {
            Carried::Udp { summed: !self.dice.permille(200) }
        };
        let way = self.client_way(&tuple);
        self.dressed(way, tuple, carried)
    }

    fn client_tcp(
        &mut self,
        model: &Model,
        tuple: &Tuple,
        promoted: Option<&Flow>,
        half: Option<&Flow>,
    ) -> Carried {
        let dice = &mut self.dice;
        let numbers = self.numbers.entry(*tuple).or_default();
        let flags = match (promoted, half) {
            (Some(_), _) => dice.weighed(&[600, 60, 120, 60, 20]),
            (None, Some(_)) => 10 + dice.weighed(&[350, 450, 60, 60, 20]),
            (None, None) => 20 + dice.weighed(&[850, 60, 30, 30, 30]),
        };
        let flags = match flags {
            0 | 11 | 21 => ACK,
            1 | 10 | 20 => SYN,
            2 => FIN | ACK,
            3 | 12 => RST,
            4 => RST | ACK,
            13 => PSH | ACK,
            22 => FIN | ACK,
            23 => RST,
            _ => dice.any() as u8 & 0x1f,
        };
        if flags & (SYN | ACK) == SYN && half.is_none() {
            // A new incarnation; now and then with a number that the old one used.
            let step = dice.of(&[1_000, 1, 0, 0x8000_0000, 0_u32.wrapping_sub(3)]);
            let fresh = dice.any() as u32;
            numbers.client =
                if dice.permille(500) { numbers.client.wrapping_add(step) } else { fresh };
        }
        let known = promoted.or(half);
        let reply = known.and_then(|flow| {
            let tables = &model.tables;
            tables.replies.get(&flow.reply).or_else(|| tables.half_replies.get(&flow.reply))
        });
        let next = known.map_or(numbers.client, |flow| flow.next_seq);
        let is_syn = flags & SYN != 0;
        let seq = match dice.below(20) {
            0 => next.wrapping_add(1),
            1 => next.wrapping_sub(1),
            2 => dice.any() as u32,
            _ if is_syn && half.is_some() => next.wrapping_sub(1),
            _ if is_syn => numbers.client,
            _ => next,
        };
        let ack = match (dice.below(20), reply) {
            (0, _) | (_, None) => numbers.server,
            (1, _) => dice.any() as u32,
            (2, Some(reply)) => reply.first_seq,
            (3, Some(reply)) => reply.next_seq.wrapping_add(1),
            (_, Some(reply)) => reply.next_seq,
        };
        Carried::Tcp { flags, seq, ack, options: options(&mut self.dice) }
    }

    /// A server's packet.
    pub(super) fn server_says(&mut self, model: &Model) -> Shape {
        let tables = &model.tables;
        let found = match self.dice.below(10) {
            0..4 => any_key(&mut self.dice, &tables.replies),
            4..9 => any_key(&mut self.dice, &tables.half_replies),
            _ => None,
        };
        let tuple = found.unwrap_or_else(|| self.stray());
        let carried = if tuple.protocol == TCP {
            self.server_tcp(tables.replies.get(&tuple), tables.half_replies.get(&tuple), model)
        } else {
            Carried::Udp { summed: !self.dice.permille(200) }
        };
        let way = self.dice.of(&self.world.ways);
        self.dressed(way, tuple, carried)
    }

    fn server_tcp(
        &mut self,
        promoted: Option<&Reply>,
        half: Option<&Reply>,
        model: &Model,
    ) -> Carried {
        let dice = &mut self.dice;
        let flags = match (promoted, half) {
            (Some(_), _) => dice.weighed(&[600, 200, 30, 30]),
            (None, _) => 10 + dice.weighed(&[550, 280, 60, 30, 30]),
        };
        let flags = match flags {
            0 | 12 => ACK,
            1 => FIN | ACK,
            2 | 11 => RST | ACK,
            3 | 10 => SYN | ACK,
            13 => RST,
            _ => dice.any() as u8 & 0x1f,
        };
        let Some(reply) = promoted.or(half) else {
            let (seq, ack) = (dice.any() as u32, dice.any() as u32);
            return Carried::Tcp { flags, seq, ack, options: Vec::new() };
        };
        let tables = &model.tables;
        let flow = tables.flows.get(&reply.flow).or_else(|| tables.half_flows.get(&reply.flow));
        let next = flow.map_or(0, |flow| flow.next_seq);
        let numbers = self.numbers.entry(reply.flow).or_default();
        if flags & SYN != 0 {
            numbers.server = dice.any() as u32;
        }
        let seq = numbers.server;
        numbers.server = seq.wrapping_add((flags & (SYN | FIN)).count_ones());
        let ack = match dice.below(10) {
            0 => next.wrapping_sub(1),
            1 => dice.any() as u32,
            _ => next,
        };
        Carried::Tcp { flags, seq, ack, options: options(dice) }
    }

    /// From some server or stranger to where replies might go: mostly of no flow.
    fn stray(&mut self) -> Tuple {
        let v6 = self.dice.permille(500);
        let n = self.dice.below(6) as u16;
        let port = self.dice.of(&[8_000, 8_001, 22, 443]);
        let server = SocketAddr::new(address(v6, Kind::Server, n), port);
        let port = SNAT_PORT + self.dice.below(12) as u16;
        let (kind, n, port) = match self.dice.below(4) {
            0 => (Kind::Client, self.dice.below(4) as u16, self.dice.of(&self.world.ports)),
            1 => (Kind::Listener, 1, port),
            _ => (Kind::Snat, self.dice.below(3) as u16, port),
        };
        let ours = SocketAddr::new(address(v6, kind, n), port);
        Tuple::new(server, ours, self.dice.of(&[TCP, UDP]))
    }

    /// The way that a client's packets come by; some clients' change.
    pub(super) fn client_way(&mut self, tuple: &Tuple) -> Hop {
        if self.dice.permille(20) {
            return self.dice.of(&self.world.ways);
        }
        let place = usize::from(tuple.source.port()) % self.world.ways.len();
        self.world.ways[place].clone()
    }

    /// A packet with what may vary in any.
    pub(super) fn dressed(&mut self, way: Hop, tuple: Tuple, carried: Carried) -> Shape {
        let mut shape = Shape::new(&way, tuple.source, tuple.destination, carried);
        let dice = &mut self.dice;
        if dice.permille(25) {
            shape.ttl = dice.of(&[0, 1, 1, 2]);
        }
        shape.whole = dice.permille(500);
        let len = dice.of(&[0, 0, 0, 1, 7, 32, 180, 400, 1_460]);
        shape.payload = (0..len).map(|n| n as u8).collect();
        if dice.permille(40) {
            shape.extra = if tuple.is_v6() {
                extensions(dice)
            } else {
                vec![(0, vec![1; 4 * (1 + dice.below(10))])]
            };
        }
        shape
    }

    /// An echo request, or another question.
    pub(super) fn echo(&mut self) -> Shape {
        let v6 = self.dice.permille(500);
        let kind = self.dice.of(&[Kind::Listener, Kind::Listener, Kind::Listener, Kind::Snat]);
        let to = address(v6, kind, self.dice.below(4) as u16);
        let clients: Vec<_> =
            self.world.clients.iter().copied().filter(|ip| ip.is_ipv6() == v6).collect();
        let from = self.dice.of(&clients);
        let (request, protocol) = if v6 { (128, ICMPV6) } else { (8, ICMP) };
        let way = self.dice.of(&self.world.ways);
        let tuple = Tuple::new((from, 0).into(), (to, 0).into(), protocol);
        let mut shape = self.dressed(way, tuple, Carried::Bytes(protocol));
        let kind = if self.dice.permille(100) { self.dice.any() as u8 } else { request };
        let code = u8::from(self.dice.permille(30));
        shape.payload.splice(0..0, [kind, code, 0, 0, 1, 2, 3, 4]);
        shape
    }

    /// A packet that is not ours, or of a protocol that nobody carries.
    pub(super) fn foreign(&mut self) -> Shape {
        let mut tuple = self.pair();
        let protocol = match self.dice.below(3) {
            0 => self.dice.of(&[47, 50, 59, 89, 132, ICMP, ICMPV6]),
            _ => tuple.protocol,
        };
        if protocol == tuple.protocol {
            let n = self.dice.below(2) as u16;
            tuple.destination.set_ip(address(tuple.is_v6(), Kind::Router, n));
        }
        let carried = match protocol {
            TCP => Carried::Tcp { flags: SYN, seq: 1, ack: 0, options: Vec::new() },
            UDP => Carried::Udp { summed: true },
            other => Carried::Bytes(other),
        };
        let way = self.dice.of(&self.world.ways);
        self.dressed(way, tuple, carried)
    }
}

/// Some key of a table.
pub(super) fn any_key<V>(
    dice: &mut super::Dice,
    table: &std::collections::BTreeMap<Tuple, V>,
) -> Option<Tuple> {
    let place = dice.below(table.len().max(1));
    table.keys().nth(place).copied()
}

fn options(dice: &mut super::Dice) -> Vec<u8> {
    let len = dice.of(&[0, 0, 0, 4, 12, 40]);
    vec![1; len]
}

/// Up to five extension headers, rarely so long that the transport header is far away.
fn extensions(dice: &mut super::Dice) -> Vec<(u8, Vec<u8>)> {
    let count = 1 + dice.below(5);
    (0..count)
        .map(|_| {
            let units = if dice.permille(100) { dice.below(50) } else { dice.below(3) };
            let mut bytes = vec![0; 7 + units * 8];
            bytes[0] = units as u8;
            (dice.of(&[0, 43, 60]), bytes)
        })
        .collect()
}
