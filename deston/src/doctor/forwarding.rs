//! Whether the host forwards, which `dnat` needs: servers send everything by way of it.

use super::{Facts, Finding, Kind, Severity};
use crate::model::Forwarding;

/// Whether packets for others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forwards {
    /// Of IPv4.
    pub(super) v4: bool,
    /// Of IPv6.
    pub(super) v6: bool,
}

const V4: &str = "net.ipv4.ip_forward";
const V6: &str = "net.ipv6.conf.all.forwarding";

pub(super) fn gather() -> Forwards {
    let is_on = |key: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/")));
        text.is_ok_and(|text| text.trim() == "1")
    };
    Forwards { v4: is_on(V4), v6: is_on(V6) }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let needs = |is_v4: bool| {
        facts.with(Forwarding::Dnat).find(|it| it.listener.address.is_ipv4() == is_v4)
    };
    let families = [(true, facts.forwards.v4, V4), (false, facts.forwards.v6, V6)];
    let missing = families.into_iter().filter(|(_, is_on, _)| !is_on);
    let finding = |(is_v4, _, key): (bool, bool, &str)| {
        let listener = &needs(is_v4)?.listener.name;
        let told = format!(
            "the host does not forward: the servers of listener {listener} (`dnat`) send everything \
             by way of it, and their own connections end here; so do answers whose flow is lost"
        );
        let command = format!("sysctl -w {key}=1");
        Some(Finding::command(Kind::Forwarding, Severity::Warning, told, command))
    };
    missing.filter_map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{healthy, with};
    use super::*;

    #[test]
    fn dnat_needs_a_host_that_forwards() {
        let none = Forwards { v4: false, v6: false };
        let mut facts = with("forwarding = \"dnat\"");
        facts.forwards = none;
        let found = judge(&facts);
        assert_eq!(found.len(), 1, "nothing is of IPv6");
        assert_eq!(found[0].mend, Mend::Command("sysctl -w net.ipv4.ip_forward=1".to_owned()));
        let mut facts = healthy();
        facts.forwards = none;
        assert_eq!(judge(&facts), [], "nat needs none");
    }
}
