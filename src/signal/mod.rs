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
//! it has members. Each connection owns all that is known about it; a room is the list of its members in the
//! order they came, and that order decides the roles of every pair (`wire::Roles`).
//!
//! To see a message pass, read [`Rooms::received`], `requests.rs` (one function per request), `wire.rs`.

mod bucket;
mod error;
mod event;
mod ids;
mod json;
mod requests;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::time::{Instant, Now};

pub use error::{ErrorCode, Fatal, close};
pub use event::{Event, Report, ReportedCandidate, ReportedError, ReportedState, ReportedTransport};
pub use settings::Settings;

use bucket::{Bucket, Verdict};
use error::Refusal;
use ids::Ids;
use wire::Frame;

/// The WebSocket subprotocol that clients ask for. It is the version of the protocol, too.
pub const SUBPROTOCOL: &str = "ternd.v1";

/// Names a connection between the rooms and their driver. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Issues the `iceServers` of a member: the rooms don't know how.
pub trait IceIssuer {
    /// An `{"iceServers": [...], "ttl": N, ...}` object for a member of a room.
    ///
    /// # Errors
    /// A sentence for the client, if none can be issued.
    fn issue(&mut self, now: Now, room: &str, peer: &str) -> Result<Box<RawValue>, String>;
}

/// What the rooms want done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a text frame.
    Send {
        /// To this connection.
        to: ConnectionId,
        /// One JSON object.
        text: Arc<str>,
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
    /// Successful joins.
    pub joins: u64,
}

/// All rooms of a server.
#[derive(Debug)]
pub struct Rooms {
    settings: Settings,
    ids: Ids,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections in the order they came into each room. Never empty.
    rooms: BTreeMap<Arc<str>, Vec<ConnectionId>>,
    /// How many connections each address (IPv6: /64) has.
    addresses: BTreeMap<IpAddr, usize>,
    /// Connections that owe a hello, and until when.
    waiting: BTreeSet<(Instant, ConnectionId)>,
    outputs: VecDeque<Output>,
    counters: Counters,
}

/// One WebSocket.
#[derive(Debug)]
struct Connection {
    from: IpAddr,
    bucket: Bucket,
    /// Frames that were not even a JSON object with a type.
    malformed: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Hello is due by then.
    Waiting(Instant),
    Greeted(Session),
}

/// What begins with hello.
#[derive(Debug)]
struct Session {
    /// The number of the last event sent.
    seq: u64,
    place: Option<Place>,
}

/// Where a session is a member.
#[derive(Clone, Debug)]
struct Place {
    room: Arc<str>,
    peer: Arc<str>,
    name: Option<Arc<str>>,
}

impl Connection {
    fn session(&mut self) -> Option<&mut Session> {
        match &mut self.phase {
            Phase::Greeted(session) => Some(session),
            Phase::Waiting(_) => None,
        }
    }

    fn place(&self) -> Option<&Place> {
        match &self.phase {
            Phase::Greeted(session) => session.place.as_ref(),
            Phase::Waiting(_) => None,
        }
    }
}

/// What the driver calls.
impl Rooms {
    /// No rooms yet. `seed` must be random: ids and secrets come from it.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        Self {
            settings,
            ids: Ids::new(seed),
            connections: BTreeMap::new(),
            rooms: BTreeMap::new(),
            addresses: BTreeMap::new(),
            waiting: BTreeSet::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A connection was opened; it has [`Settings::hello_timeout`] to say hello. Beyond the bounds on
    /// connections it is closed right away.
    pub fn connected(&mut self, now: Now, connection: ConnectionId, from: IpAddr) {
        if self.connections.contains_key(&connection) {
            debug_assert!(false, "{connection:?} was reused");
            return;
        }
        let from = block_of(from);
        let here = self.addresses.get(&from).copied().unwrap_or(0);
        for (count, limit, whose) in [
            (self.connections.len(), self.settings.connections, "Server"),
            (here, self.settings.connections_per_address, "Your address"),
        ] {
            if count >= limit {
                let message = format!("{whose} has {count} of {limit} connections; try again later");
                let refusal = Refusal::new(ErrorCode::RateLimited, message)
                    .retry(FULL_RETRY)
                    .fatal(close::RATE, "too many connections");
                return self.refuse(connection, None, refusal);
            }
        }
        let deadline = now.instant + self.settings.hello_timeout;
        let bucket = Bucket::new(now.instant, self.settings.burst);
        self.addresses.insert(from, here + 1);
        self.waiting.insert((deadline, connection));
        self.connections
            .insert(connection, Connection { from, bucket, malformed: 0, phase: Phase::Waiting(deadline) });
    }

    /// A text frame came in.
    pub fn received(&mut self, now: Now, connection: ConnectionId, text: &str, ice: &mut dyn IceIssuer) {
        let Some(admission) = self.admit(now, connection) else { return };
        if text.len() > self.settings.max_bytes {
            return self.refuse_size(connection);
        }
        // Read although the rate may refuse it: the answer carries the id, and not many are refused before the end.
        let (id, request) = wire::parse(text, &self.settings);
        let result =
            admission.and(request).and_then(|request| self.handle(now, connection, id, request, ice));
        if let Err(refusal) = result {
            self.refuse(connection, id, refusal);
        }
    }

