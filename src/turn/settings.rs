//! What a server may do, and how much of it. Plain values; a reload makes new ones.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::Rates;

/// The settings of a relay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// SOFTWARE in answers to authenticated Allocate and Refresh requests. `None`: the attribute is left out.
    //= 8489-16.1.2-1
    pub software: Option<String>,
    /// The lifetime of an allocation whose client asks for none or for less.
    pub default_lifetime: Duration,
    /// The longest lifetime a client can ask for.
    pub max_lifetime: Duration,
    /// The addresses relay sockets are bound to and announced as.
    pub relay_addresses: Vec<RelayAddress>,
    /// The other addresses of this machine: closed as peers.
    pub own_addresses: Vec<IpAddr>,
    /// Peers opened although they are not global unicast addresses.
    pub allow_peers: Vec<IpNet>,
    /// Peers closed, whatever else is said of them.
    pub deny_peers: Vec<IpNet>,
    /// Let clients bind channels 0x5000 to 0x7FFF, too, as RFC 5766 did and RFC 8656 does not.
    pub rfc5766_channels: bool,
    /// Answer Binding requests of RFC 3489, which have no magic cookie.
    pub rfc3489_clients: bool,
    /// Answer the questions of RFC 5780. `None`: CHANGE-REQUEST and its like are unknown attributes.
    pub nat_discovery: Option<NatDiscovery>,
    /// Where clients are sent when [`Limits::allocations`] is reached: servers that take the same credentials, with
    /// ports that speak UDP and TCP. Empty: nowhere.
    pub alternate_servers: Vec<SocketAddr>,
    /// Let clients keep an allocation when their address changes (RFC 8016).
    pub mobility: bool,
    /// Bounds on everything that grows.
    pub limits: Limits,
}

/// Two addresses with the same two UDP ports on each: what a client needs to learn how its NAT behaves
/// (RFC 5780 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDiscovery {
    /// Local addresses of one family.
    pub addresses: [IpAddr; 2],
    /// Ports that are listened on at both.
    pub ports: [u16; 2],
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
    /// Connections to peers of one TCP allocation.
    pub peer_connections: usize,
    /// Relayed data of one allocation.
    pub allocation_rates: Rates,
    /// Relayed data of one user, over all of its allocations.
    pub user_rates: Rates,
    /// Answers per second to one client address (IPv6: its /64) that has proved nothing: Binding over UDP, and
    /// challenges. Five seconds of it may come at once. 0: no limit.
    pub unauthenticated_answers: u32,
}

impl Limits {
    /// Is relayed data capped?
    pub(super) fn has_rates(&self) -> bool {
        [self.allocation_rates, self.user_rates] != [Rates::default(); 2]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 20_000,
            allocations_per_user: 100,
            allocations_per_address: 500,
            permissions: 256,
            channels: 256,
            peer_connections: 64,
            allocation_rates: Rates::default(),
            user_rates: Rates::default(),
            unauthenticated_answers: 200,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            //= 8489-14.14-1
            software: Some(concat!("ternd/", env!("CARGO_PKG_VERSION")).into()),
            default_lifetime: Duration::from_secs(600),
            //= 8656-7.2-10
            max_lifetime: Duration::from_secs(3600),
            relay_addresses: Vec::new(),
            own_addresses: Vec::new(),
            allow_peers: Vec::new(),
            deny_peers: Vec::new(),
            rfc5766_channels: false,
            rfc3489_clients: false,
            nat_discovery: None,
            alternate_servers: Vec::new(),
            mobility: false,
            limits: Limits::default(),
        }
    }
}
