//! Time as the core sees it: a value that is handed in.
//!
//! Nothing below `net` reads a clock. The caller reads it once per batch of events and passes a [`Now`] to
//! every call, so expiry is tested in microseconds by moving a number.

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
