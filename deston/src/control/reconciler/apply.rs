//! Applying changes: live state, workers and kernel, in the order that `diff` gives.
//!
//! Nothing here refuses: what can fail was tried before. What the kernel does not take is collected
//! and reported, and the rest goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use deston_common::hash::Seed;
use deston_common::server::ServerId;
use deston_common::table::Table;

use super::{Audience, Listener, Place, Pool, Prepared, Reconciler, key};
use crate::control::carrier::Carrier;
use crate::control::kernel::{KernelDatapath, NotTaken};
use crate::control::servers::Condition;
use crate::control::tables;
use crate::control::userspace::UserspaceDatapath;
use crate::live::{self, Serving, View};
use crate::model::{self, AtStart, Change, Health, ServerChange};

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
                    let Some(place) = prepared.remove(&name) else { continue };
                    let old = self.add_listener(listener, place, &mut errors);
                    replaced.extend(old.map(|old| (name, old)));
                }
                Change::ListenerChanged(listener) => self.change_listener(listener, &mut errors),
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
        }
    }

    fn set_runtime(&mut self, runtime: &model::Runtime, errors: &mut Vec<NotTaken>) {
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
                removed.into_iter().for_each(|id| self.kernel.drain_server(id));
            }
        }
    }

    fn add_listener(
        &mut self,
        model: Arc<model::Listener>,
        place: Place<D>,
        errors: &mut Vec<NotTaken>,
    ) -> Option<Listener<D::Held>> {
        let pool = Arc::clone(&self.pools.get(&model.pool)?.live);
        let live = Arc::new(live::Listener::new(Serving { listener: Arc::clone(&model), pool }));
        let carrier = place.carrier();
        let (address, held) = match place {
            Place::Userspace(bound) => {
                let address = D::address(&bound);
                self.userspace.open(bound, Arc::clone(&live));
                (address, None)
            }
            Place::Kernel(held) => {
                self.tell_listener(&model, errors);
                (model.address, held)
            }
        };
        tracing::info!(
            listener = model.name,
            %address,
            protocol = %model.protocol(),
            layer = model.layer.name(),
            datapath = carrier.name(),
            pool = model.pool,
            "listening"
        );
        let name = model.name.clone();
        self.listeners.insert(name, Listener { model, live, carrier, held })
    }

    fn change_listener(&mut self, model: Arc<model::Listener>, errors: &mut Vec<NotTaken>) {
        let Some(pool) = self.pools.get(&model.pool) else { return };
        let serving = Serving { listener: Arc::clone(&model), pool: Arc::clone(&pool.live) };
        let Some(listener) = self.listeners.get_mut(&model.name) else { return };
        listener.live.publish(serving);
        listener.model = Arc::clone(&model);
        match listener.carrier {
            Carrier::Userspace => {}
            Carrier::Kernel => self.tell_listener(&model, errors),
        }
    }

    /// Closes a listener. `replaced` is its old state when another one took its name meanwhile.
    fn remove_listener(&mut self, model: &model::Listener, replaced: Option<Listener<D::Held>>) {
        let inherited = replaced.is_some();
        let Some(old) = replaced.or_else(|| self.listeners.remove(&model.name)) else { return };
        let mut others = self.listeners.values();
        match old.carrier {
            // A worker closes the old listener of a name by itself when the new one accepts.
            Carrier::Userspace => {
                let heir = |other: &Listener<D::Held>| {
                    other.model.name == model.name && other.carrier == Carrier::Userspace
                };
                if !(inherited && others.any(heir)) {
                    self.userspace.close(&model.name);
                }
            }
            // The kernel knows listeners by address: the entry may be another one's by now.
            Carrier::Kernel => {
                let place = |model: &model::Listener| (model.address, model.protocol());
                let heir = |other: &Listener<D::Held>| {
                    other.carrier == Carrier::Kernel && place(&other.model) == place(model)
                };
                if !others.any(heir) {
                    self.kernel.close_listener(model);
                }
            }
        }
        tracing::info!(listener = model.name, address = %model.address, "no longer listening");
    }

    /// Servers that a table may name: configured, up and not draining, in file order.
    pub(super) fn eligible<'a>(
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
        View { table, servers, timeouts: pool.timeouts, sticky: pool.sticky }
    }

    /// Replaces a pool's table everywhere.
    pub(super) fn publish(&mut self, model: &model::Pool, errors: &mut Vec<NotTaken>) {
        let view = self.view(model);
        let Some(pool) = self.pools.get(&model.name) else { return };
        if pool.audience == Audience::Everywhere {
            errors.extend(self.kernel.put_table(&model.name, &view.table).err());
        }
        pool.live.publish(view);
    }

    fn put_server(
        &mut self,
        pool: &model::Pool,
        server: &model::Server,
        errors: &mut Vec<NotTaken>,
    ) {
        match self.servers.put(key(pool, server), server, pool.on_down) {
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
            let told = self.kernel.put_server(known.live.id(), server, known.state());
            errors.extend(told.err());
        }
    }

    /// Tells the kernel of a listener, and before it of its pool.
    fn tell_listener(&mut self, listener: &model::Listener, errors: &mut Vec<NotTaken>) {
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
                self.kernel.drain_server(id);
            }
        }
    }
}
