//! What the kernel programs cannot do themselves: next hops that move, flows that fall silent,
//! listeners that have finished.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use deston_common::listener::ListenerKey;
use deston_common::listener::flags::OPEN;
use deston_common::net::{Address as _, Ipv4Be};
use deston_common::server::ServerEntry;
use nix::time::{ClockId, clock_gettime};

use super::balancer::{Balancer, DatapathError, Known, Open};
use super::host::{Path, Route};

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Next hops may have moved.
    Paths,
    /// Time has passed too, and flows with it.
    Everything,
}

impl Balancer {
    /// Waits until there is upkeep to do. Cancel safe.
    pub(super) async fn due(&mut self) -> Upkeep {
        tokio::select! {
            _ = self.tick.tick() => Upkeep::Everything,
            () = self.host.changed() => Upkeep::Paths,
        }
    }

    /// Looks at every next hop again; ends idle flows, and forgets listeners that have none left.
    pub(super) async fn upkeep(&mut self, due: Upkeep) -> Result<(), DatapathError> {
        self.refresh_paths().await?;
        match due {
            Upkeep::Everything if !self.listeners.is_empty() => {
                self.expire()?;
                self.tell_refusals()
            }
            Upkeep::Everything | Upkeep::Paths => Ok(()),
        }
    }

    fn tell_refusals(&mut self) -> Result<(), DatapathError> {
        let counts = self.kernel()?.outcomes()?;
        if let Some(news) = self.refusals.news(counts) {
            tracing::warn!("the kernel dropped packets that open flows: {news}");
        }
        Ok(())
    }

    /// Follows routes, neighbours and interfaces.
    async fn refresh_paths(&mut self) -> Result<(), DatapathError> {
        let mut paths = BTreeMap::new();
        for (id, known) in &self.servers {
            paths.insert(*id, self.path_to(known).await?);
        }
        self.follow_interfaces(paths.values().flatten().map(|path| &path.link)).await?;
        let mut changed = Vec::new();
        for (id, path) in &paths {
            let Some(known) = self.servers.get(id) else { continue };
            let entry = self.entry_by(known, path.as_ref()).await?;
            if entry != known.entry {
                changed.push((*id, entry));
            }
        }
        for (id, entry) in changed {
            self.kernel()?.put_server(id, &entry)?;
            if let Some(known) = self.servers.get_mut(&id) {
                if known.entry.reachable != entry.reachable {
                    let server = &known.name;
                    if entry.reachable == 1 {
                        tracing::info!(server, "the next hop is known: it gets new flows");
                    } else {
                        tracing::warn!(server, "the next hop is not known: it gets no new flow");
                    }
                }
                known.interfaces.insert(entry.hop.ifindex);
                known.entry = entry;
            }
        }
        Ok(())
    }

    /// The way to a server at the moment, if it leads out of the host.
    pub(super) async fn path_to(&self, known: &Known) -> Result<Option<Path>, DatapathError> {
        let IpAddr::V4(address) = known.address.ip() else { return Ok(None) };
        match self.host.route(address).await? {
            Route::Out(path) => Ok(Some(path)),
            Route::Local | Route::Unreachable => Ok(None),
        }
    }

    /// The entry of a server that is reached by `path`. What is not known any more stays as it was,
    /// so that flows go on; new flows wait until it is known again. By an interface without our
    /// program no reply would be translated, so it is no way for new flows.
    pub(super) async fn entry_by(
        &self,
        known: &Known,
        path: Option<&Path>,
    ) -> Result<ServerEntry, DatapathError> {
        let mut entry = known.entry;
        entry.reachable = 0;
        let Some(path) = path else { return Ok(entry) };
        entry.hop.ifindex = path.link.index;
        entry.hop.source_mac = path.link.mac;
        entry.snat_address = IpAddr::V4(path.source).into();
        match path.next_hop_mac {
            Some(mac) => {
                entry.hop.next_hop_mac = mac;
                entry.reachable = u8::from(self.is_attached(entry.hop.ifindex));
            }
            None => self.host.keep_resolved(path).await?,
        }
        Ok(entry)
    }

    fn expire(&mut self) -> Result<(), DatapathError> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let listeners = self.listeners.clone();
        let known: HashSet<ListenerKey> = listeners.iter().map(|open| open.key).collect();
        // One that the sweep ends counts once more, and its listener goes with the next sweep.
        let mut busy = HashSet::new();
        let swept = self.kernel()?.expire(now, |flow| {
            let key = &flow.key;
            let address = Ipv4Be::narrowed(key.destination);
            let key = ListenerKey::new(address, key.destination_port, key.protocol);
            busy.insert(key);
            !known.contains(&key)
        })?;
        tracing::debug!(flows = swept.seen, idle = swept.idle, "swept");

        let is_over = |open: &&Open| open.entry.flags & OPEN == 0 && !busy.contains(&open.key);
        for over in listeners.iter().filter(is_over) {
            let ListenerKey { address, port, protocol, .. } = over.key;
            let address = Ipv4Addr::from(address).into();
            self.kernel()?.remove_listener(address, port.to_host(), protocol)?;
        }
        self.listeners.retain(|open| !is_over(&open));
        self.detach_unneeded()
    }
}
