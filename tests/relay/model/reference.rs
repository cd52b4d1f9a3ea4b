//! What RFC 8656 (and RFC 6062 for TCP) says a relay does, in plain maps: no timers, no slots, no bytes. Slow and
//! obvious. Times are whole seconds; addresses of sockets are `local`, what clients and peers are told is `announced`.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use ternd::stun::{Family, Method};
use ternd::turn::{BindError, EndReason, PortChoice, RelayTransport, Traffic, Transport};

use super::mobility::Mobility;
use super::operations::{Allocate, Path, Signer, Ticket, WireFamily};

/// Something that comes out of a relay.
#[derive(Clone, Debug, PartialEq)]
pub enum Out {
    Answer {
        path: Path,
        transaction: usize,
        method: Method,
        code: u16,
        says: Says,
    },
    Bind {
        transport: RelayTransport,
        family: Family,
        port: PortChoice,
    },
    Close {
        transport: RelayTransport,
        local: SocketAddr,
    },
    Created {
        path: Path,
        user: String,
        relay: SocketAddr,
        lifetime: u64,
    },
    Moved {
        from: Path,
        to: Path,
        user: String,
    },
    Ended {
        path: Path,
        user: String,
        relay: SocketAddr,
        lived: u64,
        traffic: Traffic,
        reason: EndReason,
    },
    Refused {
        path: Path,
        method: Method,
        user: Option<String>,
        code: u16,
    },
    /// So many were not told of before the next one.
    Withheld {
        count: u64,
    },
    Icmp {
        path: Path,
        peer: SocketAddr,
    },
    Connect {
        from: SocketAddr,
        to: SocketAddr,
        connection: usize,
    },
    Attempt {
        path: Path,
        peer: SocketAddr,
        connection: usize,
    },
    Join {
        path: Path,
        connection: usize,
    },
    Hangup {
        connection: usize,
    },
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Says {
    pub signed_by: Option<String>,
    pub fingerprint: bool,
    pub mapped: Option<SocketAddr>,
    pub relayed: Vec<SocketAddr>,
    pub lifetime: Option<u32>,
    /// The how manieth that was given out.
    pub token: Option<usize>,
    /// ADDRESS-ERROR-CODE.
    pub lacks: Option<(Family, u16)>,
    pub connection: Option<usize>,
    /// MOBILITY-TICKET: the how manieth that was given out.
    pub ticket: Option<usize>,
}

/// What becomes of data.
#[derive(Clone, Debug, PartialEq)]
pub enum Relayed {
    Nothing,
    ToPeer { from: SocketAddr, to: SocketAddr, len: usize, dont_fragment: bool },
    ToClient { path: Path, channel: Option<u16>, peer: Option<SocketAddr> },
}

/// A request with all names resolved.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which one it is: one that is sent again has the same number.
    pub number: usize,
    pub transaction: usize,
    pub path: Path,
    pub signer: Signer,
    /// When its nonce was issued.
    pub nonce: Option<u64>,
    pub unknown: bool,
    pub fingerprint: bool,
    pub what: Wants,
}

/// A peer in a request: there, but perhaps malformed.
pub type Named = Option<SocketAddr>;

#[derive(Clone, Debug)]
pub enum Wants {
    Binding,
    Allocate(Allocate),
    Refresh { lifetime: Option<u32>, family: Option<WireFamily>, ticket: Option<Ticket> },
    CreatePermission { peers: Vec<Named> },
    ChannelBind { number: Option<u16>, peer: Option<Named> },
    Connect { peer: Option<Named> },
    ConnectionBind { connection: Option<usize> },
}

impl Wants {
    pub fn method(&self) -> Method {
        match self {
            Self::Binding => Method::BINDING,
            Self::Allocate(_) => Method::ALLOCATE,
            Self::Refresh { .. } => Method::REFRESH,
            Self::CreatePermission { .. } => Method::CREATE_PERMISSION,
            Self::ChannelBind { .. } => Method::CHANNEL_BIND,
            Self::Connect { .. } => Method::CONNECT,
            Self::ConnectionBind { .. } => Method::CONNECTION_BIND,
        }
    }
}

