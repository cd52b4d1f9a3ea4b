//! Port 443 does everything: HTTPS, WebSocket and TURN over TLS on one listener; plain HTTP on another, for a
//! proxy in front; and a third sends browsers from HTTP to HTTPS.
//!
//! ```text
//!                     front.rs                        routes.rs
//!  TCP ─► place? ─► TLS ─► first decrypted bytes ─┬─► HTTP ─┬─ /v1/ice ............ ice.rs ──► crate::ice
//!         limits.rs                               │         ├─ /v1/ws ............. websocket.rs ─► hub.rs
//!                                                 │         │                           one Mutex ─► crate::signal
//!                                                 │         ├─ /v1/events /v1/send  events.rs ────┘
//!                                                 │         ├─ /socket.io/ ........ socketio/ (feature `socketio`)
//!                                                 │         ├─ / /r/ROOM /app.js .. static_files.rs, else pages.rs
//!                                                 │         ├─ /healthz /readyz
//!                                                 │         └─ /.well-known/acme-challenge/ .. challenges.rs
//!                                                 └─► STUN ─► Services::turn: socket, TLS state, bytes read so far
//! ```
//!
//! What enters: connections. What leaves: answers, and the connections that speak TURN. Every growable thing has a
//! bound in [`Settings`]; errors of one connection never reach another, and no error of `accept` ends a listener.

mod ahead;
mod challenges;
mod events;
mod front;
mod hub;
mod ice;
mod jwks;
mod limits;
mod listen;
mod origin;
mod outbox;
mod pages;
mod proxied;
mod reply;
mod routes;
#[cfg(feature = "socketio")]
mod socketio;
mod static_files;
#[cfg(test)]
mod tests;
mod tokens;
mod watch;
mod websocket;

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use sha2::{Digest, Sha256};

use crate::auth::Authenticator;
use crate::net::admission::{Admission, StreamLimits, StreamTicket};
use crate::net::clock::Clock;
use crate::{ice as ice_core, signal};

pub use challenges::Challenges;
pub use front::{Figures, Handle, Server};
pub use jwks::JwksSource;
pub use listen::{Rebound, StartError};
pub use proxied::Proxies;
pub use tokens::{BadKey, TokenKind, Tokens};

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// HTTPS, WebSocket and TURN over TLS.
    Tls,
    /// HTTP and WebSocket without TLS.
    Plain,
    /// HTTP that leads to HTTPS, and answers challenges.
    Redirect,
}

/// Addresses and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where HTTPS, WebSocket and TURN over TLS are spoken.
    pub tls: Vec<SocketAddr>,
    /// Where HTTP and WebSocket are spoken without TLS.
    pub plain: Vec<SocketAddr>,
    /// Where HTTP leads to HTTPS.
    pub redirect: Vec<SocketAddr>,
    /// Connections in total.
    pub max_connections: usize,
    /// Connections of one address (IPv6: its /64).
    pub connections_per_address: usize,
    /// How long the handshake and the first bytes, the headers of a request, or its body may each take.
    pub handshake_timeout: Duration,
    /// Whether `/socket.io/` is there, with the rooms of the classic tutorials.
    pub socketio: bool,
    /// A directory of pages to serve beside the API, in the place of those that are part of the program.
    pub static_dir: Option<PathBuf>,
    /// Their `Content-Security-Policy`; empty: none.
    pub static_policy: String,
    /// How long connections may take to end at a stop, and a WebSocket to end after it was closed.
    pub linger: Duration,
    /// Listeners of `tls` and `plain` that are bound already: systemd keeps them open over a restart.
    pub inherited: Arc<Vec<std::net::TcpListener>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls: Vec::new(),
            plain: Vec::new(),
            redirect: Vec::new(),
            max_connections: 10_000,
            connections_per_address: 2_000,
            handshake_timeout: Duration::from_secs(10),
            socketio: true,
            static_dir: None,
            static_policy: String::new(),
            linger: Duration::from_secs(5),
            inherited: Arc::default(),
        }
    }
}

/// Takes connections that turned out to speak TURN: the socket (nonblocking), whose it is, its TLS state, and the plaintext that
/// was read from it so far. The TLS state may still have bytes to write.
pub type TurnSink = Arc<dyn Fn(TcpStream, SocketAddr, Box<rustls::ServerConnection>, Vec<u8>) + Send + Sync>;

