//! What the shards of one server know of each other. Locks are taken when allocations come and go, never for a
//! packet; the relay ports and who holds them are atomics.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::meter::Meter;
use super::{Limits, RelayAddress, RelayId, RelayTransport, Settings};
use crate::auth::network_of;
use crate::stun::Family;
use crate::time::Instant;

/// Shared by all shards of a server.
#[derive(Debug)]
pub struct Shared {
    shards: u8,
    relay_ports: Vec<RelayPorts>,
    quota: Mutex<Quota>,
    reservations: Mutex<HashMap<ReservationToken, Reservation>>,
}

/// The ports of one relay address.
#[derive(Debug)]
struct RelayPorts {
    local: IpAddr,
    /// Live UDP ports, and TCP ports.
    live: [PortSet; 2],
    /// Who holds each UDP port: a [`Holder`] as a number; 0: nobody.
    holders: Box<[AtomicU32]>,
}

/// Who holds a relayed transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub shard: u8,
    pub relay: RelayId,
}

impl Holder {
    /// One byte of shard, three of slot + 1. A slot beyond is not told: datagrams for it go through the kernel.
    fn to_number(self) -> u32 {
        match u32::try_from(self.relay.slot() + 1) {
            Ok(slot @ 0..=0xFF_FFFF) => u32::from(self.shard) << 24 | slot,
            _ => 0,
        }
    }

    fn from_number(number: u32, family: Family) -> Option<Self> {
        let slot = (number & 0xFF_FFFF).checked_sub(1)?;
        Some(Self { shard: (number >> 24) as u8, relay: RelayId::new(slot as usize, family) })
    }
}

/// The value of RESERVATION-TOKEN.
pub(super) type ReservationToken = [u8; 8];

/// A port kept for whoever shows its token.
#[derive(Debug)]
struct Reservation {
    user: Arc<str>,
    local: SocketAddr,
    expires: Instant,
}

impl Shared {
    /// Nothing in use yet. `shards` is how many servers will share this, numbered from 0.
    pub fn new(settings: &Settings, shards: u8) -> Arc<Self> {
        let ports = |r: &RelayAddress| RelayPorts {
            local: r.local,
            live: Default::default(),
            holders: (0..65_536).map(|_| AtomicU32::new(0)).collect(),
        };
        let relay_ports = settings.relay_addresses.iter().map(ports).collect();
        Arc::new(Self { shards, relay_ports, quota: Mutex::default(), reservations: Mutex::default() })
    }

    pub(super) fn has_shard(&self, shard: u8) -> bool {
        shard < self.shards
    }

    /// Does a live allocation of this server hold this local address?
    pub fn is_relay_port(&self, transport: RelayTransport, local: SocketAddr) -> bool {
        self.of(local.ip()).is_some_and(|ports| ports.set(transport).contains(local.port()))
    }

    /// The allocation that a datagram to this local address would reach, without a lock.
    pub(super) fn holder(&self, local: SocketAddr) -> Option<Holder> {
        let ports = self.of(local.ip())?;
        let number = ports.holders[usize::from(local.port())].load(Ordering::Relaxed);
        Holder::from_number(number, Family::of(&local.ip()))
    }

    pub(super) fn open_relay_port(&self, transport: RelayTransport, local: SocketAddr, holder: Holder) {
        let Some(ports) = self.of(local.ip()) else { return };
        ports.set(transport).set(local.port(), true);
        if transport == RelayTransport::Udp {
            ports.holders[usize::from(local.port())].store(holder.to_number(), Ordering::Relaxed);
        }
    }

    pub(super) fn close_relay_port(&self, transport: RelayTransport, local: SocketAddr) {
        let Some(ports) = self.of(local.ip()) else { return };
        if transport == RelayTransport::Udp {
            ports.holders[usize::from(local.port())].store(0, Ordering::Relaxed);
        }
        ports.set(transport).set(local.port(), false);
    }

