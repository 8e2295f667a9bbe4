//! `deston doctor`: what on this host keeps the kernel datapath from working, or from working well,
//! and the command that mends it.
//!
//! [`Facts`] are gathered first. Each check is a judgement over them in a file of its own, pure, with
//! the gathering of what it alone wants to know beside it. Nothing is changed.

mod bpffs;
mod carrier;
mod facts;
mod finding;
mod firewall;
mod foreign_program;
mod forwarding;
mod hidden_tags;
mod jit;
mod kernel;
mod lro;
mod modules;
mod mtu;
mod neighbours;
mod orphans;
mod ports;
mod privileges;
mod reverse_path;
mod routes;
mod snat_addresses;
#[cfg(test)]
mod testing;
mod veth;

pub use facts::Facts;
pub use finding::{Finding, Kind, Mend, Severity};

/// Every check, in the order in which one would mend.
const CHECKS: [fn(&Facts) -> Vec<Finding>; 19] = [
    kernel::judge,
    jit::judge,
    modules::judge,
    privileges::judge,
    bpffs::judge,
    orphans::judge,
    routes::judge,
    carrier::judge,
    foreign_program::judge,
    veth::judge,
    lro::judge,
    hidden_tags::judge,
    mtu::judge,
    neighbours::judge,
    forwarding::judge,
    reverse_path::judge,
    snat_addresses::judge,
    ports::judge,
    firewall::judge,
];

/// Everything that is found, faults first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[cfg(test)]
mod tests {
    use super::testing::healthy;
    use super::*;

    #[test]
    fn a_healthy_host_has_no_finding() {
        assert_eq!(findings(&healthy()), []);
    }

    #[test]
    fn faults_are_told_first() {
        let mut facts = healthy();
        facts.firewall = true;
        facts.privileges.effective = 0;
        let kinds: Vec<Kind> = findings(&facts).iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [Kind::Privileges, Kind::Firewall]);
    }
}
