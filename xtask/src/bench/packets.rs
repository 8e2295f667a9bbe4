//! Nanoseconds for each packet of the loaded programs, by BPF_PROG_TEST_RUN and by live frames.
//!
//! The measuring program belongs to the tests crate, which knows how to load and feed a program;
//! it prints a table of its own.

use anyhow::{Context as _, Result};

use crate::ebpf::recipe;
use crate::toolchain::Toolchain;
use crate::{command, workspace};

/// Builds the measuring program, runs it and lets it speak.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let toolchain = Toolchain::complete()?;
    let inject = recipe::build_inject(&root, &root.join("target/ebpf"), &toolchain)?;
    println!("\n### Kernel programs, nanoseconds for each packet\n");
    let mut packets = command::cargo();
    packets
        .current_dir(root)
        .env("DESTON_INJECT", inject)
        .args(["run", "--quiet", "--locked", "--release"])
        .args(["--package", "deston-tests", "--bin", "packets"]);
    command::run(&mut packets).context("measuring the kernel programs")
}
