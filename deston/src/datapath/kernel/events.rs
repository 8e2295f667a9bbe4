//! What the programs tell.

use std::io;
use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf};
use deston_common::event::{Ended, Traced, kind, lost};
use deston_common::server::{ServerEntry, ServerId};
use tokio::io::unix::AsyncFd;

use super::maps::take;
use super::{Kernel, KernelError, error, sys};

/// One event of a ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet that the filter in TRACE chose.
    Traced(Traced),
    /// A promoted flow that ended.
    Ended(Ended),
}

/// The reader of a ring buffer. What nobody reads fills the ring, and later events are lost.
pub(super) struct Events(pub(super) AsyncFd<RingBuf<MapData>>);

impl Events {
    /// Waits for the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            if let Some(item) = ready.get_inner_mut().next() {
                // The ring stays ready: there may be more.
                match Event::decode(&item) {
                    Some(event) => return Ok(event),
                    None => tracing::debug!(bytes = item.len(), "an event of an unknown kind"),
                }
                continue;
            }
            ready.clear_ready();
        }
    }
}

/// What it takes to read ended flows, before somebody does.
pub(super) struct Endings {
    ring: RingBuf<MapData>,
    servers: Array<MapData, ServerEntry>,
    lost: PerCpuArray<MapData, u64>,
}

impl Endings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            servers: again(ebpf, "SERVERS")?,
            lost: again(ebpf, "LOST")?,
            ring: take(ebpf, "EVENTS")?,
        })
    }
}

/// Another handle to a map of the object, for another thread.
fn again<T: TryFrom<Map, Error = MapError>>(
    ebpf: &Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let there = ebpf.map(name).ok_or(KernelError::Missing(name))?;
    let (Map::Array(data) | Map::PerCpuArray(data)) = there else {
        return Err(KernelError::Missing(name));
    };
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(MapError::from);
    let map = fd.and_then(MapData::from_fd).and_then(Map::from_map_data);
    map.and_then(T::try_from).map_err(error::map(name))
}

/// The reader of ended flows, on any thread.
pub struct EndedFlows {
    events: Events,
    servers: Array<MapData, ServerEntry>,
    lost: PerCpuArray<MapData, u64>,
}

impl EndedFlows {
    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Ended> {
        loop {
            match self.events.next().await? {
                Event::Ended(ended) => return Ok(ended),
                Event::Traced(traced) => tracing::debug!(?traced, "no flow"),
            }
        }
    }

    /// A server as SERVERS has it.
    pub fn server(&self, id: ServerId) -> Result<ServerEntry, KernelError> {
        self.servers.get(&u32::from(id.0), 0).map_err(error::map("SERVERS"))
    }

    /// Ended flows that found no room since the maps were made.
    pub fn lost(&self) -> Result<u64, KernelError> {
        let counts = self.lost.get(&lost::EVENTS, 0).map_err(error::map("LOST"))?;
        Ok(counts.iter().sum())
    }
}

impl Kernel {
    /// The flows that end from here on, and ended before while nobody read it. `None` if the reader
    /// was taken already. Needs a tokio runtime, which need not run yet.
    pub fn take_events(&mut self) -> io::Result<Option<EndedFlows>> {
        let Some(Endings { ring, servers, lost }) = self.endings.take() else { return Ok(None) };
        let events = Events(sys::watch(ring)?);
        Ok(Some(EndedFlows { events, servers, lost }))
    }

    /// What the programs have told since the last call by EVENTS, unless its reader was taken, and
    /// by TRACES.
    #[cfg(feature = "testing")]
    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let endings = self.endings.iter_mut().map(|endings| &mut endings.ring);
        for ring in endings.chain([&mut self.traces]) {
            while let Some(item) = ring.next() {
                events.extend(Event::decode(&item));
            }
        }
        events
    }
}

impl Event {
    /// Reads an event; `None` if it is of an unknown kind, or shorter than its kind.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match u32::from_ne_bytes(*bytes.first_chunk()?) {
            kind::TRACED => sys::read(bytes).map(Self::Traced),
            kind::ENDED => sys::read(bytes).map(Self::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_by_their_kind() {
        let mut bytes = [0; size_of::<Ended>()];
        bytes[..4].copy_from_slice(&kind::ENDED.to_ne_bytes());
        bytes[4..8].copy_from_slice(&3_u32.to_ne_bytes());
        let ended = Ended { kind: kind::ENDED, reason: 3, ..Ended::default() };
        assert_eq!(Event::decode(&bytes), Some(Event::Ended(ended)));
        bytes[0] = kind::TRACED as u8;
        assert!(matches!(Event::decode(&bytes), Some(Event::Traced(Traced { outcome: 3, .. }))));
    }

    #[test]
    fn what_is_cut_or_unknown_is_no_event() {
        assert_eq!(Event::decode(&[]), None);
        assert_eq!(Event::decode(&kind::TRACED.to_ne_bytes()), None);
        assert_eq!(Event::decode(&[9; 256]), None);
    }
}
