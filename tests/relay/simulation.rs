//! A small internet in one process and in virtual time: calls through the relay while every fifth datagram is lost and
//! others come twice or in another order.
//!
//! ```text
//!                               ┌ Sky: loss, duplicates, delay ┐
//! Caller 10.0.0.2 ── Nat 192.0.2.7 ────► relay (World) ◄──── Nat 192.0.2.99 ── 10.0.0.3 Plain, or another Caller
//! ```
//!
//! A `Caller` speaks TURN and retransmits as RFC 8489 section 6.2.1 tells it; a `Plain` peer has no relay and just
//! sends. What one has heard of the other is all that counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ternd::stun::{
    Attribute, AttributeType as T, Builder, ChannelData, ChannelNumber, Class, Message, Method, TransactionId,
};
use ternd::time::{Instant, Now};
use ternd::turn::{ClientAddr, Event, FiveTuple, RelayId, ServerAddr, Transport, Verdict};

use crate::world::{Answer, Client, START, World, addr, auth_settings, ip, settings};

const SERVER: &str = "198.51.100.1:3478";
const SECOND: u64 = 1_000;
const CALL: u64 = 900 * SECOND;
const CHANNEL: u16 = 0x4000;

// ── The network ────────────────────────────────────────────────────────────────────────────────────────────────────

/// Random numbers that a seed decides (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Clone)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// Packets on their way, by the time at which they arrive. Times are in milliseconds.
struct Sky {
    rng: Rng,
    flying: BTreeMap<(u64, u64), Packet>,
    sent: u64,
}

impl Sky {
    fn send(&mut self, now: u64, packet: Packet) {
        let copies = 1 + u64::from(self.rng.percent(10));
        for _ in 0..copies {
            if self.rng.percent(20) {
                continue;
            }
            // From the same street or from the other side of the world: later ones overtake.
            let delay = 5 + self.rng.below(400);
            self.sent += 1;
            self.flying.insert((now + delay, self.sent), packet.clone());
        }
    }
}

impl Sky {
    /// The next one that has arrived by now.
    fn next(&mut self, now: u64) -> Option<Packet> {
        self.flying.first_entry().filter(|e| e.key().0 <= now).map(|e| e.remove())
    }
}

/// A NAT with address and port dependent filtering. A symmetric one has a mapping for each destination.
struct Nat {
    public: IpAddr,
    symmetric: bool,
    ports: HashMap<(SocketAddr, Option<SocketAddr>), u16>,
    open: HashSet<(u16, SocketAddr)>,
}

impl Nat {
    fn new(public: &str, symmetric: bool) -> Self {
        Self { public: ip(public), symmetric, ports: HashMap::new(), open: HashSet::new() }
    }

    fn outward(&mut self, packet: &mut Packet) {
        let next = 20_000 + self.ports.len() as u16;
        let port = *self.ports.entry((packet.from, self.symmetric.then_some(packet.to))).or_insert(next);
        self.open.insert((port, packet.to));
        packet.from = SocketAddr::new(self.public, port);
    }

    fn inward(&self, packet: &mut Packet) -> bool {
        let port = packet.to.port();
        let inside = self.ports.iter().find(|(_, p)| **p == port).map(|((private, _), _)| *private);
        packet.to = inside.unwrap_or(packet.to);
        inside.is_some() && self.open.contains(&(port, packet.from))
    }
}

struct Network {
    now: u64,
    sky: Sky,
    nats: [Nat; 2],
    relay: World,
}

impl Network {
    /// A host behind one of the NATs sends.
    fn send(&mut self, nat: usize, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let mut packet = Packet { from, to, bytes };
        self.nats[nat].outward(&mut packet);
        self.sky.send(self.now, packet);
    }

    fn advance(&mut self, now: u64) {
        self.now = now;
        self.relay.now = Now { instant: Instant::from_millis(now), unix: START + now / SECOND };
    }

