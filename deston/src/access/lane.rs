//! The way of one worker's records to the writer: bounded, and never waited for.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::Thread;

use super::record::Record;

/// What the writer and those who give it work share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The writer's thread.
    pub(super) thread: OnceLock<Thread>,
    /// Whether it waits to be woken.
    pub(super) is_asleep: AtomicBool,
    /// Whether it is to end.
    pub(super) is_stopping: AtomicBool,
    /// Records that found no room.
    pub(super) lost: AtomicU64,
}

impl Shared {
    /// Wakes the writer if it sleeps: under load it does not, so this costs a fence and a load.
    fn wake(&self) {
        // Between giving work and looking: the writer says that it sleeps before it looks for work
        // once more, so that one of both sees the other.
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::AcqRel) {
            self.unpark();
        }
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Which records of requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// This one, whatever becomes of it.
    Always,
    /// This one if it fails.
    IfFailed,
}

/// A worker's way to the writer.
#[derive(Debug)]
pub struct Lane {
    sender: SyncSender<Box<Record>>,
    shared: Arc<Shared>,
    /// `[log] sample`, in millionths.
    sample: u32,
    /// `[log] errors_always`.
    errors_always: bool,
    /// What earlier requests have left of their share; below a whole.
    share: Cell<u32>,
}

/// What `sample` is a share of.
const WHOLE: u32 = 1_000_000;

impl Lane {
    pub(super) fn new(
        sender: SyncSender<Box<Record>>,
        shared: Arc<Shared>,
        sample: u32,
        errors_always: bool,
    ) -> Self {
        Self { sender, shared, sample, errors_always, share: Cell::new(0) }
    }

    /// Whether the next request is to have a record. Evenly spread: of a share of a quarter, it is
    /// each fourth.
    pub fn next(&self) -> Option<Keep> {
        let share = self.share.get() + self.sample.min(WHOLE);
        self.share.set(share % WHOLE);
        if share >= WHOLE {
            Some(Keep::Always)
        } else {
            self.errors_always.then_some(Keep::IfFailed)
        }
    }

    /// Gives a record to the writer, or drops it and counts that.
    pub fn push(&self, record: Box<Record>) {
        match self.sender.try_send(record) {
            Ok(()) => self.shared.wake(),
            Err(TrySendError::Full(_)) => drop(self.shared.lost.fetch_add(1, Ordering::Relaxed)),
            // The writer has ended and has said why.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The way of lines that are rendered already to the writer. May wait for room: not for workers.
#[derive(Clone, Debug)]
pub struct Lines {
    sender: SyncSender<String>,
    shared: Arc<Shared>,
}

impl Lines {
    pub(super) fn new(sender: SyncSender<String>, shared: Arc<Shared>) -> Self {
        Self { sender, shared }
    }

    /// Gives a line to the writer, once there is room.
    pub fn push(&self, line: String) {
        // An error means that the writer has ended and has said why.
        if self.sender.send(line).is_ok() {
            self.shared.wake();
        }
    }
}
