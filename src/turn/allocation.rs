//! One allocation with all that belongs to it (RFC 8656 section 6): found by its 5-tuple or by a relay, never
//! spread over several tables.

use std::net::IpAddr;
use std::time::Duration;

use super::meter::{Load, Meter};
use super::mobility::Mobility;
use super::shared::{ReservationToken, Ticket};
use super::sorted_map::SortedMap;
use super::{
    Access, BindError, ConnectionId, FiveTuple, Grant, Limits, PeerAddr, RelayAddr, RelayId, RelayTransport,
};
use crate::auth::Identity;
use crate::stun::{ChannelNumber, Family, TransactionId};
use crate::time::Instant;

/// RFC 8656 section 9: this MUST be 300 seconds.
//= 8656-9-1
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12.
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

// In this order: what each datagram needs lies together in the first cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Allocation {
    /// If it may move.
    pub mobility: Option<Box<Mobility>>,
    pub peers: Peers,
    pub transport: RelayTransport,
    pub traffic: Traffic,
    /// By family: IPv4, IPv6.
    relays: [Option<Relay>; 2],
    pub meter: Meter,
    pub flow: FiveTuple,
    /// The quota it counts against; given back on drop.
    pub ticket: Ticket,
    //= 8656-6-2
    pub owner: Identity,
    /// Of a TCP allocation.
    pub connections: Vec<PeerConnection>,
    pub created: Instant,
    /// What created it, to recognise a retransmission.
    pub transaction: TransactionId,
    /// What the Allocate response said besides the addresses, for retransmissions.
    pub reservation: Option<ReservationToken>,
    pub failed: Option<(Family, BindError)>,
    /// The earliest time that the timer queue knows for this allocation.
    pub scheduled: Instant,
}

impl Allocation {
    pub(super) fn new(
        flow: FiveTuple,
        owner: Identity,
        transport: RelayTransport,
        transaction: TransactionId,
        now: Instant,
        ticket: Ticket,
    ) -> Self {
        Self {
            flow,
            owner,
            relays: [None, None],
            transport,
            peers: Peers::default(),
            connections: Vec::new(),
            created: now,
            transaction,
            reservation: None,
            failed: None,
            traffic: Traffic::default(),
            meter: Meter::default(),
            mobility: None,
            scheduled: Instant::from_millis(u64::MAX),
            ticket,
        }
    }

    pub(super) fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays[index(family)].as_ref()
    }

    pub(super) fn relay_mut(&mut self, family: Family) -> &mut Option<Relay> {
        &mut self.relays[index(family)]
    }

    /// The relays it has, IPv4 first.
    pub(super) fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.relays.iter().flatten()
    }

    pub(super) fn relays_mut(&mut self) -> impl Iterator<Item = &mut Relay> {
        self.relays.iter_mut().flatten()
    }

    /// Can its client be reached? Else `flow` is the path it had, and may be another client's by now.
    pub(super) fn has_path(&self) -> bool {
        self.mobility.as_ref().is_none_or(|m| !m.lost)
    }

    /// Counts a load against the caps of the allocation and of its user: all of it, or nothing.
    pub(super) fn admit(&self, limits: &Limits, load: Load, now: Instant) -> bool {
        if !self.meter.admit(limits.allocation_rates, load, now) {
            return false;
        }
        let admitted = self.ticket.meter().admit(limits.user_rates, load, now);
        if !admitted {
            self.meter.forget(limits.allocation_rates, load);
        }
        admitted
    }

    /// When the next thing here ends. Permissions and channels count until their very end (each datagram looks), but
    /// are cleared away a little later, `jitter` after it: not those of all allocations at once.
    pub(super) fn next_expiry(&self, jitter: Duration) -> Option<Instant> {
        let connections = self.connections.iter().filter_map(|c| c.until);
        let peers = self.peers.expiries().map(|at| at + jitter);
        self.relays().map(|r| r.expires).chain(peers).chain(connections).min()
    }
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// A relayed transport address of an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    pub id: RelayId,
    /// As clients and peers know it.
    pub announced: RelayAddr,
    /// As the socket is bound.
    pub local: std::net::SocketAddr,
    pub expires: Instant,
}

/// A connection between a TCP relay and a peer (RFC 6062).
#[derive(Debug)]
pub(super) struct PeerConnection {
    pub id: ConnectionId,
    pub peer: PeerAddr,
    /// The Connect request that waits for the peer.
    pub request: Option<Vec<u8>>,
    /// When it is given up; `None` once the client has bound it.
    pub until: Option<Instant>,
}