    /// A packet arrives: at the relay, or behind a NAT and then it is returned with the NAT's number.
    fn arrive(&mut self, mut packet: Packet) -> Option<(usize, Packet)> {
        if let Some(nat) = self.nats.iter().position(|nat| nat.public == packet.to.ip()) {
            return self.nats[nat].inward(&mut packet).then_some((nat, packet));
        }
        if packet.to == addr(SERVER) {
            let flow = FiveTuple {
                client: ClientAddr(packet.from),
                server: ServerAddr(packet.to),
                transport: Transport::Udp,
            };
            let verdict = self.relay.server.handle_client(self.relay.now, flow, &packet.bytes);
            self.carry_out(verdict, &packet.bytes);
        } else if let Some(relay) = self.relay_at(packet.to) {
            self.at_relay(relay, packet.from, &packet.bytes);
        }
        for (flow, bytes) in self.relay.drive() {
            self.sky.send(self.now, Packet { from: flow.server.0, to: flow.client.0, bytes });
        }
        None
    }

    fn relay_at(&self, local: SocketAddr) -> Option<RelayId> {
        self.relay.sockets.iter().find(|(_, at)| **at == local).map(|(id, _)| *id)
    }

    fn at_relay(&mut self, relay: RelayId, from: SocketAddr, bytes: &[u8]) {
        let verdict = self.relay.server.handle_peer(self.relay.now, relay, from, bytes.len());
        self.carry_out(verdict, bytes);
    }

    fn carry_out(&mut self, verdict: Verdict, bytes: &[u8]) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Relay { relay, to, payload, .. } => {
                let (from, bytes) = (self.relay.sockets[&relay], bytes[payload.start..payload.end].to_vec());
                assert_eq!(self.relay_at(to), None, "what goes to another allocation needs no socket");
                self.sky.send(self.now, Packet { from, to, bytes });
            }
            Verdict::Apart | Verdict::ToShard { .. } => panic!("{verdict:?}"),
            Verdict::ToClient { flow, framing, payload } => {
                let data = &bytes[payload.start..payload.end];
                let bytes = crate::world::wrapped(framing, data, flow.transport);
                self.sky.send(self.now, Packet { from: flow.server.0, to: flow.client.0, bytes });
            }
        }
    }
}

// ── A client ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a caller has to do, by and by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Allocate,
    Permit,
    Bind,
    Refresh,
    Leave,
    /// A word to the peer.
    Speak,
}

/// A request under way (RFC 8489 section 6.2.1).
struct Transaction {
    duty: Duty,
    id: TransactionId,
    bytes: Vec<u8>,
    sent: u32,
    again: u64,
}

impl Transaction {
    const RTO: u64 = 500;
    const RC: u32 = 7;
    const RM: u64 = 16;

    /// Sends, and says when to come back; `false` once it has failed.
    fn send(&mut self, now: u64) -> bool {
        self.sent += 1;
        self.again = now
            + match self.sent {
                n if n < Self::RC => Self::RTO << (n - 1),
                _ => Self::RM * Self::RTO,
            };
        self.sent <= Self::RC
    }
}

struct Caller {
    nat: usize,
    host: SocketAddr,
    client: Client,
    due: BTreeMap<Duty, u64>,
    open: Option<Transaction>,
    relayed: Option<SocketAddr>,
    /// Whom to let through, and where to send to.
    permit: Option<IpAddr>,
    peer: Option<SocketAddr>,
    bound: bool,
    /// When something came from the peer.
    heard: Vec<u64>,
    left: bool,
}

impl Caller {
    fn new(nat: usize, host: &str, mut client: Client) -> Self {
        client.flow.client = ClientAddr(addr(host));
        Self {
            nat,
            host: addr(host),
            client,
            due: BTreeMap::from([(Duty::Allocate, 0), (Duty::Leave, CALL)]),
            open: None,
            relayed: None,
            permit: None,
            peer: None,
            bound: false,
            heard: Vec::new(),
            left: false,
        }
    }

