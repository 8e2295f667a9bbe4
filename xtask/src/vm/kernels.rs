//! Debian's kernel packages: found, downloaded once, unpacked, never installed.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command;

/// A series of kernels; the newest of each is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Series {
    /// The oldest that Deston is meant for
    #[value(name = "6.1")]
    Old,
    /// The newest that Debian 12 has
    #[value(name = "6.12")]
    New,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "6.1",
            Self::New => "6.12",
        })
    }
}

impl Series {
    pub(super) const ALL: [Self; 2] = [Self::Old, Self::New];

    /// How names of its packages begin: 6.1 counts its builds behind a fixed `.0-`.
    fn prefix(self) -> &'static str {
        match self {
            Self::Old => "linux-image-6.1.0-",
            Self::New => "linux-image-6.12.",
        }
    }

    /// Whether a package is a kernel of this series for virtual machines; unsigned ones boot too.
    fn has(self, package: &str) -> bool {
        package.strip_prefix(self.prefix()).is_some_and(|build| {
            let build = build.strip_suffix("-unsigned").unwrap_or(build);
            build.ends_with("-cloud-amd64")
        })
    }
}

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) series: Series,
    /// What `uname -r` says in it.
    pub(super) release: String,
    /// The file to boot.
    pub(super) image: PathBuf,
    /// Its modules and `modules.order`.
    pub(super) modules: PathBuf,
}

/// The newest kernel of a series, from `cache` or else downloaded to it.
pub(super) fn obtain(series: Series, cache: &Path) -> Result<Kernel> {
    std::fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let first = newest(series, cache);
    if let Err(error) = &first {
        // Package lists may be missing, or older than what the mirror still has.
        println!("{error:#}; fetching the package lists");
    }
    first
        .or_else(|_| {
            command::text(&mut command::of("apt-get", ["--quiet", "update"]))?;
            newest(series, cache)
        })
        .with_context(|| format!("Debian's cloud kernel of Linux {series} is not to be had"))
}

fn newest(series: Series, cache: &Path) -> Result<Kernel> {
    let search = ["search", "--names-only", "^linux-image-6\\..*-cloud-amd64"];
    let listed = command::text(&mut command::of("apt-cache", search))?;
    let packages = listed.lines().filter_map(|line| line.split_whitespace().next());
    let package = choose(series, packages)
        .with_context(|| format!("no package of Linux {series} is listed"))?;
    let folder = cache.join(package);
    if !folder.exists() {
        unpack(package, cache)?;
    }
    open(series, &folder)
}

/// The newest of a series among packages, and of that rather the signed one.
fn choose<'a>(series: Series, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    packages
        .filter(|package| series.has(package))
        .max_by_key(|package| (numbers(package), !package.ends_with("-unsigned")))
}

/// The numbers in a name, in order: what tells an older package from a newer one.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Puts a package's files into the folder of `cache` that has its name: whole, or not at all.
fn unpack(package: &str, cache: &Path) -> Result<()> {
    println!("downloading {package}");
    let folder = tempfile::tempdir_in(cache).context("making a folder for the package")?;
    command::text(
        command::of("apt-get", ["--quiet", "download", package]).current_dir(folder.path()),
    )?;
    let archive = only(folder.path(), |name| name.ends_with(".deb"))?;
    let files = folder.path().join("files");
    command::text(command::of("dpkg", ["--extract"]).args([&archive, &files]))?;
    std::fs::rename(&files, cache.join(package))
        .with_context(|| format!("keeping {package} in {}", cache.display()))
}

fn open(series: Series, folder: &Path) -> Result<Kernel> {
    const IMAGE: &str = "vmlinuz-";
    let image = only(&folder.join("boot"), |name| name.starts_with(IMAGE))?;
    let release = super::name(&image)?.trim_start_matches(IMAGE).to_owned();
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|modules| folder.join(modules).join(&release))
        .into_iter()
        .find(|modules| modules.is_dir())
        .with_context(|| format!("no modules of {release} in {}", folder.display()))?;
    Ok(Kernel { series, release, image, modules })
}

/// The one file of a folder with such a name.
fn only(folder: &Path, is: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if super::name(&path).is_ok_and(&is) {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([one]) => Ok(one),
        Err(found) => bail!("{} files instead of one in {}", found.len(), folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: [&str; 8] = [
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64-dbg",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.12-cloud-amd64",
        "linux-image-6.12.115+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.118+deb12-rt-amd64",
    ];

    #[test]
    fn the_newest_build_is_chosen_by_number_and_signed_if_it_can_be() {
        assert_eq!(choose(Series::Old, LISTED.into_iter()), Some(LISTED[2]));
        assert_eq!(choose(Series::New, LISTED.into_iter()), Some(LISTED[6]));
        assert_eq!(choose(Series::New, LISTED[..6].iter().copied()), Some(LISTED[5]));
        assert_eq!(choose(Series::New, LISTED[..4].iter().copied()), None);
    }

    #[test]
    fn a_kernel_is_known_by_the_files_of_its_package() {
        let folder = tempfile::tempdir().unwrap();
        let modules = folder.path().join("lib/modules/6.1.0-50-cloud-amd64");
        std::fs::create_dir_all(&modules).unwrap();
        let error = open(Series::Old, folder.path()).unwrap_err();
        assert!(error.to_string().contains("boot"), "{error}");
        std::fs::create_dir(folder.path().join("boot")).unwrap();
        for file in ["vmlinuz-6.1.0-50-cloud-amd64", "config-6.1.0-50-cloud-amd64"] {
            std::fs::write(folder.path().join("boot").join(file), "").unwrap();
        }
        let kernel = open(Series::Old, folder.path()).unwrap();
        assert_eq!(kernel.release, "6.1.0-50-cloud-amd64");
        assert_eq!(kernel.modules, modules);
    }
}
