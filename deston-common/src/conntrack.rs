//! The state of a flow: a set of bits that only grows, so that one atomic or changes it.

use crate::limits::CLEAN_CLOSE_NS;
use crate::listener::FlowTimeouts;
use crate::net::TCP;

/// TCP header flags (RFC 9293, section 3.1).
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Aborts a connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From client to server.
    Forward,
    /// From server to client.
    Reply,
}

/// What is known of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State(pub u64);

impl State {
    /// The server has answered: a SYN-ACK, or any UDP packet.
    pub const REPLIED: u64 = 1;
    /// The flow is promoted: TCP, the client has acknowledged the server's sequence number; UDP, the
    /// server has answered.
    pub const ESTABLISHED: u64 = 2;
    /// The client has closed its side.
    pub const FIN_FORWARD: u64 = 4;
    /// The server has closed its side.
    pub const FIN_REPLY: u64 = 8;
    /// Either side has sent a reset.
    pub const RESET: u64 = 16;
    /// The server's socket is gone by a reset: the server sent it, or has surely taken it.
    pub const ABORTED: u64 = 64;
    /// The entry is being removed, by whoever set this bit and found it unset.
    pub const ENDED: u64 = 128;
    /// The flow no longer counts against its server's `max_connections`. Whoever sets this bit, and
    /// found it unset, takes the flow off the count: once, whatever races.
    pub const RELEASED: u64 = 32;
    /// The server refused the SYN; the client's next one goes to another server.
    pub const REFUSED: u64 = 256;
    /// The flow has been moved to another server once.
    pub const RETRIED: u64 = 512;
    /// The client closed its side first, so the server has no TIME-WAIT.
    pub const CLIENT_FIRST: u64 = 1_024;
    /// The client has acknowledged the server's FIN.
    pub const LAST_ACK: u64 = 2_048;

    /// The bits a packet adds. `taken`: a reset in it is sure to be taken by its receiver.
    #[inline(always)]
    pub const fn news(self, protocol: u8, direction: Direction, flags: u8, taken: bool) -> u64 {
        if protocol != TCP {
            return match direction {
                Direction::Forward => 0,
                Direction::Reply => Self::REPLIED & !self.0,
            };
        }
        let mut bits = 0;
        if flags & tcp::RST != 0 {
            bits |= Self::RESET;
            if taken || matches!(direction, Direction::Reply) {
                bits |= Self::ABORTED;
            }
        }
        match direction {
            Direction::Forward => {
                if flags & tcp::FIN != 0 {
                    bits |= Self::FIN_FORWARD;
                    if self.0 & (Self::FIN_FORWARD | Self::FIN_REPLY) == 0 {
                        bits |= Self::CLIENT_FIRST;
                    }
                }
            }
            Direction::Reply => {
                if flags & tcp::FIN != 0 {
                    bits |= Self::FIN_REPLY;
                }
                if flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK {
                    bits |= Self::REPLIED;
                }
            }
        }
        bits & !self.0
    }

    /// Whether the server's socket is closed, so that the flow need not count any more and its
    /// tuple may be used again. A reset that the client only claims is not enough: a server ignores
    /// one that does not fit (RFC 5961, section 3), and its connection goes on.
    #[inline(always)]
    pub const fn is_closed(self) -> bool {
        let both = Self::FIN_FORWARD | Self::FIN_REPLY;
        self.0 & both == both || self.0 & Self::ABORTED != 0
    }

    /// Whether the client closed first and has acknowledged the server's FIN: the server has
    /// forgotten the connection, and its port can be used again soon.
    #[inline(always)]
    pub const fn is_closed_cleanly(self) -> bool {
        let all = Self::FIN_FORWARD | Self::FIN_REPLY | Self::CLIENT_FIRST | Self::LAST_ACK;
        self.0 & all == all && self.0 & Self::RESET == 0
    }

    /// Whether a packet of the server shows that the flow is alive. Before the handshake is done it
    /// does not: a server repeats its answer to a client that never was.
    #[inline(always)]
    pub const fn is_kept_by_replies(self, protocol: u8) -> bool {
        protocol != TCP || self.0 & Self::ESTABLISHED != 0
    }

    /// Idle time after which the flow is over, in nanoseconds.
    #[inline(always)]
    pub const fn timeout_ns(self, protocol: u8, timeouts: &FlowTimeouts) -> u64 {
        if protocol != TCP {
            return if self.0 & Self::REPLIED != 0 {
                timeouts.udp_two_way_ns
            } else {
                timeouts.udp_one_way_ns
            };
        }
        if self.0 & Self::RESET != 0 {
            timeouts.tcp_rst_ns
        } else if self.is_closed_cleanly() && timeouts.tcp_fin_ns > CLEAN_CLOSE_NS {
            CLEAN_CLOSE_NS
        } else if self.is_closed() {
            timeouts.tcp_fin_ns
        } else if self.0 & Self::ESTABLISHED != 0 {
            timeouts.tcp_established_ns
        } else {
            timeouts.tcp_syn_ns
        }
    }
}

/// Whether `ack` proves that its sender has seen what the server sent, from its initial sequence
/// number `first` to before `next`: the rule that TCP itself has (RFC 9293, section 3.10.7.4,
/// SYN-RECEIVED). Somebody who sends with a forged address has to guess it.
#[inline(always)]
pub const fn acknowledges(first: u32, next: u32, ack: u32) -> bool {
    let acked = ack.wrapping_sub(first);
    acked != 0 && acked <= next.wrapping_sub(first)
}
