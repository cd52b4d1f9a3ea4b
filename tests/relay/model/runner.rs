//! Takes each operation to the relay and to the reference, and compares what comes out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use ternd::auth::{Algorithm, Key};
use ternd::stun::{
    Attribute, AttributeType as T, Builder, ChannelData, ChannelNumber, Class, Family, Message, Method,
    TransactionId,
};
use ternd::turn::{
    BindError, ClientAddr, ConnectionId, Event, FiveTuple, Framing, Limits, Output, PortChoice, Rates,
    RelayAddress, RelayId, RelayTransport, ServerAddr, Settings, Transport, Verdict,
};

use super::operations::{Allocate, Op, Path, Peer, Setup, Signer, Ticket, What, WireFamily};
use super::reference::{Ask, Named, Out, Reference, Relayed, Rules, Says, Wants};
use crate::world::{Answer, Client, REALM, World, addr, auth_settings, ip, settings};

/// Where clients are. Even ones are usually alice's, odd ones bob's.
pub const PATHS: [(&str, Transport); 6] = [
    ("192.0.2.7:4000", Transport::Udp),
    ("192.0.2.7:4000", Transport::Tcp),
    ("192.0.2.8:4000", Transport::Tls),
    ("[2001:db8:7::1]:4000", Transport::Udp),
    ("192.0.2.7:4002", Transport::Tcp),
    ("192.0.2.7:4001", Transport::Udp),
];

/// Numbers from here on name no token, no ticket and no connection.
const NONE: usize = 1_000;

/// Runs a whole sequence, and then waits until everything must have ended.
///
/// # Panics
/// If the relay and the reference disagree.
pub fn run(setup: &Setup, ops: &[Op]) {
    let mut runner = Runner::new(setup);
    for op in ops {
        runner.step(op);
        runner.check_timer();
    }
    runner.finish();
}

struct Runner {
    world: World,
    reference: Reference,
    clients: Vec<Client>,
    /// Of alice, of bob, and a wrong one.
    keys: [Key; 3],
    /// The last request of each path.
    sent: Vec<Option<(Ask, Vec<u8>)>>,
    requests: usize,
    sockets: BTreeMap<RelayId, (RelayTransport, SocketAddr)>,
    /// Sockets that are being bound: for which allocation of the reference.
    binds: VecDeque<(RelayId, usize, RelayTransport, Family, PortChoice)>,
    slow: bool,
    can_bind: [bool; 2],
    tokens: Vec<[u8; 8]>,
    tickets: Vec<Vec<u8>>,
    connections: Vec<ConnectionId>,
    late: bool,
}

impl Runner {
    fn new(setup: &Setup) -> Self {
        let local = if setup.nat { "10.0.0.5" } else { "198.51.100.1" };
        let v4 = RelayAddress { local: ip(local), announced: ip("198.51.100.1") };
        let v6 = RelayAddress { local: ip("2001:db8::1"), announced: ip("2001:db8::1") };
        let relay_addresses = if setup.dual { vec![v4, v6] } else { vec![v4] };
        let mut limits = Limits { unauthenticated_answers: 0, ..Limits::default() };
        if setup.tight {
            limits = Limits {
                allocations: 4,
                allocations_per_user: 3,
                allocations_per_address: 3,
                permissions: 2,
                channels: 2,
                peer_connections: 2,
                ..limits
            };
        }
        if setup.capped {
            limits.allocation_rates = Rates { packets: 2, bytes: 0 };
            limits.user_rates = Rates { packets: 3, bytes: 0 };
        }
        if setup.stingy {
            limits.unauthenticated_answers = 1;
        }
        let settings = Settings {
            relay_addresses: relay_addresses.clone(),
            rfc5766_channels: setup.old,
            mobility: setup.mobile,
            alternate_servers: if setup.elsewhere { vec![addr("203.0.113.5:3478")] } else { Vec::new() },
            limits,
            ..settings()
        };
        let world = World::with(settings.clone(), auth_settings());
        let rules = Rules {
            relays: relay_addresses.iter().map(|r| (r.local, r.announced)).collect(),
            default_lifetime: settings.default_lifetime.as_secs(),
            max_lifetime: settings.max_lifetime.as_secs(),
            allocations: limits.allocations,
            per_user: limits.allocations_per_user,
            per_address: limits.allocations_per_address,
            permissions: limits.permissions,
            channels: limits.channels,
            connections: limits.peer_connections,
            packets: limits.allocation_rates.packets as usize,
            packets_of_user: limits.user_rates.packets as usize,
            answers: limits.unauthenticated_answers.into(),
            nonce_lifetime: auth_settings().nonce_lifetime.as_secs(),
            last_channel: if setup.old { 0x7FFF } else { 0x4FFF },
            elsewhere: setup.elsewhere,
            mobility: setup.mobile,
        };
        let mut clients: Vec<Client> =
            PATHS.iter().map(|(from, transport)| client(from, *transport)).collect();
        let paths = PATHS.iter().map(|(from, transport)| (addr(from), *transport));
        let mut reference = Reference::new(rules, paths);
        if !setup.strangers {
            for (path, client) in clients.iter_mut().enumerate() {
                let challenge = world.auth.challenge(client.flow.client.0, world.now, true);
                client.nonce = challenge.nonce.as_bytes().to_vec();
                reference.nonces.insert(path, 0);
            }
        }
        Self {
            reference,
            world,
            sent: vec![None; clients.len()],
            clients,
            keys: [("alice", "alice's password"), ("bob", "bob's password"), ("alice", "guessed")]
                .map(|(name, password)| Key::derive(Algorithm::Md5, name.as_bytes(), REALM, password)),
            requests: 0,
            sockets: BTreeMap::new(),
            binds: VecDeque::new(),
            slow: false,
            can_bind: [true, true],
            tokens: Vec::new(),
            tickets: Vec::new(),
            connections: Vec::new(),
            late: false,
        }
    }

