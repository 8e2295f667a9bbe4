//! `cargo xtask run`: builds Deston and runs it with a configuration, or shows it at work.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use crate::workspace::{self, Profile};
use crate::{command, demo};

/// Builds Deston and runs it
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Configuration; config.toml of the repository unless given
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    config: Option<PathBuf>,
    /// Builds with optimizations
    #[arg(long)]
    release: bool,
    /// Shows traffic balanced over three built-in servers; as root, in the kernel too
    #[arg(long)]
    demo: bool,
}

/// Builds, then becomes Deston; or runs the demonstration.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    let deston = workspace::build_deston(profile)?;
    if arguments.demo {
        return demo::run(&deston);
    }
    let config = arguments.config.unwrap_or_else(|| workspace::root().join("config.toml"));
    let mut run = match privileges(&deston, &config)? {
        Privileges::Enough => Command::new(&deston),
        Privileges::Missing => {
            let sudo = command::find("sudo").context(
                "this configuration needs root and there is no sudo: run this as root, or set \
                 datapath = \"userspace\"",
            )?;
            println!("this configuration needs root: running deston by sudo");
            let mut sudo = Command::new(sudo);
            sudo.arg(&deston);
            sudo
        }
    };
    run.args(["run".as_ref(), "--config".as_ref(), config.as_os_str()]);
    // Signals and the exit code are Deston's own.
    Err(run.exec()).with_context(|| format!("starting `{}`", command::line(&run)))
}

enum Privileges {
    Enough,
    Missing,
}

/// Asks the binary what the datapaths of a configuration need.
fn privileges(deston: &Path, config: &Path) -> Result<Privileges> {
    let mut check = Command::new(deston);
    check.args(["check".as_ref(), "--config".as_ref(), config.as_os_str(), "--needs".as_ref()]);
    let output = check.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting `{}`", command::line(&check)))?;
    if !output.status.success() {
        bail!("{} cannot be used, see above", config.display());
    }
    match String::from_utf8_lossy(&output.stdout).trim() {
        "user" => Ok(Privileges::Enough),
        "root" if Uid::effective().is_root() => Ok(Privileges::Enough),
        "root" => Ok(Privileges::Missing),
        other => bail!("`{}` answered `{other}`", command::line(&check)),
    }
}
