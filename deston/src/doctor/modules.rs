//! Before Linux 6.6 a program at TC is a filter of a qdisc, and both may be modules. The kernel asks
//! for them by itself, unless it must not or they are not there.

use std::path::Path;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Hook, TCX_KERNEL, kernel_version};

/// The qdisc (clsact is of the same module), and the filter.
const NEEDED: [&str; 2] = ["sch_ingress", "cls_bpf"];

/// A module of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Module {
    /// Loaded, or part of the kernel.
    There,
    /// It can be loaded.
    Loadable,
    /// There is none.
    Missing,
    /// The kernel's modules are not seen from here.
    Unknown,
}

/// Those that are needed, in their order.
pub(super) fn gather(release: &str) -> [Module; 2] {
    let list = |name: &str| std::fs::read_to_string(format!("/lib/modules/{release}/{name}")).ok();
    let (builtin, loadable) = (list("modules.builtin"), list("modules.dep"));
    NEEDED.map(|name| {
        if Path::new("/sys/module").join(name).exists() {
            return Module::There;
        }
        module(name, builtin.as_deref(), loadable.as_deref())
    })
}

/// Looks for a module that is not loaded in modules.builtin and modules.dep (depmod(8)).
fn module(name: &str, builtin: Option<&str>, loadable: Option<&str>) -> Module {
    let is_of = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split('.').next() == Some(name)
    };
    match (builtin, loadable) {
        (Some(list), _) if list.lines().any(is_of) => Module::There,
        (_, Some(list)) if list.lines().filter_map(|line| line.split(':').next()).any(is_of) => {
            Module::Loadable
        }
        (Some(_), Some(_)) => Module::Missing,
        (_, _) => Module::Unknown,
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let (major, minor) = TCX_KERNEL;
    let has_tcx = kernel_version(&facts.kernel.release) >= Some((major.into(), minor.into()));
    let at_tc = facts.site.listeners.iter().find(|it| it.hook() == Some(Hook::Tc));
    let Some(listener) = at_tc.filter(|_| !has_tcx).map(|it| &it.listener.name) else {
        return Vec::new();
    };
    let of = |wanted: Module| {
        let named = NEEDED.into_iter().zip(facts.modules);
        named.filter(move |(_, is)| *is == wanted).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (missing, loadable) = (of(Module::Missing), of(Module::Loadable));
    if !missing.is_empty() {
        return vec![Finding::advice(
            Kind::Modules,
            Severity::Fault,
            format!(
                "this kernel has no {}, which listener {listener} needs at TC before Linux 6.6",
                missing.join(" and no ")
            ),
            "boot a kernel that has them, as distributions build it, or Linux 6.6 or later",
        )];
    }
    if loadable.is_empty() {
        return Vec::new();
    }
    vec![Finding::command(
        Kind::Modules,
        Severity::Warning,
        format!(
            "{} not loaded, which listener {listener} needs at TC before Linux 6.6: the kernel asks \
             for it by itself, but not where modules are locked",
            loadable.join(" and ") + if loadable.len() == 1 { " is" } else { " are" }
        ),
        format!("modprobe -a {}", loadable.join(" ")),
    )]
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::healthy;
    use super::*;
    use crate::datapath::Chosen;

    fn at_tc(release: &str, modules: [Module; 2]) -> Facts {
        let mut facts = healthy();
        facts.site.listeners[0].chosen = Ok(Chosen { hook: Hook::Tc, why_not_xdp: None });
        facts.kernel.release = release.to_owned();
        facts.modules = modules;
        facts
    }

    #[test]
    fn older_kernels_need_the_qdisc_and_the_filter() {
        let found = judge(&at_tc("6.1.0-44-amd64", [Module::Loadable; 2]));
        assert_eq!(found[0].mend, Mend::Command("modprobe -a sch_ingress cls_bpf".to_owned()));
        let found = judge(&at_tc("6.1.0-44-amd64", [Module::There, Module::Loadable]));
        assert_eq!(found[0].mend, Mend::Command("modprobe -a cls_bpf".to_owned()));
        let found = judge(&at_tc("6.1.0-44-amd64", [Module::Missing, Module::There]));
        assert_eq!(found[0].severity, Severity::Fault);
        for fine in [Module::There, Module::Unknown] {
            assert_eq!(judge(&at_tc("6.1.0-44-amd64", [fine; 2])), []);
        }
    }

    #[test]
    fn tcx_and_xdp_need_neither() {
        assert_eq!(judge(&at_tc("6.6.0", [Module::Missing; 2])), []);
        let mut facts = healthy();
        facts.kernel.release = "6.1.0".to_owned();
        facts.modules = [Module::Missing; 2];
        assert_eq!(judge(&facts), []);
    }

    #[test]
    fn a_module_is_found_in_the_lists_of_its_kernel() {
        let builtin = Some("kernel/net/sched/sch_ingress.ko\nkernel/net/sched/sch_fq.ko\n");
        let loadable = Some("kernel/net/sched/cls_bpf.ko.xz: kernel/net/a.ko\n");
        let of = |name| module(name, builtin, loadable);
        assert_eq!(of("sch_ingress"), Module::There);
        assert_eq!(of("cls_bpf"), Module::Loadable);
        assert_eq!(of("cls"), Module::Missing);
        assert_eq!(module("cls_bpf", None, None), Module::Unknown);
        assert_eq!(module("cls_bpf", None, Some("")), Module::Unknown);
    }
}
