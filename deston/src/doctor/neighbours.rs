//! Next hops whose Ethernet address is not known: their servers get no new flow until it is.

use std::collections::BTreeMap;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Out;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let outs = facts.site.listeners.iter().flat_map(|examined| examined.outs());
    let unknown = outs.filter(|out| !out.is_known);
    let unknown: BTreeMap<_, &Out> = unknown.map(|out| ((out.device, out.next_hop), out)).collect();
    let finding = |out: &Out| {
        let (hop, device) = (out.next_hop, facts.name(out.device));
        Finding::command(
            Kind::Neighbour,
            Severity::Warning,
            format!(
                "the Ethernet address of {hop} on {device} is not known: servers behind it get no \
                 new flow until it answers. A running deston asks for it; if the command fails, it \
                 is not up, or not on that link"
            ),
            format!("ping -c 1 -W 2 -I {device} {hop}"),
        )
    };
    unknown.into_values().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{healthy, out};
    use super::*;

    #[test]
    fn who_is_not_known_is_asked() {
        let mut facts = healthy();
        out(&mut facts).is_known = false;
        let command = Mend::Command("ping -c 1 -W 2 -I servers 203.0.113.2".to_owned());
        assert_eq!(judge(&facts)[0].mend, command);
    }
}