    fn of(&self, ip: IpAddr) -> Option<&RelayPorts> {
        self.relay_ports.iter().find(|ports| ports.local == ip)
    }

    /// Keeps a port until `expires` for whoever shows `token`.
    pub(super) fn reserve(
        &self,
        token: ReservationToken,
        user: &Arc<str>,
        local: SocketAddr,
        now: Instant,
        expires: Instant,
    ) {
        let mut reservations = lock(&self.reservations);
        reservations.retain(|_, r| r.expires > now);
        reservations.insert(token, Reservation { user: user.clone(), local, expires });
    }

    /// May this user reserve one more port? As many as it may have allocations: else it could take all ports of the
    /// server by making allocations and giving them up at once.
    pub(super) fn may_reserve(&self, user: &Arc<str>, limits: &Limits, now: Instant) -> Result<(), Limit> {
        let reservations = lock(&self.reservations);
        let held = reservations.values().filter(|r| r.user == *user && r.expires > now).count();
        if held < limits.allocations_per_user { Ok(()) } else { Err(Limit::AllocationsPerUser) }
    }

    /// The port that a token stands for, while it lasts.
    pub(super) fn reserved(&self, token: ReservationToken, now: Instant) -> Option<SocketAddr> {
        lock(&self.reservations).get(&token).filter(|r| r.expires > now).map(|r| r.local)
    }

    /// Takes a reservation: once, and only while it lasts.
    pub(super) fn redeem(&self, token: ReservationToken, now: Instant) -> Option<SocketAddr> {
        lock(&self.reservations).remove(&token).filter(|r| r.expires > now).map(|r| r.local)
    }

    /// Is this local address kept for a reservation, so that nobody else may bind it?
    pub fn is_reserved(&self, local: SocketAddr, now: Instant) -> bool {
        lock(&self.reservations).values().any(|r| r.local == local && r.expires > now)
    }

    /// Counts an allocation against all quotas. Dropping the ticket gives it back.
    //= 8656-5-8 8656-7.2-5
    pub(super) fn admit(
        self: &Arc<Self>,
        user: &Arc<str>,
        client: IpAddr,
        limits: &Limits,
    ) -> Result<Ticket, Limit> {
        let network = network_of(client);
        let mut quota = lock(&self.quota);
        let of_user = quota.users.get(user).map_or(0, |u| u.allocations);
        let of_network = quota.networks.get(&network).copied().unwrap_or(0);
        if quota.total >= limits.allocations {
            return Err(Limit::Allocations);
        }
        if of_user >= limits.allocations_per_user {
            return Err(Limit::AllocationsPerUser);
        }
        if of_network >= limits.allocations_per_address {
            return Err(Limit::AllocationsPerAddress);
        }
        quota.total += 1;
        quota.networks.insert(network, of_network + 1);
        let entry = quota.users.entry(user.clone()).or_default();
        entry.allocations += 1;
        let meter = entry.meter.clone();
        Ok(Ticket { shared: self.clone(), user: user.clone(), network, meter })
    }

    /// Allocations of all shards.
    pub fn allocations(&self) -> usize {
        lock(&self.quota).total
    }
}

/// The limit that was reached; [`Limit::key`] is its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// All allocations of the server.
    Allocations,
    /// Allocations of one user.
    AllocationsPerUser,
    /// Allocations of one client address.
    AllocationsPerAddress,
    /// Permissions of one allocation.
    Permissions,
    /// Channels of one allocation.
    Channels,
    /// Connections of one TCP allocation.
    PeerConnections,
}

impl Limit {
    /// The key in the configuration.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Allocations => "limits.allocations",
            Self::AllocationsPerUser => "limits.allocations-per-user",
            Self::AllocationsPerAddress => "limits.allocations-per-address",
            Self::Permissions => "limits.permissions",
            Self::Channels => "limits.channels",
            Self::PeerConnections => "limits.peer-connections",
        }
    }
}

