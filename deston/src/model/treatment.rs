//! What the requests of a pool, and the connections of layer 4 in userspace, may count on when
//! servers are full or fail.

use std::time::Duration;

/// How much trouble is taken for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Treatment {
    /// Waiting for a slot.
    pub queue: Queue,
    /// What becomes of those for whom there is no slot after that.
    pub overflow: Overflow,
    /// Sending a request again.
    pub retry: Retry,
    /// `count_5xx` of `[pool.outlier]`: a server that answers with errors fails. Default: no.
    pub count_5xx: bool,
    /// Maglev: a server is passed over at so many percent of its fair share of open connections.
    /// Default 0: at none.
    pub load_factor: u32,
}

impl Treatment {
    /// One attempt, at once.
    pub const NONE: Self = Self {
        queue: Queue { size: 0, timeout: Duration::ZERO },
        overflow: Overflow::Reject,
        retry: Retry::NONE,
        count_5xx: false,
        load_factor: 0,
    };
}

/// `[pool.queue]`: waiting while every server is at its `max_connections`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many may wait; 0: nobody. Default 1024.
    pub size: u32,
    /// How long one may. Default 2 s; never zero.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { size: 1024, timeout: Duration::from_secs(2) }
    }
}

/// `overflow`: those for whom no slot comes free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// They are refused. The default.
    #[default]
    Reject,
    /// They get a server beyond its `max_connections`.
    Any,
}

/// `[pool.retry]`: what is tried again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often a request may be sent again once bytes of it may have left. Default 1.
    pub attempts: u32,
    /// A server that cannot be connected to gives way to the next. Default: yes.
    pub on_connect: bool,
    /// A request is sent again if its connection ended without a byte of a response. Default: yes.
    pub on_reset: bool,
    /// A request is sent again if the response is an error of the server. Default: no.
    pub on_5xx: bool,
    /// The share of a pool's requests that may be sent again, in millionths. Default 20 %.
    pub budget: u32,
    /// So many in a second may be, whatever the share. Default 10.
    pub floor: u32,
    /// How much of a request's body is kept for that. Default 0.
    pub replay_bytes: usize,
}

impl Retry {
    /// Other servers are connected to, but nothing is sent again.
    pub const NONE: Self = Self {
        attempts: 0,
        on_connect: true,
        on_reset: false,
        on_5xx: false,
        budget: 0,
        floor: 0,
        replay_bytes: 0,
    };
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            on_connect: true,
            on_reset: true,
            on_5xx: false,
            budget: 200_000,
            floor: 10,
            replay_bytes: 0,
        }
    }
}
