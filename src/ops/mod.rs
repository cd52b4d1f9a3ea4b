//! The daemon's life: starts the parts in order, keeps them, stops them.
//!
//! ```text
//! Config ─► setup.rs: settings of the parts ─► relay (threads) ─► HTTP (tokio) ─► READY ─► SIGTERM ─► stop
//! ```
//! Nothing is announced before everything is bound, and whatever can't be bound ends the start.

pub mod log;
mod setup;

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use ::log::{info, warn};
use sd_notify::NotifyState;

use crate::config::Config;
use crate::net::clock::Clock;
use crate::net::{Admission, Relay, StreamLimits};
use crate::turn::Transport;
use crate::{http, net};
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
}

/// Runs the daemon until it is told to stop.
pub fn serve(config: Config) -> ExitCode {
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ::log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), StartError> {
    let clock = Clock::start();
    let setup = Setup::new(config)?;
    let streams = setup.config.connections;
    let admission = Admission::new(StreamLimits { total: streams.total, per_address: streams.per_address });

    let relay = Relay::start(&setup.net(), Arc::new(setup.turn()), setup.auth.clone(), admission, clock)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("ternd-http").build()?;
    let result = runtime.block_on(async {
        let handoff = relay.handoff();
        let turn: http::TurnSink = Arc::new(move |socket, tls, early| handoff.adopt(socket, tls, early));
        let revoker = relay.revoker();
        let revoke: http::RevokeSink = Arc::new(move |user, expires| revoker.revoke(user, expires));
        let server = http::Server::bind(setup.http(), setup.services(clock, turn, revoke)?).await?;
        announce(&setup, &relay, &server);
        let mut stop = Stop::new()?;
        // Under systemd the service counts as started from here on; elsewhere nobody listens.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        server
            .run(async move {
                // Not inside the macro: at a level that drops the line, its arguments are never evaluated.
                let signal = stop.wait().await;
                info!("stopping: {signal}");
                let _ = sd_notify::notify(&[NotifyState::Stopping]);
            })
            .await;
        Ok(())
    });
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

/// Says what runs, and what its operator should look at.
fn announce(setup: &Setup, relay: &Relay, server: &http::Server) {
    for (transport, addr) in relay.listeners() {
        let name = if *transport == Transport::Udp { "UDP" } else { "TCP" };
        info!("listening on {addr}: STUN and TURN over {name}");
    }
    for (tls, addr) in server.listeners() {
        match tls {
            true => info!("listening on {addr}: HTTPS, WebSocket and TURN over TLS"),
            false => info!("listening on {addr}: HTTP and WebSocket without TLS"),
        }
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
    if setup.config.tls.is_none() && !setup.config.listen.tls.is_empty() {
        warn!(
            "the certificate is self-signed, made for this run: browsers ask before they open the page, and none \
             uses turns: with it. Set tls.certificate and tls.key"
        );
    }
    if setup.ephemeral_secret {
        info!("no auth.secret and no auth.users: credentials are signed with a secret made for this run");
    }
    if let Some((tls, addr)) = server.listeners().first() {
        let scheme = if *tls { "https" } else { "http" };
        info!("open {scheme}://{}:{}/", setup.host(), addr.port());
    }
}

/// The signals that end the daemon.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
