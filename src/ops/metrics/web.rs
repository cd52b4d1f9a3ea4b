//! What the HTTP side, the rooms and their clients have counted.

use std::fmt;

use super::{Snapshot, Writer};
use crate::signal;

impl Snapshot {
    pub(super) fn web(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (counters, figures) = (self.http.counters(), self.http.figures());
        to.gauge(
            "http_connections",
            "Connections of the HTTP side at this moment",
            figures.connections as u64,
        )?;
        to.counters(
            "connections",
            "Connections that the HTTP side accepted, by what became of them",
            [
                ("accepted", &counters.accepted),
                ("crowded_out", &counters.crowded_out),
                ("unknown_protocol", &counters.unknown_protocol),
                ("turn", &counters.turn),
            ]
            .map(|(what, n)| (vec![("result", what)], n.get())),
        )?;
        to.counters(
            "tls_handshakes",
            "TLS handshakes, by outcome",
            [("success", &counters.handshakes), ("failed", &counters.failed_handshakes)]
                .map(|(outcome, n)| (vec![("outcome", outcome)], n.get())),
        )?;
        to.counter("http_requests", "HTTP requests", counters.requests.get())?;
        to.counters(
            "http_errors",
            "Answers with a status of 400 and above, by class",
            [("4xx", &counters.client_errors), ("5xx", &counters.server_errors)]
                .map(|(class, n)| (vec![("class", class)], n.get())),
        )?;
        to.counter("http_rate_limited", "Requests refused for their rate", counters.rate_limited.get())?;
        to.counters(
            "credentials_issued",
            "Credentials issued, by whom",
            [
                ("endpoint", counters.credentials.get()),
                ("room", counters.room_credentials.get()),
                ("operator", self.issued),
            ]
            .map(|(by, n)| (vec![("by", by)], n)),
        )?;
        to.counters(
            "jwks_fetches",
            "Looks at rooms.jwt.jwks-url, by outcome; postponed: a token came too soon for another one",
            [
                ("success", &counters.jwks_looks),
                ("failed", &counters.jwks_failures),
                ("postponed", &counters.jwks_postponed),
            ]
            .map(|(outcome, n)| (vec![("outcome", outcome)], n.get())),
        )
    }

    /// Of the certificate that the daemon gets by itself.
    pub(super) fn certificate(&self, to: &mut Writer<'_>) -> fmt::Result {
        let standing = self.certificate.as_ref();
        let orders = standing.map_or([0; 2], |standing| [standing.orders, standing.failed_orders]);
        to.counters(
            "acme_orders",
            "Certificates ordered from the ACME server, by outcome",
            ["success", "failed"].into_iter().zip(orders).map(|(outcome, n)| (vec![("outcome", outcome)], n)),
        )?;
        to.counter(
            "acme_challenges",
            "Challenges answered, TLS handshakes and HTTP requests",
            self.http.counters().challenges.get(),
        )?;
        let expires = standing.and_then(|standing| standing.expires);
        to.gauges(
            "certificate_expires_timestamp_seconds",
            "When the certificate of the ACME server ends, in Unix time; none: there is no such certificate",
            expires.map(|expires| (Vec::new(), expires)),
        )
    }

    pub(super) fn rooms(&self, to: &mut Writer<'_>) -> fmt::Result {
        let (counters, figures) = (self.http.counters(), self.http.figures());
        to.gauge("rooms", "Rooms with members at this moment", figures.rooms as u64)?;
        to.gauge("room_members", "Members of rooms at this moment, here or away", figures.members as u64)?;
        to.gauge("room_sessions_away", "Sessions that wait to be resumed", figures.away as u64)?;
        to.gauge(
            "websockets",
            "WebSockets and event streams open at this moment",
            figures.websockets as u64,
        )?;
        to.counter("websockets_opened", "WebSockets opened", counters.websockets.get())?;
        to.counter("event_streams_opened", "Event streams opened", counters.event_streams.get())?;
        to.counters(
            "websockets_given_up",
            "WebSockets closed by the server, by reason",
            [("slow", &counters.slow_websockets), ("silent", &counters.silent_websockets)]
                .map(|(reason, n)| (vec![("reason", reason)], n.get())),
        )?;
        to.counter("room_joins", "Successful joins", figures.signal.joins)?;
        to.gauge("socketio_sessions", "Sessions of Socket.IO at this moment", figures.socketio as u64)?;
        to.counters(
            "socketio_ended",
            "Sessions of Socket.IO ended by the server, by reason",
            [("slow", &counters.slow_socketio), ("rate", &counters.talkative_socketio)]
                .map(|(reason, n)| (vec![("reason", reason)], n.get())),
        )?;
        to.counters(
            "room_messages",
            "Frames of the rooms protocol, by direction",
            [("received", figures.signal.received), ("sent", figures.signal.sent)]
                .map(|(direction, n)| (vec![("direction", direction)], n)),
        )?;
        to.counters(
            "room_errors",
            "What clients of the rooms were refused, by the code that they were told",
            figures.signal.refusals().map(|(code, n)| (vec![("code", code.as_str())], n)),
        )?;
        let rooms = &figures.signal;
        to.counters(
            "room_sessions",
            "Sessions of the rooms: begun; resumed; lost too much for that; taken over by a newer connection; not come back",
            [
                ("begun", rooms.sessions),
                ("resumed", rooms.resumes),
                ("not_resumed", rooms.resumes_failed),
                ("replaced", rooms.replaced),
                ("lapsed", rooms.lapsed),
            ]
            .map(|(event, n)| (vec![("event", event)], n)),
        )?;
        to.counter("room_kicks", "Members put out of a room", rooms.kicked)?;
        self.reports(to, &self.http.reports())
    }

    /// What clients say of their connections.
    fn reports(&self, to: &mut Writer<'_>, totals: &signal::Reports) -> fmt::Result {
        to.counters(
            "client_reports",
            "What clients report of their peer connections, by state",
            totals.states().map(|(state, n)| (vec![("state", state)], n)),
        )?;
        to.counters(
            "client_pairs",
            "Connected pairs that clients report: kinds of the candidates, transport to the relay, and family",
            totals.pairs().map(|([local, remote, relay, family], n)| {
                (vec![("local", local), ("remote", remote), ("relay", relay), ("family", family)], n)
            }),
        )?;
        to.counter(
            "client_candidate_errors",
            "ICE candidate errors that clients report",
            totals.candidate_errors,
        )?;
        to.histogram(
            "client_time_to_connected_seconds",
            "Time until connected, as clients report it",
            &totals.time_to_connected,
        )?;
        to.histogram(
            "client_round_trip_seconds",
            "Round-trip time of connected pairs, as clients report it",
            &totals.round_trip,
        )
    }
}
