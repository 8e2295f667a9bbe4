//! Ejecting servers whose connections fail, and bringing them back.

use std::sync::Arc;

use deston_common::server::ServerState;
use tokio::time::Instant;

use super::{Reconciler, key};
use crate::control::kernel::KernelDatapath;
use crate::control::outliers;
use crate::control::userspace::UserspaceDatapath;
use crate::model;

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    /// Looks at what connections have met since the last look: servers that fail are ejected, those
    /// whose time is over come back.
    pub fn judge(&mut self, now: Instant) {
        let pools: Vec<_> = self.pools.values().map(|pool| Arc::clone(&pool.model)).collect();
        let mut errors = Vec::new();
        for pool in pools {
            let changed = self.judge_pool(&pool, now);
            if changed.is_empty() {
                continue;
            }
            for server in changed {
                self.tell_server(&pool, server, &mut errors);
            }
            self.publish(&pool, &mut errors);
        }
        for error in errors {
            tracing::error!(%error, "the kernel datapath did not take a change");
        }
    }

    /// The servers of a pool that were ejected or came back.
    fn judge_pool<'p>(&mut self, pool: &'p model::Pool, now: Instant) -> Vec<&'p model::Server> {
        let most = outliers::most(&pool.outlier, pool.servers.len());
        let mut changed = Vec::new();
        let mut ejected = 0;
        for server in &pool.servers {
            let Some(known) = self.servers.configured(&key(pool, server)) else { continue };
            if known.ejection.end(now) {
                tracing::info!(pool = pool.name, server = server.name, "an ejected server is back");
                changed.push(server);
            }
            ejected += usize::from(known.ejection.is_on());
        }
        for server in &pool.servers {
            let Some(known) = self.servers.configured(&key(pool, server)) else { continue };
            let failures = known.live.streaks().longest();
            if failures < pool.outlier.failures {
                continue;
            }
            known.live.streaks().forget();
            match known.state() {
                ServerState::Active if ejected < most => {}
                ServerState::Active | ServerState::Draining | ServerState::Down => continue,
            }
            let length = known.ejection.begin(now, &pool.outlier);
            ejected += 1;
            changed.push(server);
            tracing::warn!(
                pool = pool.name,
                server = server.name,
                failures,
                ?length,
                "a server is ejected: its connections fail"
            );
        }
        changed
    }
}
