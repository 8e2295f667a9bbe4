//! Nanoseconds for each packet of the kernel datapath. It measures and judges nothing.
//!
//! Two methods: BPF_PROG_TEST_RUN of the balancer alone, and live frames from one pinned processor
//! through namespaces, where the kernel's own forwarding and nftables carry the same packets.
//! An argument chooses cases of the first by a part of their name, and leaves the second out;
//! `live` is the second alone.
//! Every figure stands beside the others of its round; the order alternates.

mod field;
mod inject;
mod live;
mod stats;
mod wrapped;

use anyhow::{Result, ensure};

fn main() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "measuring the kernel programs needs root");
    pin_to_one_processor()?;
    let only = std::env::args().nth(1);
    if only.as_deref() == Some("live") {
        return live::measure();
    }
    wrapped::measure(only.as_deref().unwrap_or_default())?;
    if only.is_some() {
        return Ok(());
    }
    live::measure()
}

/// Stays on the last processor, as the scheduler's moves cost more than what is measured.
fn pin_to_one_processor() -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut set = nix::sched::CpuSet::new();
    set.set(last)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)?;
    Ok(())
}
