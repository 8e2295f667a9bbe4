//! Whether what shall outlive the process has a place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::facts::is_optional;
use super::{Facts, Finding, Kind, Severity};

/// The file system that pins are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bpffs {
    /// It is mounted, where every process sees it.
    Shared,
    /// There is none.
    Missing,
    /// This process has a mount namespace of its own: it may be one that nobody else sees.
    Private,
    /// This user may not write there.
    Closed,
}

const PLACE: &str = "/sys/fs/bpf";

pub(super) fn gather() -> Bpffs {
    if !statfs(PLACE).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) {
        return Bpffs::Missing;
    }
    // `ip netns exec` makes one for its command, with another device number.
    let device = |process: &str| {
        fs::metadata(format!("/proc/{process}/root{PLACE}")).map(|place| place.dev())
    };
    if let (Ok(own), Ok(first)) = (device("self"), device("1"))
        && own != first
    {
        return Bpffs::Private;
    }
    let place = if fs::exists("/sys/fs/bpf/deston").unwrap_or(false) {
        "/sys/fs/bpf/deston"
    } else {
        PLACE
    };
    if access(place, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() {
        Bpffs::Shared
    } else {
        Bpffs::Closed
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if !facts.model.kernel.pin || facts.site.listeners.is_empty() {
        return Vec::new();
    }
    let is_optional = facts.site.listeners.iter().all(|it| is_optional(&it.listener));
    let severity = if is_optional { Severity::Warning } else { Severity::Fault };
    vec![match facts.bpffs {
        Bpffs::Shared => return Vec::new(),
        Bpffs::Missing => Finding::command(
            Kind::Bpffs,
            Severity::Warning,
            "no BPF file system is mounted: deston mounts one when it starts, which needs root, and \
             only a process that sees it can take over what is pinned there",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        Bpffs::Private => Finding::advice(
            Kind::Bpffs,
            Severity::Warning,
            "this process sees a BPF file system of its own: what is pinned there goes with it, and \
             does not outlive it",
            "use `nsenter --net=/run/netns/NAME` in place of `ip netns exec NAME`, or write \
             `[kernel] pin = false`",
        ),
        Bpffs::Closed => Finding::advice(
            Kind::Bpffs,
            severity,
            "this user may not write to /sys/fs/bpf, where maps and links are pinned",
            "run as root, or write `[kernel] pin = false`",
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{healthy, with};
    use super::*;

    #[test]
    fn pins_need_a_place_that_others_see() {
        for (place, severity) in [
            (Bpffs::Missing, Severity::Warning),
            (Bpffs::Private, Severity::Warning),
            (Bpffs::Closed, Severity::Fault),
        ] {
            let mut facts = healthy();
            facts.bpffs = place;
            assert_eq!(judge(&facts)[0].severity, severity, "{place:?}");
        }
    }

    #[test]
    fn what_pins_nothing_needs_no_place() {
        let mut facts = with("[kernel]\npin = false");
        facts.bpffs = Bpffs::Missing;
        assert_eq!(judge(&facts), []);
    }
}
