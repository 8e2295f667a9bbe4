//! Following packets through the datapath: a filter that the programs ask, and the ring that they
//! answer by. Any process may do it while the datapath is pinned; one at a time.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use aya::maps::{MapData, RingBuf};
use deston_common::event::{BUDGET_MAX, TraceFilter, Traced, lost};
use deston_common::globals::flags;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::events::{Event, Events};
use super::maps::{Maps, Pins, take};
use super::open::{NoMaps, standing};
use super::pin::{self, PinError};
use super::{Kernel, KernelError, sys};

/// Why packets cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The datapath is out of reach.
    #[error(transparent)]
    NoMaps(#[from] NoMaps),
    /// Somebody else does it.
    #[error("another trace of instance `{0}` is under way: there is one filter, for one at a time")]
    Busy(String),
    /// The place of the lock.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A map could not be read or written.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The ring could not be watched.
    #[error("waiting for packets: {0}")]
    Ring(io::Error),
}

/// A trace under way. Dropped, it ends: the programs ask no filter any more.
pub struct Trace {
    maps: Maps,
    traces: Events,
    lost_before: u64,
    _lock: Flock<File>,
}

impl Trace {
    /// Begins to follow the packets that a filter chooses, and no more than its budget. Needs a
    /// tokio runtime.
    pub fn begin(instance: &str, filter: &TraceFilter) -> Result<Self, TraceError> {
        let directory = standing(instance)?.maps();
        let Some(lock) = lock(&directory)? else {
            return Err(TraceError::Busy(instance.to_owned()));
        };
        let mut pins = Pins(&directory);
        let mut maps = Maps::take(&mut pins)?;
        let mut ring: RingBuf<MapData> = take(&mut pins, "TRACES")?;
        // One that was killed may have left its flag.
        maps.switch(flags::TRACE, false)?;
        while ring.next().is_some() {}
        let traces = sys::watch(ring).map(Events).map_err(TraceError::Ring)?;
        let lost_before = maps.lost(lost::TRACES)?;
        maps.put_trace(&TraceFilter { budget: filter.budget.min(BUDGET_MAX), ..*filter })?;
        let mut trace = Self { maps, traces, lost_before, _lock: lock };
        trace.maps.switch(flags::TRACE, true)?;
        Ok(trace)
    }

    /// Waits for the next packet. Cancel safe.
    pub async fn next(&mut self) -> Result<Traced, TraceError> {
        loop {
            match self.traces.next().await.map_err(TraceError::Ring)? {
                Event::Traced(traced) => return Ok(traced),
                Event::Ended(ended) => tracing::debug!(?ended, "no packet"),
            }
        }
    }

    /// Packets that the programs may still tell of.
    pub fn left(&self) -> Result<u64, KernelError> {
        let left = self.maps.trace()?.budget;
        Ok(if left > BUDGET_MAX { 0 } else { left })
    }

    /// Packets so far for which the ring had no room.
    pub fn lost(&self) -> Result<u64, KernelError> {
        Ok(self.maps.lost(lost::TRACES)?.saturating_sub(self.lost_before))
    }

    /// Where each server is, and where the listeners are.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Goes on if somebody else has switched it off: the process writes its own flags beside ours,
    /// and two writers may meet.
    pub fn insist(&mut self) -> Result<(), KernelError> {
        self.maps.switch(flags::TRACE, true)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let spent = self.maps.put_trace(&TraceFilter::default());
        if let Err(error) = spent.and(self.maps.switch(flags::TRACE, false)) {
            tracing::error!(%error, "the programs may go on telling of packets: another `deston trace` ends that");
        }
    }
}

impl Kernel {
    /// Ends a trace whose process was killed.
    pub fn end_left_trace(&mut self) -> Result<(), KernelError> {
        if self.globals()?.flags & flags::TRACE == 0 {
            return Ok(());
        }
        // Nobody else can trace what is not pinned.
        let Some(directory) = self.instance.as_ref().map(|instance| instance.maps()) else {
            return Ok(());
        };
        if let Some(_lock) = lock(&directory)? {
            self.maps.switch(flags::TRACE, false)?;
        }
        Ok(())
    }
}

impl Maps {
    /// Sets or clears flags, and leaves the others as they stand.
    fn switch(&mut self, flags: u32, on: bool) -> Result<(), KernelError> {
        /// Another process may write back what it has read before; it does so seldom.
        const TRIES: u32 = 3;
        for _ in 0..TRIES {
            let mut globals = self.globals()?;
            let wanted = if on { globals.flags | flags } else { globals.flags & !flags };
            if globals.flags == wanted {
                break;
            }
            globals.flags = wanted;
            self.put_globals(&globals)?;
        }
        Ok(())
    }

    /// Events that found no room in a ring: `ring` is one of `event::lost`.
    pub fn lost(&self, ring: u32) -> Result<u64, KernelError> {
        let counts = self.shared.lost.get(&ring, 0).map_err(super::error::map("LOST"))?;
        Ok(counts.iter().sum())
    }
}

/// The lock of those who trace: on the directory of maps, since a pinned map cannot be locked.
/// `None` if somebody has it.
fn lock(directory: &PathBuf) -> Result<Option<Flock<File>>, PinError> {
    let failed = pin::file(directory);
    let opened = File::open(directory).map_err(&failed)?;
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}
