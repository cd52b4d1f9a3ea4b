//! How many answers an address gets before it has proved anything: a token bucket for each /32 and /64, in a
//! table whose size is fixed. A flood of spoofed sources costs no memory, and no victim gets more than its rate.
//!
//! Addresses share buckets by keyed hash: nobody can choose whom to collide with.

use std::net::IpAddr;

use ahash::RandomState;

use crate::auth::network_of;
use crate::time::Instant;

/// Buckets of one shard: 128 KiB.
const BUCKETS: usize = 16_384;
/// A bucket holds this many seconds of its rate.
const BURST_SECONDS: u32 = 5;
/// Tokens are counted in thousandths, so that a millisecond at one per second is one.
const SCALE: u32 = 1_000;

#[derive(Debug)]
pub(super) struct Limiter {
    per_second: u32,
    hasher: RandomState,
    buckets: Box<[Bucket]>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of an answer.
    tokens: u32,
    /// When it was last filled: low bits of the milliseconds.
    filled: u32,
}

impl Limiter {
    /// `per_second` answers to each address; 0 means no limit.
    pub(super) fn new(per_second: u32, hasher: RandomState) -> Self {
        let full = Bucket { tokens: capacity(per_second), filled: 0 };
        let buckets = vec![full; if per_second == 0 { 0 } else { BUCKETS }].into_boxed_slice();
        Self { per_second, hasher, buckets }
    }

    /// May this address get one more answer?
    pub(super) fn admit(&mut self, client: IpAddr, now: Instant) -> bool {
        if self.buckets.is_empty() {
            return true;
        }
        let at = self.hasher.hash_one(network_of(client)) as usize % self.buckets.len();
        let bucket = &mut self.buckets[at];
        let now = now.as_millis() as u32;
        let gained = now.wrapping_sub(bucket.filled).saturating_mul(self.per_second);
        bucket.tokens = bucket.tokens.saturating_add(gained).min(capacity(self.per_second));
        bucket.filled = now;
        let admitted = bucket.tokens >= SCALE;
        if admitted {
            bucket.tokens -= SCALE;
        }
        admitted
    }
}

const fn capacity(per_second: u32) -> u32 {
    per_second.saturating_mul(BURST_SECONDS).saturating_mul(SCALE)
}
