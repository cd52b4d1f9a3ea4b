//! The front door: accepts connections, takes TLS off, and finds out by the first bytes what is spoken.

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::ahead::Ahead;
use super::limits::Seldom;
use super::listen::{Listeners, Rebound};
#[cfg(feature = "socketio")]
use super::socketio;
use super::{Counters, Door, Live, Peer, Services, Settings, Shared, StartError, proxied, routes};
use crate::net::admission::{StreamLimits, StreamTicket};
use crate::net::tls::ACME_TLS_1;
use crate::signal;

/// Bound, and ready to [`run`](Self::run).
pub struct Server {
    shared: Arc<Shared>,
    bound: Rebound,
    stop: watch::Sender<bool>,
    /// Ends when the last listener and the last connection are gone.
    gone: mpsc::Receiver<()>,
}

/// What a server can be asked while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

/// Numbers of the moment and of the rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Connections open.
    pub connections: usize,
    /// WebSockets and event streams open that the rooms know.
    pub websockets: usize,
    /// Sessions that wait to be resumed.
    pub away: usize,
    /// Rooms with members.
    pub rooms: usize,
    /// Their members, here or away.
    pub members: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// Sessions of Socket.IO.
    pub socketio: usize,
    /// What the rooms counted since the start.
    pub signal: signal::Counters,
}

impl Handle {
    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Announces a stop to the rooms: their clients are to connect again, `after` from now or when it stops.
    pub fn drain_rooms(&self, after: Duration) {
        self.0.hub.act(&self.0, |rooms, _| rooms.drain(after));
    }

    /// The first `max` rooms after the one of this name. Takes the lock of the rooms, as the next ones do.
    pub fn rooms(&self, after: Option<&str>, max: usize) -> Vec<signal::RoomListing> {
        self.0.hub.ask(|rooms| rooms.list(after, max))
    }

    /// What clients reported of their connections since the start.
    pub fn reports(&self) -> signal::Reports {
        self.0.hub.ask(signal::Rooms::reports)
    }

    /// One room, if there is one of this name.
    pub fn room(&self, name: &str) -> Option<signal::RoomListing> {
        self.0.hub.ask(|rooms| rooms.room(name))
    }

    /// Locks a room, or unlocks it. `false`: there is no such room.
    pub fn lock_room(&self, name: &str, locked: bool) -> bool {
        self.0.hub.act(&self.0, |rooms, _| rooms.lock_room(name, locked))
    }

    /// Puts everybody out of a room, which ends with that; how many these were.
    pub fn close_room(&self, name: &str) -> usize {
        self.0.hub.act(&self.0, |rooms, now| rooms.close_room(now, name))
    }

    /// An invite that says this, signed with what the rooms sign theirs with.
    pub fn invite(&self, claims: &signal::Claims) -> String {
        self.0.hub.ask(|rooms| rooms.sign_invite(claims))
    }

    /// Puts a member out of its room. `false`: there is none of this id.
    pub fn kick(&self, room: &str, peer: &str, ban: Duration) -> bool {
        self.0.hub.act(&self.0, |rooms, now| rooms.kick_out(now, room, peer, ban))
    }

    /// Goes on with other settings, and other bounds on connections: in total, and of one address. Must be called in a
    /// tokio runtime.
    pub fn reload(&self, live: Live, total: usize, per_address: usize) {
        self.0.places.set_limits(StreamLimits { total, per_address });
        self.0.demo_rate.set(live.ice.credentials_per_minute);
        self.0.hub.reload(live.rooms.clone());
        #[cfg(feature = "socketio")]
        if let Some(classic) = &self.0.classic {
            classic.reload(&live);
        }
        let tokens = live.tokens.clone();
        self.0.live.store(Arc::new(live));
        self.0.follow_keys(&tokens);
    }

    /// Binds the listeners of `settings` that are not there yet. Nothing changes until [`Self::listen`].
    ///
    /// # Errors
    /// [`StartError`] for the first that can't be had.
    pub fn bind(&self, settings: &Settings) -> Result<Rebound, StartError> {
        self.0.listeners.bind(settings)
    }