/// What the operator has set.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Relay addresses: local and announced.
    pub relays: Vec<(IpAddr, IpAddr)>,
    pub default_lifetime: u64,
    pub max_lifetime: u64,
    pub allocations: usize,
    pub per_user: usize,
    pub per_address: usize,
    pub permissions: usize,
    pub channels: usize,
    pub connections: usize,
    /// Datagrams a second; 0: no cap.
    pub packets: usize,
    pub packets_of_user: usize,
    /// Answers a second to a stranger's address; 0: no limit.
    pub answers: u64,
    pub nonce_lifetime: u64,
    pub last_channel: u16,
    /// There is another server to go to when this one is full.
    pub elsewhere: bool,
    /// Allocations may move.
    pub mobility: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Allocation {
    pub(super) path: Path,
    pub(super) user: String,
    /// The request that made it.
    pub(super) ask: Ask,
    pub(super) transport: RelayTransport,
    pub(super) created: u64,
    pub(super) lifetime: u64,
    pub(super) port: PortChoice,
    /// Families whose sockets are still being bound. Until none is left, nobody has an allocation.
    pub(super) waiting: Vec<Family>,
    /// Its client went away meanwhile.
    pub(super) abandoned: bool,
    pub(super) failed: Vec<(Family, BindError)>,
    pub(super) relays: BTreeMap<Family, Relay>,
    pub(super) token: Option<usize>,
    pub(super) permissions: HashMap<IpAddr, u64>,
    pub(super) channels: HashMap<u16, (SocketAddr, u64)>,
    pub(super) connections: BTreeMap<usize, Connection>,
    pub(super) traffic: Traffic,
    /// In which second, how many datagrams.
    pub(super) packets: (u64, usize),
    /// If it may move.
    pub(super) mobility: Option<Mobility>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Relay {
    pub(super) local: SocketAddr,
    pub(super) expires: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// The Connect that waits for the peer.
    pub(super) asked: Option<Ask>,
    /// Until when the peer may answer or the client may bind it; `None`: bound.
    pub(super) until: Option<u64>,
}

/// The relay as the RFC tells it.
#[derive(Debug)]
pub struct Reference {
    pub rules: Rules,
    pub now: u64,
    pub(super) clients: Vec<SocketAddr>,
    pub(super) transports: Vec<Transport>,
    pub(super) allocations: BTreeMap<usize, Allocation>,
    pub(super) made: usize,
    pub(super) tokens: usize,
    pub(super) connections: usize,
    /// Mobility tickets that were given out.
    pub(super) tickets: usize,
    /// By token: whose, which port, until when.
    pub(super) reservations: HashMap<usize, (String, SocketAddr, u64)>,
    /// When the last nonce of a path was issued.
    pub nonces: HashMap<Path, u64>,
    /// Refusals that may still be told of, since when, and how many were not.
    pub(super) reports: (u64, u64, u64),
    /// Answers a stranger's address may still get, and since when.
    pub(super) answers: HashMap<IpAddr, (u64, u64)>,
    pub(super) packets_of_user: HashMap<String, (u64, usize)>,
    pub traffic: Traffic,
}

pub(super) type Refusal = u16;

impl Reference {
    pub fn new(rules: Rules, paths: impl Iterator<Item = (SocketAddr, Transport)>) -> Self {
        let (clients, transports) = paths.unzip();
        Self {
            rules,
            now: 0,
            clients,
            transports,
            allocations: BTreeMap::new(),
            made: 0,
            tokens: 0,
            connections: 0,
            tickets: 0,
            reservations: HashMap::new(),
            nonces: HashMap::new(),
            reports: (100, 0, 0),
            answers: HashMap::new(),
            packets_of_user: HashMap::new(),
            traffic: Traffic::default(),
        }
    }

    // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Ends all that is over.
    pub fn tick(&mut self) -> Vec<Out> {
        let (mut out, now) = (Vec::new(), self.now);
        let ids: Vec<usize> = self.allocations.keys().copied().collect();
        for id in ids {
            let a = self.allocations.get_mut(&id).unwrap();
            if !a.waiting.is_empty() {
                continue;
            }
            if a.relays.values().all(|r| r.expires <= now) {
                out.extend(self.end(id, EndReason::Expired));
                continue;
            }
            let over: Vec<Family> =
                a.relays.iter().filter(|(_, r)| r.expires <= now).map(|(f, _)| *f).collect();
            for family in over {
                out.extend(self.close_relay(id, family));
            }
            let a = self.allocations.get_mut(&id).unwrap();
            let late: Vec<usize> = a
                .connections
                .iter()
                .filter(|(_, c)| c.until.is_some_and(|u| u <= now))
                .map(|(n, _)| *n)
                .collect();
            for connection in late {
                let a = self.allocations.get_mut(&id).unwrap();
                let asked = a.connections.remove(&connection).unwrap().asked;
                out.push(Out::Hangup { connection });
                out.extend(asked.into_iter().flat_map(|ask| self.refuse(&ask, 447)));
            }
        }
        out
    }

    /// When the next relay or connection is over.
    pub fn next_end(&self) -> Option<u64> {
        let ready = self.allocations.values().filter(|a| a.waiting.is_empty());
        ready
            .flat_map(|a| {
                a.relays.values().map(|r| r.expires).chain(a.connections.values().filter_map(|c| c.until))
            })
            .min()
    }

    fn end(&mut self, id: usize, reason: EndReason) -> Vec<Out> {
        let a = &self.allocations[&id];
        let relay = a.relays.values().next().unwrap().local;
        let ended = Out::Ended {
            path: a.path,
            user: a.user.clone(),
            relay: self.announced(relay),
            lived: self.now - a.created,
            traffic: a.traffic,
            reason,
        };
        let mut out: Vec<Out> = a.connections.keys().map(|c| Out::Hangup { connection: *c }).collect();
        out.extend(a.relays.values().map(|r| Out::Close { transport: a.transport, local: r.local }));
        out.push(ended);
        self.remove(id);
        out
    }

    fn remove(&mut self, id: usize) {
        let user = self.allocations.remove(&id).unwrap().user;
        // A user without allocations is forgotten.
        if !self.allocations.values().any(|a| a.user == user) {
            self.packets_of_user.remove(&user);
        }
    }

    /// All that belongs to one family goes.
    fn close_relay(&mut self, id: usize, family: Family) -> Vec<Out> {
        let a = self.allocations.get_mut(&id).unwrap();
        let relay = a.relays.remove(&family).unwrap();
        a.permissions.retain(|ip, _| Family::of(ip) != family);
        a.channels.retain(|_, (peer, _)| Family::of(&peer.ip()) != family);
        let mut out = vec![Out::Close { transport: a.transport, local: relay.local }];
        a.connections.retain(|connection, c| {
            let stays = Family::of(&c.peer.ip()) != family;
            if !stays {
                out.push(Out::Hangup { connection: *connection });
            }
            stays
        });
        out
    }

    /// The client's connection has ended.
    pub fn gone(&mut self, path: Path) -> Vec<Out> {
        let Some(id) = self.at(path) else { return Vec::new() };
        if self.allocations[&id].waiting.is_empty() {
            return self.lose_path(id, path).unwrap_or_else(|| self.end(id, EndReason::ClientGone));
        }
        let a = self.allocations.get_mut(&id).unwrap();
        // It was never made, so it does not end; sockets that come later are closed at once.
        a.abandoned = true;
        let transport = a.transport;
        std::mem::take(&mut a.relays)
            .into_values()
            .map(|r| Out::Close { transport, local: r.local })
            .collect()
    }

    // ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────

    /// RFC 8489 section 6.3 and 9.2.4, RFC 8656 section 5.
    pub fn request(&mut self, ask: &Ask) -> Vec<Out> {
        if let Wants::Binding = ask.what {
            return self.binding(ask);
        }
        // Nobody asks for what is over.
        let mut out = self.tick();
        let code = match ask.signer {
            Signer::Nobody | Signer::WrongPassword => Some(401),
            Signer::WithoutNonce => Some(400),
            Signer::Alice | Signer::Bob => {
                let fresh = ask.nonce.is_some_and(|issued| self.now - issued <= self.rules.nonce_lifetime);
                (!fresh).then_some(438)
            }
        };
        if let Some(code) = code {
            out.extend(self.refuse_stranger(ask, code));
            return out;
        }
        let result = if ask.unknown { Err(420) } else { self.carry_out(ask) };
        out.extend(result.unwrap_or_else(|code| self.refuse(ask, code)));
        out
    }

    fn carry_out(&mut self, ask: &Ask) -> Result<Vec<Out>, Refusal> {
        match &ask.what {
            Wants::Allocate(wish) => return self.allocate(ask, wish),
            Wants::ConnectionBind { connection } => return self.connection_bind(ask, *connection),
            _ => {}
        }
        let shown = if let Wants::Refresh { ticket, .. } = ask.what { ticket } else { None };
        let meant = match shown {
            Some(ticket) => Some(self.redeem(ask, ticket)?),
            None => self.at(ask.path),
        };
        let id = meant.filter(|id| self.allocations[id].waiting.is_empty()).ok_or(437u16)?;
        if self.allocations[&id].user != user(ask) {
            return Err(441);
        }
        match &ask.what {
            Wants::Refresh { lifetime, family, .. } => self.refresh(ask, id, *lifetime, *family),
            Wants::CreatePermission { peers } => self.create_permission(ask, id, peers),
            Wants::ChannelBind { number, peer } => self.channel_bind(ask, id, *number, *peer),
            Wants::Connect { peer } => self.connect(ask, id, *peer),
            _ => unreachable!(),
        }
    }

    fn binding(&mut self, ask: &Ask) -> Vec<Out> {
        if !self.answers_stranger(ask.path) {
            return Vec::new();
        }
        let mapped = self.clients[ask.path];
        let (code, mapped) = if ask.unknown { (420, None) } else { (0, Some(mapped)) };
        let says = Says { fingerprint: ask.fingerprint, mapped, ..Says::default() };
        vec![answer(ask, code, says)]
    }

    pub(super) fn success(&self, ask: &Ask, says: Says) -> Out {
        let says = Says { signed_by: Some(user(ask).into()), fingerprint: ask.fingerprint, ..says };
        answer(ask, 0, says)
    }

    /// An authentic request is refused.
    pub(super) fn refuse(&mut self, ask: &Ask, code: Refusal) -> Vec<Out> {
        let (path, method, user) = (ask.path, ask.what.method(), Some(user(ask).to_owned()));
        let says = Says { signed_by: user.clone(), fingerprint: ask.fingerprint, ..Says::default() };
        let mut out = vec![answer(ask, code, says)];
        out.extend(self.report(Out::Refused { path, method, user, code }));
        out
    }

    /// A hundred refusals are told of at once, five a second in the long run.
    fn report(&mut self, refused: Out) -> Vec<Out> {
        let (left, since, withheld) = &mut self.reports;
        *left = (*left + 5 * (self.now - *since)).min(100);
        *since = self.now;
        if *left == 0 {
            *withheld += 1;
            return Vec::new();
        }
        *left -= 1;
        let count = std::mem::take(withheld);
        let before = (count > 0).then_some(Out::Withheld { count });
        before.into_iter().chain([refused]).collect()
    }

    fn refuse_stranger(&mut self, ask: &Ask, code: Refusal) -> Vec<Out> {
        if !self.answers_stranger(ask.path) {
            return Vec::new();
        }
        if code == 401 || code == 438 {
            self.nonces.insert(ask.path, self.now);
        }
        let (path, method) = (ask.path, ask.what.method());
        let says = Says { fingerprint: ask.fingerprint, ..Says::default() };
        let mut out = vec![answer(ask, code, says)];
        if code != 438 && ask.signer != Signer::Nobody {
            out.extend(self.report(Out::Refused { path, method, user: None, code }));
        }
        out
    }

    /// So many a second over UDP, five seconds' worth at once.
    fn answers_stranger(&mut self, path: Path) -> bool {
        let rate = self.rules.answers;
        if rate == 0 || self.transports[path].is_stream() {
            return true;
        }
        let full = (5 * rate, self.now);
        let (left, since) = self.answers.entry(network(self.clients[path].ip())).or_insert(full);
        *left = (*left + rate * (self.now - *since)).min(5 * rate);
        *since = self.now;
        let answered = *left > 0;
        *left -= u64::from(answered);
        answered
    }

    // ── Allocations: RFC 8656 section 7.2 ──────────────────────────────────────────────────────────────────────

    fn allocate(&mut self, ask: &Ask, wish: &Allocate) -> Result<Vec<Out>, Refusal> {
        // 2.
        if let Some(id) = self.at(ask.path) {
            let a = &self.allocations[&id];
            return match a.ask.transaction == ask.transaction && a.user == user(ask) {
                true if a.waiting.is_empty() => Ok(vec![self.allocated(id, ask)]),
                true => Ok(Vec::new()),
                false => Err(437),
            };
        }
        // 3., RFC 6062 section 5.1.
        let transport = match wish.protocol {
            Some(17) => RelayTransport::Udp,
            Some(6) => {
                let for_udp = wish.even_port.is_some() || wish.dont_fragment || wish.token.is_some();
                if for_udp || !self.transports[ask.path].is_stream() {
                    return Err(400);
                }
                RelayTransport::Tcp
            }
            Some(_) => return Err(442),
            None => return Err(400),
        };
        // RFC 8016 section 3.1.2.
        match wish.mobility {
            Some(false) => return Err(400),
            Some(true) if !self.rules.mobility || transport == RelayTransport::Tcp => return Err(405),
            _ => {}
        }
        if [wish.requested, wish.additional].contains(&Some(WireFamily::Malformed)) {
            return Err(400);
        }
        // 5.
        let mut reserved = None;
        if let Some(token) = wish.token {
            if wish.even_port.is_some() || wish.requested.is_some() || wish.additional.is_some() {
                return Err(400);
            }
            let (_, local, until) = self.reservations.get(&token).ok_or(508u16)?;
            if *until <= self.now {
                return Err(508);
            }
            reserved = Some(*local);
        }
        // 6., 8., 9.
        if wish.requested.is_some() && wish.additional.is_some() {
            return Err(400);
        }
        if wish.even_port == Some(true) && wish.additional.is_some() {
            return Err(400);
        }
        if wish.additional.is_some_and(|f| f != WireFamily::Is(Family::V6)) {
            return Err(400);
        }
        // 7.
        let families = match (reserved, wish.additional, wish.requested) {
            (Some(local), _, _) => vec![Family::of(&local.ip())],
            (_, Some(_), _) => vec![Family::V4, Family::V6],
            (_, _, Some(WireFamily::Is(family))) => vec![family],
            (_, _, Some(_)) => return Err(440),
            (_, _, None) => vec![Family::V4],
        };
        if families.len() == 1 && !self.rules.relays.iter().any(|(local, _)| Family::of(local) == families[0])
        {
            return Err(440);
        }
        // Section 3.7.
        let translates = !self.transports[ask.path].is_stream() && self.clients[ask.path].is_ipv4();
        if wish.dont_fragment && translates && reserved.is_none() && families == [Family::V6] {
            return Err(420);
        }
        // 10. and 11.
        let of = |what: &dyn Fn(&Allocation) -> bool| self.allocations.values().filter(|a| what(a)).count();
        let here = network(self.clients[ask.path].ip());
        if wish.even_port == Some(true) && self.reserved_by(user(ask)) >= self.rules.per_user {
            return Err(486);
        }
        if of(&|_| true) >= self.rules.allocations {
            return Err(if self.goes_elsewhere(ask.path) { 300 } else { 486 });
        }
        if of(&|a| a.user == user(ask)) >= self.rules.per_user
            || self.allocations_at(here) >= self.rules.per_address
        {
            return Err(486);
        }

        if let Some(token) = wish.token {
            self.reservations.remove(&token);
        }
        let port = match (reserved, wish.even_port) {
            (Some(local), _) => PortChoice::Exactly(local),
            (None, Some(true)) => PortChoice::EvenPair,
            (None, Some(false)) => PortChoice::Even,
            (None, None) => PortChoice::Any,
        };
        self.made += 1;
        let allocation = Allocation {
            path: ask.path,
            user: user(ask).into(),
            ask: ask.clone(),
            transport,
            created: self.now,
            lifetime: self.lifetime(wish.lifetime),
            port,
            waiting: families.clone(),
            abandoned: false,
            failed: Vec::new(),
            relays: BTreeMap::new(),
            token: None,
            permissions: HashMap::new(),
            channels: HashMap::new(),
            connections: BTreeMap::new(),
            traffic: Traffic::default(),
            packets: (0, 0),
            mobility: None,
        };
        self.allocations.insert(self.made, allocation);
        Ok(families.iter().map(|f| Out::Bind { transport, family: *f, port }).collect())
    }

    /// The allocation made last, whose sockets are to be bound.
    pub fn newest(&self) -> usize {
        self.made
    }

    /// A socket has been bound, or not.
    pub fn bound(&mut self, id: usize, family: Family, result: Result<SocketAddr, BindError>) -> Vec<Out> {
        let a = self.allocations.get_mut(&id).unwrap();
        a.waiting.retain(|f| *f != family);
        let mut out = Vec::new();
        match result {
            Ok(local) if a.abandoned => out.push(Out::Close { transport: a.transport, local }),
            Ok(local) => drop(a.relays.insert(family, Relay { local, expires: 0 })),
            Err(error) => a.failed.push((family, error)),
        }
        if !a.waiting.is_empty() {
            return out;
        }
        if a.abandoned {
            self.remove(id);
            return out;
        }
        let ask = a.ask.clone();
        let Some(first) = a.relays.values().next().map(|r| r.local) else {
            // 9. for both families, 7. and 8. for one.
            let code = match a.failed[..] {
                [(_, BindError::FamilyNotSupported)] => 440,
                _ => 508,
            };
            self.remove(id);
            out.extend(self.refuse(&ask, code));
            return out;
        };
        let expires = self.now + a.lifetime;
        a.relays.values_mut().for_each(|r| r.expires = expires);
        if a.port == PortChoice::EvenPair {
            a.token = Some(self.tokens);
            let next = SocketAddr::new(first.ip(), first.port() + 1);
            self.reservations.insert(self.tokens, (a.user.clone(), next, self.now + 30));
            self.tokens += 1;
        }
        if let Wants::Allocate(Allocate { mobility: Some(true), .. }) = ask.what {
            a.mobility = Some(Mobility::new(self.tickets));
            self.tickets += 1;
        }
        let (path, user, lifetime) = (a.path, a.user.clone(), a.lifetime);
        out.push(Out::Created { path, user, relay: self.announced(first), lifetime });
        out.push(self.allocated(id, &ask));
        out
    }

    fn allocated(&self, id: usize, ask: &Ask) -> Out {
        let a = &self.allocations[&id];
        let code = |error| if error == BindError::FamilyNotSupported { 440 } else { 508 };
        let says = Says {
            mapped: Some(self.clients[ask.path]),
            ticket: a.mobility.as_ref().map(|m| m.ticket),
            relayed: a.relays.values().map(|r| self.announced(r.local)).collect(),
            lifetime: a.relays.values().map(|r| (r.expires - self.now) as u32).max(),
            token: a.token,
            lacks: a.failed.first().map(|(family, error)| (*family, code(*error))),
            ..Says::default()
        };
        self.success(ask, says)
    }

    /// Is this port kept for somebody?
    pub fn is_reserved(&self, local: SocketAddr) -> bool {
        self.reservations.values().any(|(_, reserved, until)| *reserved == local && *until > self.now)
    }

    /// The other server speaks UDP and TCP over IPv4.
    fn goes_elsewhere(&self, path: Path) -> bool {
        self.rules.elsewhere && self.transports[path] != Transport::Tls && self.clients[path].is_ipv4()
    }

    /// A user may hold as many reservations as allocations.
    fn reserved_by(&self, user: &str) -> usize {
        self.reservations.values().filter(|(by, _, until)| by == user && *until > self.now).count()
    }

    fn lifetime(&self, asked: Option<u32>) -> u64 {
        let asked = asked.map_or(0, u64::from);
        asked.min(self.rules.max_lifetime).max(self.rules.default_lifetime)
    }

    // ── Refresh, permissions, channels: sections 8.2, 10.2, 12.2 ───────────────────────────────────────────────

    fn refresh(
        &mut self,
        ask: &Ask,
        id: usize,
        lifetime: Option<u32>,
        family: Option<WireFamily>,
    ) -> Result<Vec<Out>, Refusal> {
        let a = &self.allocations[&id];
        let of: Vec<Family> = match family {
            None => a.relays.keys().copied().collect(),
            Some(WireFamily::Malformed) => return Err(400),
            Some(WireFamily::Is(family)) if a.relays.contains_key(&family) => vec![family],
            Some(_) => return Err(443),
        };
        let (desired, all) = (self.lifetime(lifetime), of.len() == a.relays.len());
        let (mut out, mut ticket) = (Vec::new(), None);
        let mut granted = 0;
        if lifetime == Some(0) {
            match all {
                true => out.extend(self.end(id, EndReason::Deleted)),
                false => out.extend(self.close_relay(id, of[0])),
            }
        } else {
            (ticket, out) = self.take_path(ask, id)?;
            granted = desired as u32;
            let expires = self.now + desired;
            let a = self.allocations.get_mut(&id).unwrap();
            a.relays.iter_mut().filter(|(f, _)| of.contains(f)).for_each(|(_, r)| r.expires = expires);
        }
        out.push(self.success(ask, Says { lifetime: Some(granted), ticket, ..Says::default() }));
        Ok(out)
    }

    fn create_permission(&mut self, ask: &Ask, id: usize, peers: &[Named]) -> Result<Vec<Out>, Refusal> {
        if peers.is_empty() || peers.contains(&None) {
            return Err(400);
        }
        let a = &self.allocations[&id];
        let ips: Vec<IpAddr> = peers.iter().flatten().map(SocketAddr::ip).collect();
        if ips.iter().any(|ip| !a.relays.contains_key(&Family::of(ip))) {
            return Err(443);
        }
        // A port counts where it shows which of the relays is meant, and only for a new permission.
        let held = |ip| a.permissions.get(&ip).is_some_and(|until| *until > self.now);
        let free = |p: &SocketAddr| p.port() == 0 || held(p.ip()) || self.open(a.transport, *p);
        let refused = |p: &SocketAddr| self.closed(p.ip()) || !free(p);
        if peers.iter().flatten().any(refused) {
            return Err(403);
        }
        self.permit(id, &ips)?;
        Ok(vec![self.success(ask, Says::default())])
    }

    pub(super) fn permit(&mut self, id: usize, ips: &[IpAddr]) -> Result<(), Refusal> {
        let (now, most) = (self.now, self.rules.permissions);
        let a = self.allocations.get_mut(&id).unwrap();
        let mut permissions = a.permissions.clone();
        permissions.retain(|_, until| *until > now);
        permissions.extend(ips.iter().map(|ip| (*ip, now + 300)));
        if permissions.len() > most {
            return Err(508);
        }
        a.permissions = permissions;
        Ok(())
    }

    fn channel_bind(
        &mut self,
        ask: &Ask,
        id: usize,
        number: Option<u16>,
        peer: Option<Named>,
    ) -> Result<Vec<Out>, Refusal> {
        let now = self.now;
        if self.allocations[&id].transport == RelayTransport::Tcp {
            return Err(400);
        }
        let number = number.filter(|n| (0x4000..=self.rules.last_channel).contains(n)).ok_or(400u16)?;
        let peer = peer.flatten().filter(|p| p.port() != 0).ok_or(400u16)?;
        let mut channels = self.allocations[&id].channels.clone();
        channels.retain(|_, (_, until)| *until > now);
        if channels.iter().any(|(n, (p, _))| (*n == number) != (*p == peer)) {
            return Err(400);
        }
        self.may_reach(id, peer)?;
        channels.insert(number, (peer, now + 600));
        if channels.len() > self.rules.channels {
            return Err(508);
        }
        self.permit(id, &[peer.ip()])?;
        self.allocations.get_mut(&id).unwrap().channels = channels;
        Ok(vec![self.success(ask, Says::default())])
    }

    /// The allocation of a path, be it that its sockets are still being bound.
    pub(super) fn at(&self, path: Path) -> Option<usize> {
        self.allocations.iter().find(|(_, a)| a.is_at(path) && !a.abandoned).map(|(id, _)| *id)
    }

    /// Allocations, counting those that are being made.
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }
}

fn answer(ask: &Ask, code: u16, says: Says) -> Out {
    Out::Answer { path: ask.path, transaction: ask.transaction, method: ask.what.method(), code, says }
}

pub(super) fn user(ask: &Ask) -> &'static str {
    if ask.signer == Signer::Bob { "bob" } else { "alice" }
}

/// What counts as one client address.
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}
