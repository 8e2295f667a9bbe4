//! Source lists and the limit of new flows for each source, before anything is opened.

use crate::net::{Ipv4Be, Ipv6Be};
use crate::plain_bytes;

/// What a source list says of a prefix: the values of the maps SOURCES4 and SOURCES6. Where two
/// lists name one prefix, `DENY` is written.
pub mod verdict {
    /// Served.
    pub const ALLOW: u32 = 1;
    /// Refused.
    pub const DENY: u32 = 2;
}

/// Bits of `SourceKey` before the address: the listener's number, matched whole.
pub const LISTENER_BITS: u32 = 32;

/// Data of the keys of SOURCES4 and SOURCES6, after the prefix length, which counts
/// [`LISTENER_BITS`] too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SourceKey<A = Ipv4Be> {
    /// Number of the listener.
    pub listener: u32,
    /// The client's address, or a prefix of it.
    pub address: A,
}
plain_bytes!(SourceKey<Ipv4Be>, 8);
plain_bytes!(SourceKey<Ipv6Be>, 20);

/// Key of the maps BUCKETS4 and BUCKETS6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct BucketKey<A = Ipv4Be> {
    /// The client: see `Address::subscriber`.
    pub client: A,
    /// Number of the listener.
    pub listener: u32,
}
plain_bytes!(BucketKey<Ipv4Be>, 8);
plain_bytes!(BucketKey<Ipv6Be>, 20);

/// Value of the maps BUCKETS4 and BUCKETS6: a token bucket told by one time stamp, the generic cell
/// rate algorithm (ITU-T I.371, annex A): when the next flow would be due if flows came evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Bucket {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub due_ns: u64,
}
plain_bytes!(Bucket, 8);

impl Bucket {
    /// The bucket after a new flow at `now_ns`; `None` if the flow comes too early.
    #[inline(always)]
    pub const fn take(self, now_ns: u64, interval_ns: u64, tolerance_ns: u64) -> Option<Self> {
        if self.due_ns > now_ns.saturating_add(tolerance_ns) {
            return None;
        }
        let from = if self.due_ns > now_ns { self.due_ns } else { now_ns };
        Some(Self { due_ns: from.saturating_add(interval_ns) })
    }
}

/// Value of the per-processor map FLOOD: new flows in the present second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Flood {
    /// When the second began, `CLOCK_MONOTONIC` nanoseconds.
    pub since_ns: u64,
    /// New flows since.
    pub count: u64,
}
plain_bytes!(Flood, 16);

impl Flood {
    /// Length of the window, nanoseconds.
    pub const WINDOW_NS: u64 = 1_000_000_000;

    /// Counts a new flow; `false` if there were `limit` in this second already. 0: no limit.
    #[inline(always)]
    pub const fn admit(&mut self, now_ns: u64, limit: u64) -> bool {
        if limit == 0 {
            return true;
        }
        if now_ns.wrapping_sub(self.since_ns) >= Self::WINDOW_NS {
            self.since_ns = now_ns;
            self.count = 0;
        }
        if self.count >= limit {
            return false;
        }
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_flow_an_interval() {
        let mut bucket = Bucket::default();
        // 10 a second, burst 3.
        let (interval, tolerance) = (100, 200);
        for _ in 0..3 {
            bucket = bucket.take(1_000, interval, tolerance).unwrap();
        }
        assert_eq!(bucket.take(1_000, interval, tolerance), None);
        assert_eq!(bucket.take(1_099, interval, tolerance), None);
        let bucket = bucket.take(1_100, interval, tolerance).unwrap();
        assert_eq!(bucket.take(1_100, interval, tolerance), None);
    }

    #[test]
    fn the_flood_gate_opens_again_with_the_next_second() {
        let mut flood = Flood::default();
        let now = 5_000_000_000;
        assert!(flood.admit(now, 2) && flood.admit(now, 2));
        assert!(!flood.admit(now + 999_999_999, 2));
        assert!(flood.admit(now + 1_000_000_000, 2));
    }
}
