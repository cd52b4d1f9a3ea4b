//! What leaves the relay besides relayed data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::rejection::Rejection;
use super::{ConnectionId, FiveTuple, Framing, RelayAddr, RelayId, RelayTransport, Traffic};
use crate::stun::{Family, Method};

/// What to do with the datagram that was just handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it asks for an answer (see [`Output::Send`]), or it is dropped and counted.
    Nothing,
    /// Send `bytes[payload]` from the relay socket to the peer.
    Relay {
        /// The socket to send from.
        relay: RelayId,
        /// Where to, as this machine must address it: behind 1:1 NAT not always what the client named.
        to: SocketAddr,
        /// Which of the bytes handed in.
        payload: PayloadRange,
        /// Send it with the DF bit set, or not at all.
        dont_fragment: bool,
    },
    /// Send the datagram, with `framing` around it, to the client.
    ToClient {
        /// The client's path.
        flow: FiveTuple,
        /// How it is wrapped.
        framing: Framing,
    },
}

/// Part of the bytes handed in; a range that is `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadRange {
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl From<PayloadRange> for std::ops::Range<usize> {
    fn from(r: PayloadRange) -> Self {
        r.start..r.end
    }
}

/// Which port a relay socket is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortChoice {
    /// A random one of the relay ports.
    Any,
    /// A random even one.
    Even,
    /// A random even one whose successor can be bound too, and is neither in use nor reserved.
    EvenPair,
    /// This very address: a reservation.
    Exactly(SocketAddr),
}

/// Why a relay socket could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// No relay address of this family is configured.
    #[error("no relay address of this family")]
    FamilyNotSupported,
    /// Every port tried was taken, or the system refuses.
    #[error("no relay port is free")]
    NoPort,
}

/// What the relay wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message to a client.
    Send {
        /// The client's path.
        flow: FiveTuple,
        /// One whole STUN message.
        bytes: Vec<u8>,
    },
    /// Bind a relay socket and answer with [`Server::relay_bound`](super::Server::relay_bound).
    BindRelay {
        /// Its name from here on.
        relay: RelayId,
        /// A UDP socket, or a TCP listener whose address outgoing connections leave from, too.
        transport: RelayTransport,
        /// IPv4 or IPv6.
        family: Family,
        /// Which port.
        port: PortChoice,
    },
    /// Close a relay socket.
    CloseRelay {
        /// Which one.
        relay: RelayId,
    },
    /// Connect from a TCP relay's address to a peer, and answer with
    /// [`Server::peer_connected`](super::Server::peer_connected).
    ConnectPeer {
        /// The relay to connect from.
        relay: RelayId,
        /// The connection's name from here on.
        connection: ConnectionId,
        /// Where to, as this machine must address it.
        to: SocketAddr,
    },
    /// From here on the client's stream and the peer's carry raw bytes from one to the other. What follows the
    /// request in the client's stream belongs to the peer.
    Join {
        /// The client's data connection, after what was sent to it before.
        flow: FiveTuple,
        /// The peer's.
        connection: ConnectionId,
    },
    /// Close a connection to a peer, and the client's data connection if they were joined.
    ClosePeer {
        /// Which one.
        connection: ConnectionId,
    },
    /// The client's stream belongs to another shard: hand it over with this message as its first bytes.
    Migrate {
        /// The client's data connection.
        flow: FiveTuple,
        /// Where to.
        shard: u8,
        /// The request, to be handed to that shard's server.
        bytes: Vec<u8>,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// What happened, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An allocation was made.
    AllocationCreated {
        /// The client's path.
        flow: FiveTuple,
        /// The user, without the time stamp.
        user: Arc<str>,
        /// Its (first) relayed transport address.
        relay: RelayAddr,
        /// Until it must be refreshed.
        lifetime: Duration,
    },
    /// The client of an allocation has moved (RFC 8016).
    AllocationMoved {
        /// The path it had.
        from: FiveTuple,
        /// The path it has.
        to: FiveTuple,
        /// The user, without the time stamp.
        user: Arc<str>,
    },
    /// An allocation has ended.
    AllocationEnded {
        /// The client's path.
        flow: FiveTuple,
        /// The user, without the time stamp.
        user: Arc<str>,
        /// Its (first) relayed transport address, if any was bound.
        relay: Option<RelayAddr>,
        /// How long it lived.
        lived: Duration,
        /// What it relayed.
        traffic: Traffic,
        /// Why it ended.
        reason: EndReason,
    },
    /// A request was refused, and not just as a step of the normal handshake.
    Refused {
        /// The client's path.
        flow: FiveTuple,
        /// What was asked.
        method: Method,
        /// The user, if the request was authentic.
        user: Option<Arc<str>>,
        /// Why: its text is meant for the operator.
        rejection: Rejection,
    },
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client asked for it: Refresh with LIFETIME 0.
    Deleted,
    /// It was not refreshed in time.
    Expired,
    /// The client's TCP or TLS connection has ended.
    ClientGone,
    /// Its credentials were taken back.
    Revoked,
}

impl EndReason {
    /// The words used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted by the client",
            Self::Expired => "expired",
            Self::ClientGone => "client connection closed",
            Self::Revoked => "credentials revoked",
        }
    }
}
