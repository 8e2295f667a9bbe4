//! A NIC that takes VLAN tags off keeps them from XDP, which then sees a packet of no VLAN.

use std::collections::BTreeSet;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Hook;

const TAKES_OFF: &str = "rx-vlan-hw-parse";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let listeners = facts.carried().filter(|it| it.hook() == Some(Hook::Xdp));
    let indices: BTreeSet<u32> = listeners.flat_map(|it| it.interfaces()).collect();
    let below: BTreeSet<u32> = facts.site.interfaces.values().filter_map(|it| it.below).collect();
    let tagged = indices.intersection(&below).filter_map(|index| facts.interface(*index));
    let hiding = tagged.filter(|interface| interface.offloads.contains(TAKES_OFF));
    let finding = |interface: &crate::datapath::Interface| {
        let device = &interface.name;
        Finding::command(
            Kind::HiddenTags,
            Severity::Fault,
            format!(
                "interface {device} has VLANs and takes their tags off before XDP sees them: their \
                 packets are taken for those of no VLAN"
            ),
            format!("ethtool -K {device} rxvlan off"),
        )
    };
    hiding.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{SERVERS, at, healthy, interface};
    use super::*;

    #[test]
    fn tags_that_xdp_does_not_see_are_a_fault() {
        let mut facts = healthy();
        at(&mut facts, SERVERS).offloads.insert(TAKES_OFF.to_owned());
        assert_eq!(judge(&facts), [], "there is no VLAN");
        let vlan = crate::datapath::Interface { below: Some(SERVERS), ..interface("servers.10") };
        facts.site.interfaces.insert(9, vlan);
        let command = Mend::Command("ethtool -K servers rxvlan off".to_owned());
        assert_eq!(judge(&facts)[0].mend, command);
    }
}
