//! Choosing a server for a new flow.

use super::balance::Model;
use super::frame::Packet;
use super::hash;
use super::outcome::Outcome;
use super::settings::{Id, Index, Listener, Table};
use super::tables::Binding;

/// Slots that are tried in table order before every member is.
const PROBES: usize = 8;
/// Members whose loads are compared at most.
const SAMPLES: u32 = 4;

/// Whether a server can take a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Takes,
    Full,
    Refuses,
}

impl Model {
    /// Chooses a server other than `but` (0: any); the client's own, if it is bound to one.
    pub(super) fn choose(
        &mut self,
        packet: &Packet,
        listener: &Listener,
        but: Id,
    ) -> Result<Id, Outcome> {
        if listener.sticky == 0 {
            return self.choose_from_table(packet, listener.pool, but);
        }
        let key = (packet.tuple.source.ip(), listener.pool);
        let bound = self.tables.bindings.get(&key).copied().filter(|bound| {
            self.age(bound.used) <= listener.sticky
                && bound.server != but
                && self.room(bound.server) == Room::Takes
        });
        let server = match bound {
            Some(bound) => bound.server,
            None => self.choose_from_table(packet, listener.pool, but)?,
        };
        self.tables.bindings.insert(key, Binding { used: self.now(), server });
        Ok(server)
    }

    fn choose_from_table(&mut self, packet: &Packet, pool: u32, but: Id) -> Result<Id, Outcome> {
        let Some(table) = self.settings.tables.get(&pool).cloned() else {
            return Err(Outcome::NoServer);
        };
        let client = packet.tuple.source;
        let start = match table.index {
            Index::Cursor => {
                let cursor = self.tables.cursors.entry(pool).or_insert(0);
                let start = *cursor;
                // The turn of a flow that leaves a server has been counted.
                *cursor = cursor.wrapping_add(u64::from(but == 0));
                start
            }
            Index::Client => hash::client(table.seed, client.ip()),
            Index::ClientPort => hash::client_port(table.seed, client),
            Index::Flow => hash::flow(table.seed, &packet.tuple),
            // A random number that specs hold still is drawn from the flow: its hash, keyed by the
            // number and zero.
            Index::Random | Index::Least => {
                hash::flow((self.settings.globals.random, 0), &packet.tuple)
            }
        };
        if table.index == Index::Least
            && let Some(server) = self.least(&table, start, but)
        {
            return Ok(server);
        }
        let Some(first) = (start as usize).checked_rem(table.slots.len()) else {
            return Err(Outcome::NoServer);
        };
        let from_slots = table.slots.iter().cycle().skip(first).take(PROBES);
        let turn = first.checked_rem(table.members.len()).unwrap_or(0);
        let from_members = table.members.iter().cycle().skip(turn).take(table.members.len());
        let mut outcome = Outcome::NoServer;
        for &server in from_slots.chain(from_members).filter(|server| **server != but) {
            match self.room(server) {
                Room::Takes => return Ok(server),
                Room::Full => outcome = Outcome::ServersFull,
                Room::Refuses => {}
            }
        }
        Err(outcome)
    }

    /// Of a few members the one with the fewest flows for its weight; the first of equals. The low
    /// half of the random number chooses the first member, the high half a stride to the next, such
    /// that all are different.
    fn least(&self, table: &Table, random: u64, but: Id) -> Option<Id> {
        let count = table.members.len() as u32;
        let first = (random as u32).checked_rem(count)?;
        let most = (count - 1).checked_div(table.samples.saturating_sub(1)).unwrap_or(0);
        let stride = 1 + ((random >> 32) as u32).checked_rem(most).unwrap_or(0);
        let mut best: Option<(u64, u16, Id)> = None;
        for turn in 0..table.samples.min(count).min(SAMPLES) {
            let server = *table.members.get(((first + turn * stride) % count) as usize)?;
            if server == but || self.room(server) != Room::Takes {
                continue;
            }
            let weight = self.server(server)?.weight;
            let flows = self.tables.loads.get(&server).map_or(0, |load| load.in_use);
            let is_less = best.is_none_or(|(least, heavy, _)| {
                u128::from(flows) * u128::from(heavy) < u128::from(least) * u128::from(weight)
            });
            if is_less {
                best = Some((flows, weight, server));
            }
        }
        best.map(|(_, _, server)| server)
    }

    fn room(&self, server: Id) -> Room {
        let Some(entry) = self.server(server).filter(|entry| entry.is_eligible()) else {
            return Room::Refuses;
        };
        let in_use = self.tables.loads.get(&server).map_or(0, |load| load.in_use);
        if in_use >= u64::from(entry.max_connections) { Room::Full } else { Room::Takes }
    }

    /// Whether a pool has a server for new flows other than `but`.
    pub(super) fn has_another(&self, pool: u32, but: Id) -> bool {
        let Some(table) = self.settings.tables.get(&pool) else { return false };
        table.members.iter().any(|server| *server != but && self.room(*server) == Room::Takes)
    }
}
