//! The pinned tools that build the kernel programs.
//!
//! Another compiler or linker gives other bytes, and the checked-in object is compared byte for
//! byte: nothing but these versions is accepted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The compiler; its LLVM is the one that bpf-linker loads.
pub(crate) const RUSTC: &str = "1.95.0";

/// The linker; from 0.11 on it no longer loads the compiler's LLVM.
pub(crate) const BPF_LINKER: &str = "0.10.3";

/// A Rust toolchain of the pinned version.
pub(crate) struct Toolchain {
    /// Its name for rustup; `None` when there is no rustup and rustc itself is that version.
    pub(crate) name: Option<String>,
    sysroot: PathBuf,
}

impl Toolchain {
    /// The first toolchain that is exactly the pinned version, whatever its name.
    pub(crate) fn find() -> Result<Option<Self>> {
        for name in [Some(RUSTC), Some("stable"), None] {
            let Some(version) = rustc(name, &["--version"]) else { continue };
            if version.split_whitespace().nth(1) != Some(RUSTC) {
                continue;
            }
            let sysroot = rustc(name, &["--print", "sysroot"]).context("rustc has no sysroot")?;
            let sysroot =
                Path::new(sysroot.trim()).canonicalize().context("reading the sysroot")?;
            return Ok(Some(Self { name: name.map(str::to_owned), sysroot }));
        }
        Ok(None)
    }

    /// The toolchain with all parts in place, or an error that says what is missing.
    pub(crate) fn complete() -> Result<Self> {
        const SETUP: &str = "run `cargo xtask setup`";
        let Some(toolchain) = Self::find()? else { bail!("there is no rustc {RUSTC}: {SETUP}") };
        if !toolchain.has_sources() {
            bail!("the sources of core are missing: {SETUP}");
        }
        if toolchain.objcopy().is_none() {
            bail!("llvm-objcopy is missing: {SETUP}");
        }
        if bpf_linker().is_none() {
            bail!("bpf-linker {BPF_LINKER} is missing: {SETUP}");
        }
        Ok(toolchain)
    }

    /// The compiler's own sources, as debug information names them.
    pub(crate) fn sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Whether core can be built for another target (component rust-src).
    pub(crate) fn has_sources(&self) -> bool {
        self.sources().join("library/core/Cargo.toml").is_file()
    }

    /// The LLVM objcopy of component llvm-tools; GNU objcopy cannot read BPF objects.
    pub(crate) fn objcopy(&self) -> Option<PathBuf> {
        let targets = std::fs::read_dir(self.sysroot.join("lib/rustlib")).ok()?;
        targets
            .filter_map(|target| Some(target.ok()?.path().join("bin/llvm-objcopy")))
            .find(|objcopy| objcopy.is_file())
    }

    /// A program of the toolchain, called past rustup, with language features of the nightly
    /// compiler allowed for this one process.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bin = self.sysroot.join("bin");
        let mut command = Command::new(bin.join(program));
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC", bin.join("rustc"))
            .env("CARGO", bin.join("cargo"))
            // bpf-linker loads the compiler's LLVM from here.
            .env("LD_LIBRARY_PATH", self.sysroot.join("lib"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            // Whatever would change how crates are compiled would change the object.
            if ["CARGO_PROFILE_", "CARGO_BUILD_", "CARGO_TARGET_", "RUSTC_W", "RUSTFLAGS"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
            {
                command.env_remove(&*name);
            }
        }
        command
    }
}

/// What the rustc of a toolchain prints; `None` when there is no such toolchain.
fn rustc(toolchain: Option<&str>, arguments: &[&str]) -> Option<String> {
    let mut command = match toolchain {
        Some(name) => command::of("rustup", ["run", name, "rustc"]),
        None => Command::new("rustc"),
    };
    // Asking for a version must not install a toolchain.
    command.env("RUSTUP_AUTO_INSTALL", "0").args(arguments);
    command::text(&mut command).ok()
}

/// bpf-linker of the pinned version: cargo's own bin folder first, then PATH.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let installed = cargo_home().ok().map(|home| home.join("bin/bpf-linker"));
    [installed, command::find("bpf-linker")].into_iter().flatten().find(|linker| {
        command::text(Command::new(linker).arg("--version"))
            .is_ok_and(|version| version.trim() == format!("bpf-linker {BPF_LINKER}"))
    })
}

/// Cargo's home folder, where the sources of dependencies are.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}
