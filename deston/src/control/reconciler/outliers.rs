//! Ejecting servers whose connections fail, and bringing them back.

use std::sync::Arc;
use std::time::Duration;

use deston_common::server::ServerState;
use tokio::time::Instant;

use super::{Reconciler, key};
use crate::control::kernel::KernelDatapath;
use crate::control::outliers;
use crate::control::userspace::UserspaceDatapath;
use crate::datapath::Failing;
use crate::model;

/// What has become of a server.
struct Verdict<'p> {
    server: &'p model::Server,
    /// `None`: it is back.
    ejected: Option<Ejected>,
}

/// Why a server is ejected, and for how long.
struct Ejected {
    failures: u32,
    length: Duration,
}

impl<D: UserspaceDatapath, K: KernelDatapath> Reconciler<D, K> {
    /// Looks at what connections have met since the last look: servers that fail are ejected, those
    /// whose time is over come back.
    pub fn judge(&mut self, now: Instant) {
        let pools: Vec<_> = self.pools.values().map(|pool| Arc::clone(&pool.model)).collect();
        let mut errors = Vec::new();
        for pool in pools {
            let verdicts = self.judge_pool(&pool, now);
            if verdicts.is_empty() {
                continue;
            }
            for verdict in &verdicts {
                self.tell_server(&pool, verdict.server, &mut errors);
            }
            self.publish(&pool, &mut errors);
            verdicts.iter().for_each(|verdict| verdict.log(&pool.name));
        }
        for error in errors {
            tracing::error!(%error, "the kernel datapath did not take a change");
        }
    }

    /// Takes note of a server that fails its clients in the kernel.
    pub fn suspect(&mut self, failing: Failing) {
        let Some(key) = self.servers.key(failing.server).cloned() else { return };
        if let Some(known) = self.servers.configured(&key) {
            let failures = u32::try_from(failing.failures).unwrap_or(u32::MAX);
            known.live.streaks().failed_in_kernel(failures);
        }
    }

    /// The servers of a pool that are ejected or back.
    fn judge_pool<'p>(&mut self, pool: &'p model::Pool, now: Instant) -> Vec<Verdict<'p>> {
        let most = outliers::most(&pool.outlier, pool.servers.len());
        let mut verdicts = Vec::new();
        let (mut ejected, mut active) = (0, self.able(pool).count());
        for server in &pool.servers {
            let Some(known) = self.servers.configured(&key(pool, server)) else { continue };
            if known.ejection.end(now) {
                verdicts.push(Verdict { server, ejected: None });
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
                // The last one is better than none.
                ServerState::Active if ejected < most && active > 1 => {}
                ServerState::Active | ServerState::Draining | ServerState::Down => continue,
            }
            let length = known.ejection.begin(now, &pool.outlier);
            ejected += 1;
            active -= 1;
            verdicts.push(Verdict { server, ejected: Some(Ejected { failures, length }) });
        }
        verdicts
    }
}

impl Verdict<'_> {
    fn log(&self, pool: &str) {
        let server = &self.server.name;
        match &self.ejected {
            Some(Ejected { failures, length }) => tracing::warn!(
                pool,
                server,
                failures,
                ?length,
                "a server is ejected: its connections fail"
            ),
            None => tracing::info!(pool, server, "an ejected server is back"),
        }
    }
}