    fn wake(&self) -> Option<u64> {
        let speak = self.due.get(&Duty::Speak).copied();
        let next = match &self.open {
            Some(transaction) => Some(transaction.again),
            None => self.due.iter().filter(|(duty, _)| self.ready(**duty)).map(|(_, at)| *at).min(),
        };
        next.into_iter().chain(speak).min()
    }

    fn ready(&self, duty: Duty) -> bool {
        match duty {
            Duty::Permit => self.permit.is_some(),
            Duty::Bind => self.peer.is_some(),
            _ => true,
        }
    }

    fn act(&mut self, net: &mut Network) {
        if self.due.get(&Duty::Speak).is_some_and(|at| *at <= net.now) {
            self.due.insert(Duty::Speak, net.now + 5 * SECOND);
            self.speak(net);
        }
        if let Some(open) = &mut self.open {
            if open.again > net.now {
                return;
            }
            if open.send(net.now) {
                return net.send(self.nat, self.host, addr(SERVER), open.bytes.clone());
            }
            // Nobody has answered. If it was an Allocate, the server may have one for us: try from another port.
            let duty = open.duty;
            self.open = None;
            self.due.insert(duty, net.now);
            if duty == Duty::Allocate {
                self.move_on();
            }
        }
        let due = |(duty, at): &(&Duty, &u64)| **at <= net.now && **duty != Duty::Speak;
        let next = self.due.iter().filter(due).map(|(duty, _)| *duty).rfind(|duty| self.ready(*duty));
        if let Some(duty) = next {
            self.due.remove(&duty);
            self.begin(duty, net);
        }
    }

    /// RFC 8656 section 7.4: another 5-tuple.
    fn move_on(&mut self) {
        self.host.set_port(self.host.port() + 1);
        self.client.flow.client = ClientAddr(self.host);
        self.client.nonce.clear();
    }

    fn begin(&mut self, duty: Duty, net: &mut Network) {
        let c = &mut self.client;
        let request = match duty {
            Duty::Allocate => c.allocate_request(),
            Duty::Permit => {
                let to = SocketAddr::new(self.permit.unwrap(), 0);
                c.request(Method::CREATE_PERMISSION).xor_address(T::XOR_PEER_ADDRESS, to)
            }
            Duty::Bind => c
                .request(Method::CHANNEL_BIND)
                .u32(T::CHANNEL_NUMBER, u32::from(CHANNEL) << 16)
                .xor_address(T::XOR_PEER_ADDRESS, self.peer.unwrap()),
            Duty::Refresh => c.request(Method::REFRESH),
            Duty::Leave => {
                self.due.clear();
                c.request(Method::REFRESH).u32(T::LIFETIME, 0)
            }
            Duty::Speak => unreachable!(),
        };
        let bytes = if c.nonce.is_empty() { request.finish() } else { c.sign(request) };
        let id = Message::parse(&bytes).unwrap().transaction_id();
        let mut transaction = Transaction { duty, id, bytes: bytes.clone(), sent: 0, again: 0 };
        transaction.send(net.now);
        self.open = Some(transaction);
        net.send(self.nat, self.host, addr(SERVER), bytes);
    }

