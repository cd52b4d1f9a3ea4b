//! What happened in the rooms, for the log and the metrics.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::{ConnectionId, ErrorCode};

/// What happened. Text that clients chose (names, rooms) is bounded and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client said hello.
    Greeted {
        /// Its connection.
        connection: ConnectionId,
        /// Its address; of an IPv6 address the /64.
        from: IpAddr,
        /// Its session.
        session: Arc<str>,
        /// What it calls itself.
        client: Option<Arc<str>>,
    },
    /// A member came into a room.
    Joined {
        /// Its connection.
        connection: ConnectionId,
        /// The room.
        room: Arc<str>,
        /// The member.
        peer: Arc<str>,
        /// How many members the room has with it. 1: it made the room.
        members: usize,
    },
    /// A member lost its connection; its place is kept for a while.
    Away {
        /// The room.
        room: Arc<str>,
        /// The member.
        peer: Arc<str>,
    },
    /// A session goes on with another connection.
    Resumed {
        /// The new one.
        connection: ConnectionId,
        /// The session.
        session: Arc<str>,
        /// How many events it had missed.
        missed: usize,
    },
    /// A member was put out of a room.
    Kicked {
        /// The room.
        room: Arc<str>,
        /// The member.
        peer: Arc<str>,
        /// Who did it; `None`: the operator.
        by: Option<Arc<str>>,
    },
    /// A member left a room, or did not come back in time.
    Left {
        /// The room.
        room: Arc<str>,
        /// The member.
        peer: Arc<str>,
        /// How many members are left. 0: the room is gone, too.
        members: usize,
    },
    /// A request was answered with an error, or a connection closed for it.
    Refused {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        code: ErrorCode,
    },
    /// A member got no `iceServers`.
    IceRefused {
        /// The room.
        room: Arc<str>,
        /// The member.
        peer: Arc<str>,
        /// What the issuer said.
        why: String,
    },
    /// A client says how its connection to a peer fares.
    Report {
        /// The room.
        room: Arc<str>,
        /// Who says it.
        from: Arc<str>,
        /// What it says.
        report: Report,
    },
}

/// What a client says about one peer connection. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which of the connections between the two.
    pub pc: String,
    /// The other side, if it was said.
    pub peer: Option<String>,
    /// The state it is in.
    pub state: ReportedState,
    /// Milliseconds from the start to this state.
    pub ms: Option<u64>,
    /// The kind of the local candidate in use.
    pub local: Option<ReportedCandidate>,
    /// The kind of the remote candidate in use.
    pub remote: Option<ReportedCandidate>,
    /// How the client reaches its relay.
    pub relay: Option<ReportedTransport>,
    /// The address family of the local candidate in use.
    pub family: Option<ReportedFamily>,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<u64>,
    /// ICE candidate errors; at most 16.
    pub errors: Vec<ReportedError>,
}

/// States of RTCPeerConnection and of its ICE transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of the WebRTC specification")]
pub enum ReportedState {
    New,
    Checking,
    Connecting,
    Connected,
    Completed,
    Disconnected,
    Failed,
    Closed,
}

/// Kinds of candidates (RFC 8445 section 5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of the RFC")]
pub enum ReportedCandidate {
    Host,
    Srflx,
    Prflx,
    Relay,
}

/// How a client talks to its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named by their transport")]
pub enum ReportedTransport {
    Udp,
    Tcp,
    Tls,
}

/// Families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named by themselves")]
pub enum ReportedFamily {
    Ipv4,
    Ipv6,
}

/// An `icecandidateerror` of the browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedError {
    /// The server it was about.
    pub url: String,
    /// A STUN error code, or 701: the server can't be reached.
    pub code: u16,
}
