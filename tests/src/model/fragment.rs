//! Fragments: later ones borrow the ports of the first.

use super::balance::Model;
use super::frame::{Packet, Part};
use super::tables::{Datagram, Ports};

/// How long ports are remembered, nanoseconds.
const LIFETIME: u64 = 10_000_000_000;

fn datagram(packet: &Packet) -> Datagram {
    let tuple = &packet.tuple;
    (tuple.source.ip(), tuple.destination.ip(), packet.fragment_id, tuple.protocol)
}

impl Model {
    /// Gives a later fragment the ports of its datagram, if they are known.
    pub(super) fn borrow_ports(&self, packet: &mut Packet) -> bool {
        let found = self.tables.fragments.get(&datagram(packet));
        let Some(ports) = found.filter(|ports| self.age(ports.seen) <= LIFETIME) else {
            return false;
        };
        packet.tuple.source.set_port(ports.source);
        packet.tuple.destination.set_port(ports.destination);
        true
    }

    /// Remembers the ports of a datagram whose first fragment is carried.
    pub(super) fn remember(&mut self, packet: &Packet) {
        if packet.part != Part::First {
            return;
        }
        let tuple = &packet.tuple;
        let ports = Ports {
            seen: self.now(),
            source: tuple.source.port(),
            destination: tuple.destination.port(),
        };
        self.tables.fragments.insert(datagram(packet), ports);
    }
}
