//! What became of a packet: exactly one outcome each, and each is counted.

/// The outcome of one packet; also the index of its counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u32)]
pub enum Outcome {
    /// Translated and sent to a server.
    Forwarded = 0,
    /// Translated and sent to a client.
    Replied = 1,
    /// Passed: neither a listener's nor a reply.
    Unrelated = 2,
    /// Passed: not IPv4 TCP or UDP.
    OtherProtocol = 3,
    /// Passed: a fragment, which has no ports or will be followed by others that have none.
    Fragment = 4,
    /// Passed: shorter than its headers say.
    Malformed = 5,
    /// Passed: opens a flow on a listener that was removed and only finishes old flows.
    ListenerClosed = 6,
    /// Dropped: no server is up.
    NoServer = 7,
    /// Dropped: every server that is up has `max_connections` flows.
    ServersFull = 8,
    /// Dropped: every port tried towards the server is taken.
    SnatExhausted = 9,
    /// Dropped: the flow table is full.
    FlowsFull = 10,
    /// Passed: a TCP packet to a listener, of no known flow, that does not open one. It may be of a
    /// connection that the host's own stack has; if not, the stack answers with a reset.
    NoFlow = 11,
    /// Dropped: the time to live ran out.
    TtlExpired = 12,
    /// Dropped: another processor opened the same flow at the same time; the client sends again.
    Raced = 13,
}

impl Outcome {
    /// Number of outcomes.
    pub const COUNT: u32 = 14;

    /// Every outcome, in counter order.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Forwarded,
        Self::Replied,
        Self::Unrelated,
        Self::OtherProtocol,
        Self::Fragment,
        Self::Malformed,
        Self::ListenerClosed,
        Self::NoServer,
        Self::ServersFull,
        Self::SnatExhausted,
        Self::FlowsFull,
        Self::NoFlow,
        Self::TtlExpired,
        Self::Raced,
    ];

    /// The name used in logs and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Replied => "replied",
            Self::Unrelated => "unrelated",
            Self::OtherProtocol => "other_protocol",
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
            Self::ListenerClosed => "listener_closed",
            Self::NoServer => "no_server",
            Self::ServersFull => "servers_full",
            Self::SnatExhausted => "snat_exhausted",
            Self::FlowsFull => "flows_full",
            Self::NoFlow => "no_flow",
            Self::TtlExpired => "ttl_expired",
            Self::Raced => "raced",
        }
    }
}
