//! What leaves the relay besides relayed data.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::rejection::Rejection;
use super::{ConnectionId, FiveTuple, Framing, PeerAddr, RelayAddr, RelayId, RelayTransport, Traffic};
use crate::stun::{ChannelNumber, Family, Method};
use crate::time::Instant;

/// What to do with the datagram that was just handed in, or with each datagram of a run: there `payload` is the part
/// of the first, and that of each other one begins at the same place and goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it asks for an answer (see [`Output::Send`]), or it is dropped and counted.
    Nothing,
    /// This run must be handed in datagram by datagram; nothing of it was counted. Never the word on a single datagram.
    Apart,
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
    /// Send `bytes[payload]`, with `framing` around it, to a client. Where a client's own bytes were handed in, the peer
    /// it named is the relayed address of another client.
    ToClient {
        /// The client's path.
        flow: FiveTuple,
        /// How it is wrapped.
        framing: Framing,
        /// Which of the bytes handed in.
        payload: PayloadRange,
    },
    /// Hand `bytes[payload]` to another shard's [`Server::handle_relayed`](super::Server::handle_relayed): the peer is a
    /// relayed address of it.
    ToShard {
        /// Which shard.
        shard: u8,
        /// The relay it comes from, as its socket is bound.
        from: SocketAddr,
        /// The relay it goes to, as its socket is bound.
        to: SocketAddr,
        /// Which of the bytes handed in.
        payload: PayloadRange,
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

impl PayloadRange {
    /// All of `len` bytes.
    pub const fn all(len: usize) -> Self {
        Self { start: 0, end: len }
    }
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
    /// The client's path leads to an allocation of another shard. A stream is handed over with this message as its first
    /// bytes. A datagram is handed in there; if that shard then [has an allocation](super::Server::has_allocation) on the
    /// path, so is all that follows, until it has none.
    Migrate {
        /// The client's path.
        flow: FiveTuple,
        /// Where to.
        shard: u8,
        /// The request, to be handed to that shard's server.
        bytes: Vec<u8>,
    },
    /// Data passes between a client and a peer, until this time or until the relay is closed. The relay needs nobody to
    /// remember it: it is for a path beside it, say in the kernel, that passes data without asking.
    Granted {
        /// The relay it passes through.
        relay: RelayId,
        /// The client's path. When the client moves, its grants come anew with its new path.
        flow: FiveTuple,
        /// What passes.
        grant: Grant,
        /// The end, unless it is granted anew before.
        until: Instant,
    },
    /// A grant has ended, and was cleared away a moment later.
    Revoked {
        /// The relay.
        relay: RelayId,
        /// What it was.
        grant: Grant,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// What may pass through a relay, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Indications with this address and any of its ports (RFC 8656 section 9); but where it is the server's own, only
    /// with the ports of live allocations.
    Permission(IpAddr),
    /// ChannelData with this peer (RFC 8656 section 12), while there is a permission for its address, too.
    Channel {
        /// The channel.
        number: ChannelNumber,
        /// The peer.
        peer: PeerAddr,
    },
}

impl Grant {
    pub(super) fn family(&self) -> Family {
        match self {
            Self::Permission(ip) => Family::of(ip),
            Self::Channel { peer, .. } => peer.family(),
        }
    }
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
    /// So many refusals were not reported before the next one: there were too many in too short a time.
    RefusalsWithheld {
        /// How many.
        count: u64,
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
    /// The operator ended it.
    Operator,
}

impl EndReason {
    /// The words used in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted by the client",
            Self::Expired => "expired",
            Self::ClientGone => "client connection closed",
            Self::Revoked => "credentials revoked",
            Self::Operator => "ended by the operator",
        }
    }
}
