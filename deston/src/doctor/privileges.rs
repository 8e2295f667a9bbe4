//! Whether this user may load and attach programs.

use std::path::PathBuf;

use super::facts::is_optional;
use super::{Facts, Finding, Kind, Severity};
use crate::model::Ports;

/// What this user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Privileges {
    /// Capabilities in effect, a bit each (linux/capability.h).
    pub(super) effective: u64,
    /// This program, which a command may give them to.
    pub(super) program: PathBuf,
    /// The first port that anybody may listen on.
    pub(super) first_port: u16,
}

const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

pub(super) fn gather() -> Privileges {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    Privileges {
        effective: effective(&status),
        program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("deston")),
        first_port: first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1_024),
    }
}

/// Reads /proc/PID/status (proc_pid_status(5)).
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Privileges { effective, program, first_port } = &facts.privileges;
    let has = |capability: u32| effective & (1 << capability) != 0;
    let uses_kernel = !facts.site.listeners.is_empty();
    let is_low = facts.model.listeners.iter().any(|listener| match listener.ports() {
        Ports::One(port) => port < *first_port,
        Ports::Any => false,
    });
    let needed = [
        (uses_kernel && !has(SYS_ADMIN), BPF, "cap_bpf"),
        (uses_kernel, NET_ADMIN, "cap_net_admin"),
        (uses_kernel && !has(SYS_ADMIN), PERFMON, "cap_perfmon"),
        (is_low, NET_BIND_SERVICE, "cap_net_bind_service"),
    ];
    let missing = needed.iter().filter(|(is_needed, bit, _)| *is_needed && !has(*bit));
    let missing: Vec<&str> = missing.map(|(_, _, name)| *name).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    // File capabilities replace each other.
    let wanted: Vec<&str> =
        needed.iter().filter(|(is_needed, ..)| *is_needed).map(|(_, _, name)| *name).collect();
    let is_optional = !is_low && facts.site.listeners.iter().all(|it| is_optional(&it.listener));
    let (severity, comes) = if is_optional {
        (
            Severity::Warning,
            "listeners with `datapath = \"auto\"` are served and guarded in userspace",
        )
    } else {
        (Severity::Fault, "it cannot start")
    };
    let told = format!("this user has no {}: {comes}; root has all", missing.join(", "));
    let command = format!("setcap {}=ep {}", wanted.join(","), program.display());
    vec![Finding::command(Kind::Privileges, severity, told, command)]
}

#[cfg(test)]
mod tests {
    use super::super::testing::healthy;
    use super::*;

    fn command(effective: u64) -> Option<String> {
        let mut facts = healthy();
        facts.privileges.effective = effective;
        judge(&facts).first().map(|finding| match &finding.mend {
            super::super::Mend::Command(command) => command.clone(),
            super::super::Mend::Advice(advice) => panic!("{advice}"),
        })
    }

    #[test]
    fn what_is_missing_is_given_with_what_is_there() {
        let all =
            "setcap cap_bpf,cap_net_admin,cap_perfmon,cap_net_bind_service=ep /usr/bin/deston";
        assert_eq!(command(0).as_deref(), Some(all));
        assert_eq!(command(1 << BPF).as_deref(), Some(all));
        let enough = 1 << BPF | 1 << PERFMON | 1 << NET_ADMIN | 1 << NET_BIND_SERVICE;
        assert_eq!(command(enough), None);
        assert_eq!(command(1 << SYS_ADMIN | 1 << NET_ADMIN | 1 << NET_BIND_SERVICE), None);
    }

    #[test]
    fn userspace_on_a_high_port_needs_nothing() {
        let mut facts = healthy();
        facts.privileges.effective = 0;
        facts.privileges.first_port = 80;
        facts.site.listeners.clear();
        assert_eq!(judge(&facts), []);
        facts.privileges.first_port = 1_024;
        assert!(judge(&facts)[0].told.contains("no cap_net_bind_service"));
    }

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(effective("Name:\tdeston\nCapEff:\t000000c000001000\n"), 0xc0_0000_1000);
        assert_eq!(effective(""), 0);
    }
}
