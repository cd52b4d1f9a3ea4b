//! Bounds on how often an address may do something, and on what the log says of it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use crate::signal;
use crate::time::Instant;

/// How often an address may do something: [`signal::Rate`](crate::signal), for many callers at a time.
#[derive(Debug)]
pub(super) struct Rate(Mutex<signal::Rate>);

impl Rate {
    /// `per_minute` times, all at once or spread; 0: no limit.
    pub(super) fn new(per_minute: u32, hasher: RandomState) -> Self {
        Self(Mutex::new(signal::Rate::new(per_minute, hasher)))
    }

    /// Another bound from here on.
    pub(super) fn set(&self, per_minute: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).set(per_minute);
    }

    /// Counts one time; refused, it says how long to wait for the next.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(address, now)
    }
}

/// Lets through one of many alike messages, once per interval.
#[derive(Debug)]
pub(super) struct Seldom {
    /// Milliseconds.
    next: AtomicU64,
    held_back: AtomicU64,
}

impl Seldom {
    const INTERVAL: Duration = Duration::from_secs(10);

    pub(super) const fn new() -> Self {
        Self { next: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// `Some(how many were held back since the last one)` if it is time for a message.
    pub(super) fn due(&self, now: Instant) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let after = (now + Self::INTERVAL).as_millis();
        let due = now.as_millis() >= next
            && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due {
            return Some(self.held_back.swap(0, Ordering::Relaxed));
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn one_message_per_interval_says_how_many_it_stands_for() {
        let seldom = Seldom::new();
        let due: Vec<_> = [0, 1, 9_999, 10_000].map(|t| seldom.due(ms(t))).into();
        assert_eq!(due, [Some(0), None, None, Some(2)]);
    }
}
