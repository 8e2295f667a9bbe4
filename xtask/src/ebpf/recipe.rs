//! How the object is built, so that the same sources give the same bytes in every folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command;
use crate::toolchain::{self, Toolchain};

/// The target that the kernel's verifier reads on every machine that Deston supports.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Flags that do not depend on the machine; the digest covers them.
pub(crate) const FLAGS: &[&str] = &[
    "--cfg=bpf_target_arch=\"x86_64\"",
    // BTF is made from debug information.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // Atomic operations that return the old value.
    "-Ctarget-cpu=v3",
];

/// The product's programs.
const PRODUCT: &str = "deston";
/// The programs that `cargo xtask bench packets` injects packets with.
const INJECT: &str = "inject";

/// Builds the object of the tree at `root` and returns its bytes, stripped of debug information.
pub(crate) fn build(root: &Path, target: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    strip(&compile(root, target, toolchain, PRODUCT)?, toolchain)
}

/// Builds the injecting programs and says where they are.
pub(crate) fn build_inject(root: &Path, target: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    compile(root, target, toolchain, INJECT)
}

fn compile(root: &Path, target: &Path, toolchain: &Toolchain, name: &str) -> Result<PathBuf> {
    let mut build = toolchain.command("cargo");
    build
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(root, toolchain)?)
        .args(["build", "--locked", "--release", "--package", "deston-ebpf", "--bin", name])
        .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(target);
    command::run(&mut build).context("building the kernel programs")?;
    Ok(target.join(TARGET).join("release").join(name))
}

/// All flags, joined as cargo expects them: paths are named by what they are, not by where.
pub(crate) fn encoded_flags(root: &Path, toolchain: &Toolchain) -> Result<String> {
    let real =
        |path: PathBuf| path.canonicalize().with_context(|| format!("reading {}", path.display()));
    let linker = toolchain::bpf_linker().context("bpf-linker is missing")?;
    let registry = toolchain::cargo_home()?.join("registry/src");
    std::fs::create_dir_all(&registry)?;
    let mut flags: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
    // By its path: rustup puts cargo's bin folder first in PATH, and another version may be there.
    flags.push(format!("-Clinker={}", linker.display()));
    let mut places = vec![(root.to_path_buf(), "/deston"), (toolchain.sources(), "/rust")];
    // Each registry has a folder of its own, named by its address: neither belongs in the object.
    for folder in std::fs::read_dir(&registry)? {
        places.push((folder?.path(), "/registry"));
    }
    for (path, name) in places {
        flags.push(format!("--remap-path-prefix={}={name}", real(path)?.display()));
    }
    Ok(flags.join("\x1f"))
}

/// Drops debug information and keeps BTF, which loading needs.
fn strip(built: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let stripped = built.with_extension("stripped");
    let objcopy = toolchain.objcopy().context("llvm-objcopy is missing")?;
    let mut strip = std::process::Command::new(objcopy);
    strip.arg("--strip-debug").arg(built).arg(&stripped);
    command::run(&mut strip)?;
    std::fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))
}
