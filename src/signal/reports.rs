//! What the clients' reports add up to: "did my users connect?"

use super::event::{Report, ReportedState};

/// Upper bounds of the buckets of [`Reports::connect_ms`], in milliseconds; one more bucket has no bound.
pub const CONNECT_MS: [u64; 9] = [100, 250, 500, 1000, 2000, 4000, 8000, 15_000, 30_000];
/// Upper bounds of the buckets of [`Reports::rtt_ms`], in milliseconds; one more bucket has no bound.
pub const RTT_MS: [u64; 9] = [5, 10, 25, 50, 100, 200, 400, 800, 1600];

/// How many values lie in each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Not cumulative; the last one is what lies beyond all bounds.
    pub buckets: [u64; 10],
    /// Of all values.
    pub sum: u64,
}

impl Histogram {
    fn add(&mut self, bounds: &[u64; 9], value: u64) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(value);
    }
}

/// Counts since the start. What clients say is not proven, and a client may say it more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Reports of `connected` or `completed`.
    pub connected: u64,
    /// Reports of `failed`.
    pub failed: u64,
    /// Connected, by the kinds of the local and the remote candidate, each in the order host, srflx, prflx, relay.
    pub pairs: [[u64; 4]; 4],
    /// Connected through a relay, by how it is reached: UDP, TCP, TLS.
    pub relays: [u64; 3],
    /// Connected, by the family of the local candidate: IPv4, IPv6.
    pub families: [u64; 2],
    /// Time to connect, in milliseconds, by [`CONNECT_MS`].
    pub connect_ms: Histogram,
    /// Round-trip times, in milliseconds, by [`RTT_MS`].
    pub rtt_ms: Histogram,
    /// Candidate errors of all reports.
    pub candidate_errors: u64,
}

impl Reports {
    pub(super) fn add(&mut self, report: &Report) {
        self.candidate_errors += report.errors.len() as u64;
        match report.state {
            ReportedState::Failed => self.failed += 1,
            ReportedState::Connected | ReportedState::Completed => {
                self.connected += 1;
                if let (Some(local), Some(remote)) = (report.local, report.remote) {
                    self.pairs[local as usize][remote as usize] += 1;
                }
                if let Some(relay) = report.relay {
                    self.relays[relay as usize] += 1;
                }
                if let Some(family) = report.family {
                    self.families[family as usize] += 1;
                }
                if let Some(ms) = report.ms {
                    self.connect_ms.add(&CONNECT_MS, ms);
                }
                if let Some(ms) = report.rtt_ms {
                    self.rtt_ms.add(&RTT_MS, ms);
                }
            }
            _ => {}
        }
    }
}
