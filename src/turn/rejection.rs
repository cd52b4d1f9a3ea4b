//! Why a request is refused. The one place where a reason becomes a code.

use std::net::SocketAddr;

use super::policy::Rule;
use super::shared::Limit;
use super::{BindError, PeerAddr};
use crate::auth::Denied;
use crate::stun::AttributeType;

/// A refused request. What it carries is for the operator; the client gets [`Rejection::code`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// 300: this server can't, another one may (RFC 8489 section 10).
    #[error("{why}; the client is sent to {to}")]
    TryAlternate {
        /// ALTERNATE-SERVER, of the client's address family.
        to: SocketAddr,
        /// A second one, of the other family.
        or: Option<SocketAddr>,
        /// Why not here.
        why: &'static str,
    },
    /// 400, 401 or 438: see [`Denied`].
    #[error("{0}")]
    Denied(#[from] Denied),
    /// 400: an attribute is missing, malformed, or does not go with another one.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 403: the policy closes this peer.
    #[error("peer {peer} is refused: {rule}")]
    Forbidden {
        /// The peer asked for.
        peer: PeerAddr,
        /// What closes it.
        rule: Rule,
    },
    /// 403: the client itself comes through a tunnel (RFC 8656 section 21.4).
    #[error("a client in {0} could make packets go round and round")]
    TunnelledClient(&'static str),
    /// 405: the allocation can't move (RFC 8016 section 3.4).
    #[error("{0}")]
    MobilityForbidden(&'static str),
    /// 420: attributes that must be understood and are not.
    #[error("unknown attributes {0:?}")]
    UnknownAttributes(Vec<AttributeType>),
    /// 437: the 5-tuple has no allocation, or has one already.
    #[error("{0}")]
    AllocationMismatch(&'static str),
    /// 440: no relay address of the family asked for.
    #[error("no relay address of the family asked for; relay.addresses could name one")]
    AddressFamilyNotSupported,
    /// 441: another user's allocation.
    #[error("signed by another user than the allocation's")]
    WrongCredentials,
    /// 442: only UDP and TCP are relayed.
    #[error("protocol {0} is not relayed, only UDP (17) and TCP (6)")]
    UnsupportedTransportProtocol(u8),
    /// 443: the peer, or the family to refresh, is not of the allocation's family.
    #[error("not of the allocation's address family")]
    PeerAddressFamilyMismatch,
    /// 446: the allocation has a connection to that peer, or is making one (RFC 6062 section 5.2).
    #[error("there is a connection to that peer already")]
    ConnectionAlreadyExists,
    /// 447: the peer could not be reached (RFC 6062 section 5.2).
    #[error("the peer could not be reached")]
    ConnectionTimeoutOrFailure,
    /// 486: a quota of this user or address is used up.
    #[error("{} is reached", .0.key())]
    AllocationQuotaReached(Limit),
    /// 508: this server is full.
    #[error("{} is reached", .0.key())]
    LimitReached(Limit),
    /// 508: this server is about to stop, and there is none to send the client to.
    #[error("this server is about to stop")]
    Draining,
    /// 508: no relay socket could be bound.
    #[error("{0}; relay.ports could be wider")]
    NoRelay(BindError),
    /// 508: the reservation is unknown, used or over.
    #[error("no such reservation")]
    NoReservation,
}

impl Rejection {
    /// The code for ERROR-CODE (RFC 8489 section 14.8, RFC 8656 section 19).
    pub const fn code(&self) -> u16 {
        match self {
            Self::TryAlternate { .. } => 300,
            Self::Denied(Denied::Incomplete | Denied::WrongAlgorithms) | Self::BadRequest(_) => 400,
            Self::Denied(Denied::Challenge | Denied::Unauthorized { .. }) => 401,
            Self::Forbidden { .. } | Self::TunnelledClient(_) => 403,
            Self::MobilityForbidden(_) => 405,
            Self::UnknownAttributes(_) => 420,
            Self::AllocationMismatch(_) => 437,
            Self::Denied(Denied::StaleNonce) => 438,
            Self::AddressFamilyNotSupported => 440,
            Self::WrongCredentials => 441,
            Self::UnsupportedTransportProtocol(_) => 442,
            Self::PeerAddressFamilyMismatch => 443,
            Self::ConnectionAlreadyExists => 446,
            Self::ConnectionTimeoutOrFailure => 447,
            Self::AllocationQuotaReached(_) => 486,
            Self::LimitReached(_) | Self::Draining | Self::NoRelay(_) | Self::NoReservation => 508,
        }
    }

    /// Does the answer carry a challenge: 401 and 438 (RFC 8489 section 9.2.4)?
    pub const fn is_challenge(&self) -> bool {
        matches!(self.code(), 401 | 438)
    }

    /// The reason phrase, for who has a credential.
    //= 8489-6.3.1.1-2 8489-14.8-1
    pub const fn reason(&self) -> &'static str {
        match self.code() {
            300 => "Try Alternate",
            400 => "Bad Request",
            403 => "Forbidden",
            405 => "Mobility Forbidden",
            420 => "Unknown Attribute",
            437 => "Allocation Mismatch",
            440 => "Address Family not Supported",
            441 => "Wrong Credentials",
            442 => "Unsupported Transport Protocol",
            443 => "Peer Address Family Mismatch",
            446 => "Connection Already Exists",
            447 => "Connection Timeout or Failure",
            486 => "Allocation Quota Reached",
            508 => "Insufficient Capacity",
            _ => "",
        }
    }

    /// Is this the first step of a normal handshake, or a nonce that has to be renewed? Those are no failures.
    pub const fn is_routine(&self) -> bool {
        matches!(self, Self::Denied(Denied::Challenge | Denied::StaleNonce))
    }
}
