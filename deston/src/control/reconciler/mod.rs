//! The single owner of the model: turns a new model into changes and applies them.
//!
//! Everything that can fail is tried before anything is changed: identifiers, datapaths, addresses.
//! Then changes are applied in the order in which [`diff`] lists them, so that servers are known
//! before a table names them, tables before a listener is served by them, and the other way round
//! when they go (`apply`). Workers see each pool and each listener replaced whole, in one store.

mod apply;
mod outliers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use deston_common::hash::Seed;

use super::carrier::{self, Carrier, NoCarrier};
use super::hold::Beside;
use super::kernel::{KernelDatapath, NotTaken};
use super::servers::{Condition, NoIdentifier, ServerKey, Servers};
use super::summary::Summary;
use super::userspace::UserspaceDatapath;
use crate::live;
use crate::model::{self, Change, Health, Model, diff};
use crate::proxy::BindError;

/// Owns the model and everything built from it.
pub struct Reconciler<D: UserspaceDatapath, K: KernelDatapath> {
    model: Model,
    seed: Seed,
    servers: Servers,
    pools: BTreeMap<String, Pool>,
    listeners: BTreeMap<String, Listener<D::Held>>,
    userspace: D,
    kernel: K,
}

/// A pool in use.
struct Pool {
    model: Arc<model::Pool>,
    live: Arc<live::Pool>,
    audience: Audience,
}

/// Who chooses from a pool's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    Userspace,
    /// The kernel too; it keeps what it was told until the pool is removed.
    Everywhere,
}

/// A listener in use.
struct Listener<H> {
    model: Arc<model::Listener>,
    live: Arc<live::Listener>,
    carrier: Carrier,
    /// What keeps the address of a listener in the kernel for us.
    held: Option<H>,
}

/// Why a model was not applied; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(.failures))]
pub struct Refused {
    /// Everything that stands against it, at least one.
    pub failures: Vec<Failure>,
}

