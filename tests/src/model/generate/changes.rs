//! What time and the process do between packets.

use super::super::balance::Model;
use super::super::settings::{Globals, Stand};
use super::super::step::{Entry, Step};
use super::Generator;
use super::talk::any_key;
use super::world::{server, table};

const SECOND: u64 = 1_000_000_000;

impl Generator {
    /// A moment passes.
    pub(super) fn tick(&mut self, model: &Model) -> Step {
        let by = self.dice.between(1, self.world.pace);
        let globals = model.settings.globals;
        Step::Globals(Globals { clock: globals.clock + by, ..globals })
    }

    /// A long time passes: around the limits that are asked about.
    pub(super) fn leap(&mut self, model: &Model) -> Step {
        let by = self.dice.of(&[
            SECOND * 8 / 10,
            SECOND,
            SECOND + 1,
            3 * SECOND,
            10 * SECOND + 1,
            31 * SECOND,
        ]);
        let globals = model.settings.globals;
        let random = if self.dice.permille(100) { self.dice.any() | 1 } else { globals.random };
        Step::Globals(Globals { clock: globals.clock + by, random, ..globals })
    }

    /// The process changes something, or something is lost.
    pub(super) fn change(&mut self, model: &Model) -> Step {
        match self.dice.weighed(&[600, 100, 20, 100, 10, 60]) {
            0 => self.another_server(model),
            1 => self.another_listener(model),
            2 => self.another_table(model),
            3 => self.sweep(model),
            4 => {
                let globals = model.settings.globals;
                let flood_gate = self.dice.of(&[0, 0, 3, 20]);
                Step::Globals(Globals { flood_gate, ..globals })
            }
            _ => self.lose(model),
        }
    }

    fn another_server(&mut self, model: &Model) -> Step {
        // Mostly one that has flows, so that these are met.
        let busy = any_key(&mut self.dice, &model.tables.flows);
        let busy = busy.filter(|_| self.dice.permille(800));
        let id = match busy.and_then(|key| model.tables.flows.get(&key)) {
            Some(flow) => flow.terms.server,
            None => self.dice.of(&self.world.servers),
        };
        let before = &model.settings.servers[&id];
        let mut after = before.clone();
        if self.dice.permille(500) {
            let stands = [Stand::Active, Stand::Draining, Stand::Down, Stand::Down];
            after.stand = match before.stand {
                Stand::Active => self.dice.of(&stands),
                Stand::Down => self.dice.of(&[Stand::Active, Stand::Down, Stand::Down]),
                Stand::Unset | Stand::Draining => Stand::Active,
            };
        } else {
            let count = self.world.servers.len() as u16 / 2;
            let is_v6 = before.side.is_ipv6();
            after = server(&mut self.dice, is_v6, (id - 1) % count);
        }
        Step::Server(id, Box::new(after))
    }

    fn another_listener(&mut self, model: &Model) -> Step {
        let (side, protocol) = self.dice.of(&self.world.listeners);
        let listener = model.settings.listeners.get(&(side, protocol)).cloned();
        let Some(mut listener) = listener else {
            let listener = self.removed.remove(&(side, protocol)).map(Box::new);
            return Step::Listener(side, protocol, listener);
        };
        if self.dice.permille(100) {
            self.removed.insert((side, protocol), listener);
            return Step::Listener(side, protocol, None);
        }
        listener.open = self.dice.permille(850);
        Step::Listener(side, protocol, Some(Box::new(listener)))
    }

    fn another_table(&mut self, model: &Model) -> Step {
        let (pool, v6) = self.dice.of(&self.world.pools);
        let listener = model.settings.listeners.values().find(|listener| listener.pool == pool);
        let forwarding = listener.map(|listener| listener.forwarding).unwrap_or_default();
        Step::Table(pool, table(&mut self.dice, v6, forwarding))
    }

    /// The process looks for idle flows, and some packets later has them ended.
    fn sweep(&mut self, model: &Model) -> Step {
        if !self.looked.is_empty() {
            return Step::Expire(std::mem::take(&mut self.looked));
        }
        let keys: Vec<_> = model.tables.flows.keys().copied().collect();
        let looked = keys.into_iter().filter(|_| self.dice.permille(100));
        self.looked = looked.filter_map(|key| Some((key, model.seen(&key)?))).collect();
        self.tick(model)
    }

    fn lose(&mut self, model: &Model) -> Step {
        let tables = &model.tables;
        let dice = &mut self.dice;
        let lost = match dice.below(4) {
            0 => any_key(dice, &tables.flows).map(|key| (Entry::Flow, key)),
            1 => any_key(dice, &tables.replies).map(|key| (Entry::Reply, key)),
            2 => any_key(dice, &tables.half_flows).map(|key| (Entry::HalfFlow, key)),
            _ => any_key(dice, &tables.half_replies).map(|key| (Entry::HalfReply, key)),
        };
        match lost {
            Some((entry, key)) => Step::Lose(entry, key),
            None => self.tick(model),
        }
    }
}
