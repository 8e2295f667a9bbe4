//! Saying which packets the kernel has dropped though clients were admitted, a line for each sweep at
//! the most.
//!
//! The programs log nothing; they count. A drop that an operator can mend is worth a line while it
//! happens, not only when the process stops.

use deston_common::outcome::Outcome;

/// Packets of each outcome, in the order of `Outcome::ALL`.
pub(super) type Counts = [u64; Outcome::COUNT as usize];

/// What has been told so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Counts,
}

impl Refusals {
    /// What has been dropped since the last call, and what mends it; `None` if nothing was.
    pub(super) fn news(&mut self, counts: Counts) -> Option<String> {
        let since = std::mem::replace(&mut self.told, counts);
        let news: Vec<String> = Outcome::ALL
            .into_iter()
            .zip(counts.iter().zip(since))
            .filter_map(|(outcome, (now, before))| {
                let dropped = now.saturating_sub(before);
                let mend = mend(outcome).filter(|_| dropped > 0)?;
                Some(format!("{}={dropped} ({mend})", outcome.name()))
            })
            .collect();
        (!news.is_empty()).then(|| news.join(", "))
    }
}

/// What an operator can do about a dropped packet.
fn mend(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::NoServer => Some("no server is up and has a known next hop"),
        Outcome::ServersFull => Some("every server has `max_connections` flows"),
        Outcome::SnatExhausted => {
            Some("the ports towards a server are taken: widen `snat_ports`, or add `snat_ips`")
        }
        Outcome::FlowsFull => Some("raise `[kernel] flows`"),
        Outcome::Flooded => Some(
            "more new flows a second than a processor's gate lets in: raise `[kernel] flood_gate`, \
             or refuse clients by `rate_limit` and `deny`",
        ),
        Outcome::NoNextHop => {
            Some("the Ethernet address of a next hop is not known: `deston doctor` tells which")
        }
        Outcome::Forwarded
        | Outcome::Replied
        | Outcome::Unrelated
        | Outcome::OtherProtocol
        | Outcome::Malformed
        | Outcome::ListenerClosed
        | Outcome::NoFlow
        | Outcome::TtlExpired
        | Outcome::Raced
        | Outcome::Denied
        | Outcome::RateLimited
        | Outcome::ToStack
        | Outcome::OtherHook
        | Outcome::Fragment
        | Outcome::FragmentLost
        | Outcome::Echoed
        | Outcome::EchoUnhealthy
        | Outcome::ErrorForwarded
        | Outcome::ErrorReplied
        | Outcome::IcmpUnrelated
        | Outcome::TooBig
        | Outcome::ResetSent
        | Outcome::RefusalSwallowed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(Outcome, u64)]) -> Counts {
        let mut counts = Counts::default();
        for (outcome, count) in of {
            counts[*outcome as usize] = *count;
        }
        counts
    }

    #[test]
    fn only_what_was_dropped_since_the_last_look_is_told() {
        let mut refusals = Refusals::default();
        let first = counts(&[(Outcome::Forwarded, 9), (Outcome::SnatExhausted, 40)]);
        let told = refusals.news(first).unwrap();
        assert!(told.contains("snat_exhausted=40") && told.contains("`snat_ports`"), "{told}");
        assert!(told.contains("`snat_ips`"), "{told}");
        assert!(!told.contains("forwarded"), "{told}");
        assert_eq!(refusals.news(first), None);
        let more = counts(&[(Outcome::SnatExhausted, 41), (Outcome::FlowsFull, 2)]);
        let told = refusals.news(more).unwrap();
        assert!(told.contains("snat_exhausted=1 ") && told.contains("flows_full=2 "), "{told}");
    }

    #[test]
    fn what_is_shed_without_a_word_to_the_client_is_told_with_its_mend() {
        for (outcome, mend) in
            [(Outcome::Flooded, "`[kernel] flood_gate`"), (Outcome::NoNextHop, "`deston doctor`")]
        {
            let told = Refusals::default().news(counts(&[(outcome, 3)])).unwrap();
            assert!(told.starts_with(&format!("{}=3 (", outcome.name())), "{told}");
            assert!(told.contains(mend), "{told}");
        }
    }
}
