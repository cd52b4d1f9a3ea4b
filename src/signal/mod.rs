//! Rooms: the signaling protocol `ternd.v1` as a pure state machine. Its specification is
//! `docs/signaling-protocol.md`.
//!
//! ```text
//!                received(connection, text)                     Output::Send { to, text }
//!   WebSocket  ────────────────────────────►   ┌───────┐   ───────────────────────────────►  WebSocket(s)
//!     driver    connected, disconnected        │ Rooms │    Output::Close                     driver
//!                                              └───────┘    Output::Event                     log, metrics
//! ```
//!
//! What enters: connections, their frames, the time. What leaves, taken with [`Rooms::poll_output`] until it is
//! empty after every call: text frames, closes, and events for the log. Randomness enters once, as a seed.
//!
//! A connection carries one session, a session is a member of at most one room, and a room exists as long as
//! it has members. A session outlives its connection for a while (`session.rs`). A room is the list of its members in
//! the order they came, and that order decides the roles of every pair (`frame::Roles`).
//!
//! To see a message pass, read [`Rooms::received`], `wire.rs`, `requests.rs` (one function per request), `frame.rs`.

mod access;
mod bucket;
mod error;
mod event;
mod frame;
mod hello;
mod ids;
mod join;
mod json;
mod link;
mod listing;
mod moderation;
mod operator;
mod rate;
mod reports;
mod requests;
mod room;
mod session;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::auth::{Secret, network_of};
use crate::time::{Instant, Now};

pub use access::{Access, BadToken, Claims, Role, RoomClaim, invite, read_invite, read_token};
pub use error::{ErrorCode, Fatal, close};
pub use event::{
    Event, Report, ReportedCandidate, ReportedError, ReportedFamily, ReportedState, ReportedTransport,
};
pub use frame::Text;
pub use listing::{MemberListing, RoomListing};
pub(crate) use rate::Rate;
pub use reports::{Histogram, Reports};
pub use settings::Settings;
pub use wire::shown_token;

use bucket::Bucket;
use error::Refusal;
use frame::Frame;
use ids::Ids;
use link::{Link, Phase};
use room::Room;
use session::{Buckets, Session, SessionKey};

/// The WebSocket subprotocol that clients ask for. It is the version of the protocol, too.
pub const SUBPROTOCOL: &str = "ternd.v1";

/// Names a connection between the rooms and their driver. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Issues what the rooms hand on and can't make: they know neither relays nor keys.
pub trait Authority {
    /// An `{"iceServers": [...], "ttl": N, ...}` object for a member of a room. Its credential must be revoked by
    /// the name of the peer alone: no two members of any rooms share one.
    ///
    /// # Errors
    /// A sentence for the client, if none can be issued.
    fn issue(&mut self, now: Now, room: &str, peer: &str) -> Result<Box<RawValue>, String>;

    /// What a token says, if it can be verified. Invites of this server don't come here, and the time of the
    /// claims is looked at afterwards.
    ///
    /// # Errors
    /// [`BadToken`].
    fn verify(&mut self, now: Now, token: &str) -> Result<Claims, BadToken> {
        let (_, _) = (now, token);
        Err(BadToken::Invalid("This server takes no tokens but its own invites".into()))
    }
}

/// What the rooms want done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a text frame.
    Send {
        /// To this connection.
        to: ConnectionId,
        /// What it says.
        text: Text,
    },
    /// Close a connection, after what was sent to it before. The rooms have forgotten it already: more of its
    /// frames, and its [`Rooms::disconnected`], are ignored.
    Close {
        /// This one.
        connection: ConnectionId,
        /// WebSocket close code, one of [`close`].
        code: u16,
        /// For people.
        reason: &'static str,
    },
    /// The credential of this connection's member is almost over: answer with [`Rooms::refresh_ice`].
    RefreshIce {
        /// The connection.
        connection: ConnectionId,
    },
    /// A member is gone: its credentials and what was allocated with them must end.
    Revoke {
        /// Who.
        peer: Arc<str>,
        /// When the last of its credentials would end by itself, in seconds since the Unix epoch.
        expires: u64,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken from clients, good or bad.
    pub received: u64,
    /// Frames handed out for clients.
    pub sent: u64,
    /// Error frames among them.
    pub errors: u64,
    /// What clients were refused, by its place in [`ErrorCode::ALL`]; what comes as a close code only, too.
    pub refused: [u64; ErrorCode::ALL.len()],
    /// Messages refused because there were too many, of whatever kind.
    pub rate_limited: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Tokens that were refused.
    pub bad_tokens: u64,
    /// Successful joins.
    pub joins: u64,
    /// Wrong PINs.
    pub bad_pins: u64,
    /// Sessions that went on with another connection.
    pub resumes: u64,
    /// Sessions whose client came back with the right secret, but had missed too much.
    pub resumes_failed: u64,
    /// Connections closed because a newer one took their session.
    pub replaced: u64,
    /// Sessions whose client did not come back in time.
    pub lapsed: u64,
    /// Members put out of a room.
    pub kicked: u64,
    /// Connections closed because they read too slowly.
    pub slow: u64,
    /// Credentials issued, with a join, on request, or because the last one was almost over.
    pub credentials: u64,
}

