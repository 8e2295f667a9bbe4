//! SNAT addresses that no interface has: servers answer to them, and whoever is asked for the way there
//! leads it elsewhere, or nobody says who has them.

use std::net::IpAddr;

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Examined;
use crate::model::Forwarding;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    // What userspace serves instead uses none.
    let listeners = facts.listeners().filter(|(examined, _)| examined.hook().is_some());
    let nat = listeners.filter(|(_, l4)| l4.forwarding == Forwarding::Nat);
    let of_listener = |(examined, addresses): (&Examined, &[IpAddr])| {
        let missing = addresses.iter().filter(|it| !facts.site.addresses.contains(*it));
        missing.map(|address| finding(facts, examined, *address)).collect::<Vec<_>>()
    };
    nat.map(|(examined, l4)| (examined, &l4.snat_ips[..])).flat_map(of_listener).collect()
}

fn finding(facts: &Facts, examined: &Examined, address: IpAddr) -> Finding {
    let told = format!(
        "no interface has {address} of `snat_ips` of listener {}: unless routers lead it to this \
         host, what servers answer is lost",
        examined.listener.name
    );
    match examined.outs().find(|out| out.next_hop.is_ipv4() == address.is_ipv4()) {
        Some(out) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let device = facts.name(out.device);
            Finding::command(
                Kind::SnatAddress,
                Severity::Warning,
                told,
                format!("ip address add {address}/{bits} dev {device}"),
            )
        }
        None => Finding::advice(
            Kind::SnatAddress,
            Severity::Warning,
            told,
            "add it to the interface that leads to the servers",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{healthy, with, with_datapath};
    use super::*;
    use crate::datapath::Reason;

    const TWO: &str = "snat_ips = [\"198.51.100.1\", \"203.0.113.9\"]";

    #[test]
    fn an_address_that_no_interface_has_is_added_where_servers_are() {
        assert_eq!(judge(&healthy()), []);
        let found = judge(&with(TWO));
        let command = "ip address add 203.0.113.9/32 dev servers".to_owned();
        assert_eq!(found.iter().map(|it| &it.mend).collect::<Vec<_>>(), [&Mend::Command(command)]);
    }

    #[test]
    fn what_userspace_serves_needs_none() {
        let mut facts = with_datapath("auto", TWO);
        facts.site.listeners[0].chosen = Err(Reason::NotPrivileged);
        assert_eq!(judge(&facts), []);
    }
}
