//! Rooms: the signaling protocol `ternd.v1` as a pure state machine.
//!
//! What enters: connections, their text frames, the time. What leaves: text frames for connections, and closes.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::time::{Instant, Now};

/// Names a connection between the rooms and their driver. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Bounds and habits.
#[derive(Clone, Debug)]
pub struct Settings {}

impl Default for Settings {
    fn default() -> Self {
        Self {}
    }
}

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
        /// One JSON object; shared when it goes to several.
        text: Arc<str>,
    },
    /// Close a connection, after what was sent to it before.
    Close {
        /// This one.
        connection: ConnectionId,
        /// WebSocket close code.
        code: u16,
        /// For people.
        reason: &'static str,
    },
}

/// All rooms of a server.
#[derive(Debug)]
pub struct Rooms {}

impl Rooms {
    /// No rooms yet. `seed` must be random: ids and secrets come from it.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let _ = (settings, seed);
        Self {}
    }

    /// A connection was opened; it has 5 s to say hello.
    pub fn connected(&mut self, now: Now, connection: ConnectionId, from: IpAddr) {
        let _ = (now, connection, from);
    }

    /// A text frame came in.
    pub fn received(&mut self, now: Now, connection: ConnectionId, text: &str, ice: &mut dyn IceIssuer) {
        let _ = (now, connection, text, ice);
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, now: Now, connection: ConnectionId) {
        let _ = (now, connection);
    }

    /// Does what is due by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do. Take until `None` after each call.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }
}