impl Counters {
    /// What clients were refused, by code.
    pub fn refusals(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        ErrorCode::ALL.iter().copied().zip(self.refused)
    }

    fn refuse(&mut self, code: ErrorCode) {
        // The codes are numbered in the order of the list.
        self.refused[code as usize] += 1;
    }
}

/// All rooms of a server.
#[derive(Debug)]
pub struct Rooms {
    settings: Settings,
    ids: Ids,
    invite_secret: Secret,
    links: BTreeMap<ConnectionId, Link>,
    sessions: BTreeMap<SessionKey, Session>,
    by_id: BTreeMap<Arc<str>, SessionKey>,
    rooms: BTreeMap<Arc<str>, Room>,
    /// How many connections each address (IPv6: /64) has, and how many sessions that wait to be resumed.
    addresses: BTreeMap<IpAddr, usize>,
    away_by_address: BTreeMap<IpAddr, usize>,
    away: usize,
    /// Bytes of events kept for all sessions.
    replay_bytes: usize,
    last_session: u64,
    joins: Rate,
    wrong_pins: Rate,
    credentials: Rate,
    timers: BTreeSet<(Instant, Timer)>,
    draining: bool,
    outputs: VecDeque<Output>,
    counters: Counters,
    reports: Reports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A connection owes a hello.
    Hello(ConnectionId),
    /// A session was not resumed.
    Away(SessionKey),
    /// The credential of a member is almost over.
    Ice(SessionKey),
}

