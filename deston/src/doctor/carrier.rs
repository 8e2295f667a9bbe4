//! Which datapath carries each listener, and why not the one that was asked for, or the faster one.

use super::facts::is_optional;
use super::{Facts, Finding, Kind, Severity};
use crate::datapath::{Examined, Reason};
use crate::model::XdpMode;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let listeners = facts.site.listeners.iter();
    listeners.filter_map(|examined| finding(facts, examined)).collect()
}

fn finding(facts: &Facts, examined: &Examined) -> Option<Finding> {
    let listener = &examined.listener;
    let (name, asked) = (&listener.name, listener.datapath());
    let (carried, served) = if examined.is_guarded_alone() {
        ("guarded", "guarded in userspace")
    } else {
        ("carried", "served from userspace")
    };
    let (severity, told, reason) = match &examined.chosen {
        Ok(chosen) => {
            let reason = chosen.why_not_xdp.as_ref()?;
            let told = format!("listener {name} is {carried} at TC, and not at XDP: {reason}");
            (Severity::Note, told, reason)
        }
        // What there is to say of it, the routes say.
        Err(Reason::NoRoute(_) | Reason::TooManyTags(_)) => return None,
        Err(reason) if is_optional(listener) => {
            let told = format!("listener {name} is {served}: {reason}");
            (Severity::Note, told, reason)
        }
        Err(reason) => {
            let told = format!("listener {name}: datapath \"{asked}\" cannot be had: {reason}");
            (Severity::Fault, told, reason)
        }
    };
    let advice = |text: &str| Finding::advice(Kind::Carrier, severity, told.as_str(), text);
    Some(match reason {
        Reason::AddressNotHere(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            match facts.site.default_device {
                Some(device) => Finding::command(
                    Kind::Carrier,
                    severity,
                    told.as_str(),
                    format!("ip address add {address}/{bits} dev {}", facts.name(device)),
                ),
                None => advice("add the address to an interface, or write `interfaces`"),
            }
        }
        Reason::Veth(_) => advice(
            "write `datapath = \"xdp\"` where packets are many and transfers short: without \
             segmentation offload bulk transfers are slower",
        ),
        Reason::NotNative(_) if facts.model.kernel.xdp_mode == XdpMode::Native => advice(
            "TC works on any interface: write `datapath = \"tc\"`, or another NIC's interface",
        ),
        Reason::LoopbackInterface(_) => advice("write `datapath = \"tc\"`"),
        Reason::NoInterface(_) => advice("name one of those that `ip link` lists"),
        Reason::NoDefaultRoute | Reason::AddressOnLoopback(_) => {
            advice("write `interfaces = [\"..\"]` with those that clients come in by")
        }
        Reason::NotDedicated(_) => advice("write a `port`, or an address that no interface has"),
        Reason::NotOnLink(_) => advice("use `forwarding = \"dsr-ipip\"`, which goes by routers"),
        Reason::OldKernel(_)
        | Reason::NotPrivileged
        | Reason::NotAsked
        | Reason::NotLayer4
        | Reason::LoopbackServer(_)
        | Reason::RemoteServer(_)
        | Reason::LocalServer(_)
        | Reason::NoRoute(_)
        | Reason::OtherFamily { .. }
        | Reason::TooManyTags(_)
        | Reason::GuardOfLoopback
        | Reason::NotNative(_)
        | Reason::NotEthernet(_)
        | Reason::Attach(_)
        | Reason::Host(_) => {
            advice("write `datapath = \"userspace\"` to be served without the kernel datapath")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::Mend;
    use super::super::testing::healthy;
    use super::*;
    use crate::datapath::{Chosen, Hook};

    #[test]
    fn an_address_that_nobody_has_is_added() {
        let mut facts = healthy();
        let reason = Reason::AddressNotHere("198.51.100.1".parse().unwrap());
        facts.site.listeners[0].chosen = Err(reason);
        let found = &judge(&facts)[0];
        assert_eq!(found.severity, Severity::Fault);
        let command = "ip address add 198.51.100.1/32 dev clients".to_owned();
        assert_eq!(found.mend, Mend::Command(command));
    }

    #[test]
    fn the_slower_hook_is_worth_a_note() {
        let mut facts = healthy();
        let why_not_xdp = Some(Reason::Veth("clients".to_owned()));
        facts.site.listeners[0].chosen = Ok(Chosen { hook: Hook::Tc, why_not_xdp });
        let found = &judge(&facts)[0];
        assert_eq!(found.severity, Severity::Note);
        assert!(found.told.contains("at TC, and not at XDP: clients is a veth"), "{}", found.told);
    }
}
