//! What a stage says of a packet, as one number, since subprograms return numbers only; and the one
//! table of what the kernel then does.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use deston_common::outcome::Outcome;

/// An outcome and how the packet left, or that there is none yet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Verdict(pub(crate) u32);

/// The packet, or the answer it was turned into, has been given to an interface.
const SENT: u32 = 1 << 8;
/// The packet goes on into the host's stack, translated: client and server are on the loopback.
const LOCAL: u32 = 1 << 9;

impl Verdict {
    /// This stage has nothing to say.
    pub(crate) const GO_ON: Self = Self(1 << 16);
    /// The flow is known: the packet is to be carried.
    pub(crate) const CARRY: Self = Self(1 << 17);

    /// The packet is to be answered, as the context says.
    pub(crate) const ANSWER: Self = Self(1 << 18);

    /// An outcome of a packet that stays here.
    #[inline(always)]
    pub(crate) const fn of(outcome: Outcome) -> Self {
        Self(outcome as u32)
    }

    /// An outcome of a packet that was sent.
    #[inline(always)]
    pub(crate) const fn sent(outcome: Outcome) -> Self {
        Self(outcome as u32 | SENT)
    }

    /// An outcome of a packet that was translated and stays on the host.
    #[inline(always)]
    pub(crate) const fn local(outcome: Outcome) -> Self {
        Self(outcome as u32 | LOCAL)
    }

    /// The outcome.
    #[inline(always)]
    pub(crate) fn outcome(self) -> Option<Outcome> {
        Outcome::from_number(self.0 & 0xff)
    }

    /// What XDP does.
    #[inline(always)]
    pub(crate) fn xdp(self, outcome: Outcome) -> u32 {
        if self.0 & SENT != 0 {
            XDP_REDIRECT
        } else if is_passed(outcome) {
            XDP_PASS
        } else {
            XDP_DROP
        }
    }

    /// What TC does.
    #[inline(always)]
    pub(crate) fn tc(self, outcome: Outcome) -> i32 {
        if self.0 & SENT != 0 {
            TC_ACT_REDIRECT
        } else if self.0 & LOCAL != 0 || is_passed(outcome) {
            // The next program at the hook, and then the stack.
            TC_ACT_UNSPEC
        } else {
            TC_ACT_SHOT
        }
    }
}

/// What becomes of a packet that was not sent. Only a listener's or a flow's are ever dropped.
#[inline(always)]
fn is_passed(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Unrelated
        | Outcome::OtherProtocol
        | Outcome::Malformed
        | Outcome::ListenerClosed
        | Outcome::NoFlow
        | Outcome::ToStack
        | Outcome::OtherHook
        | Outcome::Fragment
        | Outcome::IcmpUnrelated => true,
        Outcome::Forwarded
        | Outcome::Replied
        | Outcome::NoServer
        | Outcome::ServersFull
        | Outcome::SnatExhausted
        | Outcome::FlowsFull
        | Outcome::TtlExpired
        | Outcome::Raced
        | Outcome::Denied
        | Outcome::RateLimited
        | Outcome::Flooded
        | Outcome::FragmentLost
        | Outcome::Echoed
        | Outcome::EchoUnhealthy
        | Outcome::ErrorForwarded
        | Outcome::ErrorReplied
        | Outcome::TooBig
        | Outcome::ResetSent
        | Outcome::RefusalSwallowed
        | Outcome::NoNextHop => false,
    }
}