/// Something that stands against a model.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A datapath cannot be had.
    #[error(transparent)]
    Carrier(#[from] NoCarrier),
    /// There are too many servers with those that still finish.
    #[error(transparent)]
    Identifier(#[from] NoIdentifier),
    /// The kernel datapath failed.
    #[error(transparent)]
    Kernel(#[from] NotTaken),
}

/// What was found and taken for the listeners that are added, by name.
type Prepared<D> = BTreeMap<String, Place<D>>;

/// An address that was taken for a listener, on the datapath that will carry it.
enum Place<D: UserspaceDatapath> {
    Userspace(D::Bound),
    Kernel(Option<D::Held>),
}

impl<D: UserspaceDatapath> Place<D> {
    fn carrier(&self) -> Carrier {
        match self {
            Self::Userspace(_) => Carrier::Userspace,
            Self::Kernel(_) => Carrier::Kernel,
        }
    }
}

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    /// Binds every listener of `model` and then opens them.
    pub fn start(model: Model, userspace: D, kernel: K) -> Result<Self, Refused> {
        let nothing = Model {
            listeners: Vec::new(),
            pools: Vec::new(),
            runtime: model.runtime.clone(),
            kernel: model.kernel.clone(),
        };
        let mut reconciler = Self {
            seed: Seed::from_text(&model.runtime.hash_seed),
            model: nothing,
            servers: Servers::default(),
            pools: BTreeMap::new(),
            listeners: BTreeMap::new(),
            userspace,
            kernel,
        };
        let (_, errors) = reconciler.become_model(model)?;
        if errors.is_empty() {
            Ok(reconciler)
        } else {
            Err(Refused { failures: errors.into_iter().map(Failure::Kernel).collect() })
        }
    }

    /// Applies what differs from the running model.
    pub fn reload(&mut self, model: Model) -> Result<Summary, Refused> {
        self.servers.sweep(&mut self.kernel);
        let (summary, errors) = self.become_model(model)?;
        for error in errors {
            tracing::error!(%error, "the kernel datapath did not take a change");
        }
        Ok(summary)
    }

    /// The running model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The live listener of a name.
    pub fn listener(&self, name: &str) -> Option<&Arc<live::Listener>> {
        self.listeners.get(name).map(|listener| &listener.live)
    }

    /// Whether the kernel carries the listener of a name.
    pub fn is_in_kernel(&self, name: &str) -> bool {
        self.listeners.get(name).is_some_and(|listener| listener.carrier == Carrier::Kernel)
    }

    /// Servers to be probed, with their pool's settings and what is known of them.
    pub fn probed(&self) -> impl Iterator<Item = (ServerKey, Health, Condition)> {
        let probed = self.pools.values().filter(|pool| pool.model.health != Health::Off);
        probed.flat_map(|pool| {
            pool.model.servers.iter().filter_map(|server| {
                let key = key(&pool.model, server);
                let condition = self.servers.get(&key)?.condition;
                Some((key, pool.model.health.clone(), condition))
            })
        })
    }

    /// Takes note of what probes say of a server. `false` if that is nothing new.
    pub fn set_condition(&mut self, key: &ServerKey, condition: Condition) -> bool {
        let Some(known) = self.servers.configured(key) else { return false };
        if known.condition == condition {
            return false;
        }
        known.set_condition(condition);
        let mut errors = Vec::new();
        if let Some(pool) = self.pools.get(&key.pool) {
            let model = Arc::clone(&pool.model);
            let servers = model.servers.iter().filter(|server| server.address == key.address);
            for server in servers {
                self.tell_server(&model, server, &mut errors);
            }
            self.publish(&model, &mut errors);
        }
        for error in errors {
            tracing::error!(%error, "the kernel datapath did not take a change");
        }
        self.servers.sweep(&mut self.kernel);
        true
    }

    /// How many servers of a pool take connections, and how many there are.
    pub fn up(&self, pool: &str) -> (usize, usize) {
        let Some(pool) = self.pools.get(pool) else { return (0, 0) };
        (self.eligible(&pool.model).count(), pool.model.servers.len())
    }

    /// Gives the datapaths back, to be stopped.
    pub fn into_datapaths(self) -> (D, K) {
        (self.userspace, self.kernel)
    }

    fn become_model(&mut self, new: Model) -> Result<(Summary, Vec<NotTaken>), Refused> {
        let changes = diff(&self.model, &new);
        let prepared = self.prepare(&changes, &new);
        let mut prepared = prepared.inspect_err(|_| self.settle())?;
        let summary = Summary::of(&changes);
        let errors = self.apply(changes, &mut prepared);
        self.settle();
        // What needs a restart keeps its running value, so that every reload warns of it.
        self.model = Model {
            runtime: model::Runtime { workers: self.model.runtime.workers, ..new.runtime },
            kernel: self.model.kernel.clone(),
            ..new
        };
        Ok((summary, errors))
    }

    /// Ends the preparations, applied or refused.
    fn settle(&mut self) {
        self.kernel.settle();
        let kernel = |listener: &&mut Listener<_>| listener.carrier == Carrier::Kernel;
        for listener in self.listeners.values_mut().filter(kernel) {
            if listener.held.is_none() {
                // Not had, where a listener of ours on every address has the port.
                listener.held = self.userspace.hold(&listener.model, Beside::Nobody).ok().flatten();
            }
        }
    }

    /// Everything that can fail; what it takes is given back when it is dropped.
    fn prepare(&mut self, changes: &[Change], new: &Model) -> Result<Prepared<D>, Refused> {
        let mut failures = Vec::new();
        let servers: Vec<ServerKey> = new
            .pools
            .iter()
            .flat_map(|pool| pool.servers.iter().map(|server| key(pool, server)))
            .collect();
        failures.extend(self.servers.check_room(servers.iter()).err().map(Failure::from));

        let mut prepared = Prepared::new();
        let to_bind: Vec<_> = in_binding_order(changes, &self.model).cloned().collect();
        for listener in &to_bind {
            let Some(pool) = new.pool(&listener.pool) else { continue };
            match self.prepare_listener(listener, pool, new) {
                Ok(ready) => drop(prepared.insert(listener.name.clone(), ready)),
                Err(failure) => failures.push(failure),
            }
        }
        failures.extend(self.prepare_kernel(new).into_iter().map(Failure::from));
        if failures.is_empty() { Ok(prepared) } else { Err(Refused { failures }) }
    }

    /// Makes the kernel ready for servers that are new to listeners that it carries already. What
    /// it carries is not planned again: whatever befell it since, this reload is not the cause.
    fn prepare_kernel(&mut self, new: &Model) -> Vec<NoCarrier> {
        let mut failures = Vec::new();
        for listener in &new.listeners {
            let Some(running) = self.listeners.get(&listener.name).filter(|running| {
                running.carrier == Carrier::Kernel && model::is_same(&running.model, listener)
            }) else {
                continue;
            };
            let had = self.model.pool(&running.model.pool);
            let has = |server: &model::Server| {
                had.is_some_and(|pool| pool.servers.iter().any(|had| had.address == server.address))
            };
            let pool = new.pool(&listener.pool).map_or(&[][..], |pool| &pool.servers);
            let added: Vec<_> = pool.iter().filter(|server| !has(server)).cloned().collect();
            if !added.is_empty() {
                failures.extend(carrier::insist(listener, &added, &mut self.kernel).err());
            }
        }
        failures
    }

    fn prepare_listener(
        &mut self,
        listener: &model::Listener,
        pool: &model::Pool,
        new: &Model,
    ) -> Result<Place<D>, Failure> {
        let carrier = carrier::choose(listener, pool, &mut self.kernel)?;
        let port = |other: &model::Listener| (other.address.port(), other.protocol());
        for running in self.listeners.values_mut() {
            if port(&running.model) == port(listener) {
                // Nobody else gets in between: while it is open, packets do not reach a socket.
                running.held = None;
            }
        }
        Ok(match carrier {
            Carrier::Userspace => Place::Userspace(self.userspace.bind(listener)?),
            Carrier::Kernel => {
                let others = new.listeners.iter().filter(|other| other.name != listener.name);
                let ours = self.model.listeners.iter().chain(others);
                let beside = if ours.into_iter().any(|other| port(other) == port(listener)) {
                    Beside::Ourselves
                } else {
                    Beside::Nobody
                };
                Place::Kernel(self.userspace.hold(listener, beside)?)
            }
        })
    }
}

/// Listeners to bind: those whose address nobody of ours has first. A bound socket takes
/// connections, and giving it back resets them; where an old listener of ours shares the address,
/// some would be its clients.
fn in_binding_order<'a>(
    changes: &'a [Change],
    running: &'a Model,
) -> impl Iterator<Item = &'a Arc<model::Listener>> {
    let added = changes.iter().filter_map(|change| match change {
        Change::ListenerAdded(listener) => Some(listener),
        Change::Runtime(_)
        | Change::PoolAdded(_)
        | Change::PoolChanged { .. }
        | Change::ListenerChanged(_)
        | Change::ListenerRemoved(_)
        | Change::PoolRemoved(_)
        | Change::NeedsRestart(_) => None,
    });
    let ours = |listener: &&Arc<model::Listener>| {
        let port = |other: &model::Listener| (other.address.port(), other.protocol());
        running.listeners.iter().any(|other| port(other) == port(listener))
    };
    added.clone().filter(move |l| !ours(l)).chain(added.filter(move |l| ours(l)))
}

fn key(pool: &model::Pool, server: &model::Server) -> ServerKey {
    ServerKey { pool: pool.name.clone(), address: server.address }
}

fn lines(failures: &[Failure]) -> String {
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
