//! The memory disk, one for all kernels: the specs, the libraries they load, each kernel's modules,
//! and a shell that runs it all.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::kernels::Kernel;
use super::modules;
use crate::command;

/// The first process; it finds the specs by looking.
const INIT: &str = include_str!("init.sh");
/// Folders that others are mounted on, and `/bin`.
const FOLDERS: [&str; 7] = ["bin", "proc", "sys", "dev", "run", "tmp", "specs"];

/// Packs the disk and returns its file.
pub(super) fn pack(
    folder: &Path,
    kernels: &[Kernel],
    specs: &[(String, PathBuf)],
) -> Result<PathBuf> {
    let disk = tempfile::tempdir_in(folder).context("making a folder for the memory disk")?;
    let root = disk.path();
    for place in FOLDERS {
        fs::create_dir(root.join(place))?;
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, Permissions::from_mode(0o755))?;
    let busybox = command::find("busybox").context("busybox is missing")?;
    let linked = command::output(&mut command::of("ldd", [&busybox]))?.status.success();
    ensure!(!linked, "`busybox` is not whole without libraries: install busybox-static");
    fs::copy(busybox, root.join("bin/busybox"))?;
    // The harness makes namespaces with it; busybox's own knows too little.
    let ip = command::find("ip").context("ip is missing")?;
    fs::copy(&ip, root.join("bin/ip"))?;
    copy_libraries(&ip, root)?;
    for (name, built) in specs {
        let copy = root.join("specs").join(name);
        command::text(command::of("strip", ["-o"]).args([&copy, built]))?;
        copy_libraries(built, root)?;
    }
    for kernel in kernels {
        modules::copy(kernel, &root.join("modules").join(&kernel.release))?;
    }

    let file = folder.join("initramfs.cpio");
    let mut pack = command::of("sh", ["-c", "find . | cpio --quiet --create --format=newc"]);
    let out = File::create(&file).with_context(|| format!("creating {}", file.display()))?;
    command::run(pack.current_dir(root).stdout(out))?;
    Ok(file)
}

/// Copies what the dynamic linker loads for a program.
fn copy_libraries(program: &Path, root: &Path) -> Result<()> {
    let listed = command::text(command::of("ldd", [program]).env("LC_ALL", "C"))?;
    let libraries = libraries(&listed);
    if libraries.is_empty() {
        bail!("ldd names no library of {}", program.display());
    }
    for library in libraries {
        let to = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(to.parent().context("a library without a folder")?)?;
        fs::copy(library, &to).with_context(|| format!("copying {}", library.display()))?;
    }
    Ok(())
}

/// The files in what `ldd` prints; the kernel's own library has none.
fn libraries(listed: &str) -> Vec<&Path> {
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::results;

    #[test]
    fn libraries_are_the_files_that_ldd_names() {
        let listed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(Path::new);
        assert_eq!(libraries(listed), expected);
    }

    #[test]
    fn the_first_process_says_what_the_results_are_read_from() {
        for word in [results::KERNEL, results::BEGIN, results::END, results::DONE] {
            assert!(INIT.contains(&format!("echo \"{word}")), "{word}");
        }
        assert!(INIT.contains(modules::ORDER));
    }
}
