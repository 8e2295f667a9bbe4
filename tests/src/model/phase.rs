//! What is known of a flow, and how long it may stand still.

use super::settings::Timeouts;
use super::tuple::TCP;

/// TCP flags (RFC 9293, section 3.1).
#[expect(missing_docs, reason = "they are the flags' names")]
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// A clean close frees the port after so long, nanoseconds.
const CLEAN_CLOSE: u64 = 1_000_000_000;

/// What is known of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "docs/life-of-a-packet.md says what they mean")]
pub struct State {
    pub replied: bool,
    pub established: bool,
    pub fin_forward: bool,
    pub fin_reply: bool,
    pub reset: bool,
    pub aborted: bool,
    pub released: bool,
    pub refused: bool,
    pub retried: bool,
    pub client_first: bool,
    pub last_ack: bool,
}

impl State {
    /// Learns from a packet; `taken`: a reset in it is sure to be taken by its receiver.
    pub fn learn(&mut self, protocol: u8, sender: Sender, flags: u8, taken: bool) {
        if protocol != TCP {
            self.replied |= sender == Sender::Server;
            return;
        }
        let (fin, reset) = (flags & tcp::FIN != 0, flags & tcp::RST != 0);
        let fresh = !self.fin_forward && !self.fin_reply;
        self.reset |= reset;
        match sender {
            Sender::Client => {
                self.aborted |= reset && taken;
                self.client_first |= fin && fresh;
                self.fin_forward |= fin;
            }
            Sender::Server => {
                self.aborted |= reset;
                self.fin_reply |= fin;
                self.replied |= flags & tcp::SYN != 0 && flags & tcp::ACK != 0;
            }
        }
    }

    /// Whether the server's socket is closed.
    pub fn is_closed(&self) -> bool {
        self.aborted || (self.fin_forward && self.fin_reply)
    }

    /// Whether the client closed first and acknowledged the server's FIN.
    pub fn is_closed_cleanly(&self) -> bool {
        self.fin_forward && self.fin_reply && self.client_first && self.last_ack && !self.reset
    }

    /// Idle time after which the flow is over.
    pub fn timeout(&self, protocol: u8, timeouts: &Timeouts) -> u64 {
        if protocol != TCP {
            return if self.replied { timeouts.udp_two_way } else { timeouts.udp_one_way };
        }
        if self.reset {
            return timeouts.tcp_rst;
        }
        if self.is_closed_cleanly() {
            return timeouts.tcp_fin.min(CLEAN_CLOSE);
        }
        if self.is_closed() {
            return timeouts.tcp_fin;
        }
        if self.established { timeouts.tcp_established } else { timeouts.tcp_syn }
    }

    /// From the bits of the kernel's word; what no flow keeps is left out.
    pub fn from_bits(bits: u64) -> Self {
        let is_set = |bit: u64| bits & bit != 0;
        Self {
            replied: is_set(1),
            established: is_set(2),
            fin_forward: is_set(4),
            fin_reply: is_set(8),
            reset: is_set(16),
            released: is_set(32),
            aborted: is_set(64),
            refused: is_set(256),
            retried: is_set(512),
            client_first: is_set(1_024),
            last_ack: is_set(2_048),
        }
    }
}