    /// Listens on what was bound, and on what was removed no more; connections stay. Like [`Self::bind`] it must be
    /// called in a tokio runtime.
    pub fn listen(&self, rebound: Rebound) {
        self.0.listeners.listen(&self.0, rebound);
    }

    /// Exchanges the certificate: the next handshake is made with it.
    pub fn set_tls(&self, tls: Arc<rustls::ServerConfig>) {
        let live = Live { tls, ..(**self.0.live()).clone() };
        self.0.live.store(Arc::new(live));
    }

    /// From here on `/readyz` says 503, so that whoever balances loads sends nobody.
    pub fn drain(&self, draining: bool) {
        self.0.draining.store(draining, Ordering::Relaxed);
    }

    /// Numbers of the moment. Takes the lock of the rooms: not for a hot path.
    pub fn figures(&self) -> Figures {
        let (connections, listeners) = (self.0.places.open(), self.0.listeners.len());
        #[cfg(feature = "socketio")]
        let socketio = self.0.classic.as_ref().map_or(0, socketio::Classic::sessions);
        #[cfg(not(feature = "socketio"))]
        let socketio = 0;
        self.0.hub.ask(|rooms| Figures {
            connections,
            websockets: rooms.connections(),
            away: rooms.away(),
            rooms: rooms.rooms(),
            members: rooms.members(),
            listeners,
            socketio,
            signal: rooms.counters(),
        })
    }
}

impl Server {
    /// Binds all listeners. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] for the first address that can't be listened on.
    #[expect(clippy::unused_async, reason = "says that it needs the runtime")]
    pub async fn bind(settings: Settings, services: Services) -> Result<Self, StartError> {
        let (alive, gone) = mpsc::channel(1);
        let (stop, stopping) = watch::channel(false);
        let listeners = Listeners::new(alive);
        let bound = listeners.bind(&settings)?;
        Ok(Self { shared: Arc::new(Shared::new(settings, services, stopping, listeners)), bound, stop, gone })
    }

    /// Where it listens, with the ports that were really taken.
    pub fn listeners(&self) -> Vec<(Door, SocketAddr)> {
        self.bound.added().collect()
    }

    /// Answers questions while the server runs.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Serves until `shutdown`; then closes the listeners, lets requests end, closes WebSockets with 1001, and
    /// returns when all are gone or [`Settings::linger`] is over.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { shared, bound, stop, mut gone } = self;
        shared.listeners.listen(&shared, bound);
        let mut tasks = JoinSet::new();
        let timed = shared.clone();
        tasks.spawn(async move { timed.hub.run_timers(&timed).await });

        shutdown.await;
        stop.send_replace(true);
        shared.listeners.close();
        tasks.shutdown().await;
        shared.hub.stop();
        #[cfg(feature = "socketio")]
        if let Some(classic) = &shared.classic {
            let _ = timeout(shared.settings.linger, classic.close()).await;
        }
        // Nothing is ever sent: this ends when the last connection drops its end.
        let _ = timeout(shared.settings.linger + Duration::from_secs(1), gone.recv()).await;
    }
}

