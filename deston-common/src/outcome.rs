//! What became of a packet: exactly one outcome each, and each is counted.

/// Defines the outcomes once: number, counter name, action.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)+) => {
        /// The outcome of one packet; also the index of its counter.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[$doc])* $variant = $number,)+
        }

        impl Outcome {
            /// Every outcome, in counter order.
            pub const ALL: [Self; Self::COUNT as usize] = [$(Self::$variant,)+];

            /// The name used in logs and counters.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

outcomes! {
    /// Sent to a server.
    Forwarded = 0, "forwarded";
    /// Translated and sent to a client.
    Replied = 1, "replied";
    /// Passed: neither a listener's nor a reply.
    Unrelated = 2, "unrelated";
    /// Passed: not TCP, UDP or ICMP over IPv4 or IPv6, or hidden behind more headers than we walk.
    OtherProtocol = 3, "other_protocol";
    /// Passed: shorter than its headers say, or with lengths that contradict each other.
    Malformed = 4, "malformed";
    /// Passed: opens a flow on a listener that was removed and only finishes old flows.
    ListenerClosed = 5, "listener_closed";
    /// Dropped: no server is up.
    NoServer = 6, "no_server";
    /// Dropped: every server that is up has `max_connections` flows.
    ServersFull = 7, "servers_full";
    /// Dropped: every port tried towards the server is taken.
    SnatExhausted = 8, "snat_exhausted";
    /// Dropped: the flow table is full.
    FlowsFull = 9, "flows_full";
    /// Passed: a TCP packet to a listener, of no known flow, that does not open one. It may be of a
    /// connection that the host's own stack has; if not, the stack answers with a reset.
    NoFlow = 10, "no_flow";
    /// Answered with Time Exceeded: the time to live ran out.
    TtlExpired = 11, "ttl_expired";
    /// Dropped: another processor opened the same flow at the same time; the client sends again.
    Raced = 12, "raced";
    /// Dropped: the listener's lists deny the source.
    Denied = 13, "denied";
    /// Dropped: the source opens flows faster than the listener's limit.
    RateLimited = 14, "rate_limited";
    /// Dropped: this processor sees more new flows a second than `flood_gate`.
    Flooded = 15, "flooded";
    /// Passed: admitted to a listener that the host's stack serves (layer 7, userspace).
    ToStack = 16, "to_stack";
    /// Passed: belongs to the program at the other hook.
    OtherHook = 17, "other_hook";
    /// Passed: a fragment whose ports are not known, to an address that is not ours alone.
    Fragment = 18, "fragment";
    /// Dropped: a fragment whose ports are not known, to an address that is ours alone.
    FragmentLost = 19, "fragment_lost";
    /// Answered: an echo request.
    Echoed = 20, "echoed";
    /// Dropped: an echo request to an address of ours none of whose servers is up.
    EchoUnhealthy = 21, "echo_unhealthy";
    /// Translated and sent to a server: an ICMP error about a reply.
    ErrorForwarded = 22, "error_forwarded";
    /// Translated and sent to a client: an ICMP error about a packet to a server.
    ErrorReplied = 23, "error_replied";
    /// Passed: ICMP that is about no flow of ours.
    IcmpUnrelated = 24, "icmp_unrelated";
    /// Answered with Packet Too Big: it does not fit the link to the server.
    TooBig = 25, "too_big";
    /// Answered with a reset: its server is down and the pool says `on_down = "reset"`.
    ResetSent = 26, "reset_sent";
    /// Dropped: a server refused a SYN while another is eligible; the client's next SYN goes there.
    RefusalSwallowed = 27, "refusal_swallowed";
    /// Dropped: the next hop is not known at the moment.
    NoNextHop = 28, "no_next_hop";
}

impl Outcome {
    /// Number of outcomes.
    pub const COUNT: u32 = 29;

    /// The outcome of a number, as subprograms return it.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Option<Self> {
        if number < Self::COUNT {
            // SAFETY: outcomes are numbered from 0 without a gap, which `ALL` shows.
            Some(unsafe { core::mem::transmute::<u32, Self>(number) })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_numbered_without_a_gap() {
        for (number, outcome) in (0..).zip(Outcome::ALL) {
            assert_eq!(outcome as u32, number);
            assert_eq!(Outcome::from_number(number), Some(outcome));
        }
        assert_eq!(Outcome::from_number(Outcome::COUNT), None);
    }
}
