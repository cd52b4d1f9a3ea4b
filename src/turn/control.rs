//! What an operator does to a running relay: new settings, a look, an end to what is new, an end to somebody.

use std::sync::Arc;
use std::time::Duration;

use super::allocate::seconds_until;
use super::limiter::Limiter;
use super::policy::PeerPolicy;
use super::{EndReason, FiveTuple, Output, RelayAddr, RelayTransport, Server, Settings, Traffic, Transport};
use crate::auth::Authenticator;
use crate::stun::Family;
use crate::time::Now;

/// One allocation, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The client's path.
    pub flow: FiveTuple,
    /// The user, without the time stamp.
    pub user: Arc<str>,
    /// USERNAME as the client sends it.
    pub username: Arc<str>,
    /// What is relayed.
    pub transport: RelayTransport,
    /// Its relayed transport addresses, IPv4 first.
    pub relays: Vec<RelayAddr>,
    /// How long it has lived.
    pub lived: Duration,
    /// Until it must be refreshed.
    pub left: Duration,
    /// Permissions and channels.
    pub permissions: usize,
    /// Channels.
    pub channels: usize,
    /// What it relayed.
    pub traffic: Traffic,
}

/// Allocations by transport and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census([[u64; 3]; 3]);

impl Census {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        let sum = |(to, from): (&mut u64, &u64)| *to += from;
        self.0.iter_mut().flatten().zip(other.0.iter().flatten()).for_each(sum);
    }

    /// How many there are, by transport (`udp`, `tcp`, `tls`) and family (`ipv4`, `ipv6`, `both`).
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().zip(self.0).flat_map(
            |(transport, row)| {
                ["ipv4", "ipv6", "both"]
                    .into_iter()
                    .zip(row)
                    .map(move |(family, n)| (transport.name(), family, n))
            },
        )
    }
}

impl Server {
    /// Goes on with other settings; no allocation ends. Where the peers' policy has become stricter, what was open is
    /// closed; other bounds hold for what comes. The relay's own addresses stay what they were: sockets are bound to
    /// them.
    pub fn reconfigure(&mut self, now: Now, settings: &Settings, auth: Arc<Authenticator>) {
        let settings =
            Settings { relay_addresses: self.settings.relay_addresses.clone(), ..settings.clone() };
        let answers = settings.limits.unauthenticated_answers;
        if answers != self.settings.limits.unauthenticated_answers {
            let hasher = self.random.hasher();
            self.limiter = Limiter::new(answers, hasher);
        }
        self.policy = PeerPolicy::new(&settings);
        self.settings = Arc::new(settings);
        self.auth = auth;

        let slots: Vec<usize> = self.allocations.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Self { allocations, policy, by_connection, outputs, .. } = self;
            let allocation = &mut allocations[slot];
            allocation.peers.recheck(now.instant, |ip| policy.check(ip).ok());
            for gone in allocation.connections.extract_if(.., |c| policy.check(c.peer.0.ip()).is_err()) {
                by_connection.remove(&gone.id);
                outputs.push_back(Output::ClosePeer { connection: gone.id });
            }
            self.expire_peers(now, slot);
        }
    }

    /// From here on new allocations are refused, or sent elsewhere; `false` takes that back.
    pub fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// All allocations of this shard.
    pub fn list(&self, now: Now) -> Vec<Listed> {
        let ready = self.allocations.iter().filter(|(slot, _)| !self.pending.contains_key(slot));
        ready
            .map(|(_, a)| Listed {
                flow: a.flow,
                user: a.owner.user.clone(),
                username: a.owner.username.clone(),
                transport: a.transport,
                relays: a.relays().map(|r| r.announced).collect(),
                lived: now.instant.since(a.created),
                left: a
                    .relays()
                    .map(|r| Duration::from_secs(seconds_until(r.expires, now.instant).into()))
                    .max()
                    .unwrap_or_default(),
                permissions: a.peers.permissions(),
                channels: a.peers.channels(),
                traffic: a.traffic,
            })
            .collect()
    }

    /// How many allocations there are: by the client's transport, and by the families of their relays.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, allocation) in &self.allocations {
            let [v4, v6] = [Family::V4, Family::V6].map(|family| allocation.relay(family).is_some());
            let column = match (v4, v6) {
                (true, true) => 2,
                (false, true) => 1,
                (true, false) => 0,
                // Its sockets are being bound.
                (false, false) => continue,
            };
            census.0[allocation.flow.transport as usize][column] += 1;
        }
        census
    }

    /// Ends the allocations that `who` picks, and says how many.
    pub fn kick(&mut self, now: Now, who: impl Fn(&Listed) -> bool) -> usize {
        let mut ended = 0;
        for listed in self.list(now) {
            if who(&listed)
                && let Some(slot) = self.slot_of(&listed.flow)
            {
                self.end(now, slot, EndReason::Operator);
                ended += 1;
            }
        }
        ended
    }
}
