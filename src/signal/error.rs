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
    /// Put out of the room by a moderator.
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
    /// The subprotocol is of another version.
    UnsupportedVersion = "unsupported_version", Fatal::Always(close::VERSION);
    /// The token can't be verified.
    Unauthorized = "unauthorized", Fatal::Always(close::AUTH);
    /// The token is over.
    TokenExpired = "token_expired", Fatal::Always(close::AUTH);
    /// The server does not do this for this client.
    Forbidden = "forbidden", Fatal::Never;
    /// Not the PIN of the room, or one where there is none.
    BadPin = "bad_pin", Fatal::Never;
    /// The room does not exist, and this client may not make it, or nobody any more.
    CreateDenied = "create_denied", Fatal::Never;
    /// The room has all the members it may have.
    RoomFull = "room_full", Fatal::Never;
    /// A moderator locked the room.
    RoomLocked = "room_locked", Fatal::Never;
    /// The room does not exist, and the client asked not to make it.
    RoomNotFound = "room_not_found", Fatal::Never;
    /// A session is in one room at a time.
    AlreadyJoined = "already_joined", Fatal::Never;
    /// Nobody of this id is in the room.
    PeerNotFound = "peer_not_found", Fatal::Never;
    /// This needs a room.
    NotInRoom = "not_in_room", Fatal::Never;
    /// The message is beyond the size limit, or the state of the room would be.
    TooLarge = "too_large", Fatal::Sometimes(close::TOO_BIG);
    /// Too many messages, or connections.
    RateLimited = "rate_limited", Fatal::Sometimes(close::RATE);
    /// The client reads too slowly. Seen as a close code only: the queue for a message to say so is full.
    SlowConsumer = "slow_consumer", Fatal::Always(close::SLOW);
    /// There is no such connection: the answer to a POST, not to a message.
    SessionExpired = "session_expired", Fatal::Never;
    /// A newer connection resumed the session.
    SessionReplaced = "session_replaced", Fatal::Always(close::REPLACED);
    /// A moderator, or the operator, put the client out of the room.
    Kicked = "kicked", Fatal::Always(close::KICKED);
    /// The server is about to stop.
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

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
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
