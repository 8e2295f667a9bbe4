//! The servers there are: their identifiers, their live state, and whether they are up.
//!
//! A server is known by its pool and address. It keeps its identifier and its count of open
//! connections for as long as a connection may hold it, also after it is removed, so that an
//! identifier never means two servers at once and a server that comes back keeps its limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use deston_common::limits::MAX_SERVERS;
use deston_common::server::{ServerId, ServerState};

use super::kernel::KernelDatapath;
use super::outliers::Ejection;
use crate::model::OnDown;
use crate::{live, model};

/// What makes a server the same one across reloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerKey {
    /// Name of its pool.
    pub pool: String,
    /// Its address.
    pub address: SocketAddr,
}

/// What probes say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Takes traffic. Every server starts like this.
    Up,
    /// Fails its probes.
    Down,
}

/// All servers, those included that are removed but not yet let go.
#[derive(Debug, Default)]
pub(super) struct Servers {
    known: BTreeMap<ServerKey, Known>,
    /// Servers that only the process before knew: flows may name them.
    former: BTreeMap<ServerId, SocketAddr>,
}

/// A server that is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) live: Arc<live::Server>,
    pub(super) condition: Condition,
    presence: Presence,
    /// `drain` of the configuration.
    drain: bool,
    pub(super) ejection: Ejection,
}

/// Whether the configuration has a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Configured,
    Removed,
}

/// No identifier is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} new servers need an identifier and {free} are free: removed servers keep theirs while \
     they have connections"
)]
pub struct NoIdentifier {
    wanted: usize,
    free: usize,
}

impl Known {
    /// How the kernel shall treat the server.
    pub(super) fn state(&self) -> ServerState {
        match (self.presence, self.condition) {
            (Presence::Removed, _) => ServerState::Draining,
            (Presence::Configured, Condition::Down) => ServerState::Down,
            (Presence::Configured, Condition::Up) if self.drain || self.ejection.is_on() => {
                ServerState::Draining
            }
            (Presence::Configured, Condition::Up) => ServerState::Active,
        }
    }

    /// Takes note of what probes say.
    pub(super) fn set_condition(&mut self, condition: Condition) {
        self.condition = condition;
        self.live.fate().set_down(condition == Condition::Down);
    }

    /// Whether a table may name it.
    pub(super) fn is_eligible(&self) -> bool {
        self.state() == ServerState::Active
    }

    /// Whether its connections shall finish and not last: it is on its way out.
    pub(super) fn is_leaving(&self) -> bool {
        self.drain || self.presence == Presence::Removed
    }
}

impl Servers {
    /// Takes note of the servers that the process before has left in the kernel.
    pub(super) fn adopt(&mut self, former: impl IntoIterator<Item = (ServerId, SocketAddr)>) {
        self.former.extend(former);
    }

    /// Servers that the process before has left in the kernel, and that nobody has claimed.
    pub(super) fn former(&self) -> impl Iterator<Item = ServerId> {
        self.former.keys().copied()
    }

    /// The server of a key.
    pub(super) fn get(&self, key: &ServerKey) -> Option<&Known> {
        self.known.get(key)
    }

    /// The server of a key that the configuration has.
    pub(super) fn configured(&mut self, key: &ServerKey) -> Option<&mut Known> {
        self.known.get_mut(key).filter(|known| known.presence == Presence::Configured)
    }

    /// The server of an identifier.
    pub(super) fn key(&self, id: ServerId) -> Option<&ServerKey> {
        self.known.iter().find(|(_, known)| known.live.id() == id).map(|(key, _)| key)
    }

    /// Every server that is known.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Makes sure that `added` servers can be put in, of which some may be known.
    pub(super) fn check_room<'a>(
        &self,
        added: impl Iterator<Item = &'a ServerKey>,
    ) -> Result<(), NoIdentifier> {
        let wanted = added.filter(|key| !self.known.contains_key(key)).count();
        let taken = self.known.len() + self.former.len();
        let free = (MAX_SERVERS as usize - 1).saturating_sub(taken);
        if wanted > free { Err(NoIdentifier { wanted, free }) } else { Ok(()) }
    }

    /// Puts in a server, or changes the limit of one that is known. A server that comes back after
    /// its removal is the same one and counts as up. `had` is the identifier that it had in the
    /// process before.
    pub(super) fn put(
        &mut self,
        key: ServerKey,
        server: &model::Server,
        on_down: OnDown,
        had: Option<ServerId>,
    ) -> Result<&Known, NoIdentifier> {
        let limit = server.max_connections.get();
        let known = match self.known.remove(&key) {
            Some(known) => {
                let condition = match known.presence {
                    Presence::Configured => known.condition,
                    Presence::Removed => Condition::Up,
                };
                known.live.set_limit(limit);
                let presence = Presence::Configured;
                Known { condition, presence, drain: server.drain, ..known }
            }
            None => {
                let id = self.claim(server.address, had).or_else(|| self.free_identifier());
                let id = id.ok_or(NoIdentifier { wanted: 1, free: 0 })?;
                let name = server.name.clone();
                Known {
                    live: Arc::new(live::Server::new(id, name, server.address, limit)),
                    condition: Condition::Up,
                    presence: Presence::Configured,
                    drain: server.drain,
                    ejection: Ejection::default(),
                }
            }
        };
        known.live.set_weight(server.weight);
        known.live.set_speech(server.speech.clone());
        known.live.fate().set_on_down(on_down);
        known.live.fate().set_down(known.condition == Condition::Down);
        Ok(self.known.entry(key).or_insert(known))
    }

    /// Marks a server as removed; it is known until nothing holds it.
    pub(super) fn remove(&mut self, key: &ServerKey) -> Option<&Known> {
        let known = self.known.get_mut(key)?;
        known.presence = Presence::Removed;
        Some(known)
    }

    /// Forgets removed servers that nothing can name any more: no table, no connection, no flow.
    pub(super) fn sweep(&mut self, kernel: &mut impl KernelDatapath) {
        let idle = |known: &Known| {
            // The registry's own reference is the last: nobody can take another.
            Arc::strong_count(&known.live) == 1 && kernel.open_flows(known.live.id()) == 0
        };
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.known)
            .into_iter()
            .partition(|(_, known)| known.presence == Presence::Configured || !idle(known));
        self.known = kept;
        for known in gone.values() {
            kernel.forget_server(known.live.id());
        }
        self.former.retain(|id, _| {
            let is_idle = kernel.open_flows(*id) == 0;
            if is_idle {
                kernel.forget_server(*id);
            }
            !is_idle
        });
    }

    /// The identifier that the process before gave the server of an address; if it had it in
    /// several pools, the one it `had` in this pool.
    fn claim(&mut self, address: SocketAddr, had: Option<ServerId>) -> Option<ServerId> {
        let is_it = |id: &ServerId| self.former.get(id) == Some(&address);
        let any = || self.former.iter().find(|(_, of)| **of == address).map(|(id, _)| *id);
        let id = had.filter(is_it).or_else(any)?;
        self.former.remove(&id);
        Some(id)
    }

    fn free_identifier(&self) -> Option<ServerId> {
        let known = self.known.values().map(|known| known.live.id());
        let taken: std::collections::BTreeSet<u16> =
            known.chain(self.former()).map(|id| id.0).collect();
        (1..MAX_SERVERS as u16).find(|id| !taken.contains(id)).map(ServerId)
    }
}
