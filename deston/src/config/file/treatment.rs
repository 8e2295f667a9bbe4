//! `[pool.queue]` and `[pool.retry]`: what is done when servers are full or fail.

use std::time::Duration;

use crate::config::names::{self, RetryOn};
use crate::config::section::{Field, Section};
use crate::config::size::size;
use crate::config::value::{self, Zero};

/// `[pool.queue]`.
pub(in crate::config) struct Queue {
    pub(in crate::config) size: Field<u32>,
    pub(in crate::config) timeout: Field<Duration>,
}

impl Queue {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            size: section.get("size", value::number(0..=1_000_000)),
            timeout: section.get("timeout", value::duration(Zero::Refused)),
        }
    }
}

/// The most of a body that is kept: many requests do so at once.
const MOST_KEPT: u64 = 16 << 20;

/// `[pool.retry]`.
pub(in crate::config) struct Retry {
    pub(in crate::config) attempts: Field<u32>,
    pub(in crate::config) on: Field<Vec<RetryOn>>,
    pub(in crate::config) budget: Field<u32>,
    pub(in crate::config) floor: Field<u32>,
    pub(in crate::config) replay_bytes: Field<u64>,
}

impl Retry {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            attempts: section.get("attempts", value::number(0..=10)),
            on: section.get("on", names::retry_on),
            budget: section.get("budget", value::millionths),
            floor: section.get("floor", value::number(0..=1_000_000)),
            replay_bytes: section.get("replay_bytes", size(0..=MOST_KEPT, "up to 16MiB")),
        }
    }
}
