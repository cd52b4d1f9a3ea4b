//! One shard's relay: what enters is told apart here and goes to the file of its method.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use slab::Slab;

use super::allocate::Pending;
use super::allocation::Allocation;
use super::limiter::Limiter;
use super::mobility::MobilityTicket;
use super::policy::PeerPolicy;
use super::rejection::Rejection;
use super::reports::Reports;
use super::request::Request;
use super::revoked::Revoked;
use super::{
    ConnectionId, Counters, EndReason, Event, FiveTuple, Grant, Output, RelayId, RelayTransport, Settings,
    Shared, Verdict,
};
use crate::auth::{Authenticator, Cause, Denied, Identity};
use crate::stun::{
    AttributeType, Builder, Class, Family, Message, Method, ParseError, TransactionId, hmac_sha256,
};
use crate::time::{Instant, Now};

/// Allocations that end in one call of [`Server::handle_timeout`]: a wave of expiries must not hold up packets.
const EXPIRIES_PER_CALL: usize = 64;

/// An answer to somebody unknown is at most this many times as long as the question.
const MAX_AMPLIFICATION: usize = 2;

/// One shard's relay.
#[derive(Debug)]
pub struct Server {
    pub(super) settings: Arc<Settings>,
    pub(super) auth: Arc<Authenticator>,
    pub(super) shared: Arc<Shared>,
    pub(super) policy: PeerPolicy,
    pub(super) addresses: AddressMap,
    pub(super) random: Random,
    pub(super) limiter: Limiter,
    pub(super) revoked: Revoked,
    /// No new allocations: the server is about to stop.
    pub(super) draining: bool,
    reports: Reports,
    pub(super) shard: u8,

    pub(super) allocations: Slab<Allocation>,
    pub(super) by_flow: HashMap<FiveTuple, usize, RandomState>,
    pub(super) pending: HashMap<usize, Pending, RandomState>,
    /// Which allocation a connection to a peer belongs to.
    pub(super) by_connection: HashMap<ConnectionId, usize, RandomState>,
    /// Which allocation a mobility ticket stands for.
    pub(super) by_ticket: HashMap<MobilityTicket, usize, RandomState>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counters: Counters,
}

