//! What becomes of a packet of each outcome, as docs/life-of-a-packet.md has it: written apart from
//! the programs' own table.

use deston_common::outcome::Outcome;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the host's stack as it came.
    Passed,
    /// It is dropped.
    Dropped,
    /// It, or an answer to it, is sent.
    Sent,
}

impl Verdict {
    /// The verdict that an outcome has to have. `TtlExpired` is mostly answered, but dropped where
    /// an answer is forbidden.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Unrelated
            | Outcome::OtherProtocol
            | Outcome::Malformed
            | Outcome::ListenerClosed
            | Outcome::NoFlow
            | Outcome::ToStack
            | Outcome::OtherHook
            | Outcome::Fragment
            | Outcome::IcmpUnrelated => Self::Passed,
            Outcome::NoServer
            | Outcome::ServersFull
            | Outcome::SnatExhausted
            | Outcome::FlowsFull
            | Outcome::Raced
            | Outcome::Denied
            | Outcome::RateLimited
            | Outcome::Flooded
            | Outcome::FragmentLost
            | Outcome::EchoUnhealthy
            | Outcome::RefusalSwallowed
            | Outcome::NoNextHop => Self::Dropped,
            Outcome::Forwarded
            | Outcome::Replied
            | Outcome::TtlExpired
            | Outcome::Echoed
            | Outcome::ErrorForwarded
            | Outcome::ErrorReplied
            | Outcome::TooBig
            | Outcome::ResetSent => Self::Sent,
        }
    }
}
