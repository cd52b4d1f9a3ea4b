//! From the configuration and the machine to the settings of each part.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use log::info;

use super::StartError;
use crate::auth::{Authenticator, Secret};
use crate::config::{Config, JwtKind};
use crate::http::{self, RevokeSink, TokenKind, TurnSink};
use crate::net::clock::Clock;
use crate::net::{self, detect};
use crate::turn::{self, RelayAddress};

/// The configuration with all that it leaves to the machine.
pub(super) struct Setup {
    pub config: Config,
    pub auth: Arc<Authenticator>,
    pub ephemeral_secret: bool,
    pub relay_addresses: Vec<RelayAddress>,
    interfaces: Vec<IpAddr>,
}

impl Setup {
    pub(super) fn new(mut config: Config) -> Result<Self, StartError> {
        let interfaces = detect::interface_addresses()?;
        leave_out_missing_families(&mut config);

        let ephemeral_secret = config.auth.secrets.is_empty() && config.auth.users.is_empty();
        if ephemeral_secret {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret)?;
            config.auth.secrets.push(Secret::new("made for this run", secret));
        }
        let mut nonce_key = [0; 32];
        getrandom::fill(&mut nonce_key)?;

        let locals = match config.relay.addresses.as_slice() {
            [] => detect::relay_addresses(&interfaces),
            named => named.to_vec(),
        };
        if locals.is_empty() {
            return Err(StartError::NoRelayAddress);
        }
        let announced = |local| RelayAddress { local, announced: config.relay.announced(local) };
        Ok(Self {
            relay_addresses: locals.into_iter().map(announced).collect(),
            auth: Arc::new(Authenticator::new(config.auth.clone(), nonce_key)),
            config,
            ephemeral_secret,
            interfaces,
        })
    }

    pub(super) fn net(&self) -> net::Settings {
        let (mut udp, mut tcp) = (self.config.listen.udp.clone(), self.config.listen.tcp.clone());
        if let Some(turn::NatDiscovery { addresses, ports }) = self.nat_discovery() {
            let corners = addresses.into_iter().flat_map(|ip| ports.map(|port| SocketAddr::new(ip, port)));
            for corner in corners.collect::<Vec<_>>() {
                let streams = (!tcp.is_empty()).then_some(&mut tcp);
                for listeners in [Some(&mut udp), streams].into_iter().flatten() {
                    if !listeners.iter().any(|listener| covers(*listener, corner)) {
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
            max_connections: connections.total,
            connections_per_address: connections.per_address,
            handshake_timeout: connections.handshake_timeout,
            socketio: self.config.socketio.enabled,
            socketio_capacity: self.config.socketio.capacity,
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
        let tls = match &self.config.tls {
            Some(files) => net::tls::from_files(&files.certificate, &files.key)?,
            None => net::tls::self_signed(self.names())?,
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(http::Services {
            auth: self.auth.clone(),
            ice: self.config.ice(),
            rooms: self.config.rooms.clone(),
            tls,
            clock,
            seed,
            turn,
            tokens: Arc::new(self.tokens()?),
            revoke,
        })
    }

    /// The keys that the rooms take tokens of.
    fn tokens(&self) -> Result<http::Tokens, StartError> {
        let jwt = &self.config.jwt;
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
        Ok(tokens)
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

    /// What a self-signed certificate is made for.
    fn names(&self) -> Vec<String> {
        let announced = self.relay_addresses.iter().map(|r| r.announced.to_string());
        let interfaces = self.interfaces.iter().map(IpAddr::to_string);
        let mut names: Vec<_> = ["localhost".into()].into_iter().chain(announced).chain(interfaces).collect();
        names.extend(self.config.host.clone());
        names.sort();
        names.dedup();
        names
    }
}

/// Does a listener get what is sent to this address?
fn covers(listener: SocketAddr, addr: SocketAddr) -> bool {
    let wildcard = listener.ip().is_unspecified() && listener.is_ipv4() == addr.is_ipv4();
    listener.port() == addr.port() && (wildcard || listener.ip() == addr.ip())
}

/// A wildcard of a family that this machine does not have is left out: the defaults name both.
fn leave_out_missing_families(config: &mut Config) {
    if detect::has_ipv6() {
        return;
    }
    let wildcard = |addr: &SocketAddr| addr.is_ipv6() && addr.ip().is_unspecified();
    let listen = &mut config.listen;
    let mut left_out = false;
    for list in [&mut listen.udp, &mut listen.tcp, &mut listen.tls, &mut listen.http] {
        let before = list.len();
        list.retain(|addr| !wildcard(addr));
        left_out |= list.len() < before;
    }
    if left_out {
        info!("this machine has no IPv6: [::] is left out");
    }
}
