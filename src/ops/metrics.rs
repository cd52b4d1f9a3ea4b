//! What Prometheus reads at `/metrics`. The names are documented in `docs/operations.md`; a test holds the two, the
//! dashboard and the alerts against each other.
//!
//! All figures are those of this moment: shards are asked, nothing is sampled. No label has a value that a client
//! chose.

mod relay;
mod web;

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
        self.web(&mut to)?;
        self.rooms(&mut to)
    }
}
