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
}

impl Treatment {
    /// One attempt, at once.
    pub const NONE: Self =
        Self { queue: Queue { size: 0, timeout: Duration::ZERO }, overflow: Overflow::Reject };
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
