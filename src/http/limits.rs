//! Bounds on what one address, and all of them together, may take.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ahash::RandomState;

use crate::signal;
use crate::time::Instant;

/// What limits count: an IPv4 address, or the /64 that whoever has an IPv6 address has all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Block(IpAddr);

impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        Self(signal::block_of(address))
    }
}

/// Counts connections. Each holds a [`Place`] while it lives.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    /// The bounds.
    limits: (usize, usize),
    total: usize,
    by_block: HashMap<Block, usize, RandomState>,
}

/// One connection's place. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// `None`: it counts in total only.
    block: Option<Block>,
}

impl Places {
    pub(super) fn new(total: usize, per_address: usize, hasher: RandomState) -> Self {
        let taken = Taken { limits: (total, per_address), total: 0, by_block: HashMap::with_hasher(hasher) };
        Self { taken: Mutex::new(taken) }
    }

    /// Other bounds from here on; no connection ends for them.
    pub(super) fn set_limits(&self, total: usize, per_address: usize) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).limits = (total, per_address);
    }

    /// `None`: all are taken, or too many by this address.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let block = Block::from(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_block.get(&block).copied().unwrap_or(0);
        let (total, per_address) = taken.limits;
        if taken.total >= total || here >= per_address {
            return None;
        }
        taken.total += 1;
        taken.by_block.insert(block, here + 1);
        Some(Place { places: self.clone(), block: Some(block) })
    }

    /// For a proxy, which brings the connections of many addresses.
    pub(super) fn take_for_proxy(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= taken.limits.0 {
            return None;
        }
        taken.total += 1;
        Some(Place { places: self.clone(), block: None })
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        let Some(block) = self.block else { return };
        match taken.by_block.get_mut(&block) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.by_block.remove(&block)),
        }
    }
}

/// How often an address may do something: [`signal::Rate`](crate::signal), for many callers at a time.
#[derive(Debug)]
pub(super) struct Rate(Mutex<signal::Rate>);

impl Rate {
    /// `per_minute` times, all at once or spread; 0: no limit.
    pub(super) fn new(per_minute: u32, hasher: RandomState) -> Self {
        Self(Mutex::new(signal::Rate::new(per_minute, hasher)))
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn places_are_bounded_in_total_and_per_block_and_come_back() {
        let places = Arc::new(Places::new(3, 2, RandomState::new()));
        let first = places.take(ip("2001:db8::1")).unwrap();
        let second = places.take(ip("2001:db8::ffff:2")).unwrap();
        assert!(places.take(ip("2001:db8::3")).is_none(), "the same /64");
        let third = places.take(ip("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(ip("192.0.2.2")).is_none(), "the total");
        drop(first);
        let fourth = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.taken(), 3);
        drop((second, third, fourth));
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().unwrap().by_block.is_empty());
    }

    #[test]
    fn one_message_per_interval_says_how_many_it_stands_for() {
        let seldom = Seldom::new();
        let due: Vec<_> = [0, 1, 9_999, 10_000].map(|t| seldom.due(ms(t))).into();
        assert_eq!(due, [Some(0), None, None, Some(2)]);
    }
}
