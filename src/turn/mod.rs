//! The relay (RFC 8656) and the Binding method (RFC 8489): a pure state machine.
//!
//! ```text
//!            handle_client(flow, bytes)                  Verdict::Relay { relay, to, payload }
//!  client  ─────────────────────────────►  ┌────────┐  ─────────────────────────────────────►  peer
//!                                          │ Server │
//!          ◄─────────────────────────────  └────────┘  ◄─────────────────────────────────────
//!            Verdict::ToClient { flow, framing }         handle_peer(relay, from)
//! ```
//!
//! Relayed data leaves as a [`Verdict`]: a destination for bytes the caller already holds. Everything slower
//! (answers, sockets to bind or to close, events for the log) is an [`Output`], taken with
//! [`Server::poll_output`] until it is empty, after every call.

mod types;

pub use types::{ClientAddr, FiveTuple, PeerAddr, RelayAddr, RelayId, ServerAddr, Transport};

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::Authenticator;
use crate::stun::{ChannelNumber, Family, TransactionId};
use crate::time::{Instant, Now};

/// What to do with the datagram that was just handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it was an answerable message (see [`Server::poll_output`]), or it is dropped and counted.
    Nothing,
    /// Send `bytes[payload]` from the relay socket to the peer.
    Relay {
        /// The socket to send from.
        relay: RelayId,
        /// Where to, as this machine must address it (behind 1:1 NAT not always what the client named).
        to: SocketAddr,
        /// Which of the bytes handed in.
        payload: PayloadRange,
    },
    /// Send the datagram, with `framing` around it, to the client.
    ToClient {
        /// The client's path.
        flow: FiveTuple,
        /// How it is wrapped.
        framing: Framing,
    },
}

/// Part of the bytes handed in; as [`Range`], but `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadRange {
    /// First byte.
    pub start: usize,
    /// One behind the last byte.
    pub end: usize,
}

impl From<PayloadRange> for Range<usize> {
    fn from(r: PayloadRange) -> Self {
        r.start..r.end
    }
}

/// How a peer's datagram is wrapped for the client. The header goes into headroom before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// ChannelData: a header of 4 bytes.
    Channel(ChannelNumber),
    /// A Data indication: a header of up to [`Framing::HEADROOM`] bytes.
    Data {
        /// XOR-PEER-ADDRESS.
        peer: PeerAddr,
        /// Of the indication.
        id: TransactionId,
    },
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
    /// Bind a relay socket and answer with [`Server::relay_bound`].
    BindRelay {
        /// Its name from now on.
        relay: RelayId,
        /// IPv4 or IPv6.
        family: Family,
        /// Where the client reached the server: the natural address to relay from where none is configured.
        near: ServerAddr,
    },
    /// Close a relay socket.
    CloseRelay {
        /// Which one.
        relay: RelayId,
    },
    /// Something an operator may want to know.
    Event(Event),
}

/// What happened, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {}

/// What a server may do, and how much of it. Plain values; a reload makes new ones.
#[derive(Clone, Debug)]
pub struct Settings {
    /// SOFTWARE in answers to authenticated requests. `None`: the attribute is left out.
    pub software: Option<String>,
    /// The lifetime of an allocation whose client asks for none or for less.
    pub default_lifetime: Duration,
    /// The longest lifetime a client can ask for.
    pub max_lifetime: Duration,
    /// The addresses relay sockets are bound to and announced as.
    pub relay_addresses: Vec<RelayAddress>,
    /// Peers opened although they are not global unicast addresses.
    pub allow_peers: Vec<IpNet>,
    /// Peers closed, whatever else is said of them.
    pub deny_peers: Vec<IpNet>,
    /// Bounds on everything that grows.
    pub limits: Limits,
}

/// One address of this machine that relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// What sockets are bound to.
    pub local: IpAddr,
    /// What clients and peers are told: differs from `local` behind 1:1 NAT (`external-ip`).
    pub announced: IpAddr,
}

/// Bounds. Each has a key of the same name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Allocations in total, over all shards.
    pub allocations: usize,
    /// Allocations of one user, the time stamp of its name stripped.
    pub allocations_per_user: usize,
    /// Allocations of one client address (IPv6: its /64).
    pub allocations_per_address: usize,
    /// Permissions of one allocation.
    pub permissions: usize,
    /// Channels of one allocation.
    pub channels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 20_000,
            allocations_per_user: 100,
            allocations_per_address: 500,
            permissions: 256,
            channels: 256,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            software: Some(concat!("ternd/", env!("CARGO_PKG_VERSION")).into()),
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            relay_addresses: Vec::new(),
            allow_peers: Vec::new(),
            deny_peers: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What the shards of one server know of each other: live relay ports and quotas. Touched when allocations come
/// and go, never for a packet.
#[derive(Debug, Default)]
pub struct Shared {}

/// Counts of one shard since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams or frames that are neither STUN nor ChannelData.
    pub not_stun: u64,
}

/// One shard's relay.
#[derive(Debug)]
pub struct Server {}

impl Server {
    /// A relay without allocations. `seed` must be random; it keys the tables.
    pub fn new(
        settings: Arc<Settings>,
        auth: Arc<Authenticator>,
        shared: Arc<Shared>,
        seed: [u64; 4],
    ) -> Self {
        let _ = (settings, auth, shared, seed);
        Self {}
    }

    /// Takes one datagram, or one frame of a stream, from a client.
    pub fn handle_client(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> Verdict {
        let _ = (now, flow, bytes);
        Verdict::Nothing
    }

    /// Takes one datagram of `len` bytes that came in on a relay socket. `from` is the source as the socket saw it.
    pub fn handle_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, len: usize) -> Verdict {
        let _ = (now, relay, from, len);
        Verdict::Nothing
    }

    /// The stream of a client has ended: its allocation ends with it.
    pub fn client_gone(&mut self, now: Now, flow: FiveTuple) {
        let _ = (now, flow);
    }

    /// Answers [`Output::BindRelay`]: the local address of the socket, or why there is none.
    pub fn relay_bound(&mut self, now: Now, relay: RelayId, result: Result<SocketAddr, BindError>) {
        let _ = (now, relay, result);
    }

    /// Ends what has expired by `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` if nothing can expire.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl Framing {
    /// Room needed before the payload.
    pub const HEADROOM: usize = 48;
    /// Room needed behind the payload, for padding.
    pub const TAILROOM: usize = 3;

    /// Frames a payload in place: `buf[HEADROOM..HEADROOM + len]` holds it, with [`TAILROOM`](Self::TAILROOM) bytes
    /// behind it. Returns the range of `buf` to send. ChannelData is padded on streams only.
    pub fn wrap(&self, buf: &mut [u8], len: usize, transport: Transport) -> Range<usize> {
        let _ = (buf, transport);
        Self::HEADROOM..Self::HEADROOM + len
    }
}