/// How long to wait after an error that is not of one connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// At a stop: for the first request of a connection to be whole.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Accepts until `removed`.
pub(super) async fn accept(
    shared: Arc<Shared>,
    door: Door,
    local: SocketAddr,
    listener: TcpListener,
    mut removed: oneshot::Receiver<()>,
    alive: mpsc::Sender<()>,
) {
    let (errors, crowd) = (Seldom::new(), Seldom::new());
    let now = || shared.services.clock.now().instant;
    loop {
        let accepted = tokio::select! {
            _ = &mut removed => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                shared.counters.accept_errors.add();
                use io::ErrorKind as E;
                if matches!(error.kind(), E::ConnectionAborted | E::ConnectionReset | E::Interrupted) {
                    continue;
                }
                if let Some(more) = errors.due(now()) {
                    log::warn!(listener:% = local, more; "cannot accept connections: {error}");
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        shared.counters.accepted.add();
        let live = shared.live().clone();
        let speaks_for_others =
            live.proxies.sends_header(address.ip()) || live.proxies.forwards(address.ip());
        let place = match speaks_for_others {
            true => shared.places.admit_proxy(),
            false => shared.places.admit(address.ip()),
        };
        let Some(place) = place else {
            shared.counters.crowded_out.add();
            if let Some(more) = crowd.due(now()) {
                log::warn!(listener:% = local, peer:% = address, more; "no place for another connection");
            }
            continue;
        };
        let _ = stream.set_nodelay(true);
        let guest = Guest { shared: shared.clone(), door, address, place, alive: alive.clone() };
        tokio::spawn(guest.serve(stream));
    }
}

/// A connection of which nothing is known yet.
struct Guest {
    shared: Arc<Shared>,
    door: Door,
    address: SocketAddr,
    place: StreamTicket,
    alive: mpsc::Sender<()>,
}

impl Guest {
    async fn serve(mut self, mut stream: TcpStream) {
        let (patience, proxied) = {
            let live = self.shared.live();
            (live.handshake_timeout, live.proxies.sends_header(self.address.ip()))
        };
        if proxied {
            match timeout(patience, proxied::client(&mut stream)).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(client))) => {
                    let Some(place) = self.shared.places.admit(client.ip()) else {
                        self.shared.counters.crowded_out.add();
                        return;
                    };
                    (self.address, self.place) = (client, place);
                }
                Ok(Err(_)) | Err(_) => return self.drop_unknown(),
            }
        }
        match self.door {
            Door::Tls => self.serve_tls(stream).await,
            Door::Plain | Door::Redirect => self.serve_plain(stream).await,
        }
    }

    async fn serve_tls(self, stream: TcpStream) {
        let (patience, tls) = {
            let live = self.shared.live();
            (live.handshake_timeout, live.tls.clone())
        };
        let deadline = Instant::now() + patience;
        let acceptor = TlsAcceptor::from(tls);
        let mut stream = match timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.drop_failed_handshake(&error),
            Err(_) => return self.drop_failed_handshake(&io::ErrorKind::TimedOut.into()),
        };
        self.shared.counters.handshakes.add();
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS_1) {
            // The handshake was the answer, and nothing follows (RFC 8737).
            return self.shared.counters.challenges.add();
        }
        let mut early = Vec::new();
        match timeout_at(deadline, recognise(&mut stream, &mut early)).await {
            Ok(Protocol::Http) => self.serve_http(early, stream).await,
            Ok(Protocol::Turn) => self.hand_over(early, stream),
            Ok(Protocol::Unknown) | Err(_) => self.drop_unknown(),
        }
    }

    async fn serve_plain(self, mut stream: TcpStream) {
        let mut early = Vec::new();
        let recognised = recognise(&mut stream, &mut early);
        let patience = self.shared.live().handshake_timeout;
        match timeout(patience, recognised).await {
            Ok(Protocol::Http) => self.serve_http(early, stream).await,
            _ => self.drop_unknown(),
        }
    }

    fn drop_failed_handshake(&self, error: &io::Error) {
        self.shared.counters.failed_handshakes.add();
        log::debug!(peer:% = self.address; "no TLS: {error}");
    }

    fn drop_unknown(&self) {
        self.shared.counters.unknown_protocol.add();
        log::debug!(peer:% = self.address; "neither HTTP nor TURN");
    }

    fn hand_over(&self, mut early: Vec<u8>, stream: tokio_rustls::server::TlsStream<TcpStream>) {
        let (socket, mut tls) = stream.into_inner();
        // What was decrypted and not read yet belongs to it. At its end there is an error: would block.
        let _ = tls.reader().read_to_end(&mut early);
        match socket.into_std() {
            Ok(socket) => {
                self.shared.counters.turn.add();
                (self.shared.services.turn)(socket, self.address, Box::new(tls), early);
            }
            Err(error) => log::debug!(peer:% = self.address; "lost before it was handed over: {error}"),
        }
    }

    async fn serve_http(self, early: Vec<u8>, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let Self { shared, door, address, place, alive } = self;
        let patience = shared.live().handshake_timeout;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .max_buf_size(16 * 1024)
            .max_headers(64);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(patience)
            .max_concurrent_streams(32)
            .max_header_list_size(16 * 1024);

        let mut stopping = shared.stopping.clone();
        let linger = shared.settings.linger;
        let peer = Arc::new(Peer { shared, door, address, _place: place, _alive: alive });
        let begun = Arc::new(Notify::new());
        let first = begun.clone();
        let service = service_fn(move |request| {
            first.notify_one();
            let peer = peer.clone();
            async move { Ok::<_, Infallible>(routes::answer(&peer, request).await) }
        });
        let io = TokioIo::new(Ahead::new(early, stream));
        let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
        // The request that showed that this is HTTP is answered even if the stop comes first.
        let stop = async {
            let _ = stopping.wait_for(|stopping| *stopping).await;
            let _ = timeout(FIRST_REQUEST, begun.notified()).await;
        };
        let result = tokio::select! {
            result = &mut connection => result,
            () = stop => {
                connection.as_mut().graceful_shutdown();
                timeout(linger, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            log::debug!(peer:% = address; "HTTP connection ended: {error}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http,
    Turn,
    Unknown,
}

/// Reads until it is clear what is spoken.
async fn recognise(stream: &mut (impl AsyncRead + Unpin), early: &mut Vec<u8>) -> Protocol {
    early.reserve(512);
    loop {
        match stream.read_buf(early).await {
            Ok(0) | Err(_) => return Protocol::Unknown,
            Ok(_) => {}
        }
        if let Some(protocol) = protocol(early) {
            return protocol;
        }
    }
}

/// RFC 8489 section 5.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What begins with these bytes; `None`: more are needed.
///
/// ```text
/// 00xxxxxx ......... 21 12 A4 42   STUN: type, length, magic cookie
/// A to Z                           an HTTP method, or the preface of HTTP/2
/// ```
/// ChannelData (01xxxxxx, the same as letters) can't come first: a channel needs an allocation on this connection.
fn protocol(first: &[u8]) -> Option<Protocol> {
    match first {
        [] => None,
        [0..=0x3F, ..] => {
            let cookie = first.get(4..).unwrap_or_default();
            match cookie.len() {
                0..4 if COOKIE.starts_with(cookie) => None,
                4.. if cookie.starts_with(&COOKIE) => Some(Protocol::Turn),
                _ => Some(Protocol::Unknown),
            }
        }
        // ChannelData: no HTTP method starts with the first of the channel numbers, 0x4000 to 0x40FF. Without an
        // allocation the relay drops it, and goes on.
        [0x40, ..] => Some(Protocol::Turn),
        [b'A'..=b'Z', ..] if first.len() < PREFACE.len() && PREFACE.starts_with(first) => None,
        [b'A'..=b'Z', ..] => Some(Protocol::Http),
        _ => Some(Protocol::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let stun = [0, 3, 0, 8, 0x21, 0x12, 0xA4, 0x42, 1];
        for end in 0..8 {
            assert_eq!(protocol(&stun[..end]), None);
        }
        assert_eq!(protocol(&stun[..8]), Some(Protocol::Turn));
        assert_eq!(protocol(&stun), Some(Protocol::Turn));
        assert_eq!(protocol(&[0, 1, 0, 0, 0x21, 0x13]), Some(Protocol::Unknown), "another cookie");

        for end in 1..PREFACE.len() {
            assert_eq!(protocol(&PREFACE[..end]), None);
        }
        assert_eq!(protocol(PREFACE), Some(Protocol::Http));
        for http in ["G", "GET / HTTP/1.1", "PO", "PRO", "OPTIONS *"] {
            assert_eq!(protocol(http.as_bytes()), Some(Protocol::Http));
        }
        assert_eq!(protocol(&[0x40, 0]), Some(Protocol::Turn), "ChannelData");
        for other in [&b"get /"[..], &[0x80], &[0x16, 3, 1, 2, 0, 1], &[0xFF; 30]] {
            assert_eq!(protocol(other), Some(Protocol::Unknown), "{other:?}");
        }
    }
}
