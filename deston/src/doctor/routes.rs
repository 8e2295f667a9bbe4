//! Whether every server can be reached, and by frames that we can send.

use super::facts::is_optional;
use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Out, Reach, ServerWay};

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let unreachable = |examined: &'_ Examined| {
        let found = examined.servers.iter().filter_map(|server| match server.reach {
            Reach::Nowhere => Some(no_route(facts, examined, server)),
            Reach::TooManyTags => Some(too_many_tags(examined, server)),
            Reach::Here | Reach::Out(_) => None,
        });
        found.collect::<Vec<_>>()
    };
    facts.site.listeners.iter().flat_map(unreachable).collect()
}

fn severity(examined: &Examined) -> Severity {
    if is_optional(&examined.listener) { Severity::Warning } else { Severity::Fault }
}

fn too_many_tags(examined: &Examined, server: &ServerWay) -> Finding {
    Finding::advice(
        Kind::TooManyTags,
        severity(examined),
        format!(
            "the route to server {} of listener {} leads through more than two VLAN devices, and \
             frames of the kernel datapath have two tags at most",
            server.name, examined.listener.name
        ),
        "lead the route by a device with two tags at most",
    )
}

fn no_route(facts: &Facts, examined: &Examined, server: &ServerWay) -> Finding {
    let ServerWay { name, address, .. } = server;
    let listener = &examined.listener.name;
    let severity = severity(examined);
    let told = format!("there is no route to server {name} of listener {listener}");
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let to = format!("{}/{bits}", address.ip());
    // The way that another server takes is the likeliest.
    let known = examined.outs().find(|out| out.next_hop.is_ipv4() == address.is_ipv4());
    if let Some(out) = known {
        let way = way(facts, out, examined);
        return Finding::command(Kind::Route, severity, told, format!("ip route add {to} {way}"));
    }
    let others =
        facts.site.interfaces.iter().filter(|(index, interface)| {
            !interface.is_loopback && !examined.clients.contains(index)
        });
    let mut others = others.map(|(_, interface)| interface);
    match (others.next(), others.next()) {
        (Some(only), None) => {
            let command = format!("ip route add {to} dev {}", only.name);
            Finding::command(Kind::Route, severity, told, command)
        }
        (_, _) => Finding::advice(
            Kind::Route,
            severity,
            told,
            format!("ip route add {to} via ROUTER, or `dev INTERFACE` on the same link"),
        ),
    }
}

/// By the router of another server, or on the link that it is on.
fn way(facts: &Facts, out: &Out, examined: &Examined) -> String {
    let device = facts.name(out.device);
    let is_server = examined.servers.iter().any(|server| server.address.ip() == out.next_hop);
    if is_server { format!("dev {device}") } else { format!("via {} dev {device}", out.next_hop) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{SERVERS, healthy, interface};
    use super::super::{Facts, Mend};
    use super::*;

    fn lost() -> Facts {
        let mut facts = healthy();
        facts.site.listeners[0].servers[0].reach = Reach::Nowhere;
        facts
    }

    fn command(facts: &Facts) -> Option<String> {
        match &judge(facts)[0].mend {
            Mend::Command(command) => Some(command.clone()),
            Mend::Advice(_) => None,
        }
    }

    #[test]
    fn a_route_goes_the_way_of_another_server() {
        let mut facts = lost();
        let mut other = facts.site.listeners[0].servers[0].clone();
        other.address = "203.0.113.18:8000".parse().unwrap();
        let mut out = Out {
            device: SERVERS,
            interface: SERVERS,
            next_hop: other.address.ip(),
            is_known: true,
            mtu: 1_500,
        };
        other.reach = Reach::Out(out);
        facts.site.listeners[0].servers.push(other);
        assert_eq!(command(&facts).as_deref(), Some("ip route add 203.0.113.2/32 dev servers"));
        out.next_hop = "203.0.113.17".parse().unwrap();
        facts.site.listeners[0].servers[1].reach = Reach::Out(out);
        let via = "ip route add 203.0.113.2/32 via 203.0.113.17 dev servers";
        assert_eq!(command(&facts).as_deref(), Some(via));
    }

    #[test]
    fn no_route_mends_one_through_too_many_vlans() {
        let mut facts = healthy();
        facts.site.listeners[0].servers[0].reach = Reach::TooManyTags;
        let found = &judge(&facts)[0];
        assert_eq!((found.kind, found.severity), (Kind::TooManyTags, Severity::Fault));
        assert!(found.told.contains("more than two VLAN devices"), "{}", found.told);
        assert_eq!(command(&facts), None);
    }

    #[test]
    fn or_by_the_only_other_interface() {
        let mut facts = lost();
        assert_eq!(command(&facts).as_deref(), Some("ip route add 203.0.113.2/32 dev servers"));
        facts.site.interfaces.insert(9, interface("eth9"));
        assert_eq!(command(&facts), None);
    }
}
