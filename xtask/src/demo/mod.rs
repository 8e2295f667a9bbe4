//! `cargo xtask run --demo`: Deston before built-in servers, with a count of who answered.

pub(crate) mod answers;
mod kernel;
pub(crate) mod server;
mod userspace;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use crate::wait;

/// The parts of the demonstration that run as processes of their own.
#[derive(clap::Args)]
pub(crate) struct KernelArguments {
    /// The binary to show
    deston: PathBuf,
}

/// Shows the userspace datapaths, and the kernel's where that is allowed.
pub(crate) fn run(deston: &Path) -> Result<()> {
    wait::catch_interrupts()?;
    userspace::run(deston)?;
    if Uid::effective().is_root() {
        return kernel::run(deston);
    }
    let xtask = std::env::current_exe().context("finding this program")?;
    println!(
        "\nRoot would add layer 4 inside the kernel: the same balancing by an XDP program, shown in\n\
         a throw-away network of namespaces that leaves this machine's interfaces alone:\n\n  \
         sudo {} demo-kernel {}",
        xtask.display(),
        deston.display()
    );
    Ok(())
}

/// Shows the kernel datapath alone.
pub(crate) fn run_kernel(arguments: &KernelArguments) -> Result<()> {
    wait::catch_interrupts()?;
    kernel::run(&arguments.deston)
}
