//! Listeners come, change and go.

use std::sync::Arc;

use super::prepare::{Beneath, Place};
use super::{Companion, Listener, Reconciler};
use crate::control::carrier::{self, Carrier, Guarded};
use crate::control::hold::Beside;
use crate::control::kernel::{KernelDatapath, NotTaken};
use crate::control::userspace::UserspaceDatapath;
use crate::live::{self, Serving};
use crate::model;

impl<D: UserspaceDatapath> Listener<D> {
    /// Whether the workers accept for it.
    fn is_served(&self) -> bool {
        match (self.carrier, &self.companion) {
            (Carrier::Userspace, _) | (Carrier::Kernel(_), Companion::Serving) => true,
            (Carrier::Kernel(_), Companion::Holding(_) | Companion::Nothing) => false,
        }
    }

    /// Whether the kernel has an entry of it.
    fn is_in_kernel(&self) -> bool {
        match (self.carrier, self.guarded) {
            (Carrier::Kernel(_), _) | (Carrier::Userspace, Guarded::InKernel) => true,
            (Carrier::Userspace, Guarded::InUserspace) => false,
        }
    }

    /// Gives up a socket that only keeps the address.
    pub(super) fn let_go(&mut self) {
        match self.companion {
            Companion::Serving | Companion::Nothing => {}
            Companion::Holding(_) => self.companion = Companion::Nothing,
        }
    }
}

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    /// Adds a listener; gives the one that had its name.
    pub(super) fn add_listener(
        &mut self,
        model: Arc<model::Listener>,
        place: Place<D>,
        errors: &mut Vec<NotTaken>,
    ) -> Option<Listener<D>> {
        let live = Arc::new(live::Listener::new(self.serving(&model)?));
        let mut address = model.address;
        let (carrier, guarded, companion) = match place {
            Place::Userspace(bound, guarded) => {
                address = D::address(&bound);
                if guarded == Guarded::InKernel {
                    errors.extend(self.kernel.put_listener(&model).err());
                }
                self.userspace.open(bound, Arc::clone(&live));
                (Carrier::Userspace, guarded, Companion::Nothing)
            }
            Place::Kernel(carrier, beneath) => {
                self.tell_listener(&model, errors);
                (carrier, Guarded::InUserspace, self.accompany(beneath, &live))
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
        self.listeners.insert(name, Listener { model, live, carrier, guarded, companion })
    }

    /// What a listener is served by: its pool, and its routes with theirs, which live on when they
    /// are named anew.
    fn serving(&self, model: &Arc<model::Listener>) -> Option<Serving> {
        let find = |name: &str| self.pools.get(name).map(|pool| Arc::clone(&pool.live));
        Serving::with_routes(Arc::clone(model), find)
    }

    /// Puts what was taken beneath a listener in the kernel to use.
    fn accompany(&self, beneath: Beneath<D>, live: &Arc<live::Listener>) -> Companion<D> {
        match beneath {
            Beneath::Bound(bound) => {
                self.userspace.open(bound, Arc::clone(live));
                Companion::Serving
            }
            Beneath::Held(held) => Companion::Holding(held),
            Beneath::Nothing => Companion::Nothing,
        }
    }

    pub(super) fn change_listener(
        &mut self,
        model: Arc<model::Listener>,
        to_guard: &[String],
        errors: &mut Vec<NotTaken>,
    ) {
        let Some(serving) = self.serving(&model) else { return };
        let Some(listener) = self.listeners.get_mut(&model.name) else { return };
        listener.live.publish(serving);
        listener.model = Arc::clone(&model);
        match listener.carrier {
            Carrier::Userspace => {
                if to_guard.contains(&model.name) {
                    listener.guarded = Guarded::InKernel;
                }
                match (listener.guarded, carrier::is_for_kernel(&model)) {
                    (Guarded::InUserspace, _) => {}
                    (Guarded::InKernel, true) => {
                        errors.extend(self.kernel.put_listener(&model).err());
                    }
                    (Guarded::InKernel, false) => {
                        listener.guarded = Guarded::InUserspace;
                        self.kernel.close_listener(&model);
                    }
                }
            }
            Carrier::Kernel(_) => self.tell_listener(&model, errors),
        }
    }

    /// Closes a listener. `replaced` is its old state when another one took its name meanwhile.
    pub(super) fn remove_listener(
        &mut self,
        model: &model::Listener,
        replaced: Option<Listener<D>>,
    ) {
        let inherited = replaced.is_some();
        let Some(old) = replaced.or_else(|| self.listeners.remove(&model.name)) else { return };
        // A worker closes the old listener of a name by itself when the new one accepts.
        let heir = self.listeners.get(&model.name).filter(|_| inherited);
        if old.is_served() && !heir.is_some_and(Listener::is_served) {
            self.userspace.close(&model.name);
        }
        // The kernel knows listeners by address: the entry may be another one's by now.
        let place = |model: &model::Listener| (model.address, model.protocol());
        let heir =
            |other: &Listener<D>| other.is_in_kernel() && place(&other.model) == place(model);
        if old.is_in_kernel() && !self.listeners.values().any(heir) {
            self.kernel.close_listener(model);
        }
        tracing::info!(listener = model.name, address = %model.address, "no longer listening");
    }

    /// Ends the preparations of a reload, applied or refused.
    pub(super) fn settle(&mut self) {
        self.kernel.settle();
        let mut accompanied = Vec::new();
        for (name, listener) in &self.listeners {
            match (listener.carrier, &listener.companion) {
                (Carrier::Kernel(_), Companion::Nothing) => {
                    // Not had, where a listener of ours on every address had the port.
                    let beneath = self.take_beneath(&listener.model, Beside::Nobody);
                    let companion = beneath.map(|beneath| self.accompany(beneath, &listener.live));
                    accompanied.extend(companion.ok().map(|companion| (name.clone(), companion)));
                }
                (Carrier::Kernel(_), Companion::Serving | Companion::Holding(_))
                | (Carrier::Userspace, _) => {}
            }
        }
        for (name, companion) in accompanied {
            if let Some(listener) = self.listeners.get_mut(&name) {
                listener.companion = companion;
            }
        }
    }
}