/// What can change while the server runs. What is asked next is answered with it; no connection ends.
#[derive(Clone)]
pub struct Live {
    /// Issues credentials.
    pub auth: Arc<Authenticator>,
    /// Who gets them, with which URLs.
    pub ice: ice_core::Settings,
    /// The rooms.
    pub rooms: signal::Settings,
    /// Certificates. Its ALPN protocols should be `h2`, `http/1.1` and `stun.turn`.
    pub tls: Arc<rustls::ServerConfig>,
    /// As [`Settings::handshake_timeout`].
    pub handshake_timeout: Duration,
    /// Who may speak for others.
    pub proxies: Proxies,
    /// The keys of tokens that the rooms and the endpoint take.
    pub tokens: Arc<Tokens>,
    /// Members of one of the rooms at `/socket.io/`.
    pub socketio_capacity: usize,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("ice", &self.ice).field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// Is told that the credentials of a user are good no more, and until when (seconds since the Unix epoch) they would
/// have been.
pub type RevokeSink = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// What answers are made of.
#[derive(Clone)]
pub struct Services {
    /// Issues credentials.
    pub auth: Arc<Authenticator>,
    /// Who gets them, with which URLs.
    pub ice: ice_core::Settings,
    /// The rooms.
    pub rooms: signal::Settings,
    /// Certificates. Its ALPN protocols should be `h2`, `http/1.1` and `stun.turn`.
    pub tls: Arc<rustls::ServerConfig>,
    /// Who may speak for others.
    pub proxies: Proxies,
    /// The process's clocks.
    pub clock: Clock,
    /// Random: ids and secrets come from it.
    pub seed: [u8; 32],
    /// Where TURN goes.
    pub turn: TurnSink,
    /// The keys of tokens that the rooms take.
    pub tokens: Arc<Tokens>,
    /// Members of one of the rooms at `/socket.io/`.
    pub socketio_capacity: usize,
    /// What HTTP-01 challenges are answered with.
    pub challenges: Challenges,
    /// Where it is told that a member has left, whose credentials end with that.
    pub revoke: RevokeSink,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").field("ice", &self.ice).field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections dropped at once: no place for them.
    pub crowded_out: Counter,
    /// Errors of `accept`.
    pub accept_errors: Counter,
    /// TLS handshakes that succeeded.
    pub handshakes: Counter,
    /// TLS handshakes that failed or took too long.
    pub failed_handshakes: Counter,
    /// Connections dropped because they began with neither HTTP nor STUN, or with nothing in time.
    pub unknown_protocol: Counter,
    /// Challenges of an ACME server answered: handshakes (RFC 8737) and requests.
    pub challenges: Counter,
    /// Connections handed to [`Services::turn`].
    pub turn: Counter,
    /// HTTP requests.
    pub requests: Counter,
    /// Answers with a 4xx status.
    pub client_errors: Counter,
    /// Answers with a 5xx status.
    pub server_errors: Counter,
    /// Credentials issued by the endpoint.
    pub credentials: Counter,
    /// Credentials issued to members of rooms.
    pub room_credentials: Counter,
    /// Requests refused for their rate.
    pub rate_limited: Counter,
    /// Looks at `rooms.jwt.jwks-url` that brought keys.
    pub jwks_looks: Counter,
    /// Looks that brought none.
    pub jwks_failures: Counter,
    /// Tokens of a key that was not there, too soon after the last look.
    pub jwks_postponed: Counter,
    /// WebSockets opened.
    pub websockets: Counter,
    /// Event streams opened.
    pub event_streams: Counter,
    /// WebSockets and event streams closed because they were read too slowly.
    pub slow_websockets: Counter,
    /// WebSockets and event streams given up after a silence.
    pub silent_websockets: Counter,
    /// Sessions of Socket.IO ended because they were read too slowly.
    pub slow_socketio: Counter,
    /// Sessions of Socket.IO ended because they said too much.
    pub talkative_socketio: Counter,
}

/// What all connections share.
struct Shared {
    settings: Settings,
    /// Of these only what never changes is used; the rest is in `live`.
    services: Services,
    live: ArcSwap<Live>,
    /// The keys that are fetched.
    jwks: ArcSwapOption<jwks::Jwks>,
    counters: Arc<Counters>,
    pages: pages::Pages,
    static_files: Option<static_files::StaticFiles>,
    #[cfg(feature = "socketio")]
    classic: Option<socketio::Classic>,
    places: Arc<Admission>,
    demo_rate: limits::Rate,
    hub: hub::Hub,
    streams: events::Streams,
    users: Users,
    /// Soon to stop: not ready for more, though what comes is served.
    draining: AtomicBool,
    /// Becomes true at the stop.
    stopping: tokio::sync::watch::Receiver<bool>,
    listeners: listen::Listeners,
}

impl Shared {
    fn new(
        settings: Settings,
        services: Services,
        stopping: tokio::sync::watch::Receiver<bool>,
        listeners: listen::Listeners,
    ) -> Self {
        let hasher = |purpose| {
            let key = derived(&services.seed, purpose);
            let word = |at: usize| key[at..].iter().take(8).fold(0, |w, byte| w << 8 | u64::from(*byte));
            ahash::RandomState::with_seeds(word(0), word(8), word(16), word(24))
        };
        let (total, per_address) = (settings.max_connections, settings.connections_per_address);
        let tokens = services.tokens.clone();
        let live = Live {
            auth: services.auth.clone(),
            ice: services.ice.clone(),
            rooms: services.rooms.clone(),
            tls: services.tls.clone(),
            handshake_timeout: settings.handshake_timeout,
            proxies: services.proxies.clone(),
            tokens: services.tokens.clone(),
            socketio_capacity: services.socketio_capacity,
        };
        let counters = Arc::<Counters>::default();
        let shared = Self {
            pages: pages::Pages::new(),
            static_files: settings
                .static_dir
                .as_deref()
                .map(|directory| static_files::StaticFiles::new(directory, &settings.static_policy)),
            #[cfg(feature = "socketio")]
            classic: settings.socketio.then(|| socketio::Classic::new(&live, counters.clone())),
            counters,
            places: Admission::new(StreamLimits { total, per_address }),
            demo_rate: limits::Rate::new(services.ice.credentials_per_minute, hasher("demo")),
            hub: hub::Hub::new(services.rooms.clone(), derived(&services.seed, "rooms")),
            streams: events::Streams::default(),
            live: ArcSwap::from_pointee(live),
            jwks: ArcSwapOption::empty(),
            users: Users { key: derived(&services.seed, "users"), count: AtomicU64::new(0) },
            draining: AtomicBool::new(false),
            settings,
            services,
            stopping,
            listeners,
        };
        shared.follow_keys(&tokens);
        shared
    }

