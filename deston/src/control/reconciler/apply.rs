//! Applying changes: live state, workers and kernel, in the order that `diff` gives.
//!
//! Nothing here refuses: what can fail was tried before. What the kernel does not take is collected
//! and reported, and the rest goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use deston_common::hash::Seed;
use deston_common::server::{ServerId, ServerState};
use deston_common::table::Table;

use super::prepare::Prepared;
use super::{Audience, Pool, Reconciler, key};
use crate::control::kernel::{KernelDatapath, NotTaken};
use crate::control::servers::Condition;
use crate::control::tables;
use crate::control::userspace::UserspaceDatapath;
use crate::live::{self, Load, View};
use crate::model::{self, Algorithm, AtStart, Change, Health, ServerChange};

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    pub(super) fn apply(
        &mut self,
        changes: Vec<Change>,
        prepared: &mut Prepared<D>,
    ) -> Vec<NotTaken> {
        let mut errors = Vec::new();
        let mut replaced = BTreeMap::new();
        for change in changes {
            match change {
                Change::Runtime(runtime) => self.set_runtime(&runtime, &mut errors),
                Change::PoolAdded(pool) => self.add_pool(pool, &mut errors),
                Change::PoolChanged { pool, servers } => {
                    self.change_pool(&pool, &servers, &mut errors);
                }
                Change::ListenerAdded(listener) => {
                    let name = listener.name.clone();
                    let Some(place) = prepared.places.remove(&name) else { continue };
                    let old = self.add_listener(listener, place, &mut errors);
                    replaced.extend(old.map(|old| (name, old)));
                }
                Change::ListenerChanged(listener) => {
                    self.change_listener(listener, &prepared.to_guard, &mut errors);
                }
                Change::ListenerRemoved(listener) => {
                    let old = replaced.remove(&listener.name);
                    self.remove_listener(&listener, old);
                }
                Change::PoolRemoved(pool) => self.remove_pool(&pool),
                Change::NeedsRestart(setting) => self.warn_of_restart(&setting),
            }
        }
        errors
    }

    fn warn_of_restart(&self, setting: &AtStart) {
        match setting {
            AtStart::Workers(configured) => tracing::warn!(
                running = self.model.runtime.workers,
                configured,
                "`workers` of [runtime] changed: it waits for a restart"
            ),
            AtStart::Kernel(configured) => tracing::warn!(
                running = ?self.model.kernel,
                ?configured,
                "[kernel] changed: it waits for a restart"
            ),
            AtStart::Log(configured) => tracing::warn!(
                running = ?self.model.log,
                ?configured,
                "[log] changed: it waits for a restart"
            ),
        }
    }

    fn set_runtime(&mut self, runtime: &model::Runtime, errors: &mut Vec<NotTaken>) {
        self.drain_timeout = runtime.drain_timeout;
        let seed = Seed::from_text(&runtime.hash_seed);
        if seed == self.seed {
            return;
        }
        self.seed = seed;
        let models: Vec<_> = self.pools.values().map(|pool| Arc::clone(&pool.model)).collect();
        for model in models {
            self.publish(&model, errors);
        }
    }

    fn add_pool(&mut self, model: Arc<model::Pool>, errors: &mut Vec<NotTaken>) {
        for server in &model.servers {
            self.put_server(&model, server, errors);
        }
        let view = self.view(&model);
        let live = Arc::new(live::Pool::new(model.name.clone(), view));
        let name = model.name.clone();
        self.pools.insert(name, Pool { model, live, audience: Audience::Userspace });
    }

    fn change_pool(
        &mut self,
        model: &Arc<model::Pool>,
        servers: &[ServerChange],
        errors: &mut Vec<NotTaken>,
    ) {
        let Some(pool) = self.pools.get_mut(&model.name) else { return };
        let former = std::mem::replace(&mut pool.model, Arc::clone(model));
        if former.on_down != model.on_down {
            // Servers carry it, since their connections ask for it.
            model.servers.iter().for_each(|server| self.put_server(model, server, errors));
        }
        let mut removed = Vec::new();
        for change in servers {
            match change {
                ServerChange::Added(server) | ServerChange::Changed(server) => {
                    self.put_server(model, server, errors);
                }
                ServerChange::Removed(server) => {
                    removed.extend(self.servers.remove(&key(model, server)).map(|k| k.live.id()));
                }
            }
        }
        if model.health == Health::Off {
            // Nobody would bring a server back.
            for server in &model.servers {
                if let Some(known) = self.servers.configured(&key(model, server)) {
                    known.set_condition(Condition::Up);
                }
                self.tell_server(model, server, errors);
            }
        }
        self.publish(model, errors);
        self.drain(&model.name, removed);
    }

    fn remove_pool(&mut self, model: &model::Pool) {
        let Some(pool) = self.pools.remove(&model.name) else { return };
        let mut removed = Vec::new();
        for server in &model.servers {
            removed.extend(self.servers.remove(&key(model, server)).map(|known| known.live.id()));
        }
        match pool.audience {
            Audience::Userspace => {}
            Audience::Everywhere => {
                self.kernel.forget_pool(&model.name);
                removed.into_iter().for_each(|id| self.kernel.drain_server(id, self.drain_timeout));
            }
        }
    }

    /// Servers that a table may name, in file order: those that are able, backups only if no other
    /// is.
    pub(super) fn eligible<'a>(
        &'a self,
        pool: &'a model::Pool,
    ) -> impl Iterator<Item = (&'a Arc<live::Server>, &'a model::Server)> {
        let backups = self.needs_backups(pool);
        self.able(pool).filter(move |(_, server)| server.backup == backups)
    }

    /// Whether the table of a pool names its backups, and nobody else.
    fn needs_backups(&self, pool: &model::Pool) -> bool {
        self.able(pool).all(|(_, server)| server.backup)
    }

    /// Servers that can take connections: configured, up and not draining, in file order.
    pub(super) fn able<'a>(
        &'a self,
        pool: &'a model::Pool,
    ) -> impl Iterator<Item = (&'a Arc<live::Server>, &'a model::Server)> {
        pool.servers.iter().filter_map(|server| {
            let known = self.servers.get(&key(pool, server))?;
            known.is_eligible().then_some((&known.live, server))
        })
    }

    fn view(&self, pool: &model::Pool) -> View {
        let members = self.eligible(pool).map(|(live, server)| (live.id(), server));
        let table = match tables::build(pool.algorithm, members, self.seed) {
            Ok(table) => table,
            Err(error) => {
                // Validation refuses such pools, and fewer servers make shorter tables.
                tracing::error!(pool = pool.name, ?error, "the table cannot be built");
                Box::new(Table::EMPTY)
            }
        };
        let mut servers: Vec<_> = self.eligible(pool).map(|(live, _)| Arc::clone(live)).collect();
        servers.sort_by_key(|server| server.id());
        View {
            table,
            servers,
            timeouts: pool.timeouts,
            sticky: pool.sticky,
            treatment: pool.treatment,
            hash_key: pool.hash_key.clone(),
            load: load(pool.algorithm),
            cookie: pool.cookie.clone().map(|cookie| (cookie, self.seed)),
        }
    }

    /// Replaces a pool's table everywhere.
    pub(super) fn publish(&mut self, model: &model::Pool, errors: &mut Vec<NotTaken>) {
        for server in model.servers.iter().filter(|server| server.backup) {
            // Whether it takes new flows depends on the others.
            self.tell_server(model, server, errors);
        }
        let view = self.view(model);
        let Some(pool) = self.pools.get(&model.name) else { return };
        if pool.audience == Audience::Everywhere {
            errors.extend(self.kernel.put_table(model, &view.table).err());
        }
        pool.live.publish(view);
    }

    fn put_server(
        &mut self,
        pool: &model::Pool,
        server: &model::Server,
        errors: &mut Vec<NotTaken>,
    ) {
        let key = key(pool, server);
        let asks = self.servers.former().next().is_some();
        let had = asks.then(|| self.kernel.remembered(&key.pool, key.address)).flatten();
        match self.servers.put(key, server, pool.on_down, had) {
            Ok(_) => self.tell_server(pool, server, errors),
            // Counted before anything was changed.
            Err(error) => tracing::error!(pool = pool.name, server = server.name, %error),
        }
    }

    /// Tells the kernel of a server, if it knows the pool.
    pub(super) fn tell_server(
        &mut self,
        pool: &model::Pool,
        server: &model::Server,
        errors: &mut Vec<NotTaken>,
    ) {
        let audience = self.pools.get(&pool.name).map(|pool| pool.audience);
        if audience != Some(Audience::Everywhere) {
            return;
        }
        if let Some(known) = self.servers.get(&key(pool, server)) {
            let id = known.live.id();
            // No table names a backup that is not needed, but what is remembered of clients may.
            let spare = server.backup && known.is_eligible() && !self.needs_backups(pool);
            let state = if spare { ServerState::Draining } else { known.state() };
            errors.extend(self.kernel.put_server(pool, id, server, state).err());
            if known.is_leaving() {
                self.kernel.drain_server(id, self.drain_timeout);
            }
        }
    }

    /// Tells the kernel of a listener, and before it of its pool.
    pub(super) fn tell_listener(&mut self, listener: &model::Listener, errors: &mut Vec<NotTaken>) {
        let Some(pool) = self.pools.get_mut(&listener.pool) else { return };
        if pool.audience == Audience::Userspace {
            pool.audience = Audience::Everywhere;
            let model = Arc::clone(&pool.model);
            for server in &model.servers {
                self.tell_server(&model, server, errors);
            }
            self.publish(&model, errors);
        }
        errors.extend(self.kernel.put_listener(listener).err());
    }

    fn drain(&mut self, pool: &str, servers: Vec<ServerId>) {
        let audience = self.pools.get(pool).map(|pool| pool.audience);
        if audience == Some(Audience::Everywhere) {
            for id in servers {
                self.kernel.drain_server(id, self.drain_timeout);
            }
        }
    }
}

fn load(algorithm: Algorithm) -> Load {
    if algorithm == Algorithm::PeakEwma { Load::Latency } else { Load::Connections }
}
