//! A token bucket that can be overdrawn: refused messages cost as much as others, so who goes on regardless
//! falls ever deeper, and who pauses recovers.

use std::time::Duration;

use crate::time::Instant;

/// What is counted (messages, bytes) is counted in thousandths: a rate per second times milliseconds.
const ONE: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Too many; another one like this passes after `retry`.
    Refused {
        retry: Duration,
    },
    /// A whole burst in debt.
    Exhausted,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Negative: debt.
    balance: i64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(now: Instant, burst: u32) -> Self {
        Self { balance: i64::from(burst) * ONE, at: now }
    }

    /// Pays for `cost` messages, or bytes.
    pub(super) fn take(&mut self, now: Instant, cost: usize, per_second: u32, burst: u32) -> Verdict {
        let full = i64::from(burst.max(1)) * ONE;
        let rate = i64::from(per_second.max(1));
        let cost = i64::try_from(cost).unwrap_or(i64::MAX).saturating_mul(ONE);
        let elapsed = i64::try_from((now - self.at).as_millis()).unwrap_or(i64::MAX);
        self.at = self.at.max(now);
        let filled = self.balance.saturating_add(elapsed.saturating_mul(rate)).min(full);
        self.balance = filled.saturating_sub(cost);
        if self.balance >= 0 {
            Verdict::Pass
        } else if self.balance > -full {
            let ms = (cost.min(full) - self.balance + rate - 1) / rate;
            Verdict::Refused { retry: Duration::from_millis(ms.unsigned_abs()) }
        } else {
            Verdict::Exhausted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_and_what_follows_waits_for_exactly_as_long_as_told() {
        let mut bucket = Bucket::new(ms(0), 3);
        for _ in 0..3 {
            assert_eq!(bucket.take(ms(0), 1, 10, 3), Verdict::Pass);
        }
        let Verdict::Refused { retry } = bucket.take(ms(0), 1, 10, 3) else { panic!("it passed") };
        assert_eq!(retry, Duration::from_millis(200), "its own cost, and that of the next");
        let mut early = bucket;
        assert!(matches!(early.take(ms(199), 1, 10, 3), Verdict::Refused { .. }));
        assert_eq!(bucket.take(ms(200), 1, 10, 3), Verdict::Pass);
    }

    #[test]
    fn who_goes_on_regardless_is_exhausted_and_who_keeps_to_the_rate_never() {
        let mut stubborn = Bucket::new(ms(0), 3);
        let verdicts: Vec<_> = (0..6).map(|_| stubborn.take(ms(0), 1, 10, 3)).collect();
        assert!(verdicts[..5].iter().all(|v| *v != Verdict::Exhausted));
        assert_eq!(verdicts[5], Verdict::Exhausted);

        let mut steady = Bucket::new(ms(0), 1);
        assert!((1..10_000).all(|n| steady.take(ms(n * 100), 1, 10, 1) == Verdict::Pass));
    }

    #[test]
    fn a_long_pause_fills_it_no_further_than_the_burst() {
        let mut bucket = Bucket::new(ms(0), 2);
        let later = ms(u64::MAX);
        assert_eq!(bucket.take(later, 1, u32::MAX, 2), Verdict::Pass);
        assert_eq!(bucket.take(later, 1, u32::MAX, 2), Verdict::Pass);
        assert!(matches!(bucket.take(later, 1, u32::MAX, 2), Verdict::Refused { .. }));
    }
}