    fn step(&mut self, op: &Op) {
        // What comes late comes before the timers are looked at; then they are.
        let late = std::mem::take(&mut self.late);
        match *op {
            Op::Request { path, signer, same_id, unknown, fingerprint, what } => {
                self.requests += 1;
                let last = self.sent[path].as_ref().filter(|_| same_id).map(|(ask, _)| ask.transaction);
                let ask = Ask {
                    number: self.requests,
                    transaction: last.unwrap_or(self.requests),
                    path,
                    signer,
                    nonce: self.reference.nonces.get(&path).copied(),
                    unknown,
                    fingerprint,
                    what: self.resolve(what),
                };
                let bytes = self.encode(&ask);
                self.request(ask, bytes);
            }
            Op::Again { path } => {
                if let Some((ask, bytes)) = self.sent[path].clone() {
                    self.request(ask, bytes);
                }
            }
            Op::Send { path, peer, len, dont_fragment } => {
                let (peer, len) = (self.address(peer), usize::from(len));
                let indication = Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]));
                let mut indication = named(indication, peer).raw(T::DATA, &[7; 8][..len]);
                if dont_fragment {
                    indication = indication.raw(T::DONT_FRAGMENT, &[]);
                }
                let heard = self.reference.heard(path);
                let expected = self.reference.send(path, peer, len, dont_fragment);
                self.data(path, &indication.finish(), expected, heard);
            }
            Op::Channel { path, number, len } => {
                let mut bytes = ChannelData::header(ChannelNumber(number), len.into()).to_vec();
                bytes.extend_from_slice(&[7; 8][..len.into()]);
                // Below is no ChannelData at all.
                let heard = if number >= 0x4000 { self.reference.heard(path) } else { Vec::new() };
                let expected = self.reference.channel(path, number, len.into());
                self.data(path, &bytes, expected, heard);
            }
            Op::FromPeer { relay, peer, len } => {
                let (from, len) = (self.source(peer), usize::from(len));
                let Some((id, local)) = self.socket(RelayTransport::Udp, relay) else { return };
                let expected = self.reference.relay_in(local, from, len);
                let verdict = self.world.server.handle_peer(self.world.now, id, from, len);
                assert_eq!(self.relayed(verdict), expected);
                self.compare(Vec::new());
            }
            Op::Icmp { relay, peer } => {
                let to = self.source(peer);
                let Some((id, local)) = self.socket(RelayTransport::Udp, relay) else { return };
                let expected = self.reference.icmp(RelayTransport::Udp, local, to);
                self.world.server.handle_peer_error(self.world.now, id, to, (3, 3), 0);
                self.compare(expected);
            }
            Op::Wait { seconds, late } => {
                self.world.now = self.world.now.after(Duration::from_secs(seconds));
                self.reference.now += seconds;
                self.late = late;
            }
            Op::Gone { path } => {
                let expected = self.reference.gone(path);
                self.world.server.client_gone(self.world.now, self.clients[path].flow);
                self.compare(expected);
            }
            Op::Sockets { v4, v6 } => self.can_bind = [v4, v6],
            Op::Slow { binds } => self.slow = binds,
            Op::Bound => self.bind_one(),
            Op::Connected { connection, reached } => {
                let Some((n, id)) = self.connection(connection) else { return };
                let expected = self.reference.connected(n, reached);
                self.world.server.peer_connected(self.world.now, id, reached);
                self.compare(expected);
            }
            Op::Accept { relay, peer } => {
                let from = self.source(peer);
                let Some((id, local)) = self.socket(RelayTransport::Tcp, relay) else { return };
                let (accepted, expected) = self.reference.accept(local, from);
                let connection = self.world.server.peer_accepted(self.world.now, id, from);
                assert_eq!(connection.map(|c| self.number_of(c)), accepted);
                self.compare(expected);
            }
            Op::PeerGone { connection } => {
                let Some((n, id)) = self.connection(connection) else { return };
                self.reference.peer_gone(n);
                self.world.server.peer_gone(id);
                self.compare(Vec::new());
            }
        }
        if late || !self.late {
            self.tick();
        }
        assert_eq!(self.world.server.allocations(), self.reference.allocations());
        assert_eq!(self.world.shared.allocations(), self.reference.allocations());
    }

    fn tick(&mut self) {
        self.late = false;
        let expected = self.reference.tick();
        self.world.server.handle_timeout(self.world.now);
        self.compare(expected);
    }

    /// The timer never comes too late.
    fn check_timer(&self) {
        if let Some(end) = self.reference.next_end() {
            let timer = self.world.server.poll_timeout().map(|at| at.as_millis());
            assert!(timer.is_some_and(|at| at <= 1_000 * end), "{timer:?}, but something ends at {end} s");
        }
    }

    /// Everything ends if one only waits, and the books are right.
    fn finish(&mut self) {
        while !self.binds.is_empty() {
            self.bind_one();
        }
        for seconds in [0, 30, 600, 3_600] {
            self.step(&Op::Wait { seconds, late: false });
        }
        self.world.assert_empty();
        assert_eq!(self.sockets, BTreeMap::new());
        assert_eq!(self.world.server.poll_timeout(), None);
        assert_eq!(self.world.server.counters().traffic, self.reference.traffic);
    }

    // ── In ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn request(&mut self, ask: Ask, bytes: Vec<u8>) {
        let expected = self.reference.request(&ask);
        let verdict = self.world.server.handle_client(self.world.now, self.clients[ask.path].flow, &bytes);
        assert_eq!(verdict, Verdict::Nothing);
        let path = ask.path;
        self.sent[path] = Some((ask, bytes));
        self.compare(expected);
    }

    fn data(&mut self, path: Path, bytes: &[u8], expected: Relayed, heard: Vec<Out>) {
        let verdict = self.world.server.handle_client(self.world.now, self.clients[path].flow, bytes);
        if let Verdict::Relay { payload, .. } = verdict {
            assert!(bytes[payload.start..payload.end].iter().all(|b| *b == 7), "the payload as it was sent");
        }
        assert_eq!(self.relayed(verdict), expected);
        self.compare(heard);
    }

    fn resolve(&self, what: What) -> Wants {
        match what {
            What::Binding => Wants::Binding,
            What::Allocate(wish) => {
                // Counted from the last one; what does not exist stays so.
                let token = |n: usize| self.tokens.len().checked_sub(1 + n).unwrap_or(NONE + n);
                Wants::Allocate(Allocate { token: wish.token.map(token), ..wish })
            }
            What::Refresh { lifetime, family, ticket } => {
                let absolute = |ticket| match ticket {
                    Ticket::Given(n) => {
                        Ticket::Given(self.tickets.len().checked_sub(1 + n).unwrap_or(NONE + n))
                    }
                    other => other,
                };
                Wants::Refresh { lifetime, family, ticket: ticket.map(absolute) }
            }
            What::CreatePermission { peers } => Wants::CreatePermission {
                peers: peers.into_iter().flatten().map(|p| self.address(p)).collect(),
            },
            What::ChannelBind { number, peer } => {
                Wants::ChannelBind { number, peer: peer.map(|p| self.address(p)) }
            }
            What::Connect { peer } => Wants::Connect { peer: peer.map(|p| self.address(p)) },
            What::ConnectionBind { connection } => Wants::ConnectionBind {
                connection: connection.map(|c| self.connection(c).map_or(NONE + c, |(n, _)| n)),
            },
        }
    }

    /// `None`: malformed.
    fn address(&self, peer: Peer) -> Named {
        let port = |n: u8| 1 + u16::from(n % 2);
        Some(match peer {
            Peer::V4(n) => {
                SocketAddr::new(ip(["192.0.2.99", "192.0.2.98", "192.0.2.97"][usize::from(n / 2)]), port(n))
            }
            Peer::V6(n) => {
                SocketAddr::new(ip(if n < 2 { "2001:db8:2::99" } else { "2001:db8:2::98" }), port(n))
            }
            Peer::Relay(n) => self.reference.announced(self.local(n)?),
            Peer::Local(n) => self.local(n)?,
            Peer::Service => addr("198.51.100.1:22"),
            Peer::ServiceV6 => addr("[2001:db8::1]:22"),
            Peer::Closed => addr("10.9.9.9:80"),
            Peer::ClosedV6 => addr("[::ffff:10.9.9.9]:80"),
            Peer::WithoutPort => addr("192.0.2.99:0"),
            Peer::Malformed => return None,
        })
    }

    /// As the source of what a peer sends: packets between two relays come from where the socket is bound.
    fn source(&self, peer: Peer) -> SocketAddr {
        let peer = if let Peer::Relay(n) = peer { Peer::Local(n) } else { peer };
        self.address(peer).unwrap_or(addr("203.0.113.1:1"))
    }

    fn local(&self, n: usize) -> Option<SocketAddr> {
        let n = n.checked_rem(self.sockets.len())?;
        self.sockets.values().nth(n).map(|(_, local)| *local)
    }

    fn socket(&self, transport: RelayTransport, n: usize) -> Option<(RelayId, SocketAddr)> {
        let all = || self.sockets.iter().filter(|(_, (t, _))| *t == transport);
        all().nth(n.checked_rem(all().count())?).map(|(id, (_, local))| (*id, *local))
    }

    /// One of the last four connections.
    fn connection(&self, n: usize) -> Option<(usize, ConnectionId)> {
        let n = self.connections.len().checked_sub(1 + n)?;
        Some((n, self.connections[n]))
    }

    fn encode(&self, ask: &Ask) -> Vec<u8> {
        let mut id = TransactionId([0; 12]);
        id.0[10..].copy_from_slice(&(ask.transaction as u16).to_be_bytes());
        let mut b = Builder::new(Class::Request, ask.what.method(), id);
        match &ask.what {
            Wants::Binding => {}
            Wants::Allocate(wish) => b = self.encode_allocate(b, wish),
            Wants::Refresh { lifetime, family: of, ticket } => {
                b = optional(b, T::LIFETIME, lifetime.map(u32::to_be_bytes));
                b = family(b, T::REQUESTED_ADDRESS_FAMILY, *of);
                b = ticket.iter().fold(b, |b, ticket| b.raw(T::MOBILITY_TICKET, &self.ticket(*ticket)));
            }
            Wants::CreatePermission { peers } => {
                b = peers.iter().fold(b, |b, peer| named(b, *peer));
            }
            Wants::ChannelBind { number, peer } => {
                b = optional(b, T::CHANNEL_NUMBER, number.map(|n| (u32::from(n) << 16).to_be_bytes()));
                b = peer.iter().fold(b, |b, peer| named(b, *peer));
            }
            Wants::Connect { peer } => b = peer.iter().fold(b, |b, peer| named(b, *peer)),
            Wants::ConnectionBind { connection } => {
                let id = |n: usize| self.connections.get(n).map_or(n as u32, |id| id.0);
                b = optional(b, T::CONNECTION_ID, connection.map(|n| id(n).to_be_bytes()));
            }
        }
        if ask.unknown {
            b = b.raw(T(0x7FFF), &[]);
        }
        let (name, key) = match ask.signer {
            Signer::Bob => ("bob", &self.keys[1]),
            Signer::WrongPassword => ("alice", &self.keys[2]),
            _ => ("alice", &self.keys[0]),
        };
        if ask.signer != Signer::Nobody && !matches!(ask.what, Wants::Binding) {
            b = b.raw(T::USERNAME, name.as_bytes()).raw(T::REALM, REALM.as_bytes());
            if ask.signer != Signer::WithoutNonce {
                b = b.raw(T::NONCE, &self.clients[ask.path].nonce);
            }
            b = b.message_integrity(key.as_bytes());
        }
        if ask.fingerprint { b.fingerprint().finish() } else { b.finish() }
    }

    /// The bytes of a ticket. One that is forged has the form of a genuine one.
    fn ticket(&self, ticket: Ticket) -> Vec<u8> {
        let forged = || b"AAECAwQFBgcICQoLDA0O".to_vec();
        match ticket {
            Ticket::Given(n) => self.tickets.get(n).cloned().unwrap_or_else(forged),
            Ticket::Forged => forged(),
            Ticket::Malformed => b"ticket".to_vec(),
        }
    }

    fn encode_allocate(&self, b: Builder, wish: &Allocate) -> Builder {
        let token = |n: usize| self.tokens.get(n).copied().unwrap_or([n as u8; 8]);
        let b = optional(b, T::REQUESTED_TRANSPORT, wish.protocol.map(|p| [p, 0, 0, 0]));
        let b = optional(b, T::LIFETIME, wish.lifetime.map(u32::to_be_bytes));
        let b = optional(b, T::EVEN_PORT, wish.even_port.map(|reserve| [u8::from(reserve) << 7]));
        let b = optional(b, T::RESERVATION_TOKEN, wish.token.map(token));
        let b = family(b, T::REQUESTED_ADDRESS_FAMILY, wish.requested);
        let b = family(b, T::ADDITIONAL_ADDRESS_FAMILY, wish.additional);
        let b = optional(b, T::DONT_FRAGMENT, wish.dont_fragment.then_some([]));
        wish.mobility.iter().fold(b, |b, empty| b.raw(T::MOBILITY_TICKET, if *empty { b"" } else { b"x" }))
    }

    // ── Out ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes all that the relay puts out, and holds it against what is expected; the order is free.
    #[track_caller]
    fn compare(&mut self, mut expected: Vec<Out>) {
        let (mut seen, mut binds) = (Vec::new(), Vec::new());
        while let Some(output) = self.world.server.poll_output() {
            // Told beside the data; `grants.rs` looks at it.
            if !matches!(output, Output::Granted { .. } | Output::Revoked { .. }) {
                seen.push(self.read(output, &mut binds));
            }
        }
        let by_text = |out: &Out| format!("{out:?}");
        if seen != expected {
            seen.sort_by_key(by_text);
            expected.sort_by_key(by_text);
        }
        assert_eq!(seen, expected, "left: the relay, right: the reference");
        for (id, transport, family, port) in binds {
            self.binds.push_back((id, self.reference.newest(), transport, family, port));
        }
        while !self.slow && !self.binds.is_empty() {
            self.bind_one();
        }
    }

    fn read(
        &mut self,
        output: Output,
        binds: &mut Vec<(RelayId, RelayTransport, Family, PortChoice)>,
    ) -> Out {
        match output {
            Output::Send { flow, bytes } => self.message(flow, bytes),
            Output::BindRelay { relay, transport, family, port } => {
                binds.push((relay, transport, family, port));
                Out::Bind { transport, family, port }
            }
            Output::CloseRelay { relay } => {
                let (transport, local) = self.sockets.remove(&relay).expect("only open sockets are closed");
                Out::Close { transport, local }
            }
            Output::ConnectPeer { relay, connection, to } => {
                let connection = self.number_of(connection);
                Out::Connect { from: self.sockets[&relay].1, to, connection }
            }
            Output::Join { flow, connection } => {
                Out::Join { path: self.path(&flow), connection: self.number_of(connection) }
            }
            Output::ClosePeer { connection } => Out::Hangup { connection: self.number_of(connection) },
            Output::Migrate { .. } => panic!("there is one shard: {output:?}"),
            Output::Event(event) => self.event(event),
            Output::Granted { .. } | Output::Revoked { .. } => unreachable!("left out before"),
        }
    }

    fn message(&mut self, flow: FiveTuple, bytes: Vec<u8>) -> Out {
        let path = self.path(&flow);
        let answer = Answer(bytes);
        let message = answer.message();
        if message.class() == Class::Indication {
            return self.indication(path, &message);
        }
        if let Some(Attribute::Nonce(nonce)) = answer.get(T::NONCE) {
            self.clients[path].nonce = nonce.to_vec();
        }
        let [.., a, b] = message.transaction_id().0;
        let mut says = Says {
            signed_by: self.signed_by(&message),
            fingerprint: message.verify_fingerprint().is_some(),
            relayed: answer.relayed(),
            lifetime: answer.lifetime(),
            ..Says::default()
        };
        for attribute in message.attributes() {
            match attribute.decode(message.transaction_id()) {
                Ok(Attribute::XorMappedAddress(mapped)) => says.mapped = Some(mapped),
                Ok(Attribute::ReservationToken(token)) => {
                    let known = self.tokens.iter().position(|t| t == token);
                    says.token = Some(known.unwrap_or(self.tokens.len()));
                    if known.is_none() {
                        self.tokens.push(*token);
                    }
                }
                Ok(Attribute::MobilityTicket(ticket)) => {
                    let known = self.tickets.iter().position(|t| t == ticket);
                    says.ticket = Some(known.unwrap_or(self.tickets.len()));
                    if known.is_none() {
                        self.tickets.push(ticket.to_vec());
                    }
                }
                Ok(Attribute::AddressErrorCode { family, code, .. }) => {
                    says.lacks = family.map(|f| (f, code))
                }
                Ok(Attribute::ConnectionId(id)) => says.connection = Some(self.number_of(ConnectionId(id))),
                _ => {}
            }
        }
        let transaction = usize::from(u16::from_be_bytes([a, b]));
        Out::Answer { path, transaction, method: message.method(), code: answer.code(), says }
    }

    fn indication(&mut self, path: Path, message: &Message<'_>) -> Out {
        let all: Vec<_> =
            message.attributes().map(|a| a.decode(message.transaction_id()).expect("well-formed")).collect();
        match (message.method(), &all[..]) {
            (
                Method::DATA,
                [Attribute::XorPeerAddress(peer), Attribute::Icmp { kind: 3, code: 3, data: 0 }],
            ) => Out::Icmp { path, peer: *peer },
            (Method::CONNECTION_ATTEMPT, [Attribute::XorPeerAddress(peer), Attribute::ConnectionId(id)]) => {
                Out::Attempt { path, peer: *peer, connection: self.number_of(ConnectionId(*id)) }
            }
            _ => panic!("{message:?}"),
        }
    }

    fn signed_by(&self, message: &Message<'_>) -> Option<String> {
        message.find(T::MESSAGE_INTEGRITY)?;
        match self.keys[..2].iter().position(|key| message.verify_integrity(key.as_bytes())) {
            Some(0) => Some("alice".into()),
            Some(_) => Some("bob".into()),
            None => panic!("signed by nobody"),
        }
    }

    fn event(&self, event: Event) -> Out {
        match event {
            Event::AllocationCreated { flow, user, relay, lifetime } => {
                let (path, user) = (self.path(&flow), user.to_string());
                Out::Created { path, user, relay: relay.0, lifetime: lifetime.as_secs() }
            }
            Event::AllocationMoved { from, to, user } => {
                Out::Moved { from: self.path(&from), to: self.path(&to), user: user.to_string() }
            }
            Event::AllocationEnded { flow, user, relay, lived, traffic, reason } => Out::Ended {
                path: self.path(&flow),
                user: user.to_string(),
                relay: relay.expect("what ends had a relay").0,
                lived: lived.as_secs(),
                traffic,
                reason,
            },
            Event::Refused { flow, method, user, rejection } => Out::Refused {
                path: self.path(&flow),
                method,
                user: user.map(|u| u.to_string()),
                code: rejection.code(),
            },
            Event::RefusalsWithheld { count } => Out::Withheld { count },
            other => panic!("{other:?}"),
        }
    }

    fn relayed(&self, verdict: Verdict) -> Relayed {
        match verdict {
            Verdict::Nothing => Relayed::Nothing,
            Verdict::Relay { relay, to, payload, dont_fragment } => {
                let (_, from) = self.sockets[&relay];
                Relayed::ToPeer { from, to, len: payload.end - payload.start, dont_fragment }
            }
            Verdict::ToClient { flow, framing, .. } => {
                let (channel, peer) = match framing {
                    Framing::Channel(number) => (Some(number.0), None),
                    Framing::Data { peer, .. } => (None, Some(peer.0)),
                };
                Relayed::ToClient { path: self.path(&flow), channel, peer }
            }
            Verdict::Apart => panic!("not a run"),
            Verdict::ToShard { .. } => panic!("there is one shard: {verdict:?}"),
        }
    }

    fn path(&self, flow: &FiveTuple) -> Path {
        self.clients.iter().position(|c| c.flow == *flow).expect("a known path")
    }

    fn number_of(&mut self, id: ConnectionId) -> usize {
        let known = self.connections.iter().position(|c| *c == id);
        known.unwrap_or_else(|| {
            self.connections.push(id);
            self.connections.len() - 1
        })
    }

    // ── Sockets ────────────────────────────────────────────────────────────────────────────────────────────────

    fn bind_one(&mut self) {
        let Some((id, allocation, transport, family, port)) = self.binds.pop_front() else { return };
        let result = self.bind(transport, family, port);
        if let Ok(local) = result {
            assert_eq!(self.sockets.insert(id, (transport, local)), None, "a relay id in use is not reused");
        }
        let expected = self.reference.bound(allocation, family, result);
        self.world.server.relay_bound(self.world.now, id, result);
        self.compare(expected);
    }

    /// The lowest port that is free, so that ports come back often.
    fn bind(
        &self,
        transport: RelayTransport,
        family: Family,
        port: PortChoice,
    ) -> Result<SocketAddr, BindError> {
        let addresses = &self.world.settings.relay_addresses;
        let relay = addresses.iter().find(|r| Family::of(&r.local) == family);
        let relay = relay.ok_or(BindError::FamilyNotSupported)?;
        let free = |local: &SocketAddr| !self.sockets.values().any(|s| *s == (transport, *local));
        let unreserved = |local: &SocketAddr| {
            let reserved = self.world.shared.is_reserved(*local, self.world.now.instant);
            assert_eq!(reserved, self.reference.is_reserved(*local), "{local}");
            !reserved
        };
        if !self.can_bind[usize::from(family == Family::V6)] {
            return Err(BindError::NoPort);
        }
        let mut all = (50_000..50_100).map(|port| SocketAddr::new(relay.local, port));
        let usable = |local: &SocketAddr| free(local) && unreserved(local);
        let found = match port {
            PortChoice::Exactly(local) => Some(local).filter(free),
            PortChoice::Any => all.find(usable),
            PortChoice::Even => all.find(|a| a.port().is_multiple_of(2) && usable(a)),
            PortChoice::EvenPair => all.find(|a| {
                let next = SocketAddr::new(a.ip(), a.port() + 1);
                a.port().is_multiple_of(2) && usable(a) && usable(&next)
            }),
        };
        found.ok_or(BindError::NoPort)
    }
}

fn client(from: &str, transport: Transport) -> Client {
    let mut client = Client::alice(from);
    client.flow =
        FiveTuple { client: ClientAddr(addr(from)), server: ServerAddr(client.flow.server.0), transport };
    client
}

fn optional<const N: usize>(b: Builder, kind: T, value: Option<[u8; N]>) -> Builder {
    value.iter().fold(b, |b, value| b.raw(kind, value))
}

fn family(b: Builder, kind: T, value: Option<WireFamily>) -> Builder {
    match value {
        None => b,
        Some(WireFamily::Is(family)) => b.raw(kind, &[family.number(), 0, 0, 0]),
        Some(WireFamily::Unknown) => b.raw(kind, &[9, 0, 0, 0]),
        Some(WireFamily::Malformed) => b.raw(kind, &[1]),
    }
}

fn named(b: Builder, peer: Named) -> Builder {
    match peer {
        Some(peer) => b.xor_address(T::XOR_PEER_ADDRESS, peer),
        None => b.raw(T::XOR_PEER_ADDRESS, &[0, 1, 2]),
    }
}
