//! The far end of a veth. Native XDP sends it frames that only one that polls takes, and takes frames
//! from it whose checksums somebody must have written.

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Hook, Interface, Peer};
use crate::model::XdpMode;

/// Checksums that are left to hardware, by the kernel's names.
const CHECKSUMS: [&str; 3] = ["tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6"];
const GRO: &str = "rx-gro";

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.model.kernel.xdp_mode != XdpMode::Native {
        return Vec::new();
    }
    let listeners = facts.carried().filter(|it| it.hook() == Some(Hook::Xdp));
    let mut indices: Vec<u32> = listeners.flat_map(Examined::interfaces).collect();
    indices.sort_unstable();
    indices.dedup();
    let interfaces = indices.into_iter().filter_map(|index| facts.interface(index));
    interfaces.filter_map(|interface| finding(facts, interface)).collect()
}

fn finding(facts: &Facts, interface: &Interface) -> Option<Finding> {
    let device = &interface.name;
    let index = match interface.peer {
        Peer::None => return None,
        Peer::Here(index) => index,
        Peer::Elsewhere => {
            return Some(Finding::advice(
                Kind::Veth,
                Severity::Note,
                format!(
                    "the far end of {device} is in another namespace: without GRO it drops what XDP \
                     sends, and with checksum offload its packets arrive with wrong checksums"
                ),
                "run there: ethtool -K DEVICE tx off gro on",
            ));
        }
    };
    let peer = facts.interface(index).filter(|peer| !peer.offloads.is_empty())?;
    let is_on = |feature: &str| peer.offloads.contains(feature);
    let leaves_checksums = CHECKSUMS.into_iter().any(is_on);
    let what = match (is_on(GRO), leaves_checksums) {
        (true, false) => return None,
        (false, _) => "has no GRO, and drops what XDP sends",
        (true, true) => "leaves checksums to hardware, and its packets arrive with wrong ones",
    };
    let far = &peer.name;
    Some(Finding::command(
        Kind::Veth,
        Severity::Fault,
        format!("{far}, the far end of {device}, {what}"),
        format!("ethtool -K {far} tx off gro on"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{CLIENTS, at, healthy, interface};
    use super::*;
    use crate::datapath::Chosen;

    const FAR: u32 = 7;

    fn pair(features: &[&str]) -> Facts {
        let mut facts = healthy();
        at(&mut facts, CLIENTS).peer = Peer::Here(FAR);
        let mut far = interface("far");
        far.offloads = features.iter().map(|feature| (*feature).to_owned()).collect();
        facts.site.interfaces.insert(FAR, far);
        facts
    }

    #[test]
    fn the_far_end_polls_and_writes_its_checksums() {
        let command = Mend::Command("ethtool -K far tx off gro on".to_owned());
        assert_eq!(judge(&pair(&["rx-gro"])), []);
        assert_eq!(judge(&pair(&["rx-checksum"]))[0].mend, command);
        assert_eq!(judge(&pair(&["rx-gro", "tx-checksum-ip-generic"]))[0].mend, command);
    }

    #[test]
    fn what_cannot_be_seen_is_worth_a_note() {
        let mut facts = healthy();
        at(&mut facts, CLIENTS).peer = Peer::Elsewhere;
        assert_eq!(judge(&facts)[0].severity, Severity::Note);
        assert_eq!(judge(&pair(&[])), []);
    }

    #[test]
    fn at_tc_the_far_end_may_do_as_it_likes() {
        let mut facts = pair(&["rx-checksum"]);
        facts.site.listeners[0].chosen = Ok(Chosen { hook: Hook::Tc, why_not_xdp: None });
        assert_eq!(judge(&facts), []);
    }
}