/// Relayed data, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams from the client to peers.
    pub to_peers: u64,
    /// Their payload bytes.
    pub to_peers_bytes: u64,
    /// Datagrams from peers to the client.
    pub to_client: u64,
    /// Their payload bytes.
    pub to_client_bytes: u64,
}

impl Traffic {
    pub(super) fn count_to_peers(&mut self, load: Load) {
        self.to_peers += load.count;
        self.to_peers_bytes += load.bytes;
    }

    pub(super) fn count_to_client(&mut self, load: Load) {
        self.to_client += load.count;
        self.to_client_bytes += load.bytes;
    }
}

/// Permissions and channels (RFC 8656 sections 9 and 12).
#[derive(Debug, Default)]
pub(super) struct Peers {
    permissions: SortedMap<IpAddr, Permission, 2>,
    channels: SortedMap<ChannelNumber, Channel, 1>,
    numbers: SortedMap<PeerAddr, ChannelNumber, 1>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    access: Access,
    expires: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    peer: PeerAddr,
    expires: Instant,
}

impl Peers {
    /// May data pass to or from this address, and to which of its ports?
    pub(super) fn permission(&self, peer: IpAddr, now: Instant) -> Option<Access> {
        self.permissions.get(&peer).filter(|p| p.expires > now).map(|p| p.access)
    }

    /// The peer a channel is bound to.
    pub(super) fn peer_of(&self, number: ChannelNumber, now: Instant) -> Option<PeerAddr> {
        self.channels.get(&number).filter(|c| c.expires > now).map(|c| c.peer)
    }

    /// The channel a peer is bound to.
    pub(super) fn channel_of(&self, peer: PeerAddr, now: Instant) -> Option<ChannelNumber> {
        let number = *self.numbers.get(&peer)?;
        self.peer_of(number, now).map(|_| number)
    }

    /// Installs or refreshes a permission. Returns when it ends.
    pub(super) fn permit(&mut self, peer: IpAddr, access: Access, now: Instant) -> Instant {
        let expires = now + PERMISSION_LIFETIME;
        self.permissions.insert(peer, Permission { access, expires });
        expires
    }

    /// Binds or refreshes a channel. The caller has checked that neither side is bound elsewhere. Returns when it ends.
    pub(super) fn bind(&mut self, number: ChannelNumber, peer: PeerAddr, now: Instant) -> Instant {
        let expires = now + CHANNEL_LIFETIME;
        self.channels.insert(number, Channel { peer, expires });
        self.numbers.insert(peer, number);
        expires
    }

    /// Drops what has ended, and tells.
    pub(super) fn expire(&mut self, now: Instant, mut ended: impl FnMut(Grant)) {
        let mut ended = |grant| {
            ended(grant);
            false
        };
        self.permissions.retain(|ip, p| p.expires > now || ended(Grant::Permission(*ip)));
        self.channels
            .retain(|number, c| c.expires > now || ended(Grant::Channel { number: *number, peer: c.peer }));
        self.forget_numbers();
    }

    /// Drops all that belongs to one family.
    pub(super) fn forget(&mut self, family: Family) {
        self.permissions.retain(|ip, _| Family::of(ip) != family);
        self.channels.retain(|_, c| c.peer.family() != family);
        self.forget_numbers();
    }

    fn forget_numbers(&mut self) {
        let channels = &self.channels;
        self.numbers.retain(|peer, number| channels.get(number).is_some_and(|c| c.peer == *peer));
    }

    /// Asks the policy once more about all that is open. What it closes ends now.
    pub(super) fn recheck(&mut self, now: Instant, policy: impl Fn(IpAddr) -> Option<Access>) {
        for (ip, permission) in self.permissions.iter_mut() {
            match policy(*ip) {
                Some(access) => permission.access = access,
                None => permission.expires = now,
            }
        }
        for (_, channel) in self.channels.iter_mut() {
            if policy(channel.peer.0.ip()).is_none() {
                channel.expires = now;
            }
        }
    }

    /// All that may pass, and until when.
    pub(super) fn grants(&self) -> impl Iterator<Item = (Grant, Instant)> {
        let permissions = self.permissions.iter().map(|(ip, p)| (Grant::Permission(*ip), p.expires));
        let channel = |(number, c): (&ChannelNumber, &Channel)| {
            (Grant::Channel { number: *number, peer: c.peer }, c.expires)
        };
        permissions.chain(self.channels.iter().map(channel))
    }

    pub(super) fn permissions(&self) -> usize {
        self.permissions.len()
    }

    pub(super) fn channels(&self) -> usize {
        self.channels.len()
    }

    fn expiries(&self) -> impl Iterator<Item = Instant> {
        self.permissions.values().map(|p| p.expires).chain(self.channels.values().map(|c| c.expires))
    }
}
