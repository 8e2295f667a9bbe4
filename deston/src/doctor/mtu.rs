//! Packets that come in and do not fit the link to a server. They are answered with Packet Too Big,
//! which costs each connection a moment, and breaks those whose client never hears it.

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Out};
use crate::model::{Forwarding, L4};

/// Bytes of the header around a packet in a tunnel (RFC 2003; RFC 2473).
const AROUND_IPV4: u32 = 20;
const AROUND_IPV6: u32 = 40;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (examined, l4) in facts.listeners() {
        let found = examined.outs().filter_map(|out| finding(facts, examined, l4, out));
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

fn finding(facts: &Facts, examined: &Examined, l4: &L4, out: &Out) -> Option<Finding> {
    let around = match l4.forwarding {
        Forwarding::Nat | Forwarding::Dnat | Forwarding::DsrL2 => 0,
        Forwarding::DsrIpip if out.next_hop.is_ipv4() => AROUND_IPV4,
        Forwarding::DsrIpip => AROUND_IPV6,
    };
    let clients = examined.clients.iter().filter_map(|index| facts.interface(*index));
    let largest = clients.max_by_key(|interface| interface.mtu)?;
    let needed = largest.mtu + around;
    if out.mtu >= needed || facts.interface(out.interface)?.is_loopback {
        return None;
    }
    let (client, server, mtu) = (&largest.name, facts.name(out.device), out.mtu);
    let tunnel = if around > 0 { format!(" and {around} more in a tunnel") } else { String::new() };
    Some(Finding::command(
        Kind::Mtu,
        Severity::Warning,
        format!(
            "{client} takes packets of {} bytes{tunnel}, and {server} takes {mtu}: clients of \
             listener {} are told to send smaller ones",
            largest.mtu, examined.listener.name
        ),
        format!("ip link set dev {server} mtu {needed}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::{CLIENTS, at, healthy, out, with};
    use super::*;

    fn command(facts: &Facts) -> Option<Mend> {
        judge(facts).first().map(|finding| finding.mend.clone())
    }

    #[test]
    fn what_comes_in_fits_the_way_to_the_server() {
        let mut facts = healthy();
        out(&mut facts).mtu = 1_400;
        let raise = |mtu| Some(Mend::Command(format!("ip link set dev servers mtu {mtu}")));
        assert_eq!(command(&facts), raise(1_500));
        at(&mut facts, CLIENTS).mtu = 1_400;
        assert_eq!(command(&facts), None);

        let mut facts = with("forwarding = \"dsr-ipip\"");
        assert_eq!(command(&facts), raise(1_520));
        out(&mut facts).mtu = 1_520;
        assert_eq!(command(&facts), None);
    }
}