/// What the driver calls.
impl Rooms {
    /// No rooms yet. `seed` must be random: ids and secrets come from it.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let mut ids = Ids::new(seed);
        let invite_secret = invite_secret(&settings, &mut ids);
        let mut rate = |per_minute| Rate::new(per_minute, ids.hasher());
        Self {
            joins: rate(settings.joins_per_minute),
            wrong_pins: rate(settings.wrong_pins_per_minute),
            credentials: rate(settings.credentials_per_minute),
            settings,
            ids,
            invite_secret,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_id: BTreeMap::new(),
            rooms: BTreeMap::new(),
            addresses: BTreeMap::new(),
            away_by_address: BTreeMap::new(),
            away: 0,
            replay_bytes: 0,
            last_session: 0,
            timers: BTreeSet::new(),
            draining: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            reports: Reports::default(),
        }
    }

    /// A connection was opened; it has [`Settings::hello_timeout`] to say hello. Beyond the bounds on
    /// connections it is closed right away.
    pub fn connected(&mut self, now: Now, connection: ConnectionId, from: IpAddr) {
        if self.links.contains_key(&connection) {
            debug_assert!(false, "{connection:?} was reused");
            return;
        }
        let from = network_of(from);
        let here = self.addresses.get(&from).copied().unwrap_or(0);
        for (count, limit, whose) in [
            (self.links.len(), self.settings.connections, "Server"),
            (here, self.settings.connections_per_address, "Your address"),
        ] {
            if count >= limit {
                let message = format!("{whose} has {count} of {limit} connections; try again later");
                let refusal = Refusal::new(ErrorCode::RateLimited, message)
                    .retry(FULL_RETRY)
                    .fatal(close::RATE, "too many connections");
                return self.refuse(now, connection, None, refusal);
            }
        }
        let deadline = now.instant + self.settings.hello_timeout;
        let buckets = Buckets {
            messages: Bucket::new(now.instant, self.settings.burst),
            bytes: Bucket::new(now.instant, self.settings.burst_bytes),
        };
        self.addresses.insert(from, here + 1);
        self.timers.insert((deadline, Timer::Hello(connection)));
        self.links.insert(connection, Link { from, buckets, malformed: 0, phase: Phase::Waiting(deadline) });
    }

    /// The client offered only other versions of the protocol: it is told so.
    pub fn wrong_version(&mut self, now: Now, connection: ConnectionId) {
        let message = format!("This server speaks {SUBPROTOCOL}");
        let refusal =
            Refusal::new(ErrorCode::UnsupportedVersion, message).fatal(close::VERSION, "no common version");
        self.refuse(now, connection, None, refusal);
    }

    /// A text frame came in.
    pub fn received(
        &mut self,
        now: Now,
        connection: ConnectionId,
        text: &str,
        authority: &mut dyn Authority,
    ) {
        let Some(admission) = self.admit(now, connection, text.len()) else { return };
        if text.len() > self.settings.max_bytes {
            return self.refuse_size(now, connection);
        }
        // Read although the rate may refuse it: the answer carries the id, and not many are refused before the end.
        let (id, request) = wire::parse(text, &self.settings);
        let request = admission.and(request);
        let is_hello = matches!(request, Ok(wire::Request::Hello(_)));
        let result = request.and_then(|request| self.handle(now, connection, id, request, authority));
        // A hello belongs to its connection: each connection has its own.
        if !is_hello {
            self.remember_id(connection, id, &result);
        }
        if let Err(refusal) = result {
            self.refuse(now, connection, id, refusal);
        }
    }

    /// A binary frame came in: the protocol has none.
    pub fn received_binary(&mut self, now: Now, connection: ConnectionId) {
        let Some(admission) = self.admit(now, connection, 0) else { return };
        let refusal = Refusal::malformed("Binary frame; send JSON text frames");
        self.refuse(now, connection, None, admission.err().unwrap_or(refusal));
    }

    /// The driver could not take a frame because it is longer than [`Settings::max_bytes`].
    pub fn too_large(&mut self, now: Now, connection: ConnectionId) {
        if self.admit(now, connection, 0).is_some() {
            self.refuse_size(now, connection);
        }
    }

    /// The driver's queue towards a connection is full: it is closed with [`close::SLOW`], and nobody waits for it.
    /// Its session can be resumed.
    pub fn slow_consumer(&mut self, now: Now, connection: ConnectionId) {
        if self.links.contains_key(&connection) {
            self.counters.slow += 1;
            self.counters.refuse(ErrorCode::SlowConsumer);
            self.outputs
                .push_back(Output::Event(Event::Refused { connection, code: ErrorCode::SlowConsumer }));
            self.outputs.push_back(Output::Close {
                connection,
                code: close::SLOW,
                reason: "reads too slowly",
            });
            self.lose(now, connection);
        }
    }

    /// A connection was lost. Its session can be resumed.
    pub fn disconnected(&mut self, now: Now, connection: ConnectionId) {
        self.lose(now, connection);
    }

    /// The client closed the connection as one does who is done. Its session ends.
    pub fn closed(&mut self, now: Now, connection: ConnectionId) {
        self.forget(now, connection);
    }

    /// A member of this connection is to have a fresh credential: the answer to [`Output::RefreshIce`].
    pub fn refresh_ice(&mut self, now: Now, connection: ConnectionId, authority: &mut dyn Authority) {
        if let Some((key, _)) = self.session_of(connection)
            && let Ok(ice) = self.issue(now, key, authority)
        {
            let event = Frame::Ice { id: None, seq: Some(0), ice: &ice }.event();
            self.send_event(key, &event);
        }
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(&(deadline, timer)) = self.timers.first()
            && deadline <= now.instant
        {
            self.timers.pop_first();
            match timer {
                Timer::Hello(connection) => {
                    self.close(now, connection, close::HELLO_TIMEOUT, "no hello in time");
                }
                Timer::Away(key) => {
                    self.counters.lapsed += 1;
                    self.end(now, key, None);
                }
                Timer::Ice(key) => {
                    // Who is away gets it with the replay.
                    if let Some(connection) = self.sessions.get(&key).and_then(Session::connection) {
                        self.outputs.push_back(Output::RefreshIce { connection });
                    }
                }
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(deadline, _)| deadline)
    }

    /// The next thing to do. Take until `None` after each call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Announces a stop: who is here is told to connect again `after` from now, and nobody new can come.
    pub fn drain(&mut self, after: Duration) {
        self.draining = true;
        let event =
            Frame::Draining { seq: 0, action: "reconnect", after_ms: after.as_millis() as u64 }.event();
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.send_event(key, &event);
        }
    }

    /// Other bounds and habits; nobody has to leave for them. With another secret, invites that were made are void.
    pub fn set_settings(&mut self, settings: Settings) {
        let key = |settings: &Settings| settings.invite_secret.as_ref().map(|secret| secret.bytes.clone());
        if key(&settings) != key(&self.settings) {
            self.invite_secret = invite_secret(&settings, &mut self.ids);
        }
        self.joins.set(settings.joins_per_minute);
        self.wrong_pins.set(settings.wrong_pins_per_minute);
        self.credentials.set(settings.credentials_per_minute);
        self.settings = settings;
    }

    /// Is a stop announced?
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Is nothing kept for anybody?
    pub fn is_empty(&self) -> bool {
        let Self { links, sessions, by_id, rooms, addresses, away_by_address, timers, outputs, .. } = self;
        links.is_empty()
            && sessions.is_empty()
            && by_id.is_empty()
            && rooms.is_empty()
            && addresses.is_empty()
            && away_by_address.is_empty()
            && timers.is_empty()
            && outputs.is_empty()
            && self.away == 0
            && self.replay_bytes == 0
    }
}

/// What invites are signed with.
fn invite_secret(settings: &Settings, ids: &mut Ids) -> Secret {
    settings.invite_secret.clone().unwrap_or_else(|| Secret::new("made for this run", ids.secret()))
}

/// When to come back to a server that has no place for another connection.
const FULL_RETRY: Duration = Duration::from_secs(10);