#[derive(Debug, Default)]
struct Quota {
    total: usize,
    users: HashMap<Arc<str>, User>,
    networks: HashMap<IpAddr, usize>,
}

impl Quota {
    fn leave(&mut self, network: IpAddr) {
        if let Some(allocations) = self.networks.get_mut(&network) {
            *allocations -= 1;
            if *allocations == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

#[derive(Debug, Default)]
struct User {
    allocations: usize,
    meter: Arc<Meter>,
}

/// One counted allocation.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    user: Arc<str>,
    network: IpAddr,
    meter: Arc<Meter>,
}

impl Ticket {
    /// What the user relays, over all of its allocations.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Counts the allocation at another address of its client, unless that is at its limit.
    pub(super) fn move_to(&mut self, client: IpAddr, limits: Option<&Limits>) -> Result<(), Limit> {
        let network = network_of(client);
        if network == self.network {
            return Ok(());
        }
        let mut quota = lock(&self.shared.quota);
        let there = quota.networks.get(&network).copied().unwrap_or(0);
        if limits.is_some_and(|l| there >= l.allocations_per_address) {
            return Err(Limit::AllocationsPerAddress);
        }
        quota.leave(self.network);
        quota.networks.insert(network, there + 1);
        self.network = network;
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut quota = lock(&self.shared.quota);
        quota.total -= 1;
        if let Some(user) = quota.users.get_mut(&self.user) {
            user.allocations -= 1;
            if user.allocations == 0 {
                quota.users.remove(&self.user);
            }
        }
        quota.leave(self.network);
    }
}

/// A thread that panicked while it held the lock left counters, no broken structure.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RelayPorts {
    fn set(&self, transport: RelayTransport) -> &PortSet {
        let [udp, tcp] = &self.live;
        match transport {
            RelayTransport::Udp => udp,
            RelayTransport::Tcp => tcp,
        }
    }
}

/// A bit for each port.
#[derive(Debug)]
struct PortSet(Box<[AtomicU64]>);

impl Default for PortSet {
    fn default() -> Self {
        Self((0..65_536 / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl PortSet {
    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64].load(Ordering::Relaxed) & (1 << (port % 64)) != 0
    }

    fn set(&self, port: u16, on: bool) {
        let (word, bit) = (&self.0[usize::from(port) / 64], 1 << (port % 64));
        if on {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_told_until_their_port_closes() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let settings = Settings {
            relay_addresses: vec![RelayAddress { local: ip, announced: ip }],
            ..Settings::default()
        };
        let shared = Shared::new(&settings, 3);
        let at = |port| SocketAddr::new(ip, port);
        let holder = |slot| Holder { shard: 2, relay: RelayId::new(slot, Family::V4) };
        for slot in [0, 1, 0xFF_FFFE] {
            shared.open_relay_port(RelayTransport::Udp, at(5_000), holder(slot));
            assert_eq!(shared.holder(at(5_000)), Some(holder(slot)));
        }
        assert_eq!(
            (shared.holder(at(5_001)), shared.holder("192.0.2.2:5000".parse().unwrap())),
            (None, None)
        );
        // Too large a number is nobody, not somebody else.
        shared.open_relay_port(RelayTransport::Udp, at(5_001), holder(0xFF_FFFF));
        assert_eq!(shared.holder(at(5_001)), None);
        assert!(shared.is_relay_port(RelayTransport::Udp, at(5_001)));
        // A TCP port has no datagrams.
        shared.open_relay_port(RelayTransport::Tcp, at(5_002), holder(1));
        assert_eq!(shared.holder(at(5_002)), None);
        shared.close_relay_port(RelayTransport::Tcp, at(5_000));
        assert!(shared.holder(at(5_000)).is_some());
        shared.close_relay_port(RelayTransport::Udp, at(5_000));
        assert_eq!(shared.holder(at(5_000)), None);
        assert!(!shared.is_relay_port(RelayTransport::Udp, at(5_000)));
    }
}
