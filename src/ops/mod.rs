//! The daemon's life: starts the parts in order, keeps them, stops them.
//!
//! ```text
//! Config ─► setup.rs: settings of the parts ─► relay (threads) ─► HTTP (tokio) ─► READY ─► SIGTERM ─► drain ─► stop
//!                                                                                  │
//!           SIGHUP ─► daemon.rs: reload         admin.rs ◄── ternd ctl             ├─► systemd.rs: STATUS, WATCHDOG
//!                                                                                  └─► acme/: certificates
//! ```
//! Nothing is announced before everything is bound, and whatever can't be bound ends the start.

mod acme;
mod admin;
mod daemon;
pub mod log;
mod mask;
mod metrics;
mod serve;
mod setup;
mod state;
mod systemd;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::http::Door;
use crate::net::clock::Clock;
use crate::net::{Admission, Relay};
use crate::turn::Transport;
use crate::{http, net};
use daemon::Daemon;
use setup::Setup;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Net(#[from] net::StartError),
    #[error(transparent)]
    Http(#[from] http::StartError),
    #[error(transparent)]
    Tls(#[from] net::tls::TlsError),
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("{key}: {error}")]
    Token { key: &'static str, error: http::BadKey },
    #[error("no address of this machine is fit to relay from; name one in relay.addresses")]
    NoRelayAddress,
    #[error("admin.socket {}: {error}", .path.display())]
    Admin { path: PathBuf, error: io::Error },
    #[error(
        "acme.domains: there is no place to keep the certificate: set acme.state-dir, or let systemd make one \
         (StateDirectory=ternd)"
    )]
    NoStateDirectory,
    #[error("what acme keeps in {}: {error}; {}", .path.display(), acme::way_out(.error))]
    Acme { path: PathBuf, error: io::Error },
    #[error("metrics.listen {address}: {error}; take another port, or [] for none")]
    Metrics { address: std::net::SocketAddr, error: io::Error },
}

/// Runs the daemon until it is told to stop. `path` is the file that `config` comes from, to be read again at a reload.
pub fn serve(config: Config, path: Option<&Path>) -> ExitCode {
    match run(config, path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, path: Option<&Path>) -> Result<(), StartError> {
    let clock = Clock::start();
    let setup = Setup::new(config, systemd::listeners())?;
    if let Some(plan) = &setup.acme {
        plan.begin(clock.now().unix);
    }
    log::show(setup.interfaces.iter().copied().chain(setup.relay_addresses.iter().map(|r| r.announced)));

    let admission = Admission::new(setup.streams());
    let relay = Relay::start(&setup.net(), Arc::new(setup.turn()), setup.auth.clone(), admission, clock)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("ternd-http").build()?;
    let result = runtime.block_on(live(setup, path, &relay, clock));
    let counters = relay.counters();
    relay.stop();
    // Rooms that did not end in time are left behind.
    runtime.shutdown_background();
    let done = counters.turn;
    let dropped = done.not_stun + done.malformed + done.unsupported;
    info!(
        "stopped: {} allocations, {} packets relayed, {} requests refused, {} senseless messages dropped",
        done.allocations,
        done.traffic.to_peers + done.traffic.to_client,
        done.rejected + done.authentication_failures,
        dropped + done.no_allocation + done.no_channel + done.no_permission,
    );
    result
}

/// From the first listener of the HTTP side to the last connection.
async fn live(setup: Setup, path: Option<&Path>, relay: &Relay, clock: Clock) -> Result<(), StartError> {
    let handoff = relay.handoff();
    let turn: http::TurnSink =
        Arc::new(move |socket, client, tls, early| handoff.adopt(socket, client, tls, early));
    let revoker = relay.control();
    let revoke: http::RevokeSink = Arc::new(move |user, expires| revoker.revoke(user, expires));
    let server = http::Server::bind(setup.http(), setup.services(clock, turn, revoke)?).await?;
    let metrics = metrics::bind(&setup.config)?;
    let admin = admin::bind(setup.config.admin_socket.as_deref())?;
    let (mut hangup, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    announce(&setup, relay, &server, &metrics);

    let (control, path) = (relay.control(), path.map(Path::to_owned));
    let daemon = Arc::new(Daemon::new(path, setup, control, server.handle(), clock));
    for (_, listener) in metrics {
        tokio::spawn(metrics::serve(listener, daemon.clone()));
    }
    // Removes its socket when it is dropped.
    let _admin = admin.map(|admin| admin.serve(daemon.clone()));
    let watched = daemon.clone();
    tokio::spawn(async move { watched.watch_certificate().await });
    let kept = daemon.clone();
    tokio::spawn(async move { kept.acme().run().await });

    let signals = daemon.clone();
    tokio::spawn(async move {
        loop {
            // A shard may take its time to answer: not in the way of the runtime's threads.
            let daemon = signals.clone();
            let work: Box<dyn FnOnce() + Send> = tokio::select! {
                _ = hangup.recv() => Box::new(move || drop(daemon.reload())),
                _ = terminate.recv() => Box::new(move || daemon.drain("SIGTERM")),
                _ = interrupt.recv() => Box::new(move || daemon.drain("SIGINT")),
            };
            let _ = tokio::task::spawn_blocking(work).await;
        }
    });
    // Under systemd the service counts as started from here on.
    systemd::ready();
    report_to_systemd(&daemon);
    let drained = daemon.clone();
    server
        .run(async move {
            drained.drained().await;
            systemd::stopping(Duration::from_secs(20));
        })
        .await;
    Ok(())
}

/// Keeps the watchdog and the status line going, if there is a systemd that reads them.
fn report_to_systemd(daemon: &Arc<Daemon>) {
    const STATUS: Duration = Duration::from_secs(5);
    let every = |interval: Duration, what: fn(&Daemon)| {
        let daemon = daemon.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let daemon = daemon.clone();
                let _ = tokio::task::spawn_blocking(move || what(&daemon)).await;
            }
        });
    };
    if let Some(interval) = systemd::heartbeat() {
        every(interval, Daemon::beat);
    }
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        every(STATUS, Daemon::tell_status);
    }
}

