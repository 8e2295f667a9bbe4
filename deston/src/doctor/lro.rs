//! Packets that the NIC has merged do not fit the link to the server. Those of large receive offload
//! cannot be taken apart again; the stack switches it off where it forwards, and does not know that we
//! do. Those of hardware GRO the stack takes apart, and native XDP comes before the stack.

use std::collections::BTreeSet;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Hook, Interface};
use crate::model::XdpMode;

const LRO: &str = "rx-lro";
const HARDWARE_GRO: &str = "rx-gro-hw";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let lro = merging(facts, facts.carried(), LRO).map(|interface| {
        let device = &interface.name;
        Finding::command(
            Kind::Lro,
            Severity::Fault,
            format!("interface {device} merges packets (LRO) into ones that fit no other link"),
            format!("ethtool -K {device} lro off"),
        )
    });
    // The kernel switches it off for generic XDP.
    let is_native = facts.model.kernel.xdp_mode == XdpMode::Native;
    let at_xdp = facts.carried().filter(|it| is_native && it.hook() == Some(Hook::Xdp));
    let hardware = merging(facts, at_xdp, HARDWARE_GRO).map(|interface| {
        let device = &interface.name;
        Finding::command(
            Kind::HardwareGro,
            Severity::Fault,
            format!(
                "interface {device} merges packets before XDP sees them (hardware GRO), into ones \
                 that fit no other link"
            ),
            format!("ethtool -K {device} rx-gro-hw off"),
        )
    });
    lro.chain(hardware).collect()
}

/// The interfaces of listeners that have a feature.
fn merging<'a>(
    facts: &'a Facts,
    listeners: impl Iterator<Item = &'a Examined>,
    feature: &'a str,
) -> impl Iterator<Item = &'a Interface> {
    let indices: BTreeSet<u32> = listeners.flat_map(Examined::interfaces).collect();
    let interfaces = indices.into_iter().filter_map(|index| facts.interface(index));
    interfaces.filter(move |interface| interface.offloads.contains(feature))
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{CLIENTS, at, healthy, with};
    use super::*;
    use crate::datapath::Chosen;

    #[test]
    fn merged_packets_are_a_fault() {
        let mut facts = healthy();
        at(&mut facts, CLIENTS).offloads.insert(LRO.to_owned());
        let command = Mend::Command("ethtool -K clients lro off".to_owned());
        assert_eq!(judge(&facts).iter().map(|it| &it.mend).collect::<Vec<_>>(), [&command]);
    }

    #[test]
    fn what_hardware_has_merged_only_the_stack_takes_apart() {
        let mut facts = healthy();
        at(&mut facts, CLIENTS).offloads.insert(HARDWARE_GRO.to_owned());
        let command = Mend::Command("ethtool -K clients rx-gro-hw off".to_owned());
        assert_eq!(judge(&facts).iter().map(|it| &it.mend).collect::<Vec<_>>(), [&command]);
        facts.site.listeners[0].chosen = Ok(Chosen { hook: Hook::Tc, why_not_xdp: None });
        assert_eq!(judge(&facts), []);
        let mut facts = with("[kernel]\nxdp_mode = \"generic\"");
        at(&mut facts, CLIENTS).offloads.insert(HARDWARE_GRO.to_owned());
        assert_eq!(judge(&facts), []);
    }
}
