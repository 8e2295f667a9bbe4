//! Everything about a new model that can fail, before anything is changed: identifiers, datapaths,
//! addresses. What is taken here is given back when it is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Failure, Reconciler, Refused, key};
use crate::control::carrier::{self, Carrier, Guarded, NoCarrier};
use crate::control::hold::Beside;
use crate::control::kernel::KernelDatapath;
use crate::control::servers::ServerKey;
use crate::control::userspace::UserspaceDatapath;
use crate::model::{self, Change, Model};
use crate::proxy::BindError;

/// What was found and taken.
pub(super) struct Prepared<D: UserspaceDatapath> {
    /// For listeners that are added, by name.
    pub(super) places: BTreeMap<String, Place<D>>,
    /// Names of running listeners of userspace whose guard the kernel can take.
    pub(super) to_guard: Vec<String>,
}

/// An address that was taken for a listener, on the datapath that will carry it.
pub(super) enum Place<D: UserspaceDatapath> {
    Userspace(D::Bound, Guarded),
    Kernel(Carrier, Beneath<D>),
}

/// What was taken in userspace for a listener in the kernel.
pub(super) enum Beneath<D: UserspaceDatapath> {
    Bound(D::Bound),
    Held(D::Held),
    Nothing,
}

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    pub(super) fn prepare(
        &mut self,
        changes: &[Change],
        new: &Model,
    ) -> Result<Prepared<D>, Refused> {
        let mut failures = Vec::new();
        let servers: Vec<ServerKey> = new
            .pools
            .iter()
            .flat_map(|pool| pool.servers.iter().map(|server| key(pool, server)))
            .collect();
        failures.extend(self.servers.check_room(servers.iter()).err().map(Failure::from));

        let mut prepared = Prepared { places: BTreeMap::new(), to_guard: Vec::new() };
        let to_bind: Vec<_> = in_binding_order(changes, &self.model).cloned().collect();
        for listener in &to_bind {
            let Some(pool) = new.pool(&listener.pool) else { continue };
            match self.prepare_listener(listener, pool, new) {
                Ok(place) => drop(prepared.places.insert(listener.name.clone(), place)),
                Err(failure) => failures.push(failure),
            }
        }
        for listener in &new.listeners {
            match self.prepare_running(listener, new) {
                Ok(Guarded::InKernel) => prepared.to_guard.push(listener.name.clone()),
                Ok(Guarded::InUserspace) => {}
                Err(failure) => failures.push(failure.into()),
            }
        }
        if failures.is_empty() { Ok(prepared) } else { Err(Refused { failures }) }
    }

    /// Makes the kernel ready for servers that are new to a listener that it carries already, or
    /// for the guard of one that had none. What it carries is not planned again: whatever befell it
    /// since, this reload is not the cause.
    fn prepare_running(
        &mut self,
        listener: &model::Listener,
        new: &Model,
    ) -> Result<Guarded, NoCarrier> {
        let running = self.listeners.get(&listener.name);
        let Some(running) = running.filter(|running| model::is_same(&running.model, listener))
        else {
            return Ok(Guarded::InUserspace);
        };
        match running.carrier {
            Carrier::Userspace if running.guarded == Guarded::InUserspace => {
                carrier::guard(listener, &mut self.kernel)
            }
            Carrier::Userspace => Ok(Guarded::InUserspace),
            Carrier::Kernel(_) => {
                let had = self.model.pool(&running.model.pool);
                let has = |server: &model::Server| {
                    had.is_some_and(|pool| {
                        pool.servers.iter().any(|had| had.address == server.address)
                    })
                };
                let pool = new.pool(&listener.pool).map_or(&[][..], |pool| &pool.servers);
                carrier::stays(listener, pool)?;
                let added: Vec<_> = pool.iter().filter(|server| !has(server)).cloned().collect();
                if !added.is_empty() {
                    carrier::extend(listener, &added, &mut self.kernel)?;
                }
                Ok(Guarded::InUserspace)
            }
        }
    }

    fn prepare_listener(
        &mut self,
        listener: &model::Listener,
        pool: &model::Pool,
        new: &Model,
    ) -> Result<Place<D>, Failure> {
        let carrier = carrier::choose(listener, pool, &mut self.kernel)?;
        for running in self.listeners.values_mut() {
            if port(&running.model) == port(listener) {
                // Nobody else gets in between: while it is open, packets do not reach a socket.
                running.let_go();
            }
        }
        match carrier {
            Carrier::Userspace => {
                let guarded = carrier::guard(listener, &mut self.kernel)?;
                Ok(Place::Userspace(self.userspace.bind(listener)?, guarded))
            }
            Carrier::Kernel(_) => {
                let others = new.listeners.iter().filter(|other| other.name != listener.name);
                let ours = self.model.listeners.iter().chain(others);
                let beside = if ours.into_iter().any(|other| port(other) == port(listener)) {
                    Beside::Ourselves
                } else {
                    Beside::Nobody
                };
                Ok(Place::Kernel(carrier, self.take_beneath(listener, beside)?))
            }
        }
    }

    /// Takes the address of a listener in the kernel for userspace: to serve the host itself, where
    /// userspace can do that, else to keep others out.
    pub(super) fn take_beneath(
        &self,
        listener: &model::Listener,
        beside: Beside,
    ) -> Result<Beneath<D>, BindError> {
        if listener.ports() == model::Ports::Any {
            return Ok(Beneath::Nothing);
        }
        if listener.needs_kernel().is_some() {
            let held = self.userspace.hold(listener, beside)?;
            return Ok(held.map_or(Beneath::Nothing, Beneath::Held));
        }
        match self.userspace.bind(listener) {
            Ok(bound) => Ok(Beneath::Bound(bound)),
            // Right where packets are routed to it: then nobody else can have it either.
            Err(BindError::NotOfThisHost { .. }) => Ok(Beneath::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// What two listeners cannot both have.
fn port(listener: &model::Listener) -> (u16, model::Protocol) {
    (listener.address.port(), listener.protocol())
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
        running.listeners.iter().any(|other| port(other) == port(listener))
    };
    added.clone().filter(move |l| !ours(l)).chain(added.filter(move |l| ours(l)))
}
