//! Which number a pool or a server has, by name: a process that adopts the maps of another gives
//! each the number that flows and tables know it by.
//!
//! The programs do not read this map, and it is no part of their object.

use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use deston_common::hash::{Seed, siphash13};
use deston_common::limits::{MAX_POOLS, MAX_SERVERS};

use super::error::map;
use super::{Kernel, KernelError};

/// The map's name among the pinned ones.
const NAMES: &str = "NAMES";

const BPF_F_NO_PREALLOC: u32 = 1;

/// The map itself.
pub(super) type Names = HashMap<MapData, u64, u32>;

/// A map with room for every pool and server.
pub(super) fn create() -> Result<Names, KernelError> {
    Names::create(MAX_POOLS + MAX_SERVERS, BPF_F_NO_PREALLOC).map_err(map(NAMES))
}

/// The map of the process before, which is pinned among its maps, or a new one.
pub(super) fn pinned(directory: &Path) -> Result<Names, KernelError> {
    let path = directory.join(NAMES);
    if !path.exists() {
        let failed = |error| MapError::PinError { name: Some(NAMES.to_owned()), error };
        create()?.pin(&path).map_err(failed).map_err(map(NAMES))?;
    }
    let pinned = MapData::from_pin(&path).and_then(Map::from_map_data).map_err(map(NAMES))?;
    pinned.try_into().map_err(map(NAMES))
}

impl Kernel {
    /// The number that a name was given, by this process or by the one before it.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.names.get(&key(name), 0).ok()
    }

    /// Gives a name a number.
    pub fn put_number(&mut self, name: &str, number: u32) -> Result<(), KernelError> {
        self.names.insert(key(name), number, 0).map_err(map(NAMES))
    }

    /// Forgets a name.
    pub fn remove_number(&mut self, name: &str) -> Result<(), KernelError> {
        self.names.remove(&key(name)).map_err(map(NAMES))
    }
}

/// The hash of a name: 8 bytes, of which 5,000 names share one once in 10^12 times.
fn key(name: &str) -> u64 {
    siphash13(Seed::from_text(name), 0, 0)
}
