//! `cargo xtask test`: builds the binary, runs the rings of tests, and closes with their sum.

pub(crate) mod rings;
pub(crate) mod tally;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use crate::{command, workspace};
use rings::{Needs, Ring};
use tally::Tally;

/// Runs the tests
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which tests
    #[arg(value_enum, default_value = "all")]
    which: Which,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Functions and properties, and whatever is no other ring's
    Unit,
    /// The loaded kernel programs, packet by packet (root)
    Kernel,
    /// Real sockets through network namespaces (root)
    Lab,
    /// The proxy and the process, in userspace
    Proxy,
    /// All of them
    All,
}

/// Whether a ring that cannot run is a failure, as it is in CI.
pub(crate) fn kernel_is_required() -> bool {
    std::env::var_os("DESTON_REQUIRE_KERNEL").is_some_and(|value| value == "1")
}

/// Runs the chosen rings, all of each even when one fails.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let rings = rings::discover(&workspace::root())?;
    let deston = workspace::build_deston(workspace::Profile::Dev)?;
    let mut tally = Tally::default();
    let mut broken = Vec::new();
    for ring in rings.iter().filter(|ring| arguments.which.includes(ring)) {
        println!("ring: {}", ring.name);
        match (ring.needs, reason_to_skip()) {
            (Needs::Root, Some(reason)) if kernel_is_required() => {
                bail!("the {} tests cannot run: {reason}", ring.name)
            }
            (Needs::Root, Some(reason)) => tally.skipped += skip(ring, &reason)?,
            (Needs::Root, None) | (Needs::Nothing, _) => {
                for arguments in &ring.runs {
                    let mut cargo = test(arguments);
                    cargo.env("DESTON_BIN", &deston);
                    if !stream(&mut cargo, &mut tally)? {
                        broken.push(command::line(&cargo));
                    }
                }
            }
        }
    }
    println!("\n{tally}");
    if !broken.is_empty() {
        bail!("these runs failed:\n  {}", broken.join("\n  "));
    }
    if tally.passed + tally.skipped == 0 {
        bail!("no test ran");
    }
    Ok(())
}

impl Which {
    fn includes(self, ring: &Ring) -> bool {
        use clap::ValueEnum as _;
        self == Self::All
            || self.to_possible_value().is_some_and(|value| value.matches(ring.name, false))
    }
}

/// Every run selects the same packages, so that cargo builds each dependency with one set of
/// features.
fn test(arguments: &[String]) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(workspace::root());
    cargo.args(["test", "--workspace", "--exclude", "deston-ebpf", "--locked", "--no-fail-fast"]);
    cargo.args(arguments);
    cargo
}

/// Runs the tests on this terminal, counting; whether all passed.
fn stream(cargo: &mut Command, tally: &mut Tally) -> Result<bool> {
    let line = command::line(cargo);
    println!("$ {line}");
    cargo.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("starting `{line}`"))?;
    let output = child.stdout.take().context("the runner has no output")?;
    tally.read(output, std::io::stdout())?;
    Ok(child.wait()?.success())
}

/// Names the tests that do not run, and why.
fn skip(ring: &Ring, reason: &str) -> Result<usize> {
    let mut skipped = 0;
    for arguments in &ring.runs {
        let mut list = test(arguments.split(|word| word == "--").next().unwrap_or_default());
        list.args(["--", "--list", "--format", "terse"]).stderr(Stdio::inherit());
        let listed = command::text(&mut list)?;
        for name in listed.lines().filter_map(|line| line.strip_suffix(": test")) {
            println!("skipped {name}: {reason}");
            skipped += 1;
        }
    }
    Ok(skipped)
}

/// Why the rings that need root cannot run here.
fn reason_to_skip() -> Option<String> {
    if !Uid::effective().is_root() {
        return Some("needs root".to_owned());
    }
    // Root of a container may lack the right to make namespaces.
    let mut unshare = command::of("unshare", ["--net", "true"]);
    match command::text(&mut unshare) {
        Ok(_) => None,
        Err(error) => Some(format!("needs network namespaces: {error}")),
    }
}
