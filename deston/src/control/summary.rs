//! How much a reload changed, for the log.

use crate::model::{Change, ServerChange};

/// Counts of what a reload added, changed and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Listeners.
    pub listeners: Counts,
    /// Pools.
    pub pools: Counts,
    /// Servers.
    pub servers: Counts,
    /// Changes that wait for a restart.
    pub need_restart: usize,
}

/// Of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// New.
    pub added: usize,
    /// With other settings.
    pub changed: usize,
    /// Gone.
    pub removed: usize,
}

impl Summary {
    /// Counts changes.
    pub(super) fn of(changes: &[Change]) -> Self {
        let mut summary = Self::default();
        for change in changes {
            match change {
                Change::Runtime(_) => {}
                Change::PoolAdded(pool) => {
                    summary.pools.added += 1;
                    summary.servers.added += pool.servers.len();
                }
                Change::PoolChanged { servers, .. } => {
                    summary.pools.changed += 1;
                    for change in servers {
                        match change {
                            ServerChange::Added(_) => summary.servers.added += 1,
                            ServerChange::Changed(_) => summary.servers.changed += 1,
                            ServerChange::Removed(_) => summary.servers.removed += 1,
                        }
                    }
                }
                Change::ListenerAdded(_) => summary.listeners.added += 1,
                Change::ListenerChanged(_) => summary.listeners.changed += 1,
                Change::ListenerRemoved(_) => summary.listeners.removed += 1,
                Change::PoolRemoved(pool) => {
                    summary.pools.removed += 1;
                    summary.servers.removed += pool.servers.len();
                }
                Change::NeedsRestart(_) => summary.need_restart += 1,
            }
        }
        summary
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "+{} ~{} -{}", self.added, self.changed, self.removed)
    }
}
