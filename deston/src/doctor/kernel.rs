//! Whether the kernel is one that the programs can be loaded into.

use super::facts::is_optional;
use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{OLDEST_KERNEL, has_bpf, kernel_version};

/// The kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Such as `6.1.0-56-amd64`.
    pub(super) release: String,
    /// Whether it runs XDP programs; `None` if it does not tell us.
    pub(super) has_bpf: Option<bool>,
}

pub(super) fn gather() -> Kernel {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Kernel { release, has_bpf: has_bpf() }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(listener) = facts.site.listeners.first() else { return Vec::new() };
    let is_optional = facts.site.listeners.iter().all(|it| is_optional(&it.listener));
    let severity = if is_optional { Severity::Warning } else { Severity::Fault };
    let name = &listener.listener.name;
    let (major, minor) = OLDEST_KERNEL;
    let Kernel { release, has_bpf } = &facts.kernel;
    let advice = format!("boot Linux {major}.{minor} or later, as distributions build it");
    if kernel_version(release) < Some(OLDEST_KERNEL) {
        let told = format!(
            "Linux {release} is too old for the kernel datapath of listener {name}, which needs \
             {major}.{minor}"
        );
        return vec![Finding::advice(Kind::Kernel, severity, told, advice)];
    }
    if *has_bpf == Some(false) {
        let told =
            format!("this kernel has no BPF, which the kernel datapath of listener {name} needs");
        return vec![Finding::advice(Kind::Kernel, severity, told, advice)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{healthy, with};
    use super::*;

    #[test]
    fn an_old_kernel_is_a_fault_of_those_who_insist() {
        let mut facts = healthy();
        facts.kernel.release = "5.15.0-91-generic".to_owned();
        assert_eq!(judge(&facts)[0].severity, Severity::Fault);
        let mut facts = with("");
        facts.kernel.has_bpf = Some(false);
        assert!(judge(&facts)[0].told.contains("has no BPF"));
        facts.kernel.has_bpf = None;
        assert_eq!(judge(&facts), []);
    }

    #[test]
    fn where_nothing_is_carried_by_the_kernel_any_will_do() {
        let mut facts = healthy();
        facts.kernel.release = "4.19.0".to_owned();
        facts.site.listeners.clear();
        assert_eq!(judge(&facts), []);
    }
}
