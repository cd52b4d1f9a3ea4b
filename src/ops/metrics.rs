//! What Prometheus reads at `/metrics`. The names are documented in `docs/operations.md`; a test holds the two, the
//! dashboard and the alerts against each other.
//!
//! All figures are those of this moment: shards are asked, nothing is sampled. No label has a value that a client
//! chose.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::StartError;
use super::acme::Standing;
use super::daemon::Daemon;
use super::serve::{self, Reply};
use crate::config::{Config, DEFAULT_METRICS};
use crate::{http, net, signal, turn};

/// Where it listens, and how.
pub(super) type Bound = (SocketAddr, std::net::TcpListener);

/// The format of `/metrics`.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds what the configuration names. The default may be taken by another daemon of the same kind: no reason not to
/// start.
pub(super) fn bind(config: &Config) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::new();
    for &address in &config.metrics {
        let listener = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        match listener {
            Ok(listener) => bound.push(listener),
            Err(error) if address == DEFAULT_METRICS => {
                log::warn!("no metrics: {address}: {error}; set metrics.listen to another port, or to []");
            }
            Err(error) => return Err(StartError::Metrics { address, error }),
        }
    }
    Ok(bound)
}

/// Answers scrapes, for ever.
pub(super) async fn serve(listener: std::net::TcpListener, daemon: Arc<Daemon>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("no metrics: {error}"),
    };
    let places = Arc::new(Semaphore::new(serve::CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(serve::PAUSE).await;
            continue;
        };
        let daemon = daemon.clone();
        serve::spawn(stream, &places, move |request| match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => answer(&daemon),
            _ => serve::text(StatusCode::NOT_FOUND, "text/plain", "the metrics are at /metrics\n".into()),
        });
    }
}

/// The metrics of this moment.
pub(super) fn answer(daemon: &Daemon) -> Reply {
    match text(daemon) {
        Ok(text) => serve::text(StatusCode::OK, CONTENT_TYPE, text),
        Err(why) => serve::text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("{why}\n")),
    }
}

fn text(daemon: &Daemon) -> Result<String, String> {
    let control = daemon.control();
    let (relay, census) =
        control.counters().and_then(|c| Ok((c, control.census()?))).map_err(|stuck| stuck.to_string())?;
    let mut registry = Registry::with_prefix("ternd");
    registry.register_collector(Box::new(Snapshot {
        relay,
        census,
        issued: daemon.issued(),
        http: daemon.http().clone(),
        certificate: daemon.acme().standing(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| error.to_string())?;
    Ok(text)
}

/// What all parts have counted.
struct Snapshot {
    relay: net::Counters,
    census: turn::Census,
    /// Credentials, through the admin socket.
    issued: u64,
    http: http::Handle,
    certificate: Option<Standing>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// Labels and a number.
type Row<'a> = (Vec<(&'static str, &'a str)>, u64);

/// Writes metrics of one kind after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// Only grows; `_total` is appended to the name.
    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a>>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            of_family(&mut family, labels, |encoder| ConstCounter::new(value).encode(encoder))?;
        }
        Ok(())
    }

    /// Comes and goes.
    fn gauges<'a>(&mut self, name: &str, help: &str, rows: impl IntoIterator<Item = Row<'a>>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            of_family(&mut family, labels, |encoder| ConstGauge::new(value).encode(encoder))?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [(Vec::new(), value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, [(Vec::new(), value)])
    }

    fn histogram(&mut self, name: &str, help: &str, values: &signal::Histogram) -> fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let mut buckets: Vec<_> = values.bounds.iter().map(|b| seconds(*b)).zip(values.counts).collect();
        buckets.push((f64::MAX, values.above));
        let count = values.counts.iter().sum::<u64>() + values.above;
        encoder.encode_histogram::<Vec<(&str, &str)>>(seconds(values.sum), count, &buckets, None)
    }
}

fn of_family(
    family: &mut MetricEncoder<'_>,
    labels: Vec<(&'static str, &str)>,
    encode: impl Fn(MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    encode(family.encode_family(&labels)?)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        self.relay(&mut to)?;
        self.drops(&mut to)?;
        self.certificate(&mut to)?;
        self.web(&mut to)
    }
}

impl Snapshot {
    fn relay(&self, to: &mut Writer<'_>) -> fmt::Result {
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
        to.gauge("relay_streams", "TCP and TLS streams that speak TURN at this moment", self.relay.streams)
    }

    fn drops(&self, to: &mut Writer<'_>) -> fmt::Result {
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

    /// Of the certificate that the daemon gets by itself.
    fn certificate(&self, to: &mut Writer<'_>) -> fmt::Result {
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

    fn web(&self, to: &mut Writer<'_>) -> fmt::Result {
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
        )?;
        to.gauge("rooms", "Rooms with members at this moment", figures.rooms as u64)?;
        to.gauge("websockets", "WebSockets open at this moment", figures.websockets as u64)?;
        to.counter("websockets_opened", "WebSockets opened", counters.websockets.get())?;
        to.counters(
            "websockets_given_up",
            "WebSockets closed by the server, by reason",
            [("slow", &counters.slow_websockets), ("silent", &counters.silent_websockets)]
                .map(|(reason, n)| (vec![("reason", reason)], n.get())),
        )?;
        to.counter("room_joins", "Successful joins", figures.signal.joins)?;
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
            "Connected pairs that clients report: kinds of the candidates, and the transport to the relay",
            totals.pairs().map(|([local, remote, relay], n)| {
                (vec![("local", local), ("remote", remote), ("relay", relay)], n)
            }),
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
