//! Time as people read it. The programs tell CLOCK_MONOTONIC, which nobody's watch shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    monotonic: Duration,
    /// Since 1970, UTC.
    wall: Duration,
}

impl Clock {
    /// Reads the clocks.
    pub fn now() -> Self {
        let monotonic =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { monotonic, wall }
    }

    /// How long ago something was that happened at `ns` on CLOCK_MONOTONIC.
    pub fn since(&self, ns: u64) -> Duration {
        self.monotonic.saturating_sub(Duration::from_nanos(ns))
    }

    /// When that was, since 1970.
    pub fn wall(&self, ns: u64) -> Duration {
        let at = Duration::from_nanos(ns);
        // A packet may be told of that came after the clocks were read.
        self.wall.saturating_sub(self.since(ns)) + at.saturating_sub(self.monotonic)
    }
}

/// A time since 1970 as `2026-01-31T12:00:00.123456Z` (RFC 3339).
pub fn rfc3339(wall: Duration) -> String {
    let seconds = wall.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = wall.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The day that is so many days after 1970-01-01. Years begin in March, so that a leap day is the
/// last of one: then the months' lengths repeat every five months, 153 days.
fn date(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01, and in 400 years.
    const EPOCH: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    // Without the leap days of 4 and 400 years, and with those missing in 100.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, day - (153 * march + 2) / 5 + 1)
}

/// A span of time in its two largest units, such as `250ms`, `12s`, `3m05s`, `2h10m`, `4d03h`.
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let table = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
        assert!(rfc3339(Duration::from_micros(1_500_000)).ends_with(":01.500000Z"));
    }

    #[test]
    fn a_monotonic_time_is_told_on_the_wall() {
        let clock =
            Clock { monotonic: Duration::from_secs(100), wall: Duration::from_secs(1_000_000) };
        let at = |seconds: u64| seconds * 1_000_000_000;
        assert_eq!(clock.since(at(70)), Duration::from_secs(30));
        assert_eq!(clock.wall(at(70)), Duration::from_secs(999_970));
        assert_eq!(clock.wall(at(105)), Duration::from_secs(1_000_005));
        assert_eq!(clock.since(at(105)), Duration::ZERO);
    }

    #[test]
    fn an_age_has_two_units_at_most() {
        let table = [
            (250, "250ms"),
            (12_900, "12s"),
            (185_000, "3m05s"),
            (7_800_000, "2h10m"),
            (356_400_000, "4d03h"),
        ];
        for (millis, text) in table {
            assert_eq!(age(Duration::from_millis(millis)), text);
        }
    }
}
