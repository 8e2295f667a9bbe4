//! What the kernel programs cannot do themselves: following next hops, addresses and interfaces, and
//! everything that takes its time ([`sweep`](super::sweep)).

use std::collections::BTreeMap;
use std::time::Duration;

use deston_common::server::ServerId;
use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, timeout};

use super::balancer::{Balancer, DatapathError};
use super::host::Path;
use super::kernel::Kernel;

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Next hops may have moved.
    Paths,
    /// A second has passed.
    Second,
    /// Some seconds have passed, and flows with them.
    Everything,
}

impl Balancer {
    /// Waits until there is upkeep to do. Cancel safe.
    pub(super) async fn due(&mut self) -> Upkeep {
        tokio::select! {
            _ = self.sweep.tick() => Upkeep::Everything,
            _ = self.second.tick() => Upkeep::Second,
            () = self.host.changed() => Upkeep::Paths,
        }
    }

    /// Looks at every next hop again; ends idle flows, and forgets listeners that have none left.
    pub(super) async fn upkeep(&mut self, due: Upkeep) -> Result<(), DatapathError> {
        if self.loaded().is_none() || self.has_been_taken_away() {
            return Ok(());
        }
        match due {
            Upkeep::Paths => self.refresh_paths().await,
            Upkeep::Second => {
                self.end_overdue()?;
                self.end_denied()?;
                self.watch(now())
            }
            Upkeep::Everything => {
                self.refresh_paths().await?;
                if self.listeners.is_empty() {
                    return Ok(());
                }
                self.expire()?;
                self.kernel()?.end_left_trace()?;
                self.tell_refusals()
            }
        }
    }

    /// Waits a moment for the next hops of a pool's servers, so that the first clients of a listener
    /// are not all given to those that happen to be known.
    pub(super) async fn await_next_hops(&mut self, pool: &str) -> Result<(), DatapathError> {
        while self.servers.values().any(|known| known.pool == pool && known.is_cold()) {
            let begun = Instant::now();
            let changed = timeout(self.patience, self.host.changed()).await;
            self.patience = self.patience.saturating_sub(begun.elapsed());
            self.refresh_paths().await?;
            if changed.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Whether `deston detach --force` took everything away; told of once. It is not attached again:
    /// whoever forces it out wants it out.
    fn has_been_taken_away(&mut self) -> bool {
        if !self.is_taken_away && self.loaded().is_some_and(Kernel::is_taken_away) {
            self.is_taken_away = true;
            tracing::warn!(
                instance = self.settings.instance,
                "this instance was taken out of the kernel (`deston detach --force`), and its \
                 connections are cut: listeners of datapath `auto` go on in userspace, those of the \
                 kernel alone are not served; start deston again to have it back"
            );
        }
        self.is_taken_away
    }

    fn tell_refusals(&mut self) -> Result<(), DatapathError> {
        let counts = self.kernel()?.outcomes()?;
        if let Some(news) = self.refusals.news(counts) {
            tracing::warn!("the kernel dropped packets: {news}");
        }
        Ok(())
    }

    /// Follows addresses, routes, neighbours and interfaces.
    async fn refresh_paths(&mut self) -> Result<(), DatapathError> {
        self.network = self.host.look().await?;
        let mut paths: BTreeMap<ServerId, (Option<Path>, String)> = BTreeMap::new();
        for (id, known) in &self.servers {
            paths.insert(*id, (self.path_to(known).await?, known.pool.clone()));
        }
        let ways = paths
            .values()
            .filter_map(|(path, pool)| path.as_ref().map(|path| (&path.link, pool.as_str())));
        self.follow_interfaces(ways);
        let mut changed = Vec::new();
        for (id, (path, _)) in &paths {
            let Some(known) = self.servers.get(id) else { continue };
            let entry = self.entry_by(known, path.as_ref()).await?;
            if entry != known.entry {
                changed.push((*id, entry));
            }
        }
        let mut news = Vec::new();
        for (id, entry) in &changed {
            let Some(known) = self.servers.get_mut(id) else { continue };
            if known.entry.reachable != entry.reachable {
                news.push((known.name.clone(), entry.reachable == 1));
            }
            known.entry = *entry;
            known.note_way();
        }
        // A new source address must be known before a packet has it.
        self.follow_addresses()?;
        for (id, entry) in changed {
            self.kernel()?.put_server(id, &entry)?;
        }
        // Told when it is so.
        for (server, is_reachable) in news {
            if is_reachable {
                tracing::info!(server, "the next hop is known: it gets new flows");
            } else {
                tracing::warn!(server, "the next hop is not known: it gets no new flow");
            }
        }
        Ok(())
    }
}

/// CLOCK_MONOTONIC, as flows tell the time.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
