//! From the configuration and the machine to the settings of each part.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use log::info;

use super::state::OwnSecret;
use super::{StartError, acme};
use crate::auth::Authenticator;
use crate::config::{Config, JwtKind};
use crate::http::{self, RevokeSink, TokenKind, TurnSink};
use crate::net::clock::Clock;
use crate::net::{self, detect};
use crate::turn::{self, RelayAddress};

/// The configuration with all that it leaves to the machine.
pub(super) struct Setup {
    pub config: Config,
    pub auth: Arc<Authenticator>,
    /// What signs credentials where the configuration has no secret.
    pub own_secret: Option<OwnSecret>,
    pub relay_addresses: Vec<RelayAddress>,
    pub interfaces: Vec<IpAddr>,
    /// For all listeners with TLS.
    pub tls: Arc<rustls::ServerConfig>,
    /// Where its certificate comes from, if it is to get it by itself.
    pub acme: Option<acme::Plan>,
    /// What HTTP-01 challenges are answered with.
    challenges: http::Challenges,
    /// What the tokens of clients are checked with.
    tokens: Arc<http::Tokens>,
    nonce_key: [u8; 32],
    /// Listeners from systemd.
    inherited: Arc<Vec<TcpListener>>,
}

impl Setup {
    pub(super) fn new(config: Config, inherited: Vec<TcpListener>) -> Result<Self, StartError> {
        let mut nonce_key = [0; 32];
        getrandom::fill(&mut nonce_key)?;
        let own_secret = match config.auth.secrets.is_empty() && config.auth.users.is_empty() {
            true => Some(OwnSecret::find_or_make()?),
            false => None,
        };
        Self::with(config, own_secret, None, nonce_key, Arc::new(inherited))
    }

    /// The same for another configuration of the running daemon. What clients hold stays good: nonces, the secret that
    /// was made, relay addresses.
    pub(super) fn again(&self, config: Config) -> Result<Self, StartError> {
        let own_secret = match config.auth.secrets.is_empty() && config.auth.users.is_empty() {
            true => Some(self.own_secret.clone().map_or_else(OwnSecret::find_or_make, Ok)?),
            false => None,
        };
        Self::with(config, own_secret, Some(self), self.nonce_key, self.inherited.clone())
    }

    fn with(
        mut config: Config,
        own_secret: Option<OwnSecret>,
        before: Option<&Self>,
        nonce_key: [u8; 32],
        inherited: Arc<Vec<TcpListener>>,
    ) -> Result<Self, StartError> {
        let interfaces = detect::interface_addresses()?;
        leave_out_missing_families(&mut config);
        if let Some(own) = &own_secret {
            config.auth.secrets.push(own.secret.clone());
        }
        if config.rooms.invite_secret.is_none() {
            config.rooms.invite_secret = OwnSecret::for_invites()?;
        }
        let relay_addresses = match before {
            Some(before) => before.relay_addresses.clone(),
            None => relay_addresses(&config, &interfaces),
        };
        if relay_addresses.is_empty() {
            return Err(StartError::NoRelayAddress);
        }
        let names = names(&config, &relay_addresses, &interfaces);
        let challenges = before.map(|before| before.challenges.clone()).unwrap_or_default();
        let planned = before.and_then(|before| before.acme.as_ref());
        let acme = acme::Plan::new(&config.acme, planned, &challenges, names.clone())?;
        let tls = match (&acme, &config.tls, before) {
            (Some(plan), ..) => plan.tls()?,
            (None, Some(files), _) => net::tls::from_files(&files.certificate, &files.key)?,
            (None, None, Some(before)) if before.is_self_signed() && before.config.host == config.host => {
                before.tls.clone()
            }
            (None, None, _) => net::tls::self_signed(names)?,
        };
        let auth = Arc::new(Authenticator::new(config.auth.clone(), nonce_key));
        let tokens = Arc::new(tokens(&config)?);
        Ok(Self {
            config,
            auth,
            own_secret,
            relay_addresses,
            interfaces,
            tls,
            acme,
            challenges,
            tokens,
            nonce_key,
            inherited,
        })
    }

    /// Neither files nor a CA: the certificate was made for this run.
    pub(super) fn is_self_signed(&self) -> bool {
        self.config.tls.is_none() && self.acme.is_none()
    }

