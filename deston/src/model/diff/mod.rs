//! What a reload changes: one model against another.
//!
//! Pure, and the only place that says what makes two listeners or two servers the same one. The
//! changes stand in the order in which they can be applied: whatever is named by something else
//! comes first when it is added and last when it is removed.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use super::{
    DatapathChoice, Forwarding, Kernel, Layer, Listener, Log, Model, Pool, Protocol, Runtime,
    Server,
};

/// One difference between two models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `drain_timeout` or `hash_seed` changed.
    Runtime(Runtime),
    /// A pool is new.
    PoolAdded(Arc<Pool>),
    /// A pool has other settings or servers.
    PoolChanged {
        /// What it shall be.
        pool: Arc<Pool>,
        /// Servers that were added, changed or removed, in that order; empty if only their order
        /// or the pool's own settings changed.
        servers: Vec<ServerChange>,
    },
    /// A listener is new.
    ListenerAdded(Arc<Listener>),
    /// A listener has other settings and stays where it is.
    ListenerChanged(Arc<Listener>),
    /// A listener is gone.
    ListenerRemoved(Arc<Listener>),
    /// A pool is gone.
    PoolRemoved(Arc<Pool>),
    /// Something changed that only a restart can apply.
    NeedsRestart(AtStart),
}

/// A difference within a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChange {
    /// A server is new.
    Added(Server),
    /// A server has another name, weight or limit.
    Changed(Server),
    /// A server is gone.
    Removed(Server),
}

/// Settings that are read at start alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtStart {
    /// `workers` of `[runtime]`.
    Workers(usize),
    /// `[kernel]`.
    Kernel(Kernel),
    /// `[log]`.
    Log(Log),
}

/// The changes that make `new` out of `old`.
pub fn diff(old: &Model, new: &Model) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(runtime(old, new));
    changes.extend(new.pools.iter().filter_map(|pool| match old.pool(&pool.name) {
        None => Some(Change::PoolAdded(Arc::clone(pool))),
        Some(old) if old == pool => None,
        Some(old) => Some(Change::PoolChanged {
            pool: Arc::clone(pool),
            servers: servers(&old.servers, &pool.servers),
        }),
    }));
    changes.extend(new.listeners.iter().filter_map(|listener| match same(old, listener) {
        None => Some(Change::ListenerAdded(Arc::clone(listener))),
        Some(old) if old == listener => None,
        Some(_) => Some(Change::ListenerChanged(Arc::clone(listener))),
    }));
    let gone = old.listeners.iter().filter(|listener| same(new, listener).is_none());
    changes.extend(gone.cloned().map(Change::ListenerRemoved));
    let gone = old.pools.iter().filter(|pool| new.pool(&pool.name).is_none());
    changes.extend(gone.cloned().map(Change::PoolRemoved));
    changes
}

fn runtime(old: &Model, new: &Model) -> Vec<Change> {
    let mut changes = Vec::new();
    let applicable = Runtime { workers: old.runtime.workers, ..new.runtime.clone() };
    if applicable != old.runtime {
        changes.push(Change::Runtime(applicable));
    }
    if old.runtime.workers != new.runtime.workers {
        changes.push(Change::NeedsRestart(AtStart::Workers(new.runtime.workers)));
    }
    if old.kernel != new.kernel {
        changes.push(Change::NeedsRestart(AtStart::Kernel(new.kernel.clone())));
    }
    if old.log != new.log {
        changes.push(Change::NeedsRestart(AtStart::Log(new.log.clone())));
    }
    changes
}

fn servers(old: &[Server], new: &[Server]) -> Vec<ServerChange> {
    let find = |servers: &[Server], wanted: &Server| {
        servers.iter().find(|server| server.address == wanted.address).cloned()
    };
    let mut changes = Vec::new();
    let added = new.iter().filter(|server| find(old, server).is_none());
    changes.extend(added.cloned().map(ServerChange::Added));
    let changed = new.iter().filter(|server| find(old, server).is_some_and(|old| old != **server));
    changes.extend(changed.cloned().map(ServerChange::Changed));
    let removed = old.iter().filter(|server| find(new, server).is_none());
    changes.extend(removed.cloned().map(ServerChange::Removed));
    changes
}

/// The listener of `model` that is the same one as `listener`.
fn same<'a>(model: &'a Model, listener: &Listener) -> Option<&'a Arc<Listener>> {
    model.listeners.iter().find(|other| is_same(other, listener))
}

/// Whether two listeners are one, perhaps with other settings.
pub fn is_same(one: &Listener, other: &Listener) -> bool {
    Identity::of(one) == Identity::of(other)
}

/// What cannot change without becoming another listener.
#[derive(PartialEq, Eq)]
struct Identity<'a> {
    name: &'a str,
    address: SocketAddr,
    datapath: DatapathChoice,
    interfaces: &'a [String],
    carried: Carried,
}

/// The part of the identity that only one layer has.
#[derive(PartialEq, Eq)]
enum Carried {
    /// TCP or UDP, and what packets look like to servers.
    L4 { protocol: Protocol, forwarding: Forwarding },
    /// HTTP.
    L7,
}

impl<'a> Identity<'a> {
    fn of(listener: &'a Listener) -> Self {
        let carried = match &listener.layer {
            Layer::L4(l4) => Carried::L4 { protocol: l4.protocol, forwarding: l4.forwarding },
            Layer::L7(_) => Carried::L7,
        };
        Self {
            name: &listener.name,
            address: listener.address,
            datapath: listener.datapath(),
            interfaces: listener.interfaces(),
            carried,
        }
    }
}
