//! What the server says, as Rust types.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A message of the server. Whatever it says besides is left out, as the specification asks of clients.
#[derive(Debug, Deserialize)]
pub(super) struct Incoming {
    pub(super) id: Option<u64>,
    pub(super) seq: Option<u64>,
    #[serde(flatten)]
    pub(super) body: Body,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Body {
    Welcome(Box<Welcome>),
    Joined(Box<Joined>),
    Peer(Presence),
    Room {
        locked: bool,
        moderators: Vec<String>,
        by: Option<String>,
    },
    Signal(Signal),
    Message {
        from: String,
        to: Option<String>,
        data: Value,
    },
    State {
        from: String,
        key: String,
        value: Option<Value>,
    },
    Ice {
        ice: Value,
    },
    Draining {
        after_ms: u64,
    },
    Error {
        code: String,
        message: String,
        retry_ms: Option<u64>,
    },
    /// `ok`, and what is not known.
    #[serde(other)]
    Other,
}

/// What the server told at the beginning.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Welcome {
    /// The session's id.
    pub session: String,
    pub(super) secret: String,
    /// Is it the session that was asked for?
    pub resumed: bool,
    pub(super) last_id: Option<u64>,
    /// After how many milliseconds of silence the server is dead.
    pub timeout_ms: u64,
    /// For how many milliseconds a lost session is kept.
    pub resume_ms: u64,
    /// Bound on the bytes of what this client sends.
    pub max_bytes: usize,
    /// What the server is.
    pub server: String,
}

/// Which room to enter, and how.
#[derive(Clone, Debug)]
pub struct Join(Map<String, Value>);

impl Join {
    /// Enter this room; if it is not there, make it.
    pub fn room(name: &str) -> Self {
        Self(Map::new()).with("room", name.into())
    }

    /// What the others call this member.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with("name", name.into())
    }

    /// The PIN of the room.
    #[must_use]
    pub fn pin(self, pin: &str) -> Self {
        self.with("pin", pin.into())
    }

    /// How many members it may have, if this makes it.
    #[must_use]
    pub fn capacity(self, members: usize) -> Self {
        self.with("capacity", members.into())
    }

    /// Refuse if it is not there.
    #[must_use]
    pub fn only_if_there(self) -> Self {
        self.with("create", "never".into())
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.0.insert(field.into(), value);
        self
    }

    pub(super) fn fields(self) -> Value {
        json!(self.0)
    }
}

/// A room, as this client has found it.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Joined {
    /// Its name.
    pub room: String,
    /// This member's peer id.
    #[serde(rename = "self")]
    pub me: String,
    /// Did this join make it?
    pub created: bool,
    /// How many members it may have.
    pub capacity: usize,
    /// Who is there, in the order they came.
    pub peers: Vec<Member>,
    /// What the room knows.
    pub state: Map<String, Value>,
    /// A configuration for RTCPeerConnection, if one could be issued.
    pub ice: Option<Value>,
}

/// A member that was there before.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// Its peer id.
    pub peer: String,
    /// What it is called.
    pub name: Option<String>,
    /// `here` or `away`.
    pub state: String,
    /// What this client is to it.
    pub you: Roles,
}

/// Who makes the offer, and who gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Roles {
    /// Gives way if both offer at once.
    pub polite: bool,
    /// Makes the first offer.
    pub offerer: bool,
}

/// What became of a member.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Presence {
    /// It came.
    Join {
        /// Its peer id.
        peer: String,
        /// What it is called.
        name: Option<String>,
        /// What this client is to it.
        you: Roles,
    },
    /// It has lost its connection, and may come back.
    Away {
        /// Its peer id.
        peer: String,
    },
    /// It is back.
    Back {
        /// Its peer id.
        peer: String,
    },
    /// It is gone.
    Leave {
        /// Its peer id.
        peer: String,
        /// `kicked`, if it was.
        reason: Option<String>,
    },
}

/// A description or candidates of a member.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Signal {
    /// Its peer id.
    pub from: String,
    /// Which of the RTCPeerConnections of the pair.
    pub pc: String,
    /// Counted up by a client that replaces its RTCPeerConnection: what still comes with an old number is for none.
    #[serde(rename = "gen", default)]
    pub generation: u32,
    /// RTCSessionDescription.
    pub description: Option<Value>,
    /// RTCIceCandidates.
    pub candidates: Option<Vec<Value>>,
}

/// What happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// This client is in a room: the answer to a `join` that was not waited for.
    Joined(Box<Joined>),
    /// A member came, or went.
    Peer(Presence),
    /// The room changed.
    Room {
        /// Is it locked?
        locked: bool,
        /// Peer ids of its moderators.
        moderators: Vec<String>,
        /// Who did it.
        by: Option<String>,
    },
    /// Somebody wants to connect.
    Signal(Signal),
    /// Somebody says something.
    Message {
        /// A peer id.
        from: String,
        /// This member's; `None`: it went to all.
        to: Option<String>,
        /// Whatever it is.
        data: Value,
    },
    /// A value of the room was written.
    State {
        /// A peer id.
        from: String,
        /// Its name.
        key: String,
        /// `None`: it is no more.
        value: Option<Value>,
    },
    /// A fresh configuration for RTCPeerConnection.
    Ice(Value),
    /// The server is about to stop: connect again after so many milliseconds.
    Draining {
        /// From now.
        after_ms: u64,
    },
    /// A request that nobody waited for was refused.
    Refused {
        /// Its id, if the server could tell.
        id: Option<u64>,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// After how many milliseconds to try again, if that makes a difference.
        retry_ms: Option<u64>,
    },
}

impl Body {
    /// The event that it is, if it is one.
    pub(super) fn event(self, id: Option<u64>) -> Option<Event> {
        Some(match self {
            Self::Joined(joined) => Event::Joined(joined),
            Self::Peer(presence) => Event::Peer(presence),
            Self::Room { locked, moderators, by } => Event::Room { locked, moderators, by },
            Self::Signal(signal) => Event::Signal(signal),
            Self::Message { from, to, data } => Event::Message { from, to, data },
            Self::State { from, key, value } => Event::State { from, key, value },
            Self::Ice { ice } => Event::Ice(ice),
            Self::Draining { after_ms } => Event::Draining { after_ms },
            Self::Error { code, message, retry_ms } => Event::Refused { id, code, message, retry_ms },
            Self::Welcome(_) | Self::Other => return None,
        })
    }
}
