//! The single owner of the model: turns a new model into changes and applies them.
//!
//! Everything that can fail is tried before anything is changed: identifiers, datapaths, addresses.
//! Then changes are applied in the order in which [`diff`] lists them, so that servers are known
//! before a table names them, tables before a listener is served by them, and the other way round
//! when they go (`apply`). Workers see each pool and each listener replaced whole, in one store.

mod apply;
mod listeners;
mod outliers;
mod prepare;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deston_common::hash::Seed;

use super::Subject;
use super::carrier::{Carrier, Guarded, NoCarrier};
use super::kernel::{KernelDatapath, NotTaken};
use super::servers::{Condition, NoIdentifier, ServerKey, Servers};
use super::summary::Summary;
use super::userspace::UserspaceDatapath;
use crate::live;
use crate::model::{self, Health, Model, diff};
use crate::proxy::BindError;

/// Owns the model and everything built from it.
pub struct Reconciler<D: UserspaceDatapath, K: KernelDatapath> {
    model: Model,
    seed: Seed,
    /// How long connections to a server that drains may last.
    drain_timeout: Duration,
    servers: Servers,
    pools: BTreeMap<String, Pool>,
    listeners: BTreeMap<String, Listener<D>>,
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
struct Listener<D: UserspaceDatapath> {
    model: Arc<model::Listener>,
    live: Arc<live::Listener>,
    carrier: Carrier,
    guarded: Guarded,
    companion: Companion<D>,
}

/// What userspace has at the address of a listener in the kernel.
enum Companion<D: UserspaceDatapath> {
    /// A listener that serves the host itself, whose packets never meet the kernel's programs.
    Serving,
    /// A socket that keeps the address: userspace cannot serve the listener.
    Holding(D::Held),
    /// Nothing: the host does not have the address, or a listener of ours on every address has it.
    Nothing,
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

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    /// Binds every listener of `model` and then opens them.
    pub fn start(model: Model, userspace: D, kernel: K) -> Result<Self, Refused> {
        let nothing = Model {
            listeners: Vec::new(),
            pools: Vec::new(),
            runtime: model.runtime.clone(),
            kernel: model.kernel.clone(),
            log: model.log.clone(),
        };
        let mut reconciler = Self {
            seed: Seed::from_text(&model.runtime.hash_seed),
            drain_timeout: model.runtime.drain_timeout,
            model: nothing,
            servers: Servers::default(),
            pools: BTreeMap::new(),
            listeners: BTreeMap::new(),
            userspace,
            kernel,
        };
        let former = reconciler.kernel.adopt();
        reconciler.servers.adopt(former);
        let (_, errors) = reconciler.become_model(model)?;
        if !errors.is_empty() {
            return Err(Refused { failures: errors.into_iter().map(Failure::Kernel).collect() });
        }
        for id in reconciler.servers.former() {
            reconciler.kernel.drain_server(id, reconciler.drain_timeout);
        }
        reconciler.kernel.take_over();
        Ok(reconciler)
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
        self.listeners.get(name).is_some_and(|listener| listener.carrier != Carrier::Userspace)
    }

    /// Servers to be probed, with their pool's settings and what is known of them.
    pub fn probed(&self) -> impl Iterator<Item = (ServerKey, Subject, Condition)> {
        let probed = self.pools.values().filter(|pool| pool.model.health != Health::Off);
        probed.flat_map(|pool| {
            pool.model.servers.iter().filter_map(|server| {
                let key = key(&pool.model, server);
                let condition = self.servers.get(&key)?.condition;
                let health = pool.model.health.clone();
                Some((key, Subject { health, speech: server.speech.clone() }, condition))
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

    /// Forgets servers that are gone and have nothing left.
    pub fn sweep(&mut self) {
        self.servers.sweep(&mut self.kernel);
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
            log: self.model.log.clone(),
            ..new
        };
        Ok((summary, errors))
    }
}

fn key(pool: &model::Pool, server: &model::Server) -> ServerKey {
    ServerKey { pool: pool.name.clone(), address: server.address }
}

fn lines(failures: &[Failure]) -> String {
    let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
