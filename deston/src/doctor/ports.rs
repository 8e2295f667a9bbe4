//! SNAT ports that the host gives to its own connections too: one to a server from a port that a flow
//! has would be taken for that flow.

use std::ops::RangeInclusive;

use super::{Facts, Finding, Kind, Severity};
use crate::model::{Forwarding, HostPorts, SnatPorts};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(host) = &facts.ports else { return Vec::new() };
    let nat = facts.listeners().filter(|(_, l4)| l4.forwarding == Forwarding::Nat);
    let shared = nat.filter(|(_, l4)| host.meet(l4.snat_ports));
    let finding = |listener: &str, ports: SnatPorts| {
        let (first, last) = host.ephemeral.clone().into_inner();
        let told = format!(
            "listener {listener}: `snat_ports` {}-{} has ports of the host's own connections, \
             {first}-{last}",
            ports.min, ports.max
        );
        let command =
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", reserved(host, ports));
        Finding::command(Kind::Ports, Severity::Warning, told, command)
    };
    shared.map(|(examined, l4)| finding(&examined.listener.name, l4.snat_ports)).collect()
}

/// What is reserved already, and these.
fn reserved(host: &HostPorts, ports: SnatPorts) -> String {
    let own = [ports.min..=ports.max];
    let text = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    host.reserved.iter().chain(&own).map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{healthy, with};
    use super::*;

    #[test]
    fn ports_of_the_host_are_reserved_with_those_that_are() {
        let mut facts = with("snat_ports = \"30000-40000\"");
        let host = facts.ports.as_mut().unwrap();
        host.reserved = vec![8_080..=8_080, 9_000..=9_010];
        let command = "sysctl -w net.ipv4.ip_local_reserved_ports=8080,9000-9010,30000-40000";
        assert_eq!(judge(&facts)[0].mend, Mend::Command(command.to_owned()));
        facts.ports.as_mut().unwrap().reserved.push(30_000..=40_000);
        assert_eq!(judge(&facts), []);
        assert_eq!(judge(&healthy()), [], "the default is below them");
    }

    #[test]
    fn only_nat_has_ports_of_its_own() {
        let mut facts = with("forwarding = \"dnat\"");
        facts.ports.as_mut().unwrap().ephemeral = 1_024..=65_535;
        assert_eq!(judge(&facts), []);
    }
}