impl Server {
    /// A relay without allocations. `seed` must be random and different for each shard; `shard` is its number.
    pub fn new(
        settings: Arc<Settings>,
        auth: Arc<Authenticator>,
        shared: Arc<Shared>,
        seed: [u8; 32],
        shard: u8,
    ) -> Self {
        let mut random = Random::new(seed);
        Self {
            limiter: Limiter::new(settings.limits.unauthenticated_answers, random.hasher()),
            revoked: Revoked::new(random.hasher()),
            reports: Reports::new(),
            policy: PeerPolicy::new(&settings),
            addresses: AddressMap::new(&settings),
            by_flow: HashMap::with_hasher(random.hasher()),
            pending: HashMap::with_hasher(random.hasher()),
            by_connection: HashMap::with_hasher(random.hasher()),
            by_ticket: HashMap::with_hasher(random.hasher()),
            draining: false,
            shard,
            settings,
            auth,
            shared,
            random,
            allocations: Slab::new(),
            timers: BinaryHeap::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one datagram, or one frame of a stream, from a client.
    pub fn handle_client(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> Verdict {
        match bytes.first() {
            Some(0x40..=0x7F) => self.channel_data(now, flow, bytes),
            Some(0x00..=0x3F) => self.stun(now, flow, bytes),
            _ => {
                self.counters.not_stun += 1;
                Verdict::Nothing
            }
        }
    }

    fn stun(&mut self, now: Now, flow: FiveTuple, bytes: &[u8]) -> Verdict {
        let message = match Message::parse(bytes) {
            //= 8489-12-4
            Ok(message) if message.verify_fingerprint() != Some(false) => message,
            Ok(_) => {
                self.counters.malformed += 1;
                return Verdict::Nothing;
            }
            Err(ParseError::WrongCookie) if self.classic(now, flow, bytes) => return Verdict::Nothing,
            Err(_) => {
                self.counters.not_stun += 1;
                return Verdict::Nothing;
            }
        };
        let request = Request { message, flow, identity: None };
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) => return self.send_indication(now, flow, &message),
            // A keep-alive (RFC 8489 section 6.3.2).
            (Class::Indication, Method::BINDING) => {}
            (Class::Request, Method::BINDING) => self.binding(now, &request),
            (
                Class::Request,
                Method::ALLOCATE
                | Method::REFRESH
                | Method::CREATE_PERMISSION
                | Method::CHANNEL_BIND
                | Method::CONNECT
                | Method::CONNECTION_BIND,
            ) => self.request(now, &request),
            _ => self.counters.unsupported += 1,
        }
        Verdict::Nothing
    }

    /// A request that needs a credential: authentication, unknown attributes, then the method's own steps
    /// (RFC 8489 section 6.3, RFC 8656 section 5).
    //= 8656-5-1 8656-7.2-1
    fn request(&mut self, now: Now, request: &Request<'_>) {
        // A request that comes before the timers were looked at must not find, or even refresh, what is over.
        self.handle_timeout(now);
        if let Some(shard) = self.shard_meant(request) {
            if !self.answers(now, &request.flow) {
                return;
            }
            let bytes = request.message.as_bytes().to_vec();
            return self.outputs.push_back(Output::Migrate { flow: request.flow, shard, bytes });
        }
        let slot = self.slot_meant(request);
        let client = request.flow.client.0;
        let identity = match slot {
            Some(slot) => {
                self.auth.authenticate_on(&self.allocations[slot].owner, &request.message, client, now)
            }
            None => self.auth.authenticate(&request.message, client, now),
        };
        let identity = match identity {
            Ok(identity) if self.revoked.has_one_of([&identity.user, &identity.username], now) => {
                let (username, cause) = (identity.username.to_string(), Cause::Revoked);
                return self.reject(now, request, Denied::Unauthorized { username, cause }.into());
            }
            Ok(identity) => identity,
            Err(denied) => return self.reject(now, request, denied.into()),
        };
        let request = Request { identity: Some(&identity), ..*request };
        match self.carry_out(now, &request, &identity) {
            Ok(Some(answer)) => {
                self.counters.tallies.success(request.message.method());
                self.send(request.flow, answer);
            }
            Ok(None) => {}
            Err(rejection) => self.reject(now, &request, rejection),
        }
    }

    fn carry_out(
        &mut self,
        now: Now,
        request: &Request<'_>,
        identity: &Identity,
    ) -> Result<Option<Vec<u8>>, Rejection> {
        //= 7635-7-6
        let also: &[_] = if self.auth.takes_tokens() { &[AttributeType::ACCESS_TOKEN] } else { &[] };
        let unknown = request.unknown_attributes(also);
        if !unknown.is_empty() {
            return Err(Rejection::UnknownAttributes(unknown));
        }
        match request.message.method() {
            Method::ALLOCATE => return self.allocate(now, request, identity),
            // It comes on a connection of its own, without an allocation.
            Method::CONNECTION_BIND => return self.connection_bind(now, request, identity),
            _ => {}
        }
        let slot = self
            .redeem(request)?
            .filter(|slot| !self.pending.contains_key(slot))
            //= 8656-5-5
            .ok_or(Rejection::AllocationMismatch("this 5-tuple has no allocation"))?;
        let owner = &self.allocations[slot].owner;
        if !owner.is(identity) && !self.is_renewal(request, owner, identity) {
            //= 8656-5-4 8016-3.2.2-1
            return Err(Rejection::WrongCredentials);
        }
        match request.message.method() {
            Method::REFRESH => self.refresh(now, request, slot),
            Method::CREATE_PERMISSION => self.create_permission(now, request, slot),
            Method::CONNECT => return self.connect(now, request, slot),
            _ => self.channel_bind(now, request, slot),
        }
        .map(Some)
    }

    /// Answers with an error, and tells the operator unless it is a step of the normal handshake.
    pub(super) fn reject(&mut self, now: Now, request: &Request<'_>, rejection: Rejection) {
        if request.identity.is_none() && !self.answers(now, &request.flow) {
            return;
        }
        let answer = self.error(now, request, &rejection);
        self.send(request.flow, answer);

        self.counters.tallies.refused(request.message.method(), &rejection);
        match &rejection {
            r if r.is_routine() => self.counters.challenges += 1,
            Rejection::Denied(Denied::Unauthorized { .. }) => self.counters.authentication_failures += 1,
            _ => self.counters.rejected += 1,
        }
        if rejection.is_routine() {
            return;
        }
        let Some(withheld) = self.reports.admit(now.instant) else {
            self.counters.unreported += 1;
            return;
        };
        if withheld > 0 {
            self.outputs.push_back(Output::Event(Event::RefusalsWithheld { count: withheld }));
        }
        self.outputs.push_back(Output::Event(Event::Refused {
            flow: request.flow,
            method: request.message.method(),
            user: request.identity.map(|i| i.user.clone()),
            rejection,
        }));
    }

    /// May a stranger at this path get one more answer? Over a connection its address is proved, and the
    /// connection itself is bounded.
    pub(super) fn answers(&mut self, now: Now, flow: &FiveTuple) -> bool {
        let admitted = flow.transport.is_stream() || self.limiter.admit(flow.client.0.ip(), now.instant);
        self.counters.unanswered += u64::from(!admitted);
        admitted
    }

    fn error(&self, now: Now, request: &Request<'_>, rejection: &Rejection) -> Vec<u8> {
        if !rejection.is_challenge() {
            let builder = request.error(rejection, None);
            let named = matches!(request.message.method(), Method::ALLOCATE | Method::REFRESH);
            return request.seal(match request.identity {
                Some(_) if named => self.with_software(builder),
                _ => builder,
            });
        }
        let (client, transport) = (request.flow.client.0, request.flow.transport);
        let challenge =
            |offer| request.seal(request.error(rejection, Some(&self.auth.challenge(client, now, offer))));
        let full = challenge(true);
        // Whoever spoofs a source must not gain by it, so an answer to a small question over UDP leaves out what
        // only clients with SHA-256 read. Where a connection was made, the source is no lie.
        if transport.is_stream() || full.len() <= MAX_AMPLIFICATION * request.message.as_bytes().len() {
            return full;
        }
        challenge(false)
    }

    /// The stream of a client has ended: its allocation ends with it.
    pub fn client_gone(&mut self, now: Now, flow: FiveTuple) {
        if let Some(slot) = self.slot_of(&flow)
            && !self.abandon(slot)
            && !self.lose_path(slot, &flow)
        {
            self.end(now, slot, EndReason::ClientGone);
        }
    }

    /// Does this path have an allocation?
    pub fn has_allocation(&self, flow: &FiveTuple) -> bool {
        self.by_flow.contains_key(flow)
    }

    /// Has one of the paths of allocations this property?
    pub fn has_path(&self, property: impl FnMut(&FiveTuple) -> bool) -> bool {
        self.by_flow.keys().any(property)
    }

    /// The next thing to do. Take until `None` after each call of another method.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` if nothing can expire.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Ends what has expired by `now`, a bounded number at a time: while [`poll_timeout`](Self::poll_timeout) lies
    /// in the past, call again.
    pub fn handle_timeout(&mut self, now: Now) {
        for _ in 0..EXPIRIES_PER_CALL {
            match self.timers.peek() {
                Some(&Reverse((at, slot))) if at <= now.instant => {
                    self.timers.pop();
                    // An entry that the allocation does not count on was overtaken by another one.
                    if self.allocations.get(slot).is_some_and(|a| a.scheduled == at) {
                        self.expire(now, slot);
                    }
                }
                _ => return,
            }
        }
    }

    fn expire(&mut self, now: Now, slot: usize) {
        let over: Vec<Family> = [Family::V4, Family::V6]
            .into_iter()
            .filter(|f| self.allocations[slot].relay(*f).is_some_and(|r| r.expires <= now.instant))
            .collect();
        if over.len() == self.allocations[slot].relays().count() {
            return self.end(now, slot, EndReason::Expired);
        }
        for family in over {
            self.close_relay(slot, family);
        }
        self.expire_connections(now, slot);
        self.expire_peers(now, slot);
        self.allocations[slot].scheduled = Instant::from_millis(u64::MAX);
        self.schedule(slot);
    }

    /// Clears away permissions and channels that have ended.
    pub(super) fn expire_peers(&mut self, now: Now, slot: usize) {
        let Self { allocations, outputs, .. } = self;
        let allocation = &mut allocations[slot];
        let told = allocation.transport == RelayTransport::Udp;
        let relays = [Family::V4, Family::V6].map(|f| allocation.relay(f).filter(|_| told).map(|r| r.id));
        allocation.peers.expire(now.instant, |grant| {
            if let Some(relay) = relays.into_iter().flatten().find(|r| r.family() == grant.family()) {
                outputs.push_back(Output::Revoked { relay, grant });
            }
        });
    }

    /// Tells what may pass. The connections of a TCP relay are told one by one ([`Output::Join`]).
    pub(super) fn tell_grant(&mut self, slot: usize, grant: Grant, until: Instant) {
        let allocation = &self.allocations[slot];
        if let Some(relay) = allocation.relay(grant.family()).map(|r| r.id)
            && allocation.transport == RelayTransport::Udp
        {
            self.outputs.push_back(Output::Granted { relay, flow: allocation.flow, grant, until });
        }
    }

    /// Makes sure that a timer fires when the next thing of this allocation ends. One that fires earlier is enough:
    /// it looks again.
    pub(super) fn schedule(&mut self, slot: usize) {
        let allocation = &mut self.allocations[slot];
        // 0 to 4 seconds, spread by multiplication with 2^32 over the golden ratio.
        let jitter = Duration::from_millis(u64::from((slot as u32).wrapping_mul(0x9E37_79B9) >> 20));
        if let Some(at) = allocation.next_expiry(jitter).filter(|at| *at < allocation.scheduled) {
            allocation.scheduled = at;
            self.timers.push(Reverse((at, slot)));
        }
    }

    /// Closes one of an allocation's relays with the permissions, channels and connections of its family.
    //= 8656-8.1-1
    pub(super) fn close_relay(&mut self, slot: usize, family: Family) {
        self.close_connections(slot, family);
        let allocation = &mut self.allocations[slot];
        if let Some(relay) = allocation.relay_mut(family).take() {
            allocation.peers.forget(family);
            self.shared.close_relay_port(allocation.transport, relay.local);
            self.outputs.push_back(Output::CloseRelay { relay: relay.id });
        }
    }

    /// Ends an allocation; nothing of it stays.
    pub(super) fn end(&mut self, now: Now, slot: usize, reason: EndReason) {
        let relay = self.allocations[slot].relays().next().map(|r| r.announced);
        for family in [Family::V4, Family::V6] {
            self.close_relay(slot, family);
        }
        let allocation = self.allocations.remove(slot);
        self.forget_path(slot, &allocation.flow);
        if let Some(mobility) = &allocation.mobility {
            self.forget_mobility(mobility);
        }
        self.outputs.push_back(Output::Event(Event::AllocationEnded {
            flow: allocation.flow,
            user: allocation.owner.user.clone(),
            relay,
            lived: now.instant.since(allocation.created),
            traffic: allocation.traffic,
            reason,
        }));
        self.tidy();
    }

    /// Timers of ended allocations wait in the queue until they are due; throw them out before they outnumber the
    /// living. When the last allocation has gone, so does the memory of a crowded hour.
    fn tidy(&mut self) {
        if self.timers.len() > 64 + 4 * self.allocations.len() {
            let allocations = &self.allocations;
            self.timers
                .retain(|Reverse((at, slot))| allocations.get(*slot).is_some_and(|a| a.scheduled == *at));
            self.timers.shrink_to(64);
            self.by_flow.shrink_to(2 * self.allocations.len());
            self.by_ticket.shrink_to(2 * self.allocations.len());
            self.outputs.shrink_to(64);
        }
        if self.allocations.is_empty() && self.allocations.capacity() > 64 {
            self.allocations = Slab::new();
        }
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Allocations of this shard.
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    pub(super) fn slot_of(&self, flow: &FiveTuple) -> Option<usize> {
        self.by_flow.get(flow).copied()
    }

    pub(super) fn send(&mut self, flow: FiveTuple, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    //= 8489-6.3.1.1-5 8656-5-6
    pub(super) fn with_software(&self, builder: Builder) -> Builder {
        match &self.settings.software {
            Some(software) => builder.raw(AttributeType::SOFTWARE, software.as_bytes()),
            None => builder,
        }
    }
}

impl RelayId {
    pub(super) fn new(slot: usize, family: Family) -> Self {
        Self((slot as u32) << 1 | u32::from(family == Family::V6))
    }

    pub(super) fn slot(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub(super) fn family(self) -> Family {
        if self.0 & 1 == 0 { Family::V4 } else { Family::V6 }
    }
}

/// 1:1 NAT: the address a socket has, and the address the world knows it by.
#[derive(Clone, Debug)]
pub(super) struct AddressMap(Vec<super::RelayAddress>);

impl AddressMap {
    fn new(settings: &Settings) -> Self {
        Self(settings.relay_addresses.iter().filter(|r| r.local != r.announced).copied().collect())
    }

    pub(super) fn announced(&self, local: SocketAddr) -> SocketAddr {
        let known = self.0.iter().find(|r| r.local == local.ip());
        known.map_or(local, |r| SocketAddr::new(r.announced, local.port()))
    }

    pub(super) fn local(&self, announced: SocketAddr) -> SocketAddr {
        let known = self.0.iter().find(|r| r.announced == announced.ip());
        known.map_or(announced, |r| SocketAddr::new(r.local, announced.port()))
    }
}

/// Numbers that nobody can guess, from the seed.
#[derive(Debug)]
pub(super) struct Random {
    seed: [u8; 32],
    counter: u64,
    ids: RandomState,
}

impl Random {
    fn new(seed: [u8; 32]) -> Self {
        let mut random = Self { seed, counter: 0, ids: RandomState::with_seeds(0, 0, 0, 0) };
        random.ids = random.hasher();
        random
    }

    /// A hasher whose results nobody can foresee.
    pub(super) fn hasher(&mut self) -> RandomState {
        let mut word = || u64::from_ne_bytes(self.next());
        RandomState::with_seeds(word(), word(), word(), word())
    }

    pub(super) fn next(&mut self) -> [u8; 8] {
        self.counter += 1;
        let [a, b, c, d, e, f, g, h, ..] = hmac_sha256(&self.seed, &[&self.counter.to_be_bytes()]);
        [a, b, c, d, e, f, g, h]
    }

    /// Proves that a value was made with this seed.
    pub(super) fn mac(&self, purpose: &[u8], value: &[u8]) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = hmac_sha256(&self.seed, &[purpose, value]);
        [a, b, c, d, e, f, g, h]
    }

    /// For indications: nobody answers them, so a keyed hash of the count does, and costs nanoseconds.
    //= 8489-5-3
    pub(super) fn transaction_id(&mut self) -> TransactionId {
        self.counter += 1;
        let word = |n: u64| self.ids.hash_one((self.counter, n)).to_ne_bytes();
        let mut id = [0; 12];
        id[..8].copy_from_slice(&word(0));
        id[8..].copy_from_slice(&word(1)[..4]);
        TransactionId(id)
    }
}
