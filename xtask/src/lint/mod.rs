//! `cargo xtask lint`: everything that is checked without running the product.

mod dependencies;
mod tidy;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::{digest, recipe};
use crate::toolchain::Toolchain;
use crate::{command, workspace};

/// One check; it fails with what it found.
type Check = fn() -> Result<()>;

/// Runs every check, also after one failed, and fails with the names of those that did.
pub(crate) fn run() -> Result<()> {
    let checks: [(&str, Check); 8] = [
        ("tidy", || tidy::check(&workspace::root())),
        ("dependencies", dependencies::check),
        ("object digest", || digest::verify(&workspace::root())),
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("clippy", || cargo(&["clippy", "--locked", "--all-targets", "--", "-D", "warnings"])),
        ("clippy for the kernel programs", kernel_clippy),
        ("documentation", documentation),
        ("licences, sources and advisories", deny),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        println!("lint: {name}");
        if let Err(error) = check() {
            eprintln!("lint: {name}: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("these checks failed: {}", failed.join(", "));
    }
    println!("lint: all checks passed");
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    command::run(command::cargo().current_dir(workspace::root()).args(arguments))
}

fn kernel_clippy() -> Result<()> {
    let toolchain = Toolchain::complete()?;
    let root = workspace::root();
    let mut clippy = toolchain.command("cargo-clippy");
    clippy
        .current_dir(&root)
        .env("CARGO_ENCODED_RUSTFLAGS", recipe::encoded_flags(&root, &toolchain)?)
        .args(["clippy", "--locked", "--release", "--package", "deston-ebpf", "--bins"])
        .args(["--target", recipe::TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(root.join("target/ebpf"))
        .args(["--", "-D", "warnings"]);
    command::run(&mut clippy)
}

fn documentation() -> Result<()> {
    let mut doc = command::cargo();
    doc.current_dir(workspace::root()).env("RUSTDOCFLAGS", "-D warnings");
    command::run(doc.args(["doc", "--no-deps", "--locked"]))
}

/// Advisories are checked where their database can be had, and said to be unchecked elsewhere:
/// it is not in the package registry, and an offline machine must be able to lint.
fn deny() -> Result<()> {
    let deny = |arguments: &[&str]| {
        let mut deny = Command::new("cargo-deny");
        deny.current_dir(workspace::root()).args(arguments);
        deny
    };
    command::text(&mut deny(&["--version"]))
        .context("cargo-deny is missing: `cargo install cargo-deny --locked`")?;
    // The graph has crates of other systems, which no build here has fetched. What cannot be
    // fetched may be there already; if it is not, the check says so.
    let mut fetch = command::cargo();
    command::output(fetch.current_dir(workspace::root()).args(["fetch", "--locked"]))?;
    const CHECK: [&str; 4] = ["--offline", "--locked", "check", "--hide-inclusion-graph"];
    command::run(deny(&CHECK).args(["bans", "licenses", "sources"]))?;
    if command::output(&mut deny(&["fetch", "db"]))?.status.success() {
        return command::run(deny(&CHECK).arg("advisories"));
    }
    println!("lint: advisories are NOT checked: their database cannot be fetched from here");
    Ok(())
}
