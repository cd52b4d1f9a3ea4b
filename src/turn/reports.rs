//! How many refusals are reported. Whoever sends nonsense as fast as it can, from as many addresses as it likes, must
//! not fill the operator's disk with it.

use crate::time::Instant;

/// Refusals reported at once: as many as somebody who looks for a mistake may want to see.
const AT_ONCE: u64 = 100;
/// And in the long run, each second.
const PER_SECOND: u64 = 5;

#[derive(Debug)]
pub(super) struct Reports {
    left: u64,
    /// The second in which `left` was last counted.
    since: u64,
    /// Not reported since the last one that was.
    withheld: u64,
}

impl Reports {
    pub(super) const fn new() -> Self {
        Self { left: AT_ONCE, since: 0, withheld: 0 }
    }

    /// May one more be reported? Then how many were not since the last time.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        let second = now.as_millis() / 1_000;
        let gained = second.saturating_sub(self.since).saturating_mul(PER_SECOND);
        (self.left, self.since) = (self.left.saturating_add(gained).min(AT_ONCE), second);
        if self.left == 0 {
            self.withheld += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.withheld))
    }
}
