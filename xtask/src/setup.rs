//! `cargo xtask setup`: installs what building the kernel programs needs, and only what is missing.

use anyhow::{Context as _, Result};

use crate::command;
use crate::toolchain::{self, BPF_LINKER, RUSTC, Toolchain};

/// Installs the missing parts and says of each what it did.
pub(crate) fn run() -> Result<()> {
    let toolchain = match Toolchain::find()? {
        Some(toolchain) => {
            println!("rustc {RUSTC}: found");
            toolchain
        }
        None => {
            println!("rustc {RUSTC}: installing");
            rustup(&["toolchain", "install", RUSTC, "--profile", "minimal"])?;
            Toolchain::find()?.context("rustup installed another version than it was asked for")?
        }
    };
    let has_objcopy = toolchain.objcopy().is_some();
    component(&toolchain, "rust-src", toolchain.has_sources())?;
    component(&toolchain, "llvm-tools", has_objcopy)?;
    linker()?;
    Toolchain::complete().map(|_| println!("the kernel programs can be built: `cargo xtask ebpf`"))
}

fn component(toolchain: &Toolchain, component: &str, found: bool) -> Result<()> {
    if found {
        println!("{component}: found");
        return Ok(());
    }
    let name = toolchain.name.as_deref().with_context(|| {
        format!("{component} is missing: install it beside this rustc, which is not rustup's")
    })?;
    println!("{component}: installing for toolchain {name}");
    rustup(&["component", "add", component, "--toolchain", name])
}

fn rustup(arguments: &[&str]) -> Result<()> {
    command::run(&mut command::of("rustup", arguments)).context("rustup is needed for this part")
}

fn linker() -> Result<()> {
    if let Some(linker) = toolchain::bpf_linker() {
        println!("bpf-linker {BPF_LINKER}: found at {}", linker.display());
        return Ok(());
    }
    println!("bpf-linker {BPF_LINKER}: installing");
    let arguments = ["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force"];
    command::run(command::cargo().args(arguments))
}
