//! Somebody else's program in the place of ours: an interface has one for XDP.

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Hook, Interface, Program};
use crate::model::DatapathChoice;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let of_listener = |examined: &Examined| {
        if examined.hook() != Some(Hook::Xdp) {
            return Vec::new();
        }
        let interfaces = examined.interfaces();
        let interfaces = interfaces.iter().filter_map(|index| facts.interface(*index));
        interfaces.filter_map(|interface| finding(examined, interface)).collect()
    };
    facts.site.listeners.iter().flat_map(of_listener).collect()
}

fn finding(examined: &Examined, interface: &Interface) -> Option<Finding> {
    let Program::Foreign { name } = &interface.program else { return None };
    let named = name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
    let listener = &examined.listener.name;
    let device = &interface.name;
    // `auto` goes on to TC, also for what userspace could not do.
    let verb = if examined.is_guarded_alone() { "guarded" } else { "carried" };
    let (severity, comes) = match examined.listener.datapath() {
        DatapathChoice::Auto => (Severity::Warning, format!("is {verb} at TC instead")),
        DatapathChoice::Xdp | DatapathChoice::Tc | DatapathChoice::Userspace => {
            (Severity::Fault, format!("cannot be {verb}"))
        }
    };
    let told =
        format!("interface {device} has another XDP program{named}: listener {listener} {comes}");
    let command = format!("ip link set dev {device} xdp off");
    Some(Finding::command(Kind::ForeignProgram, severity, told, command))
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{SERVERS, at, healthy, with_datapath};
    use super::*;
    use crate::datapath::Chosen;

    #[test]
    fn another_program_is_taken_off() {
        let mut facts = healthy();
        at(&mut facts, SERVERS).program = Program::Foreign { name: Some("filter".to_owned()) };
        let found = &judge(&facts)[0];
        assert!(found.told.contains("has another XDP program `filter`"), "{}", found.told);
        assert_eq!(found.mend, Mend::Command("ip link set dev servers xdp off".to_owned()));
    }

    #[test]
    fn auto_goes_on_to_tc_whatever_userspace_could_do() {
        for lines in ["", "forwarding = \"dnat\"", "forwarding = \"dsr-ipip\""] {
            let mut facts = with_datapath("auto", lines);
            at(&mut facts, SERVERS).program = Program::Foreign { name: None };
            let found = &judge(&facts)[0];
            assert_eq!(found.severity, Severity::Warning, "{lines}");
            assert!(found.told.ends_with("is carried at TC instead"), "{}", found.told);
        }
    }

    #[test]
    fn our_own_is_none_and_tc_does_not_mind() {
        let mut facts = healthy();
        at(&mut facts, SERVERS).program = Program::Ours;
        assert_eq!(judge(&facts), []);
        at(&mut facts, SERVERS).program = Program::Foreign { name: None };
        facts.site.listeners[0].chosen = Ok(Chosen { hook: Hook::Tc, why_not_xdp: None });
        assert_eq!(judge(&facts), []);
    }
}
