//! Why a request is refused, and when that ends the connection.

use std::time::Duration;

use serde::Serialize;

/// WebSocket close codes of `ternd.v1`.
pub mod close {
    /// The client said bye.
    pub const NORMAL: u16 = 1000;
    /// A message beyond the size limit.
    pub const TOO_BIG: u16 = 1009;
    /// Not speaking the protocol.
    pub const PROTOCOL: u16 = 4000;
    /// No valid token.
    pub const AUTH: u16 = 4001;
    /// No common version.
    pub const VERSION: u16 = 4002;
    /// Too many messages, or connections.
    pub const RATE: u16 = 4003;
    /// The client reads too slowly.
    pub const SLOW: u16 = 4004;
    /// A newer connection took the session.
    pub const REPLACED: u16 = 4005;
    /// Put out of the room by the operator.
    pub const KICKED: u16 = 4006;
    /// The server is about to stop.
    pub const DRAINING: u16 = 4007;
    /// No hello in time.
    pub const HELLO_TIMEOUT: u16 = 4008;
}

/// When an error of a code ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The client may go on.
    Never,
    /// Where the protocol leaves no choice or the fault goes on; with this close code.
    Sometimes(u16),
    /// With this close code.
    Always(u16),
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $fatal:expr;)*) => {
        /// What went wrong, for programs. People read the message beside it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the specification.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as it is sent.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// When it ends the connection.
            pub const fn fatal(self) -> Fatal {
                match self { $(Self::$name => $fatal,)* }
            }
        }
    };
}

error_codes! {
    /// Not a message of `ternd.v1`, or a field of it is wrong.
    BadMessage = "bad_message", Fatal::Sometimes(close::PROTOCOL);
    /// Reserved: the subprotocol is the version.
    UnsupportedVersion = "unsupported_version", Fatal::Always(close::VERSION);
    /// Reserved: no token is asked for.
    Unauthorized = "unauthorized", Fatal::Always(close::AUTH);
    /// Reserved: no token is asked for.
    TokenExpired = "token_expired", Fatal::Always(close::AUTH);
    /// The server does not do this for this client.
    Forbidden = "forbidden", Fatal::Never;
    /// Reserved: rooms have no PIN.
    BadPin = "bad_pin", Fatal::Never;
    /// The room does not exist, and no more rooms may be made.
    CreateDenied = "create_denied", Fatal::Never;
    /// The room has all the members it may have.
    RoomFull = "room_full", Fatal::Never;
    /// Reserved: rooms can't be locked.
    RoomLocked = "room_locked", Fatal::Never;
    /// The room does not exist, and the client asked not to make it.
    RoomNotFound = "room_not_found", Fatal::Never;
    /// A session is in one room at a time.
    AlreadyJoined = "already_joined", Fatal::Never;
    /// Nobody of this id is in the room.
    PeerNotFound = "peer_not_found", Fatal::Never;
    /// This needs a room.
    NotInRoom = "not_in_room", Fatal::Never;
    /// The message is beyond the size limit.
    TooLarge = "too_large", Fatal::Always(close::TOO_BIG);
    /// Too many messages, or connections.
    RateLimited = "rate_limited", Fatal::Sometimes(close::RATE);
    /// The client reads too slowly. Seen as a close code only: the queue for a message to say so is full.
    SlowConsumer = "slow_consumer", Fatal::Always(close::SLOW);
    /// Reserved: sessions can't be resumed.
    SessionExpired = "session_expired", Fatal::Never;
    /// Reserved: sessions can't be resumed.
    SessionReplaced = "session_replaced", Fatal::Always(close::REPLACED);
    /// Reserved: the operator can't kick.
    Kicked = "kicked", Fatal::Always(close::KICKED);
    /// Reserved: a stop is not announced.
    Draining = "draining", Fatal::Always(close::DRAINING);
    /// A fault of the server.
    Internal = "internal", Fatal::Never;
}

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) retry: Option<Duration>,
    /// Close code and reason.
    pub(super) fatal: Option<(u16, &'static str)>,
    /// Not even a JSON object with a type: counted.
    pub(super) malformed: bool,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry: None, fatal: None, malformed: false }
    }

    /// A known request with a wrong field.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadMessage, message)
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self { malformed: true, ..Self::bad(message) }
    }

    pub(super) fn retry(self, after: Duration) -> Self {
        Self { retry: Some(after), ..self }
    }

    pub(super) fn fatal(self, close: u16, reason: &'static str) -> Self {
        Self { fatal: self.fatal.or(Some((close, reason))), ..self }
    }
}
