//! Rules of the host that packets of listeners never meet.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::{Facts, Finding, Kind, Severity};
use crate::datapath::Examined;
use crate::model::Listener;

/// Whether there are packet filters: chains of nftables, or tables of the older iptables.
pub(super) fn gather() -> bool {
    let older = ["ip_tables_names", "ip6_tables_names"].iter().any(|file| {
        std::fs::read_to_string(format!("/proc/net/{file}")).is_ok_and(|names| !names.is_empty())
    });
    older || has_chains().unwrap_or(false)
}

/// linux/netfilter/nfnetlink.h, nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
/// linux/netlink.h: a request for everything.
const NLM_F_REQUEST_DUMP: u16 = 1 | 0x300;

/// Asks nftables for its chains, which needs CAP_NET_ADMIN.
fn has_chains() -> io::Result<bool> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // nlmsghdr; then nfgenmsg: any family, version 0.
    let mut request = Vec::with_capacity(20);
    request.extend(20_u32.to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN).to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 12]);
    socket.send(&request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    Ok(is_chain(&answer))
}

/// Whether the first message of an answer is a chain, and not the end of none.
fn is_chain(answer: &[u8]) -> bool {
    let kind = answer.get(4..).and_then(|rest| rest.first_chunk()).copied();
    kind.map(u16::from_ne_bytes) == Some(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN)
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    if !facts.firewall {
        return Vec::new();
    }
    let open = facts.carried().filter(|it| it.chosen.is_ok() && it.listener.guard.is_open());
    let finding = |examined: &Examined| {
        let Listener { name, address, .. } = &*examined.listener;
        let everybody = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        Finding::advice(
            Kind::Firewall,
            Severity::Note,
            format!(
                "the host has packet filters: packets of listener {name} pass them by, both ways"
            ),
            format!(
                "say in the listener who may connect, everybody or fewer: \
                 `allow = [\"{everybody}\"]`; see also `deny` and `rate_limit`"
            ),
        )
    };
    open.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{healthy, with};
    use super::*;

    #[test]
    fn filters_that_are_passed_by_are_worth_a_note() {
        let mut facts = healthy();
        facts.firewall = true;
        assert_eq!(judge(&facts)[0].severity, Severity::Note);
    }

    #[test]
    fn a_listener_with_a_guard_needs_none() {
        let mut facts = with("allow = [\"198.51.100.0/24\"]");
        facts.firewall = true;
        assert_eq!(judge(&facts), []);
    }

    #[test]
    fn the_end_of_an_empty_list_is_no_chain() {
        let message = |kind: u16| [&20_u32.to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        assert!(is_chain(&message(0x0a03)));
        assert!(!is_chain(&message(3)), "NLMSG_DONE");
        assert!(!is_chain(&[]));
    }
}
