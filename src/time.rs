//! Time as the core sees it: a value that is handed in.
//!
//! Nothing below `net` reads a clock. The caller reads it once per batch of events and passes a [`Now`] to
//! every call, so expiry is tested in microseconds by moving a number.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on the monotonic clock: milliseconds since an epoch that the process chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d.as_millis().try_into().unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: what lifetimes are measured with.
    pub instant: Instant,
    /// The wall clock in whole seconds since the Unix epoch: what credentials are dated with.
    pub unix: u64,
}

impl Now {
    /// The moment `d` later, on both clocks.
    pub fn after(self, d: Duration) -> Self {
        Self { instant: self.instant + d, unix: self.unix.saturating_add(d.as_secs()) }
    }
}

const DAY: u64 = 86_400;

/// Seconds since the Unix epoch as RFC 3339 writes them, without the zone, which is UTC.
///
/// ```
/// assert_eq!(format!("{}Z", ternd::time::DateTime(1_795_347_722)), "2026-11-22T11:42:02Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime(pub u64);

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / DAY, self.0 % DAY);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

/// Days since the epoch as year, month, day. Years begin in March here, so that the leap day is their last one;
/// an era is the 400 years after which the calendar repeats.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march_of_year_0 = days + 719_468;
    let (era, of_era) = (since_march_of_year_0 / 146_097, since_march_of_year_0 % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::DateTime;

    #[test]
    fn dates_are_those_that_date_u_prints() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (1_795_347_722, "2026-11-22T11:42:02"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(DateTime(unix).to_string(), text);
        }
    }
}
