//! `cargo xtask mutants`: one fault planted in each stage of the kernel programs, and whether the
//! kernel ring notices.
//!
//! Each fault is one textual change in a copy of the sources. The specs run on the object that comes
//! of it, and at least one of them has to fail; on the object without a fault all of them pass.

mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::Uid;

use crate::ebpf::recipe;
use crate::toolchain::Toolchain;
use crate::{command, workspace};

/// A fault.
pub(crate) struct Mutant {
    /// The stage it is in.
    pub(crate) stage: &'static str,
    /// What goes wrong.
    pub(crate) fault: &'static str,
    /// The source file, from the repository's root.
    pub(crate) file: &'static str,
    /// Text that the file has once.
    pub(crate) from: &'static str,
    /// What stands there instead.
    pub(crate) to: &'static str,
    /// The specs that have to notice.
    pub(crate) spec: &'static str,
}

/// Names the object that specs load instead of the embedded one.
const OBJECT: &str = "DESTON_BPF_OBJECT";
/// What a spec says when the kernel refuses the object: nothing is shown by that.
const REFUSED: &str = "the kernel takes the programs";

/// What specs say of an object.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Nothing is wrong.
    Passed,
    /// So many of them failed.
    Failed(usize),
    /// They could not load it.
    Refused,
}

/// Plants each fault in turn, and fails unless all are noticed.
pub(crate) fn run() -> Result<()> {
    ensure!(Uid::effective().is_root(), "the kernel ring needs root");
    let toolchain = Toolchain::complete()?;
    let root = workspace::root();
    let folder = root.join("target/mutants");
    let tree = folder.join("tree");
    if tree.is_dir() {
        std::fs::remove_dir_all(&tree).context("removing the last copy")?;
    }
    workspace::copy(&root, &tree)?;
    let mutants = list::MUTANTS;
    let names: BTreeSet<String> = mutants.iter().map(|mutant| mutant.spec.to_owned()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let specs: BTreeMap<String, PathBuf> = workspace::build_specs(&names)?.into_iter().collect();

    let object = build(&tree, &folder, &toolchain)?;
    for (name, spec) in &specs {
        let said = judge(spec, &object)?;
        ensure!(said == Said::Passed, "without a fault, {name} says {said:?}");
    }
    let mut unnoticed = Vec::new();
    for mutant in mutants {
        let said = planted(&tree, mutant, || {
            let object = build(&tree, &folder, &toolchain)?;
            judge(specs.get(mutant.spec).context("a spec that was not built")?, &object)
        })?;
        println!("{:10} {}: {}: {said:?}", mutant.stage, mutant.fault, mutant.spec);
        if !matches!(said, Said::Failed(_)) {
            unnoticed.push(mutant.fault);
        }
    }
    if !unnoticed.is_empty() {
        bail!("not noticed: {}", unnoticed.join("; "));
    }
    println!("all {} faults were noticed", mutants.len());
    Ok(())
}

/// Does something while the fault is in the tree's sources.
fn planted<T>(tree: &Path, mutant: &Mutant, with: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = tree.join(mutant.file);
    let sound =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", mutant.file))?;
    let places = sound.matches(mutant.from).count();
    ensure!(places == 1, "{} has {places} times `{}`", mutant.file, mutant.from);
    std::fs::write(&file, sound.replace(mutant.from, mutant.to))?;
    let result = with();
    std::fs::write(&file, sound)?;
    result
}

/// Builds the tree's object and says where it is.
fn build(tree: &Path, folder: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let object = recipe::build(tree, &folder.join("output"), toolchain)?;
    let path = folder.join("mutant.bpf.o");
    std::fs::write(&path, object)?;
    Ok(path)
}

/// Runs a spec's program on an object.
fn judge(spec: &Path, object: &Path) -> Result<Said> {
    let mut run = Command::new(spec);
    run.arg("--test-threads=1").env(OBJECT, object);
    let output = command::output(&mut run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains(REFUSED) {
        return Ok(Said::Refused);
    }
    if output.status.success() {
        return Ok(Said::Passed);
    }
    Ok(Said::Failed(failures(&text).with_context(|| format!("the runner said: {text}"))?))
}

/// Reads `test result: FAILED. 3 passed; 2 failed; ...`.
fn failures(text: &str) -> Option<usize> {
    let result = text.lines().find_map(|line| line.strip_prefix("test result: FAILED. "))?;
    result.split(';').find_map(|part| part.trim().strip_suffix(" failed")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_from_the_runners_result() {
        let text = "test a ... FAILED\n\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(failures(text), Some(2));
        assert_eq!(failures("test result: ok. 3 passed; 0 failed"), None);
    }

    #[test]
    fn each_fault_has_its_place_in_the_sources() {
        let root = workspace::root();
        for mutant in list::MUTANTS {
            let text = std::fs::read_to_string(root.join(mutant.file)).unwrap();
            assert_eq!(text.matches(mutant.from).count(), 1, "{}: {}", mutant.file, mutant.from);
            assert_ne!(mutant.from, mutant.to);
            let spec = root.join("tests/tests").join(mutant.spec).with_extension("rs");
            assert!(spec.is_file(), "{}", spec.display());
        }
    }

    #[test]
    fn each_stage_has_a_fault() {
        let stages: BTreeSet<&str> = list::MUTANTS.iter().map(|mutant| mutant.stage).collect();
        let all = [
            "claim",
            "complain",
            "conntrack",
            "event",
            "expire",
            "fragment",
            "guard",
            "half",
            "icmp",
            "listener",
            "parse",
            "promote",
            "quote",
            "reply",
            "reset",
            "role",
            "select",
            "static",
            "transmit",
            "tunnel",
            "verdict",
        ];
        assert_eq!(stages, BTreeSet::from(all));
    }
}
