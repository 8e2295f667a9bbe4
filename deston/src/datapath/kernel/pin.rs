//! Where an instance's maps and links are pinned, and whose they are.
//!
//! `/sys/fs/bpf/deston/INSTANCE/vLAYOUT/{maps,links,stages}/NAME`. Whoever holds the lock on the instance's
//! directory may change what is in it; the kernel takes the lock back when its process is gone.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layout::LAYOUT;

/// Where the kernel shows its pinned objects.
const BPFFS: &str = "/sys/fs/bpf";
/// The directory of all instances.
const ROOT: &str = "/sys/fs/bpf/deston";

/// Why an instance's pins cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no bpffs, and none could be mounted.
    #[error("mounting the BPF file system at {BPFFS}: {0} (without it: `[kernel] pin = false`)")]
    Mount(io::Error),
    /// Another process has the instance.
    #[error(
        "another deston runs as instance `{0}`: stop it, or give this one a name of its own \
         (`[kernel] instance`)"
    )]
    Held(String),
    /// A file or directory could not be made, read or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An instance that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    name: String,
    directory: PathBuf,
    lock: Option<Flock<File>>,
}

impl Instance {
    /// Takes an instance, and makes its directories if there are none.
    pub(super) fn claim(name: &str) -> Result<Self, PinError> {
        mount_bpffs()?;
        let directory = Path::new(ROOT).join(name);
        loop {
            make(&directory)?;
            if let Some(lock) = lock(name, &directory)? {
                let instance = Self { name: name.to_owned(), directory, lock: Some(lock) };
                make(&instance.maps())?;
                make(&instance.links())?;
                make(&instance.stages())?;
                return Ok(instance);
            }
        }
    }

    /// Takes an instance that stands; `None` if there is no such.
    pub(super) fn existing(name: &str) -> Result<Option<Self>, PinError> {
        let directory = Path::new(ROOT).join(name);
        while directory.is_dir() {
            if let Some(lock) = lock(name, &directory)? {
                return Ok(Some(Self { name: name.to_owned(), directory, lock: Some(lock) }));
            }
        }
        Ok(None)
    }

    /// An instance that another process holds.
    pub(super) fn of_another(name: &str) -> Self {
        Self { name: name.to_owned(), directory: Path::new(ROOT).join(name), lock: None }
    }

