//! One step of a run: a packet, or a change that the process or time makes.

use std::net::{IpAddr, SocketAddr};

use super::balance::{Model, Verdict};
use super::settings::{Globals, Hook, Hop, Id, Listener, Meaning, Server, StaticReply, Table};
use super::tuple::Tuple;

/// One of a flow's entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// In FLOWS.
    Flow,
    /// In REPLIES.
    Reply,
    /// In HALF_FLOWS.
    HalfFlow,
    /// In HALF_REPLIES.
    HalfReply,
}

/// A step, complete in itself: a run is replayed, or shrunk, without whoever made it up.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame comes by.
    Packet(Hook, Vec<u8>),
    /// The settings change; the clock and chance are among them.
    Globals(Globals),
    /// An address means something, or nothing any more.
    Address(IpAddr, Option<Meaning>),
    /// A listener is put, or removed.
    Listener(SocketAddr, u8, Option<Box<Listener>>),
    /// A server is put.
    Server(Id, Box<Server>),
    /// A pool's table is swapped.
    Table(u32, Table),
    /// A server's packets are given a listener's address.
    StaticReply(SocketAddr, u8, StaticReply),
    /// A prefix of a listener's is allowed or denied.
    Source(u32, (IpAddr, u8), bool),
    /// Largest IP packet that an interface sends.
    Mtu(u32, u16),
    /// The host learns the way to an address.
    Route(IpAddr, Hop),
    /// Flows that were seen standing still are ended.
    Expire(Vec<(Tuple, (u64, u64))>),
    /// An entry is lost.
    Lose(Entry, Tuple),
}

impl Model {
    /// Takes a step; a packet's verdict.
    pub fn take(&mut self, step: &Step) -> Option<Verdict> {
        let (settings, tables) = (&mut self.settings, &mut self.tables);
        match step {
            Step::Packet(hook, frame) => return Some(self.run(*hook, frame)),
            Step::Globals(globals) => settings.globals = *globals,
            Step::Address(address, Some(meaning)) => {
                settings.addresses.insert(*address, *meaning);
            }
            Step::Address(address, None) => {
                settings.addresses.remove(address);
            }
            Step::Listener(side, protocol, Some(listener)) => {
                settings.listeners.insert((*side, *protocol), (**listener).clone());
            }
            Step::Listener(side, protocol, None) => {
                settings.listeners.remove(&(*side, *protocol));
            }
            Step::Server(id, server) => {
                settings.servers.insert(*id, (**server).clone());
            }
            Step::Table(pool, table) => {
                settings.tables.insert(*pool, table.clone());
            }
            Step::StaticReply(server, protocol, reply) => {
                settings.static_replies.insert((*server, *protocol), *reply);
            }
            Step::Source(listener, (prefix, bits), allowed) => {
                settings.sources.insert((*listener, *prefix, *bits), *allowed);
            }
            Step::Mtu(ifindex, mtu) => {
                settings.mtus.insert(*ifindex, *mtu);
            }
            Step::Route(address, hop) => {
                self.routes.insert(*address, hop.clone());
            }
            Step::Expire(idle) => idle.iter().for_each(|(key, seen)| self.expire(key, *seen)),
            Step::Lose(Entry::Flow, key) => drop(tables.flows.remove(key)),
            Step::Lose(Entry::Reply, key) => drop(tables.replies.remove(key)),
            Step::Lose(Entry::HalfFlow, key) => drop(tables.half_flows.remove(key)),
            Step::Lose(Entry::HalfReply, key) => drop(tables.half_replies.remove(key)),
        }
        None
    }
}
