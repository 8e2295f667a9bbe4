//! The pipeline: from a frame to its outcome.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::frame::{Packet, Part};
use super::outcome::{Action, Outcome};
use super::settings::{Globals, Hook, Hop, Listener, Meaning, Server, Settings, Tag};
use super::tables::Tables;
use super::tuple::{TCP, Tuple};

/// What a stage says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// Nothing.
    GoOn,
    /// Its flow is known: it is to be carried.
    Carry,
    /// What became of it.
    Stop(Outcome),
}

/// What became of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Why.
    pub outcome: Outcome,
    /// What the kernel is asked to do.
    pub action: Action,
    /// The frame as it leaves.
    pub frame: Vec<u8>,
    /// TC: the outermost tag, which does not stand in the frame when it was put on.
    pub aside: Option<Tag>,
}

/// The datapath.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the process has written.
    pub settings: Settings,
    /// What the kernel remembers.
    pub tables: Tables,
    /// Promoted flows of each family that there is room for.
    pub capacity: usize,
    /// The interface that packets come in by.
    pub ifindex: u32,
    /// The host's routes: the way to each address it knows one to.
    pub routes: BTreeMap<IpAddr, Hop>,
}

impl Model {
    /// A datapath with room for so many promoted flows of each family.
    pub fn new(capacity: usize) -> Self {
        Self {
            settings: Settings { globals: Globals::START, ..Settings::default() },
            tables: Tables::default(),
            capacity,
            ifindex: 1,
            routes: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.settings.globals.clock
    }

    /// Nanoseconds since a time.
    pub(super) fn age(&self, since: u64) -> u64 {
        self.now().saturating_sub(since)
    }

    pub(super) fn server(&self, id: u16) -> Option<&Server> {
        self.settings.servers.get(&id)
    }

    /// The listener of a client's tuple: of its port, or else of any.
    pub(super) fn listener(&self, tuple: &Tuple) -> Option<&Listener> {
        let (mut side, protocol) = (tuple.destination, tuple.protocol);
        if let Some(listener) = self.settings.listeners.get(&(side, protocol)) {
            return Some(listener);
        }
        side.set_port(0);
        self.settings.listeners.get(&(side, protocol))
    }

    pub(super) fn meaning(&self, address: IpAddr) -> Meaning {
        self.settings.addresses.get(&address).copied().unwrap_or_default()
    }

    /// Runs one packet.
    pub fn run(&mut self, hook: Hook, frame: &[u8]) -> Verdict {
        let mut packet = match Packet::read(frame) {
            Ok(packet) => packet,
            Err(outcome) => return Verdict::passed(outcome, frame),
        };
        (packet.hook, packet.ifindex) = (hook, self.ifindex);
        packet.mtu = self.settings.mtus.get(&self.ifindex).copied().unwrap_or(0);
        let outcome = self.stages(&mut packet);
        let sent = match outcome.action() {
            Action::Pass => return Verdict::passed(outcome, frame),
            Action::Send => true,
            Action::Drop => packet.answer(outcome),
        };
        match (sent, packet.is_local) {
            (false, _) => Verdict { outcome, action: Action::Drop, frame: vec![], aside: None },
            (true, is_local) => Verdict {
                outcome,
                action: if is_local { Action::Pass } else { Action::Send },
                frame: packet.frame,
                aside: packet.aside,
            },
        }
    }

    fn stages(&mut self, packet: &mut Packet) -> Outcome {
        let Some(role) = self.role(packet) else { return Outcome::Unrelated };
        if let Err(outcome) = packet.read_transport() {
            return outcome;
        }
        if packet.tuple.protocol == packet.icmp() {
            return self.control_message(packet, &role);
        }
        if let Some(outcome) = self.without_flow(packet, &role) {
            return outcome;
        }
        if packet.part == Part::Later && !self.borrow_ports(packet) {
            return lost(&role);
        }
        if is_likely_reply(packet, &role)
            && let Some(outcome) = self.reply(packet, &role)
        {
            return outcome;
        }
        self.forward(packet, &role)
    }

    /// The outcome of a packet that is no likely reply and of no promoted flow, if its listener alone
    /// decides: the host's own traffic, and connections that its stack has. Half-open flows of a
    /// listener that was removed end here too; fragments and what is too old are looked at later.
    fn without_flow(&self, packet: &Packet, role: &Meaning) -> Option<Outcome> {
        let is_plain = packet.part == Part::Whole && packet.ttl > 1;
        let is_promoted = self.tables.flows.contains_key(&packet.tuple);
        if !is_plain || is_promoted || is_likely_reply(packet, role) {
            return None;
        }
        let Some(listener) = self.listener(&packet.tuple) else { return Some(Outcome::Unrelated) };
        let is_for_stack = listener.stack && listener.open && listener.hook == packet.hook;
        let opens = packet.tuple.protocol != TCP || packet.is_opening();
        (is_for_stack && !opens).then_some(Outcome::ToStack)
    }

    /// What the packet's addresses mean; `None` if they mean nothing.
    fn role(&self, packet: &Packet) -> Option<Meaning> {
        let is_dnat = self.settings.globals.dnat;
        let dnat_server = is_dnat && self.meaning(packet.tuple.source.ip()).dnat_server;
        let destination = self.meaning(packet.tuple.destination.ip());
        if destination.listener || destination.snat {
            return Some(Meaning { dnat_server, ..destination });
        }
        if !is_dnat {
            return None;
        }
        if dnat_server {
            return Some(Meaning { dnat_server, ..Meaning::default() });
        }
        // Routers on the way to a server send errors from addresses of their own. The protocol is
        // the one that the network header names.
        (packet.tuple.protocol == packet.icmp()).then(Meaning::default)
    }
}

impl Verdict {
    fn passed(outcome: Outcome, frame: &[u8]) -> Self {
        Self { outcome, action: Action::Pass, frame: frame.to_vec(), aside: None }
    }
}

/// A later fragment of nothing that is known: on an address of the host's own it may be of other
/// traffic.
pub(super) fn lost(role: &Meaning) -> Outcome {
    if role.dedicated { Outcome::FragmentLost } else { Outcome::Fragment }
}

/// Whether a packet comes to a SNAT port or from a server of `dnat`.
fn is_likely_reply(packet: &Packet, role: &Meaning) -> bool {
    let (first, last) = role.snat_ports;
    let port = packet.tuple.destination.port();
    role.dnat_server || (role.snat && (first..=last).contains(&port))
}
