//! A token bucket that can be overdrawn: refused messages cost as much as others, so who goes on regardless
//! falls ever deeper, and who pauses recovers.

use std::time::Duration;

use crate::time::Instant;

/// Thousandths of a message: a rate per second times milliseconds.
const MESSAGE: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Too many; the first message after `retry` passes.
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
        Self { balance: i64::from(burst) * MESSAGE, at: now }
    }

    /// Pays for one message.
    pub(super) fn take(&mut self, now: Instant, per_second: u32, burst: u32) -> Verdict {
        let full = i64::from(burst.max(1)) * MESSAGE;
        let rate = i64::from(per_second.max(1));
        let elapsed = i64::try_from((now - self.at).as_millis()).unwrap_or(i64::MAX);
        self.at = self.at.max(now);
        self.balance = self.balance.saturating_add(elapsed.saturating_mul(rate)).min(full) - MESSAGE;
        if self.balance >= 0 {
            Verdict::Pass
        } else if self.balance > -full {
            let ms = (MESSAGE - self.balance + rate - 1) / rate;
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
            assert_eq!(bucket.take(ms(0), 10, 3), Verdict::Pass);
        }
        let Verdict::Refused { retry } = bucket.take(ms(0), 10, 3) else { panic!("it passed") };
        assert_eq!(retry, Duration::from_millis(200), "its own cost, and that of the next");
        let mut early = bucket;
        assert!(matches!(early.take(ms(199), 10, 3), Verdict::Refused { .. }));
        assert_eq!(bucket.take(ms(200), 10, 3), Verdict::Pass);
    }

    #[test]
    fn who_goes_on_regardless_is_exhausted_and_who_keeps_to_the_rate_never() {
        let mut stubborn = Bucket::new(ms(0), 3);
        let verdicts: Vec<_> = (0..6).map(|_| stubborn.take(ms(0), 10, 3)).collect();
        assert!(verdicts[..5].iter().all(|v| *v != Verdict::Exhausted));
        assert_eq!(verdicts[5], Verdict::Exhausted);

        let mut steady = Bucket::new(ms(0), 1);
        assert!((1..10_000).all(|n| steady.take(ms(n * 100), 10, 1) == Verdict::Pass));
    }

    #[test]
    fn a_long_pause_fills_it_no_further_than_the_burst() {
        let mut bucket = Bucket::new(ms(0), 2);
        let later = ms(u64::MAX);
        assert_eq!(bucket.take(later, u32::MAX, 2), Verdict::Pass);
        assert_eq!(bucket.take(later, u32::MAX, 2), Verdict::Pass);
        assert!(matches!(bucket.take(later, u32::MAX, 2), Verdict::Refused { .. }));
    }
}
