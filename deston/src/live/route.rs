//! A live route: a rule and the pools it sends requests to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Pool;
use crate::model;
use crate::model::route::{Action, Destination, Forward, Split};

/// A route in use, of one listener.
pub struct Route {
    /// The rule.
    pub rule: Arc<model::Route>,
    /// In the order of the rule's shares; none, if it answers by itself.
    pools: Vec<Arc<Pool>>,
    /// Requests it has split so far: shared by all workers, so that the shares hold for all.
    turn: AtomicU64,
}

impl Route {
    /// A route whose pools `find` knows by name; `None` if it does not know one of them.
    pub(super) fn new(
        rule: Arc<model::Route>,
        find: impl Fn(&str) -> Option<Arc<Pool>>,
    ) -> Option<Self> {
        let pools = rule.pools().map(find).collect::<Option<_>>()?;
        Some(Self { rule, pools, turn: AtomicU64::new(0) })
    }

    /// The pool of the next request; `None`: the rule sends requests to none.
    pub fn next_pool(&self) -> Option<&Arc<Pool>> {
        match &self.rule.action {
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
