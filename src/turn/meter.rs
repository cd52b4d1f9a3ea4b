//! Caps on relayed bytes and packets per second, of an allocation and of a user over all of its allocations.
//!
//! A bucket is one number, the time at which it will be empty again (the "generic cell rate algorithm"): each
//! packet moves it on by what the packet costs, and a packet that would move it more than [`BURST`] ahead of the
//! clock is dropped. Shards share a user's bucket as an atomic; where no cap is set nothing is touched.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Instant;

/// Nanoseconds' worth of traffic that may come at once.
const BURST: u64 = NANOS;
const NANOS: u64 = 1_000_000_000;

/// Caps, per second. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Payload bytes, both directions together.
    pub bytes: u64,
    /// Datagrams, both directions together.
    pub packets: u64,
}

/// What comes at once: a datagram, or a run of them that came in together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Datagrams.
    pub count: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Payload bytes of the longest.
    pub longest: usize,
}

impl Load {
    pub(super) const fn one(len: usize) -> Self {
        Self { count: 1, bytes: len as u64, longest: len }
    }

    /// Datagrams of `segment` bytes, the last may be shorter, `len` in all; `skip` bytes of each are no payload.
    pub(super) const fn run(segment: usize, len: usize, skip: usize) -> Self {
        let count = len.div_ceil(segment);
        Self { count: count as u64, bytes: (len - count * skip) as u64, longest: segment - skip }
    }

    pub(super) const fn is_run(self) -> bool {
        self.count > 1
    }
}

/// The two buckets of one allocation or one user.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Meter {
    /// Counts a load; `false`, and all of it uncounted, if it is over one of the caps.
    //= 8656-5-8
    pub(super) fn admit(&self, rates: Rates, load: Load, now: Instant) -> bool {
        let now = now.as_millis().saturating_mul(NANOS / 1_000);
        if !take(&self.packets, rates.packets, load.count, now) {
            return false;
        }
        let admitted = take(&self.bytes, rates.bytes, load.bytes, now);
        if !admitted {
            give_back(&self.packets, rates.packets, load.count);
        }
        admitted
    }

    /// Takes back what was counted last.
    pub(super) fn forget(&self, rates: Rates, load: Load) {
        give_back(&self.packets, rates.packets, load.count);
        give_back(&self.bytes, rates.bytes, load.bytes);
    }
}

fn cost(rate: u64, amount: u64) -> u64 {
    amount.saturating_mul(NANOS) / rate
}

fn give_back(bucket: &AtomicU64, rate: u64, amount: u64) {
    if rate != 0 {
        bucket.fetch_sub(cost(rate, amount), Ordering::Relaxed);
    }
}

fn take(bucket: &AtomicU64, rate: u64, amount: u64, now: u64) -> bool {
    if rate == 0 {
        return true;
    }
    let cost = cost(rate, amount);
    let next = |empty_at: u64| {
        let empty_at = empty_at.max(now).saturating_add(cost);
        (empty_at <= now.saturating_add(BURST)).then_some(empty_at)
    };
    bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_counts_for_all_that_is_in_it_or_for_nothing() {
        let (meter, now) = (Meter::default(), Instant::from_millis(5_000));
        let rates = Rates { bytes: 10_000, packets: 100 };
        let run = |count: usize| Load::run(104, count * 104 - 50, 4);
        assert_eq!(run(40), Load { count: 40, bytes: 40 * 100 - 50, longest: 100 });
        assert!(meter.admit(rates, run(40), now) && meter.admit(rates, run(40), now));
        assert!(!meter.admit(rates, run(40), now), "120 packets in a second of 100");
        assert!(!meter.admit(rates, Load::one(9_000), now), "too many bytes");
        // Neither refusal has cost anything: 20 packets and 2,100 bytes are left.
        assert!(meter.admit(rates, Load { count: 19, bytes: 2_100, longest: 200 }, now));
        assert!(meter.admit(rates, Load::one(0), now) && !meter.admit(rates, Load::one(0), now));
        meter.forget(rates, Load::one(0));
        assert!(meter.admit(rates, Load::one(0), now) && !meter.admit(rates, Load::one(0), now));
    }
}
