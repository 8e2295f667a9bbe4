//! `cargo xtask vm`: the loaded programs on the oldest kernel that Deston is meant for.
//!
//! Debian's Linux 6.1 runs under software emulation with nothing but the specs of the kernel ring in
//! its memory: no disk, no network, no change to this machine beyond a temporary folder. It takes
//! minutes, so `.ci/run` leaves it out; run it when the kernel programs or their maps change.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command, workspace};

/// Specs that need no more than the programs.
const SPECS: [&str; 3] = ["kernel_budget", "kernel_forwarding", "kernel_limits"];
/// Programs this needs, and the packages that bring them.
const NEEDS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("dpkg", "dpkg"),
];
/// What the virtual machine says when every spec has passed.
const PASSED: &str = "every spec passed";

/// Boots the kernel, runs the specs and shows what they print.
pub(crate) fn run() -> Result<()> {
    for (program, package) in NEEDS {
        ensure!(command::find(program).is_some(), "`{program}` is missing: install {package}");
    }
    let folder = tempfile::tempdir().context("making a folder for the virtual machine")?;
    let kernel = kernel(folder.path())?;
    let memory = memory(folder.path())?;
    let mut qemu = command::of(
        "qemu-system-x86_64",
        ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"],
    );
    qemu.args(["-m", "1024", "-smp", "1", "-accel", "tcg", "-machine", "pc", "-cpu", "max"])
        .args(["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(memory);
    let said = command::text(&mut qemu)?;
    println!("{said}");
    ensure!(said.contains(PASSED), "specs failed on the old kernel");
    Ok(())
}

/// Fetches the newest of Debian's 6.1 kernels and unpacks it; nothing is installed.
fn kernel(folder: &Path) -> Result<PathBuf> {
    let found = command::text(&mut command::of(
        "apt-cache",
        ["search", "--names-only", "^linux-image-6\\.1\\.0-[0-9]+-cloud-amd64$"],
    ))?;
    let number = |name: &str| name.split('-').nth(3).and_then(|n| n.parse::<u32>().ok());
    let package = found
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .max_by_key(|name| number(name))
        .context("no package of Linux 6.1: is this Debian 12, and was `apt-get update` run?")?;
    command::run(command::of("apt-get", ["--quiet", "download", package]).current_dir(folder))?;
    let archive = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("the package did not arrive")?;
    command::run(command::of("dpkg", ["--extract"]).arg(archive).arg(folder.join("kernel")))?;
    let boot = folder.join("kernel/boot");
    fs::read_dir(&boot)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz"))
        })
        .context("the package has no kernel")
}

/// The memory disk: the specs, the libraries they load, and a shell that runs them.
fn memory(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    for place in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(place))?;
    }
    let busybox = command::find("busybox").context("busybox is missing")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for spec in SPECS {
        let built = workspace::build_spec(spec)?;
        let copy = root.join("bin").join(spec);
        command::run(command::of("strip", ["-o"]).arg(&copy).arg(&built))?;
        for library in libraries(&built)? {
            let to = root.join(library.strip_prefix("/")?);
            fs::create_dir_all(to.parent().context("a library without a folder")?)?;
            fs::copy(&library, to)?;
        }
    }
    let init = root.join("init");
    fs::write(&init, init_script())?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;

    let image = folder.join("memory.cpio");
    let mut pack = command::of("sh", ["-c", "find . | cpio --quiet -o -H newc"]);
    pack.current_dir(&root).stdin(Stdio::null()).stdout(fs::File::create(&image)?);
    command::run(&mut pack)?;
    Ok(image)
}

fn init_script() -> String {
    let mut script = "#!/bin/busybox sh\n".to_owned();
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        script += &format!("/bin/busybox mount -t {kind} none {place}\n");
    }
    script += "/bin/busybox uname -r\nexport DESTON_REQUIRE_KERNEL=1\nfailed=\n";
    for spec in SPECS {
        script += &format!("/bin/{spec} --test-threads=1 || failed=yes\n");
    }
    script + &format!("[ -n \"$failed\" ] || echo '{PASSED}'\n/bin/busybox poweroff -f\n")
}

/// The files that the dynamic linker loads for a program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = command::text(command::of("ldd", [program]).env("LC_ALL", "C"))?;
    let libraries: Vec<PathBuf> =
        listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    if libraries.is_empty() {
        bail!("ldd names no library of {}", program.display());
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_that_all_passed_only_after_every_spec() {
        let script = init_script();
        let last = SPECS.iter().filter_map(|spec| script.find(spec)).max();
        assert!(last < script.find(PASSED));
        for spec in SPECS {
            assert!(script.contains(&format!("/bin/{spec} --test-threads=1 || failed=yes")));
        }
    }
}
