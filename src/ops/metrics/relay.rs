//! What the relay has counted.

use std::fmt;

use super::{Snapshot, Writer};

impl Snapshot {
    pub(super) fn relay(&self, to: &mut Writer<'_>) -> fmt::Result {
        let turn = &self.relay.turn;
        to.gauges(
            "allocations",
            "Allocations at this moment, by the client's transport and the family of the relay",
            self.census
                .named()
                .map(|(transport, family, n)| (vec![("transport", transport), ("family", family)], n)),
        )?;
        to.counter("allocations_created", "Allocations made", turn.allocations)?;
        let traffic = turn.traffic;
        let directions = |[peers, client]: [u64; 2]| {
            [(vec![("direction", "to_peer")], peers), (vec![("direction", "to_client")], client)]
        };
        to.counters(
            "relayed_packets",
            "Datagrams relayed",
            directions([traffic.to_peers, traffic.to_client]),
        )?;
        to.counters(
            "relayed_bytes",
            "Payload bytes relayed",
            directions([traffic.to_peers_bytes, traffic.to_client_bytes]),
        )?;
        let codes: Vec<_> = turn
            .tallies
            .requests()
            .map(|(method, code, n)| (method, if code == 0 { "success".into() } else { code.to_string() }, n))
            .collect();
        to.counters(
            "stun_requests",
            "STUN requests answered, by method and by outcome: success or the code of the error",
            codes
                .iter()
                .filter(|(_, outcome, n)| *n > 0 || outcome == "success")
                .map(|(method, outcome, n)| (vec![("method", *method), ("outcome", outcome.as_str())], *n)),
        )?;
        to.counters(
            "authentication_failures",
            "Requests that were signed and not accepted, by cause",
            turn.tallies.causes().map(|(cause, n)| (vec![("cause", cause)], n)),
        )?;
        to.counters(
            "quota_refusals",
            "Requests refused because a bound was reached, by its key in the configuration",
            turn.tallies.limits().map(|(limit, n)| (vec![("limit", limit)], n)),
        )?;
        to.counter(
            "unanswered",
            "Requests of strangers beyond limits.unauthenticated-answers",
            turn.unanswered,
        )?;
        to.gauge("relay_streams", "TCP and TLS streams that speak TURN at this moment", self.relay.streams)?;
        let (net, figures) = (&self.relay, self.http.figures());
        to.gauges(
            "sockets",
            "Sockets at this moment, by what they are for",
            [
                ("listener", net.listeners + figures.listeners as u64),
                ("relay", net.relay_sockets),
                ("peer", net.peer_sockets),
                ("stream", net.streams),
                ("http", figures.connections as u64),
            ]
            .map(|(kind, n)| (vec![("kind", kind)], n)),
        )
    }

    pub(super) fn drops(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (net, turn) = (&self.relay, &self.relay.turn);
        to.counters(
            "dropped",
            "Datagrams and frames dropped, by reason",
            [
                ("not_stun", turn.not_stun),
                ("malformed", turn.malformed),
                ("unsupported", turn.unsupported),
                ("no_allocation", turn.no_allocation),
                ("no_channel", turn.no_channel),
                ("no_permission", turn.no_permission),
                ("no_path", turn.no_path),
                ("over_rate", turn.over_rate),
                ("listener_removed", net.listener_removed),
                ("across_full", net.across_dropped),
                ("passed_on_full", net.datagrams_not_passed),
                ("send_failed", net.send_dropped),
                ("slow_client", net.stream_dropped),
            ]
            .map(|(reason, n)| (vec![("reason", reason)], n)),
        )?;
        to.counters(
            "stream_ends",
            "TCP and TLS streams that were refused or closed by the relay, by reason",
            [
                ("limit", net.streams_refused),
                ("timed_out", net.streams_timed_out),
                ("garbage", net.streams_garbage),
                ("stuck", net.streams_stuck),
            ]
            .map(|(reason, n)| (vec![("reason", reason)], n)),
        )?;
        to.counter(
            "socket_errors",
            "Errors of receive and accept calls",
            net.receive_errors + net.accept_errors,
        )
    }
}
