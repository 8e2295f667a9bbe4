//! `[pool.queue]`: what is done when servers are full.

use std::time::Duration;

use crate::config::section::{Field, Section};
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
