//! What clients report of their connections, counted: "did my users connect?"
//!
//! Nothing of it is proven, and each label has a fixed set of values, so a client can spoil figures and not memory.

use super::event::{Report, ReportedCandidate, ReportedFamily, ReportedState, ReportedTransport};

/// Counts of reports since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reports {
    /// Reports by state, in the order of [`STATES`].
    states: [u64; STATES.len()],
    /// Connected pairs: local kind, remote kind, how the relay is reached, family.
    pairs: [[[[u64; 3]; 4]; 5]; 5],
    /// Milliseconds until connected.
    pub time_to_connected: Histogram,
    /// Milliseconds of a round trip.
    pub round_trip: Histogram,
    /// ICE candidate errors, in reports of whatever state.
    pub candidate_errors: u64,
}

const STATES: [(ReportedState, &str); 8] = [
    (ReportedState::New, "new"),
    (ReportedState::Checking, "checking"),
    (ReportedState::Connecting, "connecting"),
    (ReportedState::Connected, "connected"),
    (ReportedState::Completed, "completed"),
    (ReportedState::Disconnected, "disconnected"),
    (ReportedState::Failed, "failed"),
    (ReportedState::Closed, "closed"),
];
const KINDS: [(Option<ReportedCandidate>, &str); 5] = [
    (None, "unknown"),
    (Some(ReportedCandidate::Host), "host"),
    (Some(ReportedCandidate::Srflx), "srflx"),
    (Some(ReportedCandidate::Prflx), "prflx"),
    (Some(ReportedCandidate::Relay), "relay"),
];
const TRANSPORTS: [(Option<ReportedTransport>, &str); 4] = [
    (None, "none"),
    (Some(ReportedTransport::Udp), "udp"),
    (Some(ReportedTransport::Tcp), "tcp"),
    (Some(ReportedTransport::Tls), "tls"),
];
const FAMILIES: [(Option<ReportedFamily>, &str); 3] =
    [(None, "unknown"), (Some(ReportedFamily::Ipv4), "ipv4"), (Some(ReportedFamily::Ipv6), "ipv6")];
const BUCKETS: usize = 9;
/// Upper ends of the buckets, in milliseconds.
const CONNECT_MS: [u64; BUCKETS] = [100, 250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 30_000];
const RTT_MS: [u64; BUCKETS] = [10, 25, 50, 100, 150, 250, 400, 1_000, 3_000];
/// What is above tells of a clock that jumped, not of a connection.
const LONGEST_MS: u64 = 600_000;

/// Values in buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// The upper ends of the buckets, in milliseconds.
    pub bounds: [u64; BUCKETS],
    /// How many fell into each.
    pub counts: [u64; BUCKETS],
    /// How many fell above the last.
    pub above: u64,
    /// The sum of all values, in milliseconds.
    pub sum: u64,
}

impl Histogram {
    const fn new(bounds: [u64; BUCKETS]) -> Self {
        Self { bounds, counts: [0; BUCKETS], above: 0, sum: 0 }
    }

    fn observe(&mut self, value: u64) {
        let value = value.min(LONGEST_MS);
        match self.bounds.iter().position(|bound| value <= *bound) {
            Some(at) => self.counts[at] += 1,
            None => self.above += 1,
        }
        self.sum = self.sum.saturating_add(value);
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            states: [0; STATES.len()],
            pairs: [[[[0; 3]; 4]; 5]; 5],
            time_to_connected: Histogram::new(CONNECT_MS),
            round_trip: Histogram::new(RTT_MS),
            candidate_errors: 0,
        }
    }
}

impl Reports {
    pub(super) fn count(&mut self, report: &Report) {
        self.candidate_errors += report.errors.len() as u64;
        if let Some(at) = STATES.iter().position(|(state, _)| *state == report.state) {
            self.states[at] += 1;
        }
        if !matches!(report.state, ReportedState::Connected | ReportedState::Completed) {
            return;
        }
        let kind = |kind| KINDS.iter().position(|(k, _)| *k == kind).unwrap_or(0);
        let transport = TRANSPORTS.iter().position(|(t, _)| *t == report.relay).unwrap_or(0);
        let family = FAMILIES.iter().position(|(f, _)| *f == report.family).unwrap_or(0);
        self.pairs[kind(report.local)][kind(report.remote)][transport][family] += 1;
        if let Some(ms) = report.ms {
            self.time_to_connected.observe(ms);
        }
        if let Some(ms) = report.rtt_ms {
            self.round_trip.observe(ms);
        }
    }

    /// Reports by the state they name.
    pub fn states(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STATES.iter().map(|(_, name)| *name).zip(self.states)
    }

    /// Connected pairs that were reported at least once: local kind, remote kind, how the relay is reached, and the family
    /// of the local candidate.
    pub fn pairs(&self) -> impl Iterator<Item = ([&'static str; 4], u64)> {
        let pairs = KINDS.iter().zip(&self.pairs).flat_map(|((_, local), row)| {
            KINDS.iter().zip(row).flat_map(move |((_, remote), row)| {
                TRANSPORTS.iter().zip(row).flat_map(move |((_, relay), row)| {
                    let families = FAMILIES.iter().zip(row);
                    families.map(move |((_, family), count)| ([*local, *remote, *relay, *family], *count))
                })
            })
        });
        pairs.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: ReportedState, ms: Option<u64>) -> Report {
        Report {
            pc: "main".into(),
            peer: None,
            state,
            ms,
            local: Some(ReportedCandidate::Relay),
            remote: Some(ReportedCandidate::Srflx),
            relay: Some(ReportedTransport::Tls),
            family: Some(ReportedFamily::Ipv6),
            rtt_ms: Some(48),
            errors: Vec::new(),
        }
    }

    #[test]
    fn pairs_and_times_are_those_of_what_connected() {
        let mut reports = Reports::default();
        reports.count(&report(ReportedState::Failed, Some(15_000)));
        reports.count(&report(ReportedState::Connected, Some(250)));
        reports.count(&report(ReportedState::Connected, Some(u64::MAX)));
        let of = |name| reports.states().find(|(state, _)| *state == name).unwrap().1;
        assert_eq!((of("failed"), of("connected"), of("closed")), (1, 2, 0));
        assert_eq!(reports.pairs().collect::<Vec<_>>(), [(["relay", "srflx", "tls", "ipv6"], 2)]);
        assert_eq!(reports.time_to_connected.counts, [0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((reports.time_to_connected.above, reports.time_to_connected.sum), (1, 600_250));
        assert_eq!((reports.round_trip.counts[2], reports.round_trip.sum), (2, 96));
    }
}
