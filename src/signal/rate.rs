//! How often an address may do something, in a table whose size is fixed: a flood of addresses costs no memory.

use std::net::IpAddr;
use std::time::Duration;

use ahash::RandomState;

use crate::auth::network_of;
use crate::time::Instant;

/// Slots of a [`Rate`]: 32 KiB.
const SLOTS: usize = 4096;
const MINUTE: u64 = 60_000;

/// Addresses share slots by keyed hash, so nobody can choose whom to collide with.
#[derive(Debug)]
pub(crate) struct Rate {
    per_minute: u32,
    hasher: RandomState,
    /// When everything that was granted would have been used up, in milliseconds, had it come evenly.
    used_up: Box<[u64]>,
}

impl Rate {
    /// `per_minute` times, all at once or spread; 0: no limit.
    pub(crate) fn new(per_minute: u32, hasher: RandomState) -> Self {
        let slots = if per_minute == 0 { 0 } else { SLOTS };
        Self { per_minute, hasher, used_up: vec![0; slots].into_boxed_slice() }
    }

    /// Another bound from here on; what was counted stays.
    pub(crate) fn set(&mut self, per_minute: u32) {
        self.per_minute = per_minute;
        if per_minute > 0 && self.used_up.is_empty() {
            self.used_up = vec![0; SLOTS].into_boxed_slice();
        }
    }

    /// Counts one time; refused, it says how long to wait for the next.
    pub(crate) fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if let Some((slot, after)) = self.look(address, now)? {
            self.used_up[slot] = after;
        }
        Ok(())
    }

    /// Would one more be refused? Counts nothing.
    pub(crate) fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.look(address, now).map(drop)
    }

    fn look(&self, address: IpAddr, now: Instant) -> Result<Option<(usize, u64)>, Duration> {
        if self.per_minute == 0 {
            return Ok(None);
        }
        let slot = self.hasher.hash_one(network_of(address)) as usize % self.used_up.len();
        let cost = MINUTE / u64::from(self.per_minute);
        let now = now.as_millis();
        let after = self.used_up[slot].max(now).saturating_add(cost);
        match after.saturating_sub(now).saturating_sub(MINUTE) {
            0 => Ok(Some((slot, after))),
            over => Err(Duration::from_millis(over)),
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
    fn a_rate_is_a_burst_and_then_one_by_one() {
        let mut rate = Rate::new(3, RandomState::new());
        let here = "2001:db8::1".parse().unwrap();
        let neighbour = "2001:db8::ffff:2".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(rate.take(here, ms(0)), Ok(()));
        }
        assert_eq!(rate.check(neighbour, ms(0)), Err(Duration::from_secs(20)), "the same /64");
        assert_eq!(rate.take(here, ms(19_999)), Err(Duration::from_millis(1)));
        assert_eq!(rate.check(here, ms(20_000)), Ok(()));
        assert_eq!(rate.take(here, ms(20_000)), Ok(()));
        assert!(rate.take(here, ms(20_000)).is_err());
        assert!((0..100).all(|_| Rate::new(0, RandomState::new()).take(here, ms(0)).is_ok()));
    }
}
