//! What one read brought: a datagram, or a run of them that the kernel hands over as one (UDP_GRO).
//!
//! ```text
//!   slot of the pool:  │ segment │ segment │ segment │ rest │     one client, or one peer; each with the same headers
//!                      └─ start ─────────── len ─────────────┘
//! ```

use std::ops::Range;

use super::udp::{Piece, Pool, Received};
use crate::turn::PayloadRange;

/// A datagram in a slot, or a run of them: `segment` bytes each, the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    pub slot: usize,
    pub start: usize,
    pub segment: usize,
    pub len: usize,
}

impl Burst {
    pub(super) fn of(slot: usize, pool: &Pool) -> Self {
        let Received { len, segment, .. } = pool.meta(slot);
        Self { slot, start: 0, segment, len }
    }

    pub(super) fn is_run(&self) -> bool {
        self.len > self.segment
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// A datagram may be empty; a run of them is not.
    pub(super) fn count(&self) -> usize {
        if self.is_run() { self.len.div_ceil(self.segment) } else { 1 }
    }

    pub(super) fn singles(self) -> impl Iterator<Item = Self> {
        (0..self.count()).map(move |n| {
            let at = n * self.segment;
            let len = self.segment.min(self.len - at);
            Self { start: self.start + at, len, segment: len, ..self }
        })
    }

    /// What is to be relayed of each datagram: of the full ones, and of a shorter last one.
    pub(super) fn pieces(self, payload: PayloadRange) -> impl Iterator<Item = Piece> {
        let (len, skip) = (payload.end - payload.start, payload.start);
        let first = Piece::plain(self.slot, self.start + skip, len);
        let (full, rest) =
            if self.is_run() { (self.len / self.segment, self.len % self.segment) } else { (1, 0) };
        let at = self.start + full * self.segment;
        let last = (rest > 0).then(|| first.single(at + skip.min(rest)..at + rest));
        std::iter::once(Piece { count: full, stride: self.segment, ..first }).chain(last)
    }
}