    /// Puts back into `config` what a running daemon can't take over, and names the keys of that which has changed.
    pub(super) fn keep_what_needs_a_restart(&self, config: &mut Config) -> Vec<&'static str> {
        let mut changed = Vec::new();
        macro_rules! keep {
            ($($key:literal: $($field:ident).+;)*) => {
                $(if config.$($field).+ != self.config.$($field).+ {
                    config.$($field).+.clone_from(&self.config.$($field).+);
                    changed.push($key);
                })*
            };
        }
        keep! {
            "shards": shards;
            "socket-buffer": socket_buffer;
            "pin-shards": pin_shards;
            "relay.addresses": relay.addresses;
            "relay.external-ip": relay.external_ips;
            "relay.ports": relay.ports;
            "relay.socket-buffer": relay.socket_buffer;
            "nat-discovery": nat_discovery;
            "metrics.listen": metrics;
            "admin.socket": admin_socket;
            "socket-io.enabled": socketio.enabled;
            "http": pages;
            "log.format": log.format;
        }
        changed
    }

    /// A port can't change its kind while the daemon runs: the other kind of listener has it.
    pub(super) fn moved_ports(&self, config: &Config) -> Vec<String> {
        let mut moved = Vec::new();
        for (key, addrs) in config.listen.streams() {
            for (other, old) in self.config.listen.streams().into_iter().filter(|(other, _)| *other != key) {
                for addr in addrs.iter().filter(|addr| addr.port() != 0) {
                    let Some(old) = old.iter().find(|old| net::overlap(**old, *addr)) else { continue };
                    moved.push(format!(
                        "{key} = {addr}: {other} has {old}, and a port changes its kind with a restart only; take another \
                         port, or `systemctl restart ternd`"
                    ));
                }
            }
        }
        moved
    }

    /// What systemd goes on to hold although it is listened on no more.
    pub(super) fn is_inherited(&self, addr: SocketAddr) -> bool {
        self.inherited.iter().any(|listener| listener.local_addr().is_ok_and(|bound| bound == addr))
    }

    pub(super) fn net(&self) -> net::Settings {
        let (mut udp, mut tcp) = (self.config.listen.udp.clone(), self.config.listen.tcp.clone());
        if let Some(turn::NatDiscovery { addresses, ports }) = self.nat_discovery() {
            let corners = addresses.into_iter().flat_map(|ip| ports.map(|port| SocketAddr::new(ip, port)));
            for corner in corners.collect::<Vec<_>>() {
                let streams = (!tcp.is_empty()).then_some(&mut tcp);
                for listeners in [Some(&mut udp), streams].into_iter().flatten() {
                    if !listeners.iter().any(|listener| net::covers(*listener, corner)) {
                        listeners.push(corner);
                    }
                }
            }
        }
        net::Settings {
            udp,
            tcp,
            relay_ports: self.config.relay.ports.clone(),
            shards: self.config.shards,
            socket_buffer: self.config.socket_buffer,
            relay_socket_buffer: self.config.relay.socket_buffer,
            pin_shards: self.config.pin_shards,
            first_message_timeout: self.config.connections.handshake_timeout,
            proxies: self.config.listen.proxy_protocol.clone(),
            inherited: self.inherited.clone(),
            ..net::Settings::default()
        }
    }

    pub(super) fn turn(&self) -> turn::Settings {
        turn::Settings {
            relay_addresses: self.relay_addresses.clone(),
            own_addresses: self.interfaces.clone(),
            nat_discovery: self.nat_discovery(),
            ..self.config.turn.clone()
        }
    }

    /// The second address needs a first port.
    fn nat_discovery(&self) -> Option<turn::NatDiscovery> {
        let first = self.config.listen.udp.first()?.port();
        let addresses = self.config.nat_discovery.addresses?;
        Some(turn::NatDiscovery { addresses, ports: [first, self.config.nat_discovery.port] })
    }

    pub(super) fn http(&self) -> http::Settings {
        let connections = self.config.connections;
        http::Settings {
            tls: self.config.listen.tls.clone(),
            plain: self.config.listen.http.clone(),
            redirect: self.config.listen.redirect.clone(),
            max_connections: connections.total,
            connections_per_address: connections.per_address,
            handshake_timeout: connections.handshake_timeout,
            inherited: self.inherited.clone(),
            socketio: self.config.socketio.enabled,
            static_dir: self.config.pages.directory.clone(),
            static_policy: self.config.pages.policy.clone(),
            ..http::Settings::default()
        }
    }

    pub(super) fn services(
        &self,
        clock: Clock,
        turn: TurnSink,
        revoke: RevokeSink,
    ) -> Result<http::Services, StartError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(http::Services {
            auth: self.auth.clone(),
            ice: self.config.ice(),
            rooms: self.config.rooms.clone(),
            tls: self.tls.clone(),
            proxies: self.proxies(),
            clock,
            seed,
            turn,
            tokens: self.tokens.clone(),
            socketio_capacity: self.config.socketio.capacity,
            challenges: self.challenges.clone(),
            revoke,
        })
    }

    /// What the relay can take over while it runs.
    pub(super) fn changes(&self) -> net::Changes {
        net::Changes {
            turn: Arc::new(self.turn()),
            auth: self.auth.clone(),
            streams: self.streams(),
            proxies: self.config.listen.proxy_protocol.clone(),
            first_message_timeout: self.config.connections.handshake_timeout,
        }
    }

    /// What the HTTP side can take over while it runs.
    pub(super) fn live(&self) -> http::Live {
        http::Live {
            auth: self.auth.clone(),
            ice: self.config.ice(),
            rooms: self.config.rooms.clone(),
            tls: self.tls.clone(),
            handshake_timeout: self.config.connections.handshake_timeout,
            proxies: self.proxies(),
            tokens: self.tokens.clone(),
            socketio_capacity: self.config.socketio.capacity,
        }
    }

    fn proxies(&self) -> http::Proxies {
        http::Proxies {
            headers: self.config.listen.proxy_protocol.clone(),
            forwarded_for: self.config.listen.forwarded_for.clone(),
        }
    }

    pub(super) fn streams(&self) -> net::StreamLimits {
        let connections = self.config.connections;
        net::StreamLimits { total: connections.total, per_address: connections.per_address }
    }

    /// The name to open the page with.
    pub(super) fn host(&self) -> String {
        let outside = self.relay_addresses.iter().map(|r| r.announced).find(|ip| !ip.is_loopback());
        match (&self.config.host, outside) {
            (Some(host), _) => host.clone(),
            (None, Some(IpAddr::V6(ip))) => format!("[{ip}]"),
            (None, Some(ip)) => ip.to_string(),
            (None, None) => "localhost".into(),
        }
    }
}

