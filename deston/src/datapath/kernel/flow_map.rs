//! A map of flows: one entry at a time, or all of them in few system calls.

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError, MapIter};
use nix::libc;

use super::sys::{self, Batch, BatchMap, Place};

/// Entries read by one system call: 720 KiB at most.
const ENTRIES: usize = 4_096;

/// A hash map whose entries hold their own key.
pub(super) struct FlowMap<K, V> {
    pub(super) map: HashMap<MapData, K, V>,
    batches: BatchMap,
}

impl<K: Pod, V: Pod> TryFrom<Map> for FlowMap<K, V> {
    type Error = MapError;

    fn try_from(map: Map) -> Result<Self, MapError> {
        let batches = if let Map::HashMap(data) | Map::LruHashMap(data) = &map {
            BatchMap::of(data)
        } else {
            Err(MapError::ElementNotFound)
        };
        // A map of another kind is no HashMap either, and that error says more.
        Ok(Self { map: map.try_into()?, batches: batches? })
    }
}

impl<K: Pod, V: Pod> FlowMap<K, V> {
    /// All entries, as they stand while they are read. None is told twice. After an error there may
    /// be more that are not told.
    pub(super) fn entries(&self) -> Entries<'_, K, V> {
        Entries {
            of: self,
            source: Source::Batches { place: None, is_last: false },
            keys: Vec::new(),
            values: Vec::new(),
            next: 0,
            count: 0,
            room: ENTRIES,
        }
    }
}

/// An iterator over the entries of a map.
pub(super) struct Entries<'a, K: Pod, V: Pod> {
    of: &'a FlowMap<K, V>,
    source: Source<'a, K, V>,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// The first entry of the batch that was not told yet.
    next: usize,
    /// Entries of the batch.
    count: usize,
    /// Entries that a batch may have.
    room: usize,
}

enum Source<'a, K: Pod, V: Pod> {
    /// `place` is where the next batch begins.
    Batches { place: Option<Place>, is_last: bool },
    /// One by one, where the kernel does not read in batches. Entries that move meanwhile may be
    /// told twice.
    Single(MapIter<'a, K, V, HashMap<MapData, K, V>>),
}

impl<K: Pod, V: Pod> Iterator for Entries<'_, K, V> {
    type Item = Result<V, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next < self.count {
                let value = self.values.get(self.next * size_of::<V>()..).and_then(sys::read);
                self.next += 1;
                return value.map(Ok);
            }
            match &mut self.source {
                Source::Single(entries) => {
                    return entries.next().map(|entry| entry.map(|(_, value)| value));
                }
                Source::Batches { is_last: true, .. } => return None,
                Source::Batches { .. } => {
                    if let Err(error) = self.read() {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

impl<K: Pod, V: Pod> Entries<'_, K, V> {
    /// Reads the next batch.
    fn read(&mut self) -> Result<(), MapError> {
        let Source::Batches { place, is_last } = &mut self.source else { return Ok(()) };
        let batches = &self.of.batches;
        match batches.read(*place, &mut self.keys, &mut self.values, self.room) {
            Ok(Batch { count, next }) => {
                self.next = 0;
                self.count = count;
                *is_last = next.is_none();
                *place = next;
            }
            // A bucket of the map has more entries than there is room.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => self.room *= 2,
            // Half of a map read one way and half the other would tell entries twice.
            Err(error) if place.is_none() => {
                tracing::debug!(%error, "the kernel does not read a map in batches");
                self.source = Source::Single(self.of.map.iter());
            }
            Err(error) => {
                *is_last = true;
                return Err(error.into());
            }
        }
        Ok(())
    }
}
