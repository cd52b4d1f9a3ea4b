//! The one place that reads the clocks.

use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now};

/// The process's clocks. Copies agree: they share the epoch of [`Instant`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: StdInstant,
}

impl Clock {
    /// A clock whose epoch is this moment. Make one per process.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self { epoch: StdInstant::now() }
    }

    /// Both clocks. Read it once per batch of events.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Now {
        let ms = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Now { instant: Instant::from_millis(ms), unix }
    }

    /// The wall clock in milliseconds since the Unix epoch, for the log.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn unix_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time since the epoch, as fine as the clock tells it: for round trips shorter than a millisecond.
    pub fn since_start(&self) -> Duration {
        self.epoch.elapsed()
    }
}