    fn speak(&mut self, net: &mut Network) {
        let Some(peer) = self.peer else { return };
        let word = b"hello";
        let bytes = if self.bound {
            [&ChannelData::header(ChannelNumber(CHANNEL), word.len())[..], word].concat()
        } else {
            Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]))
                .xor_address(T::XOR_PEER_ADDRESS, peer)
                .raw(T::DATA, word)
                .finish()
        };
        net.send(self.nat, self.host, addr(SERVER), bytes);
    }

    fn receive(&mut self, now: u64, bytes: Vec<u8>) {
        if ChannelData::parse(&bytes).is_some() {
            return self.heard.push(now);
        }
        let answer = Answer(bytes);
        let message = answer.message();
        if message.class() == Class::Indication {
            if let Some(Attribute::XorPeerAddress(from)) = answer.get(T::XOR_PEER_ADDRESS) {
                // Behind a symmetric NAT the peer sends from a port that nobody could foretell.
                self.peer.get_or_insert(from);
                self.heard.push(now);
            }
            return;
        }
        let Some(open) = self.open.take_if(|open| open.id == message.transaction_id()) else { return };
        match (answer.code(), open.duty) {
            (401 | 438, duty) => {
                let Some(Attribute::Nonce(nonce)) = answer.get(T::NONCE) else { panic!("no nonce") };
                self.client.nonce = nonce.to_vec();
                self.due.insert(duty, now);
            }
            (437, Duty::Allocate) => {
                self.move_on();
                self.due.insert(Duty::Allocate, now);
            }
            (0 | 437, Duty::Leave) => self.left = true,
            (0, Duty::Allocate) => {
                self.relayed = answer.relayed().first().copied();
                self.due.extend([
                    (Duty::Permit, now),
                    (Duty::Bind, now),
                    (Duty::Speak, now),
                    (Duty::Refresh, now + 300 * SECOND),
                ]);
            }
            (0, Duty::Permit) => drop(self.due.insert(Duty::Permit, now + 200 * SECOND)),
            (0, Duty::Bind) => {
                self.bound = true;
                self.due.insert(Duty::Bind, now + 500 * SECOND);
            }
            (0, Duty::Refresh) => drop(self.due.insert(Duty::Refresh, now + 300 * SECOND)),
            // The other end may not have its relay yet, or not any more.
            (403, Duty::Bind) => drop(self.due.insert(Duty::Bind, now + SECOND)),
            (code, duty) => panic!("{duty:?} is refused with {code}"),
        }
    }
}

/// A peer without a relay.
struct Plain {
    host: SocketAddr,
    /// The caller's relayed address, once it was told.
    to: Option<SocketAddr>,
    speak: u64,
    heard: Vec<u64>,
}

// ── Calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────

enum Callee {
    Plain(Plain),
    Caller(Box<Caller>),
}

/// One call. The seed decides about the NATs, whether bob has a relay of his own, and the fate of each datagram.
fn call(seed: u64) {
    let mut rng = Rng(seed);
    let symmetric = [rng.percent(50), rng.percent(50)];
    // A nonce that ends in the middle of the call.
    let nonce_lifetime = std::time::Duration::from_secs(400);
    let auth = ternd::auth::Settings { nonce_lifetime, ..auth_settings() };
    let mut net = Network {
        now: 0,
        nats: [Nat::new("192.0.2.7", symmetric[0]), Nat::new("192.0.2.99", symmetric[1])],
        relay: World::with(settings(), auth),
        sky: Sky { rng: Rng(seed ^ 0xFACE), flying: BTreeMap::new(), sent: 0 },
    };
    let mut alice = Caller::new(0, "10.0.0.2:4000", Client::alice(SERVER));
    let mut bob = if rng.percent(50) {
        Callee::Caller(Box::new(Caller::new(1, "10.0.0.3:4000", Client::bob(SERVER))))
    } else {
        Callee::Plain(Plain { host: addr("10.0.0.3:4000"), to: None, speak: 0, heard: Vec::new() })
    };

    let (cut_off, mut outage) = (seed.is_multiple_of(10), 0..0);

    while let Some(at) = next_event(&net, &alice, &bob).filter(|at| *at < CALL + 120 * SECOND) {
        net.advance(at.max(net.now));
        let timers = net.relay.server.poll_timeout();
        if timers.is_some_and(|t| t.as_millis() <= net.now) {
            net.relay.server.handle_timeout(net.relay.now);
            assert_eq!(net.relay.drive(), []);
        }
        while let Some(packet) = net.sky.next(net.now) {
            match net.arrive(packet) {
                Some((0, _)) if outage.contains(&net.now) => {}
                Some((0, packet)) => {
                    alice.receive(net.now, packet.bytes);
                    // Here its signed Allocate gets through, and the answer does not, for a minute.
                    if cut_off && outage.is_empty() && !alice.client.nonce.is_empty() {
                        outage = net.now..net.now + 60 * SECOND;
                    }
                }
                Some((_, packet)) => match &mut bob {
                    Callee::Caller(bob) => bob.receive(net.now, packet.bytes),
                    Callee::Plain(bob) => bob.heard.push(net.now),
                },
                None => {}
            }
        }
        signal(&mut alice, &mut bob, &net);
        alice.act(&mut net);
        match &mut bob {
            Callee::Caller(bob) => bob.act(&mut net),
            Callee::Plain(bob) if bob.speak <= net.now => {
                bob.speak = net.now + 5 * SECOND;
                if let Some(to) = bob.to.filter(|_| net.now < CALL) {
                    net.send(1, bob.host, to, b"hello".to_vec());
                }
            }
            Callee::Plain(_) => {}
        }
    }

    check_conversation(&alice.heard);
    match &bob {
        Callee::Caller(bob) => {
            assert!(bob.left);
            check_conversation(&bob.heard);
        }
        Callee::Plain(bob) => check_conversation(&bob.heard),
    }
    assert!(alice.left);
    assert_eq!(alice.host.port() > 4000, cut_off, "it had to begin anew from another port");
    check_relay(&mut net);
}