/// What a listener of the relay is for.
fn relayed_over(transport: Transport) -> &'static str {
    if transport == Transport::Udp { "STUN and TURN over UDP" } else { "STUN and TURN over TCP" }
}

/// What a listener of the HTTP side is for.
fn web_over(door: Door) -> &'static str {
    match door {
        Door::Tls => "HTTPS, WebSocket and TURN over TLS",
        Door::Plain => "HTTP and WebSocket without TLS",
        Door::Redirect => "HTTP that leads to HTTPS",
    }
}

/// Says what runs, and what its operator should look at.
fn announce(setup: &Setup, relay: &Relay, server: &http::Server, metrics: &[metrics::Bound]) {
    for (transport, addr) in relay.listeners() {
        info!("listening on {addr}: {}", relayed_over(transport));
    }
    for (door, addr) in server.listeners() {
        info!("listening on {addr}: {}", web_over(door));
    }
    for address in &setup.relay_addresses {
        let mut text = format!("relaying from {}", address.local);
        if address.announced != address.local {
            let _ = write!(text, ", announced as {}", address.announced);
        }
        let ports = &setup.config.relay.ports;
        info!("{text}, UDP ports {}-{}", ports.start(), ports.end());
        if let Some(range) = net::detect::unreachable(address.announced) {
            warn!(
                "{} lies in {range}: clients are told to meet there, and nobody on the Internet can. Behind 1:1 NAT, as \
                 in most clouds, set relay.external-ip to the public address",
                address.announced
            );
        }
    }
    if setup.is_self_signed() && !setup.config.listen.tls.is_empty() {
        warn!(
            "the certificate is self-signed, made for this run: browsers ask before they open the page, and none \
             uses turns: with it. Set acme.domains, or tls.certificate and tls.key"
        );
    }
    match setup.own_secret.as_ref().map(|own| &own.kept) {
        Some(Some(path)) => info!(
            "no auth.secret and no auth.users: credentials are signed with the secret in {}",
            path.display()
        ),
        Some(None) => {
            info!("no auth.secret and no auth.users: credentials are signed with a secret made for this run");
        }
        None => {}
    }
    for (address, _) in metrics {
        info!("metrics are at http://{address}/metrics");
    }
    if let Some((door, addr)) = server.listeners().first() {
        let scheme = if *door == Door::Tls { "https" } else { "http" };
        info!("open {scheme}://{}:{}/", setup.host(), addr.port());
    }
}
