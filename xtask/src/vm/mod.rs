//! `cargo xtask vm`: the kernel ring on the kernels that Deston is meant for, old and new.
//!
//! Debian's Linux 6.1 and 6.12 run side by side under software emulation, with nothing but the specs
//! of the ring in their memory: no disk and no network. Unpacked kernels stay under `target/vm/`;
//! nothing is installed.

mod initramfs;
mod kernels;
mod machine;
mod modules;
mod results;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::test::rings;
use crate::{command, wait, workspace};
use kernels::Series;
use machine::Machine;
use results::Results;

/// Runs the loaded programs' specs on Debian's kernels, in virtual machines
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which kernels; all of them unless named
    #[arg(value_enum)]
    series: Vec<Series>,
    /// Which spec files, by name without ending; all of the ring unless named
    #[arg(long)]
    only: Vec<String>,
}

/// Programs this needs, and the packages that bring them.
const NEEDS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("apt-get", "apt"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("dpkg", "dpkg"),
    ("ip", "iproute2"),
    ("modinfo", "kmod"),
    ("strip", "binutils"),
    ("xz", "xz-utils"),
];

/// All machines have ended by then, or are ended.
const LIMIT: Duration = Duration::from_mins(20);

/// Boots the kernels, runs the specs and shows what they print.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    for (program, package) in NEEDS {
        ensure!(command::find(program).is_some(), "`{program}` is missing: install {package}");
    }
    wait::catch_interrupts()?;
    let root = workspace::root();
    let names = rings::discover(&root)?
        .iter()
        .find(|ring| ring.name == "kernel")
        .map(|ring| ring.files().map(str::to_owned).collect::<Vec<_>>())
        .unwrap_or_default();
    let names: Vec<String> = names
        .into_iter()
        .filter(|name| arguments.only.is_empty() || arguments.only.contains(name))
        .collect();
    ensure!(!names.is_empty(), "the kernel ring has no spec, or none of that name");

    let folder = root.join("target/vm");
    let kernels = chosen(&arguments.series)
        .map(|series| kernels::obtain(series, &folder))
        .collect::<Result<Vec<_>>>()?;
    let specs = workspace::build_specs(&names)?;
    let initramfs = initramfs::pack(&folder, &kernels, &specs)?;
    let mut machines = kernels
        .iter()
        .map(|kernel| Machine::start(kernel, &initramfs, &folder))
        .collect::<Result<Vec<_>>>()?;
    let ended = wait::until("the virtual machines to end", LIMIT, || {
        let mut running = 0;
        for machine in &mut machines {
            running += usize::from(machine.look()?.is_none());
        }
        Ok((running == 0).then_some(()))
    });
    let mut complaints: Vec<_> =
        ended.err().map(|error| format!("{error:#}")).into_iter().collect();
    complaints.extend(machines.iter().flat_map(|machine| summarise(machine, &names)));
    if !complaints.is_empty() {
        bail!("in the virtual machines:\n  {}", complaints.join("\n  "));
    }
    Ok(())
}

fn chosen(series: &[Series]) -> impl Iterator<Item = Series> {
    Series::ALL.into_iter().filter(move |one| series.is_empty() || series.contains(one))
}

/// Prints what a machine's specs came to, and returns what is wrong with it.
fn summarise(machine: &Machine, names: &[String]) -> Vec<String> {
    let results = Results::read(machine.said());
    let kernel = results.release.as_deref().unwrap_or("no kernel came up");
    let took = machine.took().map_or_else(|| "no end".to_owned(), |took| format!("{took:.1?}"));
    println!("\nLinux {} ({kernel}): {} in {took}", machine.series(), results.tally());
    for line in &results.verified {
        println!("  {line}");
    }
    results
        .complaints(names)
        .into_iter()
        .map(|complaint| format!("Linux {}: {complaint}", machine.series()))
        .collect()
}

/// The name of a path's last part.
fn name(path: &std::path::Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} has no name", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kernels_run_unless_some_are_named() {
        assert_eq!(chosen(&[]).collect::<Vec<_>>(), Series::ALL);
        assert_eq!(chosen(&[Series::New]).collect::<Vec<_>>(), [Series::New]);
    }
}