    /// A binary frame came in: the protocol has none.
    pub fn received_binary(&mut self, now: Now, connection: ConnectionId) {
        let Some(admission) = self.admit(now, connection) else { return };
        let refusal = Refusal::malformed("Binary frame; send JSON text frames");
        self.refuse(connection, None, admission.err().unwrap_or(refusal));
    }

    /// The driver could not take a frame because it is longer than [`Settings::max_bytes`].
    pub fn too_large(&mut self, now: Now, connection: ConnectionId) {
        if self.admit(now, connection).is_some() {
            self.refuse_size(connection);
        }
    }

    /// The driver's queue towards a connection is full: it is closed with [`close::SLOW`], and nobody waits for it.
    pub fn slow_consumer(&mut self, _now: Now, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.outputs
                .push_back(Output::Event(Event::Refused { connection, code: ErrorCode::SlowConsumer }));
            self.close(connection, close::SLOW, "reads too slowly");
        }
    }

    /// A connection is gone. The others of its room learn it at once.
    pub fn disconnected(&mut self, _now: Now, connection: ConnectionId) {
        self.forget(connection);
    }

    /// Closes what has not said hello by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(&(deadline, connection)) = self.waiting.first()
            && deadline <= now.instant
        {
            self.close(connection, close::HELLO_TIMEOUT, "no hello in time");
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first().map(|&(deadline, _)| deadline)
    }

    /// The next thing to do. Take until `None` after each call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Bounds and habits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other bounds and habits from here on. Nobody has to leave for them.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How many connections there are, greeted or not.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How many rooms there are. Each has members.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Is nothing kept for anybody?
    pub fn is_empty(&self) -> bool {
        let Self { connections, rooms, addresses, waiting, outputs, .. } = self;
        connections.is_empty()
            && rooms.is_empty()
            && addresses.is_empty()
            && waiting.is_empty()
            && outputs.is_empty()
    }
}

/// When to come back to a server that has no place for another connection.
const FULL_RETRY: Duration = Duration::from_secs(10);

impl Rooms {
    /// Counts a frame, and says whether its sender keeps to the rate. `None`: the connection is closed.
    fn admit(&mut self, now: Now, connection: ConnectionId) -> Option<Result<(), Refusal>> {
        let state = self.connections.get_mut(&connection)?;
        self.counters.received += 1;
        let Settings { messages_per_second: rate, burst, .. } = self.settings;
        let refusal =
            || Refusal::new(ErrorCode::RateLimited, format!("More than {rate} messages per second"));
        Some(match state.bucket.take(now.instant, rate, burst) {
            Verdict::Pass => Ok(()),
            Verdict::Refused { retry } => Err(refusal().retry(retry)),
            Verdict::Exhausted => Err(refusal().fatal(close::RATE, "too many messages, and it went on")),
        })
    }

    fn refuse_size(&mut self, connection: ConnectionId) {
        let message = format!("A message has at most {} bytes", self.settings.max_bytes);
        let refusal = Refusal::new(ErrorCode::TooLarge, message).fatal(close::TOO_BIG, "message too big");
        self.refuse(connection, None, refusal);
    }

    /// Answers with an error, and closes if that is fatal.
    fn refuse(&mut self, connection: ConnectionId, id: Option<u64>, mut refusal: Refusal) {
        if let Some(state) = self.connections.get_mut(&connection) {
            state.malformed += u32::from(refusal.malformed);
            if state.malformed >= self.settings.malformed {
                refusal = refusal.fatal(close::PROTOCOL, "not speaking ternd.v1");
            } else if state.session().is_none() {
                refusal = refusal.fatal(close::PROTOCOL, "no valid hello");
            }
        }
        let Refusal { code, message, retry, fatal, .. } = refusal;
        self.counters.errors += 1;
        let retry_ms = retry.map(|d| d.as_millis() as u64);
        let fatal_too = fatal.is_some();
        self.send(connection, &Frame::Error { id, code, message: &message, retry_ms, fatal: fatal_too });
        self.outputs.push_back(Output::Event(Event::Refused { connection, code }));
        if let Some((close, reason)) = fatal {
            self.close(connection, close, reason);
        }
    }

    fn close(&mut self, connection: ConnectionId, code: u16, reason: &'static str) {
        self.outputs.push_back(Output::Close { connection, code, reason });
        self.forget(connection);
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.leave(connection);
        let Some(gone) = self.connections.remove(&connection) else { return };
        if let Phase::Waiting(deadline) = gone.phase {
            self.waiting.remove(&(deadline, connection));
        }
        match self.addresses.get_mut(&gone.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.addresses.remove(&gone.from)),
        }
    }

    fn send(&mut self, to: ConnectionId, frame: &Frame<'_>) {
        self.send_text(to, frame.encode());
    }

    fn send_text(&mut self, to: ConnectionId, text: Arc<str>) {
        self.counters.sent += 1;
        self.outputs.push_back(Output::Send { to, text });
    }

    /// Sends an event, with the next number of the receiver's session.
    fn send_event<'a>(&mut self, to: ConnectionId, frame: impl FnOnce(u64) -> Frame<'a>) {
        let seq = self.next_seq(to);
        self.send(to, &frame(seq));
    }

    /// Only members get events, so there is a session.
    fn next_seq(&mut self, to: ConnectionId) -> u64 {
        let session = self.connections.get_mut(&to).and_then(Connection::session);
        session.map_or(0, |session| {
            session.seq += 1;
            session.seq
        })
    }
}

/// Whoever has an IPv6 address has all of its /64.
fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}
