//! `cargo xtask ebpf`: the kernel programs' object, which is checked in and embedded.
//!
//! Building it needs pinned tools, using it needs none: so the object stands in the repository,
//! and `--check` proves that it is what its sources give.

mod check;
pub(crate) mod digest;
pub(crate) mod recipe;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::toolchain::Toolchain;
use crate::workspace;
use check::Comparison;
use digest::Digest;

/// Where the object is, from the repository's root.
pub(crate) const OBJECT: &str = "deston/bpf/deston.bpf.o";
/// What it was built from.
pub(crate) const DIGEST: &str = "deston/bpf/deston.bpf.digest";

/// Builds the kernel programs and replaces the checked-in object
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Builds in another folder and compares with the checked-in object instead of replacing it
    #[arg(long)]
    check: bool,
}

/// Replaces the object, or checks it.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let root = workspace::root();
    let toolchain = Toolchain::complete()?;
    if arguments.check { verify(&root, &toolchain) } else { replace(&root, &toolchain) }
}

fn replace(root: &Path, toolchain: &Toolchain) -> Result<()> {
    let object = recipe::build(root, &root.join("target/ebpf"), toolchain)?;
    let digest = Digest::of(root, &object)?;
    let folder = root.join(OBJECT).parent().map(Path::to_path_buf).unwrap_or_default();
    std::fs::create_dir_all(&folder)?;
    write(root.join(OBJECT), &object)?;
    write(root.join(DIGEST), digest.to_string().as_bytes())?;
    println!("{OBJECT}: {} bytes", object.len());
    Ok(())
}

fn write(file: PathBuf, bytes: &[u8]) -> Result<()> {
    std::fs::write(&file, bytes).with_context(|| format!("writing {}", file.display()))
}

fn verify(root: &Path, toolchain: &Toolchain) -> Result<()> {
    digest::verify(root)?;
    match check::rebuild(root, toolchain)? {
        Comparison::Same { bytes } => {
            println!("{OBJECT}: {bytes} bytes, the same when built in another folder");
            Ok(())
        }
        Comparison::Different { offset, committed, rebuilt } => bail!(
            "{OBJECT} is not what its sources give: {committed} bytes checked in, {rebuilt} built, \
             first difference at byte {offset}; run `cargo xtask ebpf` and commit the result"
        ),
    }
}
