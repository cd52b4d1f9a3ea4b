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

/// The two buckets of one allocation or one user.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Meter {
    /// Counts a datagram; `false` if it is over one of the caps.
    //= 8656-5-8
    pub(super) fn admit(&self, rates: Rates, len: usize, now: Instant) -> bool {
        let now = now.as_millis().saturating_mul(NANOS / 1_000);
        take(&self.packets, rates.packets, 1, now) && take(&self.bytes, rates.bytes, len as u64, now)
    }
}

fn take(bucket: &AtomicU64, rate: u64, amount: u64, now: u64) -> bool {
    if rate == 0 {
        return true;
    }
    let cost = amount.saturating_mul(NANOS) / rate;
    let next = |empty_at: u64| {
        let empty_at = empty_at.max(now).saturating_add(cost);
        (empty_at <= now.saturating_add(BURST)).then_some(empty_at)
    };
    bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}