/// The keys that the rooms take tokens of.
fn tokens(config: &Config) -> Result<http::Tokens, StartError> {
    let jwt = &config.jwt;
    let mut tokens = http::Tokens::new(jwt.audience.clone(), jwt.issuer.clone());
    for key in &jwt.keys {
        let kind = match key.kind {
            JwtKind::Hs256 => TokenKind::Hs256,
            JwtKind::Rs256 => TokenKind::Rs256,
            JwtKind::Es256 => TokenKind::Es256,
            JwtKind::EdDsa => TokenKind::EdDsa,
        };
        let added = tokens.add(key.id.clone(), kind, &key.bytes);
        added.map_err(|error| StartError::Token { key: "rooms.jwt.keys", error })?;
    }
    if let Some(jwks) = &jwt.jwks {
        let error = |error| StartError::Token { key: "rooms.jwt.jwks-file", error };
        tokens.add_jwks(jwks).map_err(error)?;
    }
    let fetched = &jwt.fetched;
    if let Some(url) = fetched.url.clone() {
        tokens.fetch_from(http::JwksSource {
            secure: url.secure,
            host: url.host,
            port: url.port,
            path: url.path,
            ca: fetched.ca.clone(),
            refresh: fetched.refresh,
            cooldown: fetched.cooldown,
            timeout: fetched.timeout,
            max_bytes: fetched.max_bytes,
        });
    }
    Ok(tokens)
}

fn relay_addresses(config: &Config, interfaces: &[IpAddr]) -> Vec<RelayAddress> {
    let locals = match config.relay.addresses.as_slice() {
        [] => detect::relay_addresses(interfaces),
        named => named.to_vec(),
    };
    let announced = |local| RelayAddress { local, announced: config.relay.announced(local) };
    locals.into_iter().map(announced).collect()
}

/// What a self-signed certificate is made for.
fn names(config: &Config, relays: &[RelayAddress], interfaces: &[IpAddr]) -> Vec<String> {
    let announced = relays.iter().map(|r| r.announced.to_string());
    let interfaces = interfaces.iter().map(IpAddr::to_string);
    let mut names: Vec<_> = ["localhost".into()].into_iter().chain(announced).chain(interfaces).collect();
    names.extend(config.host.clone());
    names.sort();
    names.dedup();
    names
}

/// A wildcard of a family that this machine does not have is left out: the defaults name both.
fn leave_out_missing_families(config: &mut Config) {
    if detect::has_ipv6() {
        return;
    }
    let wildcard = |addr: &SocketAddr| addr.is_ipv6() && addr.ip().is_unspecified();
    let listen = &mut config.listen;
    let mut left_out = false;
    for list in [&mut listen.udp, &mut listen.tcp, &mut listen.tls, &mut listen.http, &mut listen.redirect] {
        let before = list.len();
        list.retain(|addr| !wildcard(addr));
        left_out |= list.len() < before;
    }
    if left_out {
        info!("this machine has no IPv6: [::] is left out");
    }
}
