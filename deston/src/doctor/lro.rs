//! Large receive offload: the NIC makes one packet of many, which cannot be taken apart again, and
//! does not fit the link to the server. The stack switches it off where it forwards; it does not know
//! that we do.

use std::collections::BTreeSet;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Examined;

const LRO: &str = "rx-lro";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let indices: BTreeSet<u32> =
        facts.site.listeners.iter().flat_map(Examined::interfaces).collect();
    let interfaces = indices.into_iter().filter_map(|index| facts.interface(index));
    let merging = interfaces.filter(|interface| interface.offloads.contains(LRO));
    let finding = |interface: &crate::datapath::Interface| {
        let device = &interface.name;
        Finding::command(
            Kind::Lro,
            Severity::Fault,
            format!("interface {device} merges packets (LRO) into ones that fit no other link"),
            format!("ethtool -K {device} lro off"),
        )
    };
    merging.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{CLIENTS, at, healthy};
    use super::*;

    #[test]
    fn merged_packets_are_a_fault() {
        let mut facts = healthy();
        at(&mut facts, CLIENTS).offloads.insert(LRO.to_owned());
        let command = Mend::Command("ethtool -K clients lro off".to_owned());
        assert_eq!(judge(&facts).iter().map(|it| &it.mend).collect::<Vec<_>>(), [&command]);
    }
}
