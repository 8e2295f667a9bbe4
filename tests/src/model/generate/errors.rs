//! ICMP errors: about packets that were sent to a server, to a client, or to nobody.

use std::net::SocketAddr;

use super::super::balance::Model;
use super::super::phase::tcp::SYN;
use super::super::tuple::{ICMP, ICMPV6, TCP, Tuple, UDP};
use super::Generator;
use super::shape::{Carried, Piece, Shape};
use super::talk::any_key;
use super::world::{Kind, address};

impl Generator {
    /// An error, as a frame.
    pub(super) fn error(&mut self, model: &Model) -> Vec<u8> {
        let tables = &model.tables;
        let found = match self.dice.below(10) {
            0..3 => any_key(&mut self.dice, &tables.replies),
            3..6 => any_key(&mut self.dice, &tables.half_replies),
            6 | 7 => any_key(&mut self.dice, &tables.flows),
            8 => any_key(&mut self.dice, &tables.half_flows),
            _ => None,
        };
        // The packet in question went the other way.
        let quoted = found.unwrap_or_else(|| self.client_says(model).tuple).reversed();
        let v6 = quoted.is_v6();
        let quote = self.quote(&quoted);
        let protocol = if v6 { ICMPV6 } else { ICMP };
        let n = self.dice.below(2) as u16;
        let router = SocketAddr::new(address(v6, Kind::Router, n), 0);
        // Mostly a router complains, sometimes the receiver.
        let from = if self.dice.permille(300) { quoted.destination } else { router };
        let mut from = from;
        from.set_port(0);
        let mut to = quoted.source;
        to.set_port(0);
        let way = self.dice.of(&self.world.ways);
        let mut shape = self.dressed(way, Tuple::new(from, to, protocol), Carried::Bytes(protocol));
        let (kind, code) = self.kind(v6);
        shape.payload = vec![kind, code, 0, 0, 0, 0, 5, 0];
        shape.payload.extend(quote);
        shape.frame()
    }

    fn kind(&mut self, v6: bool) -> (u8, u8) {
        let kinds: &[(u8, u8)] = if v6 {
            &[(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (100, 0), (135, 0)]
        } else {
            &[(3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (5, 1), (0, 0)]
        };
        self.dice.of(kinds)
    }

    /// The packet that an error quotes, cut where the sender of the error liked.
    fn quote(&mut self, quoted: &Tuple) -> Vec<u8> {
        let carried = match quoted.protocol {
            TCP => Carried::Tcp { flags: SYN, seq: 1, ack: 2, options: Vec::new() },
            UDP => Carried::Udp { summed: !self.dice.permille(200) },
            other => Carried::Bytes(other),
        };
        let way = self.dice.of(&self.world.ways);
        let mut shape = Shape::new(&way, quoted.source, quoted.destination, carried);
        shape.payload = vec![7; 24];
        if self.dice.permille(100) && !quoted.is_v6() {
            shape.extra = vec![(0, vec![1; 4 * (1 + self.dice.below(10))])];
        }
        if self.dice.permille(50) {
            let offset = self.dice.of(&[0, 0, 3]);
            shape.piece = Some(Piece { offset, more: true, id: 5 });
        }
        let mut bytes = shape.packet();
        let header = bytes.len() - 24 - if quoted.protocol == TCP { 20 } else { 8 };
        match self.dice.below(8) {
            0 => bytes.truncate(header + 7),
            1..4 => bytes.truncate(header + 8),
            _ => {}
        }
        bytes
    }
}