    /// Whether the directory that we hold is still the one of that name: somebody with the right to
    /// may have removed it, and another process may have made it again.
    pub(super) fn is_ours(&self) -> bool {
        let Some(lock) = &self.lock else { return true };
        is_same(lock, &self.directory).unwrap_or(true)
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where maps of this build's layout are pinned.
    pub(super) fn maps(&self) -> PathBuf {
        self.home().join("maps")
    }

    /// Where the arrays of the later stages are pinned.
    pub(super) fn stages(&self) -> PathBuf {
        self.home().join("stages")
    }

    /// Where links to programs of this build's layout are pinned.
    pub(super) fn links(&self) -> PathBuf {
        self.home().join("links")
    }

    fn home(&self) -> PathBuf {
        self.directory.join(format!("v{LAYOUT}"))
    }

    /// The directories of all layouts.
    pub(super) fn homes(&self) -> Result<Vec<PathBuf>, PinError> {
        let names = entries(&self.directory)?;
        Ok(names.into_iter().map(|name| self.directory.join(name)).collect())
    }

    /// The directories of other layouts.
    pub(super) fn other_homes(&self) -> Result<Vec<PathBuf>, PinError> {
        let own = self.home();
        Ok(self.homes()?.into_iter().filter(|home| *home != own).collect())
    }

    /// Forgets the maps of this build's layout.
    pub(super) fn clear_maps(&self) -> Result<(), PinError> {
        remove_tree(&self.maps())?;
        make(&self.maps())
    }

    /// Removes the directories in which nothing is pinned.
    pub(super) fn tidy(&self) {
        let home = self.home();
        let inner = [self.maps(), self.links(), self.stages()];
        for directory in inner.iter().chain([&home, &self.directory]) {
            // Fails where there is something in it, which is then left.
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes everything that is pinned; links that nobody else holds are detached by that.
    pub(super) fn remove(self) -> Result<(), PinError> {
        remove_tree(&self.directory)
    }
}

/// The names of all instances that stand.
pub fn instances() -> Result<Vec<String>, PinError> {
    entries(Path::new(ROOT))
}

/// Instances whose process is gone, and whose maps and links are not: all but `own`.
pub fn orphans(own: &str) -> Result<Vec<String>, PinError> {
    let mut orphans = Vec::new();
    for name in instances()?.into_iter().filter(|name| name != own) {
        let instance = Instance::of_another(&name);
        let mut has_pins = false;
        for home in instance.homes()? {
            has_pins |= !entries(&home.join("maps"))?.is_empty();
            has_pins |= !entries(&home.join("links"))?.is_empty();
        }
        if has_pins && !is_held(&instance.directory)? {
            orphans.push(name);
        }
    }
    Ok(orphans)
}

/// Whether a process holds the instance of a directory. Asking takes the lock for a moment, shared,
/// which `lock` tells from a process that holds it.
fn is_held(directory: &Path) -> Result<bool, PinError> {
    let opened = match File::open(directory) {
        // Somebody has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened.map_err(file(directory))?,
    };
    match Flock::lock(opened, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(file(directory)(errno.into())),
    }
}

/// The names in a directory, sorted; none if there is no such directory.
pub(super) fn entries(directory: &Path) -> Result<Vec<String>, PinError> {
    let failed = file(directory);
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(&failed)?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.push(entry.map_err(&failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes one pin; that there is none is as well.
pub(super) fn unpin(path: &Path) -> Result<(), PinError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(file(path)),
    }
}

/// Removes a directory with all pins in it.
pub(super) fn remove_tree(directory: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(file(directory)),
    }
}

/// Names the file of an error.
pub(super) fn file(path: &Path) -> impl Fn(io::Error) -> PinError {
    move |source| PinError::File { path: path.to_owned(), source }
}

fn make(directory: &Path) -> Result<(), PinError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file(directory))
}

/// Locks an instance's directory. `None` if it was removed meanwhile, and may have been made again.
fn lock(name: &str, directory: &Path) -> Result<Option<Flock<File>>, PinError> {
    let failed = file(directory);
    let mut opened = match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(&failed)?,
    };
    let locked = loop {
        let other = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => break locked,
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => return Err(failed(errno.into())),
        };
        // Who looks for orphans shares the lock for some microseconds; a process that has the
        // instance shares it with nobody.
        match Flock::lock(other, FlockArg::LockSharedNonblock) {
            Ok(shared) => opened = shared.unlock().map_err(|(_, errno)| failed(errno.into()))?,
            Err((_, Errno::EWOULDBLOCK)) => return Err(PinError::Held(name.to_owned())),
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    };
    let is_same = is_same(&locked, directory).map_err(&failed)?;
    Ok(is_same.then_some(locked))
}

/// Whether an open directory is what stands at a path.
fn is_same(open: &File, path: &Path) -> io::Result<bool> {
    let ours = open.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino()))
}

/// Mounts bpffs where nothing is mounted yet.
fn mount_bpffs() -> Result<(), PinError> {
    if statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| PinError::Mount(errno.into()))?;
    let namespace = |process| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|it| it.ino());
    if let (Ok(own), Ok(first)) = (namespace("self"), namespace("1"))
        && own != first
    {
        // `ip netns exec` makes one for its command, and hides the host's file system in it.
        tracing::warn!(
            "this process has a mount namespace of its own: what it pins in {BPFFS} goes with it, \
             and does not outlive it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A directory of the test's own, gone when dropped.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("deston-{}-{name}", std::process::id()));
            make(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = remove_tree(&self.0);
        }
    }

    #[test]
    fn who_looks_for_orphans_is_in_the_way_of_no_start() {
        let (directory, over) = (Directory::new("looked-at"), AtomicBool::new(false));
        let locked: Vec<_> = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        is_held(&directory.0).unwrap();
                    }
                });
            }
            let locked = (0..2_000).map(|_| lock("spec", &directory.0).map(drop)).collect();
            over.store(true, Ordering::Relaxed);
            locked
        });
        for result in locked {
            result.unwrap();
        }
    }

    #[test]
    fn who_has_an_instance_shares_it_with_nobody() {
        let directory = Directory::new("held");
        assert!(!is_held(&directory.0).unwrap());
        let held = lock("spec", &directory.0).unwrap();
        assert!(held.is_some());
        assert!(is_held(&directory.0).unwrap());
        assert!(matches!(lock("spec", &directory.0), Err(PinError::Held(name)) if name == "spec"));
        drop(held);
        assert!(!is_held(&directory.0).unwrap());
    }
}
