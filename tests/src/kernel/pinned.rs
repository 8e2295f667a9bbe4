//! One processor for what is counted on each apart.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread stays on one processor for as long as this lives.
pub struct Pinned(CpuSet);

impl Pinned {
    /// Pins this thread to the first processor that it may use.
    pub fn to_one_processor() -> Self {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).expect("affinity can be read");
        let first = (0..CpuSet::count()).find(|&n| before.is_set(n).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(first.expect("a processor")).expect("a processor's number");
        sched_setaffinity(this, &one).expect("affinity can be set");
        Self(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The spec is over; where its thread runs from here on matters to nothing it says.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}
