//! Interfaces where the host drops what comes in by another way than it would go out (`rp_filter`).
//! Packets that the programs carry never meet that; what they pass does: echo, other ports, layer 7,
//! and the forwarded traffic of `dnat` servers.

use std::collections::BTreeSet;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Examined;
use crate::model::Forwarding;

/// The value for "strict" (Documentation/networking/ip-sysctl.rst); the larger of `all` and the
/// interface's own counts.
const STRICT: u8 = 1;

/// The interfaces that are strict.
pub(super) fn gather(names: impl Iterator<Item = String>) -> Vec<String> {
    let value = |name: &str| -> u8 {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let all = value("all");
    names.filter(|name| value(name).max(all) == STRICT).collect()
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let listeners = facts.listeners().filter(|(it, _)| it.listener.address.is_ipv4());
    let mut asymmetric: BTreeSet<(u32, &str)> = BTreeSet::new();
    for (examined, l4) in listeners {
        asymmetric.extend(from_elsewhere(facts, examined).map(|it| (it, &*examined.listener.name)));
        if l4.forwarding == Forwarding::Dnat {
            // What servers send to clients the host would send out by the default route; what clients
            // send to servers comes in by an interface that may not be that one.
            let others =
                examined.clients.iter().filter(|it| Some(**it) != facts.site.default_device);
            asymmetric.extend(others.map(|it| (*it, &*examined.listener.name)));
        }
    }
    let strict = asymmetric.into_iter().filter(|(index, _)| {
        facts.interface(*index).is_some_and(|it| facts.strict.contains(&it.name))
    });
    let finding = |(index, listener): (u32, &str)| {
        let device = facts.name(index);
        let told = format!(
            "{device} drops packets that the host would not answer by it (rp_filter): clients of \
             listener {listener} that other routes lead to get no echo, and nothing else that the \
             host itself answers"
        );
        let command = format!("sysctl -w net.ipv4.conf.{device}.rp_filter=2");
        Finding::command(Kind::ReversePath, Severity::Warning, told, command)
    };
    strict.map(finding).collect()
}

/// Interfaces that clients come in by from anywhere, and that the default route does not lead to.
fn from_elsewhere<'a>(
    facts: &'a Facts,
    examined: &'a Examined,
) -> impl Iterator<Item = u32> + use<'a> {
    let is_named = !examined.listener.interfaces().is_empty();
    let default = facts.site.default_device;
    let others = move |index: &u32| is_named && default.is_some() && default != Some(*index);
    examined.clients.iter().copied().filter(others)
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{SERVERS, healthy, with};
    use super::*;

    #[test]
    fn clients_by_another_way_than_the_default_route_need_a_loose_filter() {
        let mut facts = with("interfaces = [\"clients\"]");
        facts.strict = vec!["clients".to_owned(), "servers".to_owned()];
        assert_eq!(judge(&facts), [], "the default route leads to the clients");
        facts.site.default_device = Some(SERVERS);
        let found = judge(&facts);
        assert_eq!(found.len(), 1);
        let command = "sysctl -w net.ipv4.conf.clients.rp_filter=2".to_owned();
        assert_eq!(found[0].mend, Mend::Command(command));
        facts.strict.clear();
        assert_eq!(judge(&facts), []);
    }

    #[test]
    fn dnat_needs_it_wherever_the_default_route_leads_elsewhere() {
        let mut facts = with("forwarding = \"dnat\"");
        facts.strict = vec!["clients".to_owned()];
        facts.site.default_device = Some(SERVERS);
        assert_eq!(judge(&facts).len(), 1);
        let mut facts = healthy();
        facts.strict = vec!["clients".to_owned()];
        facts.site.default_device = Some(SERVERS);
        assert_eq!(judge(&facts), [], "nobody says that clients come from elsewhere");
    }
}