fn next_event(net: &Network, alice: &Caller, bob: &Callee) -> Option<u64> {
    let arrival = net.sky.flying.first_key_value().map(|((at, _), _)| *at);
    let timer = net.relay.server.poll_timeout().map(|t| t.as_millis());
    let bob = match bob {
        Callee::Caller(bob) => bob.wake(),
        Callee::Plain(bob) => Some(bob.speak),
    };
    [arrival, timer, alice.wake(), bob].into_iter().flatten().min()
}

/// What a signaling service would tell both ends about each other.
fn signal(alice: &mut Caller, bob: &mut Callee, net: &Network) {
    match bob {
        Callee::Caller(bob) => {
            (alice.peer, bob.peer) = (bob.relayed, alice.relayed);
            (alice.permit, bob.permit) = (bob.relayed.map(|r| r.ip()), alice.relayed.map(|r| r.ip()));
        }
        Callee::Plain(bob) => {
            bob.to = alice.relayed;
            alice.permit = Some(net.nats[1].public);
        }
    }
}

/// It begins within two minutes, and no minute passes in which nothing is heard.
fn check_conversation(heard: &[u64]) {
    let mut before = SECOND * 60;
    for at in heard.iter().copied().filter(|at| *at < CALL).chain([CALL]) {
        assert!(at <= before + 60 * SECOND, "silence from {before} to {at} ms");
        before = at;
    }
}

fn check_relay(net: &mut Network) {
    let mut flows = Vec::new();
    for event in &net.relay.events {
        match event {
            Event::AllocationCreated { flow, .. } => flows.push(*flow),
            Event::AllocationEnded { .. } | Event::Refused { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let different: HashSet<_> = flows.iter().collect();
    assert_eq!(different.len(), flows.len(), "an allocation was made twice");
    net.advance(net.now + 4_000 * SECOND);
    net.relay.server.handle_timeout(net.relay.now);
    assert_eq!(net.relay.drive(), []);
    net.relay.assert_empty();
    assert_eq!(net.relay.server.poll_timeout(), None);
}

/// Seeds from `SIMULATION_SEED` on, if it is set: to see one that failed again.
#[test]
fn calls_get_through_a_network_that_loses_every_fifth_datagram() {
    let from: u64 = std::env::var("SIMULATION_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    for seed in from..from + 300 {
        let result = std::panic::catch_unwind(|| call(seed));
        assert!(result.is_ok(), "SIMULATION_SEED={seed} shows it again");
    }
}
