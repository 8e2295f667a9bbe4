//! Times as buckets and maps count them.

use std::time::Duration;

/// A time in ns; the greatest number for what is longer, which is 584 years.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