    /// Fetches keys from where the configuration says, or no more. A URL that stays keeps its keys, and is looked at.
    fn follow_keys(&self, tokens: &Tokens) {
        let before = self.jwks.load_full();
        let followed = tokens.source().map(|source| match before {
            Some(jwks) if jwks.source() == source => {
                jwks.refresh();
                jwks
            }
            before => {
                let same = before.filter(|jwks| jwks.source().url() == source.url());
                let keys = same.map(|jwks| jwks.keys()).unwrap_or_default();
                Arc::new(jwks::Jwks::follow(source.clone(), keys, self.counters.clone()))
            }
        });
        self.jwks.store(followed);
    }

    /// What a JSON Web Token says.
    fn verify(&self, token: &str) -> Result<signal::Claims, signal::BadToken> {
        let fetched = self.jwks.load().as_ref().map(|jwks| jwks.keys()).unwrap_or_default();
        self.live().tokens.verify(token, &fetched)
    }

    /// To be awaited before a token is verified: its key may have to be fetched.
    async fn prepare(&self, token: &str) {
        if let Some(jwks) = self.jwks.load_full() {
            let live = self.live().clone();
            jwks.prepare(token, &live, &self.counters).await;
        }
    }

    /// The same for the token in a message of the rooms, if there is one.
    async fn prepare_for(&self, message: &str) {
        if self.jwks.load().is_some()
            && let Some(token) = signal::shown_token(message)
        {
            self.prepare(&token).await;
        }
    }

    fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// The host for URLs: the configured one, or else what the client calls this server, if that is a host.
    fn host<B>(&self, request: &hyper::Request<B>) -> Option<ice_core::Host> {
        let configured = self.live().ice.host.as_deref().and_then(|host| host.parse().ok());
        configured.or_else(|| ice_core::Host::from_authority(origin::authority(request)?).ok())
    }
}

/// Names for callers that give none: each another one, so that quotas per user don't lump strangers together.
struct Users {
    key: [u8; 32],
    count: AtomicU64,
}

impl Users {
    fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let digest = derived(&self.key, &count.to_string());
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A secret for one purpose. The seed has a fixed length, so that no two purposes run into each other.
fn derived(seed: &[u8; 32], purpose: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed).chain_update(purpose).finalize().into()
}

impl Peer {
    /// Whose request this is: that of whoever a proxy names that may speak for others, else of who has connected.
    fn client(&self, headers: &hyper::HeaderMap) -> std::net::IpAddr {
        self.shared.live().proxies.client(self.address.ip(), headers)
    }
}

/// One connection, as far as its requests care.
struct Peer {
    shared: Arc<Shared>,
    door: Door,
    address: SocketAddr,
    _place: StreamTicket,
    /// While one of these lives, the server is not done.
    _alive: tokio::sync::mpsc::Sender<()>,
}
