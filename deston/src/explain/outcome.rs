//! Why a packet met the outcome that it met: one sentence for each.

use deston_common::outcome::Outcome;

/// What became of a packet with this outcome, and why; a sentence for an operator.
pub const fn explanation(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Forwarded => "It was sent to the server of its flow.",
        Outcome::Replied => "It is a server's answer, and was sent to the client.",
        Outcome::Unrelated => {
            "Passed to the host: its destination is no listener, and it is no reply to a flow of \
             ours."
        }
        Outcome::OtherProtocol => {
            "Passed to the host: it is not TCP, UDP or ICMP, or is hidden behind more headers than \
             are read."
        }
        Outcome::Malformed => {
            "Passed to the host: it is shorter than its headers say, or its lengths contradict each \
             other."
        }
        Outcome::ListenerClosed => {
            "Passed to the host: it opens a flow, and the listener was removed and only finishes \
             old ones."
        }
        Outcome::NoServer => {
            "Dropped: no server of the pool is up and has a known next hop. `deston doctor` looks \
             at the ways to them."
        }
        Outcome::ServersFull => {
            "Dropped: every server that is up has `max_connections` flows. Raise it, or add servers."
        }
        Outcome::SnatExhausted => {
            "Dropped: every port that was tried towards the server is taken. Widen `snat_ports`, or \
             add addresses to `snat_ips`."
        }
        Outcome::FlowsFull => "Dropped: the flow table is full. Raise `[kernel] flows`.",
        Outcome::NoFlow => {
            "Passed to the host: it belongs to a connection that is not known here, and only a SYN \
             opens one. The host resets it, unless the connection is its own."
        }
        Outcome::TtlExpired => {
            "Answered with Time Exceeded: its time to live ran out here, as traceroute wants it or \
             a routing loop makes it."
        }
        Outcome::Raced => {
            "Dropped: another processor opened the same flow at the same moment. The client sends \
             it again."
        }
        Outcome::Denied => "Dropped: the listener's `allow` and `deny` do not admit the client.",
        Outcome::RateLimited => {
            "Dropped: the client opens flows faster than the listener's `rate_limit`."
        }
        Outcome::Flooded => {
            "Dropped: this processor sees more new flows a second than `[kernel] flood_gate`."
        }
        Outcome::ToStack => {
            "Passed to the host: the client is admitted, and the listener is served in userspace."
        }
        Outcome::OtherHook => {
            "Passed: its listener is carried at the other hook (XDP or TC), which sees it next or \
             has seen it."
        }
        Outcome::Fragment => {
            "Passed to the host: it is a fragment whose first one was not seen, so its ports are not \
             known, and the address is the host's too."
        }
        Outcome::FragmentLost => {
            "Dropped: it is a fragment whose first one was not seen, so its ports are not known."
        }
        Outcome::Echoed => "Answered: it is an echo request, and the pool has a server that is up.",
        Outcome::EchoUnhealthy => {
            "Dropped: it is an echo request, and no server of the pool is up."
        }
        Outcome::ErrorForwarded => {
            "It is an ICMP error about a server's packet, and was translated and sent to the server."
        }
        Outcome::ErrorReplied => {
            "It is an ICMP error about a client's packet, and was translated and sent to the client."
        }
        Outcome::IcmpUnrelated => "Passed to the host: it is ICMP, and about no flow of ours.",
        Outcome::TooBig => {
            "Answered with Packet Too Big: it does not fit the link to the server, and may not be \
             cut. The client sends smaller ones from here on."
        }
        Outcome::ResetSent => {
            "Answered with a reset: the server of its flow is down, and the pool says `on_down = \
             \"reset\"`, or the server's `drain_timeout` is over."
        }
        Outcome::RefusalSwallowed => {
            "Dropped: a server refused the connection, and another one may take it. The client's \
             next SYN goes there."
        }
        Outcome::NoNextHop => {
            "Dropped: the Ethernet address of the next hop is not known at the moment. `deston \
             doctor` looks at it."
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_outcome_has_a_sentence_of_its_own() {
        let sentences: BTreeSet<&str> = Outcome::ALL.into_iter().map(explanation).collect();
        assert_eq!(sentences.len(), Outcome::ALL.len());
        for sentence in sentences {
            assert!(sentence.starts_with(|first: char| first.is_ascii_uppercase()), "{sentence}");
            assert!(sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
        }
    }

    #[test]
    fn a_sentence_says_whether_the_packet_went_on() {
        use Outcome::*;
        for outcome in Outcome::ALL {
            let expected = match outcome {
                Forwarded | Replied | ErrorForwarded | ErrorReplied => "It ",
                Unrelated | OtherProtocol | Malformed | ListenerClosed | NoFlow | ToStack
                | OtherHook | Fragment | IcmpUnrelated => "Passed",
                TtlExpired | Echoed | TooBig | ResetSent => "Answered",
                NoServer | ServersFull | SnatExhausted | FlowsFull | Raced | Denied
                | RateLimited | Flooded | FragmentLost | EchoUnhealthy | RefusalSwallowed
                | NoNextHop => "Dropped: ",
            };
            assert!(explanation(outcome).starts_with(expected), "{outcome:?}");
        }
    }
}
