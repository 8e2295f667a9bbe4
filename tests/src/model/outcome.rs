//! What became of a packet, and what the kernel is asked to do with it.

macro_rules! outcomes {
    ($($variant:ident = $name:literal => $action:ident,)+) => {
        /// What became of a packet; the names are those of the counters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[expect(missing_docs, reason = "docs/life-of-a-packet.md says what each one means")]
        pub enum Outcome { $($variant,)+ }

        impl Outcome {
            /// Every outcome.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its counter's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the packet's outcome asks of the kernel.
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)+ }
            }
        }
    };
}

/// What the kernel is asked to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Drop it.
    Drop,
    /// Hand it to the host's stack, unaltered.
    Pass,
    /// Send it out by an interface.
    Send,
}

outcomes! {
    Forwarded = "forwarded" => Send,
    Replied = "replied" => Send,
    Unrelated = "unrelated" => Pass,
    OtherProtocol = "other_protocol" => Pass,
    Malformed = "malformed" => Pass,
    ListenerClosed = "listener_closed" => Pass,
    NoServer = "no_server" => Drop,
    ServersFull = "servers_full" => Drop,
    SnatExhausted = "snat_exhausted" => Drop,
    FlowsFull = "flows_full" => Drop,
    NoFlow = "no_flow" => Pass,
    TtlExpired = "ttl_expired" => Drop,
    Raced = "raced" => Drop,
    Denied = "denied" => Drop,
    RateLimited = "rate_limited" => Drop,
    Flooded = "flooded" => Drop,
    ToStack = "to_stack" => Pass,
    OtherHook = "other_hook" => Pass,
    Fragment = "fragment" => Pass,
    FragmentLost = "fragment_lost" => Drop,
    Echoed = "echoed" => Send,
    EchoUnhealthy = "echo_unhealthy" => Drop,
    ErrorForwarded = "error_forwarded" => Send,
    ErrorReplied = "error_replied" => Send,
    IcmpUnrelated = "icmp_unrelated" => Pass,
    TooBig = "too_big" => Drop,
    ResetSent = "reset_sent" => Drop,
    RefusalSwallowed = "refusal_swallowed" => Drop,
    NoNextHop = "no_next_hop" => Drop,
}
