//! The relay's vocabulary, named as RFC 8656 names it.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::stun::Family;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub SocketAddr);

        impl $name {
            /// IPv4 or IPv6.
            pub fn family(&self) -> Family {
                Family::of(&self.0.ip())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

address! {
    /// Where a client's packets come from, as the server sees it: its server-reflexive transport address.
    ClientAddr
}
address! {
    /// The server's own transport address that a client talks to. Never a wildcard.
    ServerAddr
}
address! {
    /// A peer's transport address, as clients know it.
    PeerAddr
}
address! {
    /// A relayed transport address, as it is announced to clients and peers.
    RelayAddr
}

/// How a client talks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A plain stream.
    Tcp,
    /// A TLS stream.
    Tls,
}

impl Transport {
    /// Is one message cut from a stream, and ChannelData padded to four bytes?
    pub const fn is_stream(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The word used in logs: `udp`, `tcp` or `tls`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The communication path between one client and the server; it identifies an allocation (RFC 8656 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    /// The client's end.
    pub client: ClientAddr,
    /// The server's end.
    pub server: ServerAddr,
    /// The protocol between them.
    pub transport: Transport,
}

/// By the client's end alone: there are few others, nobody can choose them, and each packet is looked up by this.
impl Hash for FiveTuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = self.client.0.port();
        match self.client.0.ip() {
            IpAddr::V4(ip) => state.write_u64(u64::from(u32::from(ip)) << 16 | u64::from(port)),
            IpAddr::V6(ip) => {
                state.write_u128(ip.to_bits());
                state.write_u16(port);
            }
        }
    }
}

/// Names a relay socket between the core and its driver. Small and dense, so the driver can index with it.
/// An id is free for reuse once its [`Output::CloseRelay`](super::Output::CloseRelay) was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u32);

/// Names a connection between a relay and a peer (RFC 6062); the value of CONNECTION-ID. Its top byte is the
/// shard that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// The shard that holds it.
    pub const fn shard(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// What a relay speaks with peers (REQUESTED-TRANSPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelayTransport {
    /// RFC 8656.
    Udp,
    /// RFC 6062.
    Tcp,
}
