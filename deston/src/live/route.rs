//! A live route: what the file says, and the pools it sends requests to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Pool;
use crate::model;
use crate::model::route::{Action, Destination, Forward, Split};

/// A route in use, of one listener.
pub struct Route {
    /// What the file says.
    pub model: Arc<model::Route>,
    /// In the order of the shares; none, if it answers by itself.
    pools: Vec<Arc<Pool>>,
    /// Requests it has split so far: shared by all workers, so that the shares hold for all.
    turn: AtomicU64,
}

impl Route {
    /// A route whose pools `find` knows by name; `None` if it does not know one of them.
    pub(super) fn new(
        model: Arc<model::Route>,
        find: impl Fn(&str) -> Option<Arc<Pool>>,
    ) -> Option<Self> {
        let pools = model.pools().map(find).collect::<Option<_>>()?;
        Some(Self { model, pools, turn: AtomicU64::new(0) })
    }

    /// The pool of the next request; `None`: it sends requests to none.
    pub fn next_pool(&self) -> Option<&Arc<Pool>> {
        match &self.model.action {
            Action::Forward(Forward { to: Destination::Pool(_), .. }) => self.pools.first(),
            Action::Forward(Forward { to: Destination::Split(split), .. }) => self.share(split),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }

    fn share(&self, split: &Split) -> Option<&Arc<Pool>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.pools.get(split.turn(turn)?)
    }
}
