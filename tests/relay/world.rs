//! A relay with a driver made of values: sockets are numbers, time is moved by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ternd::auth::{self, Algorithm, Authenticator, Key, Secret, StaticUser};
use ternd::stun::{
    Attribute, AttributeType, Builder, ChannelData, ChannelNumber, Class, Family, Message, Method,
    TransactionId,
};
use ternd::time::{Instant, Now};
use ternd::turn::{
    BindError, ClientAddr, Event, FiveTuple, Framing, Output, PeerAddr, PortChoice, RelayAddress, RelayId,
    Server, ServerAddr, Settings, Shared, Transport, Verdict,
};
use zeroize::Zeroizing;

pub const START: u64 = 1_795_000_000;
pub const REALM: &str = "ternd";

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub struct World {
    pub now: Now,
    pub server: Server,
    pub shared: Arc<Shared>,
    pub auth: Arc<Authenticator>,
    pub settings: Arc<Settings>,
    /// Relay sockets that are open.
    pub sockets: BTreeMap<RelayId, SocketAddr>,
    /// Ports handed out from here on.
    pub next_port: u16,
    /// When set, binding fails.
    pub bind_error: Option<BindError>,
    pub events: Vec<Event>,
    /// What may pass, and what may no more.
    pub grants: Vec<Output>,
    /// What is to be done about streams.
    pub streams: Vec<Output>,
}

pub fn settings() -> Settings {
    let relay = |text| RelayAddress { local: ip(text), announced: ip(text) };
    Settings {
        relay_addresses: vec![relay("198.51.100.1"), relay("2001:db8::1")],
        allow_peers: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:2::/48".parse().unwrap()],
        ..Settings::default()
    }
}

pub fn auth_settings() -> auth::Settings {
    auth::Settings {
        secrets: vec![Secret::new("first", "north"), Secret::new("second", "south")],
        users: ["alice", "bob"]
            .map(|name| StaticUser {
                name: name.into(),
                password: Zeroizing::new(format!("{name}'s password")),
            })
            .into(),
        ..auth::Settings::default()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(settings(), auth_settings())
    }

    pub fn with(settings: Settings, auth: auth::Settings) -> Self {
        let auth = Arc::new(Authenticator::new(auth, [7; 32]));
        let (settings, shared) = (Arc::new(settings.clone()), Shared::new(&settings, 2));
        let server = Server::new(settings.clone(), auth.clone(), shared.clone(), [9; 32], 0);
        let now = Now { instant: Instant::from_millis(0), unix: START };
        Self {
            now,
            server,
            shared,
            auth,
            settings,
            sockets: BTreeMap::new(),
            next_port: 50_000,
            bind_error: None,
            events: Vec::new(),
            grants: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Time passes; what is due happens.
    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.server.handle_timeout(self.now);
        let sent = self.drive();
        assert_eq!(sent, [], "expiry sends nothing");
    }

    /// Does what the server asks for; returns what it sends.
    pub fn drive(&mut self) -> Vec<(FiveTuple, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { flow, bytes } => sent.push((flow, bytes)),
                Output::BindRelay { relay, family, port, .. } => {
                    let result = self.bind(family, port);
                    if let Ok(local) = result {
                        assert_eq!(
                            self.sockets.insert(relay, local),
                            None,
                            "a relay id in use is not reused"
                        );
                    }
                    self.server.relay_bound(self.now, relay, result);
                }
                Output::CloseRelay { relay } => {
                    self.sockets.remove(&relay).expect("only open sockets are closed");
                }
                Output::Event(event) => self.events.push(event),
                grant @ (Output::Granted { .. } | Output::Revoked { .. }) => self.grants.push(grant),
                other => self.streams.push(other),
            }
        }
        sent
    }

    fn bind(&mut self, family: Family, port: PortChoice) -> Result<SocketAddr, BindError> {
        if let Some(error) = self.bind_error {
            return Err(error);
        }
        let relay = self.settings.relay_addresses.iter().find(|r| Family::of(&r.local) == family);
        let local = relay.ok_or(BindError::FamilyNotSupported)?.local;
        if let PortChoice::Exactly(addr) = port {
            return Ok(addr);
        }
        if port != PortChoice::Any {
            self.next_port = self.next_port.next_multiple_of(2);
        }
        let free = SocketAddr::new(local, self.next_port);
        assert!(!self.shared.is_reserved(free, self.now.instant));
        self.next_port += if port == PortChoice::EvenPair { 2 } else { 1 };
        Ok(free)
    }

    /// A client sends; the answer, if there is one.
    pub fn ask(&mut self, flow: FiveTuple, bytes: &[u8]) -> Option<Answer> {
        assert_eq!(self.server.handle_client(self.now, flow, bytes), Verdict::Nothing);
        let mut sent = self.drive();
        assert!(sent.len() <= 1, "one request, one answer");
        let (to, bytes) = sent.pop()?;
        assert_eq!(to, flow, "answers go back where the request came from");
        Some(Answer(bytes))
    }

    /// Everybody has gone: is anything left?
    pub fn assert_empty(&self) {
        assert_eq!(self.server.allocations(), 0);
        assert_eq!(self.shared.allocations(), 0);
        assert_eq!(self.sockets.len(), 0);
    }

    pub fn relay_of(&self, client: &Client) -> RelayId {
        *self.sockets.iter().find(|(_, local)| Some(**local) == client.relayed).expect("has a relay").0
    }

    /// A peer sends to a client's relayed address.
    pub fn peer_sends(&mut self, client: &Client, from: &str, len: usize) -> Verdict {
        let relay = self.relay_of(client);
        self.server.handle_peer(self.now, relay, addr(from), len)
    }
}

/// A response, with the questions tests ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.0).expect("answers are well-formed")
    }

    pub fn get(&self, kind: AttributeType) -> Option<Attribute<'_>> {
        let message = self.message();
        message.find(kind).map(|a| a.decode(message.transaction_id()).expect("answers are well-formed"))
    }

    pub fn all(&self, kind: AttributeType) -> Vec<Attribute<'_>> {
        let message = self.message();
        message
            .attributes()
            .filter(|a| a.kind == kind)
            .map(|a| a.decode(message.transaction_id()).expect("answers are well-formed"))
            .collect()
    }

    /// 0 for success.
    pub fn code(&self) -> u16 {
        match (self.message().class(), self.get(AttributeType::ERROR_CODE)) {
            (Class::Success, None) => 0,
            (Class::Error, Some(Attribute::ErrorCode { code, .. })) => code,
            other => panic!("neither success nor error: {other:?}"),
        }
    }

    pub fn kinds(&self) -> Vec<AttributeType> {
        self.message().attributes().map(|a| a.kind).collect()
    }

    pub fn lifetime(&self) -> Option<u32> {
        match self.get(AttributeType::LIFETIME)? {
            Attribute::Lifetime(seconds) => Some(seconds),
            other => panic!("{other:?}"),
        }
    }

    pub fn relayed(&self) -> Vec<SocketAddr> {
        let address = |a: Attribute<'_>| match a {
            Attribute::XorRelayedAddress(a) => a,
            other => panic!("{other:?}"),
        };
        self.all(AttributeType::XOR_RELAYED_ADDRESS).into_iter().map(address).collect()
    }
}

/// A client that knows its credential and does what a client does.
#[derive(Clone, Debug)]
pub struct Client {
    pub flow: FiveTuple,
    pub username: String,
    pub password: String,
    pub nonce: Vec<u8>,
    pub relayed: Option<SocketAddr>,
    pub algorithm: Algorithm,
    pub transactions: u8,
}

impl Client {
    pub fn new(from: &str, username: &str, password: &str) -> Self {
        let client = addr(from);
        let server = if client.is_ipv4() { "198.51.100.1:3478" } else { "[2001:db8::1]:3478" };
        Self {
            flow: FiveTuple {
                client: ClientAddr(client),
                server: ServerAddr(addr(server)),
                transport: Transport::Udp,
            },
            username: username.into(),
            password: password.into(),
            nonce: Vec::new(),
            relayed: None,
            algorithm: Algorithm::Md5,
            transactions: 0,
        }
    }

    pub fn alice(from: &str) -> Self {
        Self::new(from, "alice", "alice's password")
    }

    pub fn bob(from: &str) -> Self {
        Self::new(from, "bob", "bob's password")
    }

    pub fn key(&self) -> Key {
        Key::derive(self.algorithm, self.username.as_bytes(), REALM, &self.password)
    }

    /// A request with a transaction id of its own, without a signature.
    pub fn request(&mut self, method: Method) -> Builder {
        self.transactions += 1;
        let mut id = [0; 12];
        id[0] = self.transactions;
        id[2..4].copy_from_slice(&self.flow.client.0.port().to_be_bytes());
        Builder::new(Class::Request, method, TransactionId(id))
    }

    pub fn sign(&self, builder: Builder) -> Vec<u8> {
        let builder = builder
            .raw(AttributeType::USERNAME, self.username.as_bytes())
            .raw(AttributeType::REALM, REALM.as_bytes())
            .raw(AttributeType::NONCE, &self.nonce);
        if self.algorithm == Algorithm::Md5 {
            return builder.message_integrity(self.key().as_bytes()).finish();
        }
        builder
            .raw(AttributeType::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0])
            .raw(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0])
            .message_integrity_sha256(self.key().as_bytes())
            .finish()
    }

    pub fn allocate_request(&mut self) -> Builder {
        self.request(Method::ALLOCATE).raw(AttributeType::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
    }

    /// The first step of the handshake: learns the nonce.
    pub fn challenge(&mut self, world: &mut World) -> Answer {
        let request = self.allocate_request().finish();
        let answer = world.ask(self.flow, &request).expect("a challenge");
        assert_eq!(answer.code(), 401);
        match answer.get(AttributeType::NONCE) {
            Some(Attribute::Nonce(nonce)) => self.nonce = nonce.to_vec(),
            other => panic!("no nonce: {other:?}"),
        }
        answer
    }

    /// Signs and sends, after a challenge if there was none yet.
    pub fn ask(&mut self, world: &mut World, builder: Builder) -> Answer {
        if self.nonce.is_empty() {
            self.challenge(world);
        }
        let answer = world.ask(self.flow, &self.sign(builder)).expect("requests are answered");
        if answer.code() != 401 && answer.code() != 438 {
            let signed = match self.algorithm {
                Algorithm::Md5 => answer.message().verify_integrity(self.key().as_bytes()),
                Algorithm::Sha256 => answer.message().verify_integrity_sha256(self.key().as_bytes()),
            };
            assert!(signed || answer.code() == 400, "what comes after authentication is signed: {answer:?}");
        }
        answer
    }

    /// The whole handshake.
    pub fn allocate(&mut self, world: &mut World) -> Answer {
        let request = self.allocate_request();
        self.allocate_with(world, request)
    }

    pub fn allocate_with(&mut self, world: &mut World, request: Builder) -> Answer {
        let answer = self.ask(world, request);
        assert_eq!(answer.code(), 0, "{answer:?}");
        self.relayed = answer.relayed().first().copied();
        answer
    }

    pub fn refresh(&mut self, world: &mut World, lifetime: Option<u32>) -> Answer {
        let mut request = self.request(Method::REFRESH);
        if let Some(seconds) = lifetime {
            request = request.u32(AttributeType::LIFETIME, seconds);
        }
        self.ask(world, request)
    }

    pub fn permit(&mut self, world: &mut World, peers: &[&str]) -> Answer {
        let request = self.request(Method::CREATE_PERMISSION);
        let request =
            peers.iter().fold(request, |r, p| r.xor_address(AttributeType::XOR_PEER_ADDRESS, addr(p)));
        self.ask(world, request)
    }

    pub fn bind(&mut self, world: &mut World, number: u16, peer: &str) -> Answer {
        let [a, b] = number.to_be_bytes();
        let request = self
            .request(Method::CHANNEL_BIND)
            .raw(AttributeType::CHANNEL_NUMBER, &[a, b, 0, 0])
            .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer));
        self.ask(world, request)
    }

    /// A Send indication; what becomes of it.
    pub fn send(&self, world: &mut World, peer: &str, data: &[u8]) -> Verdict {
        let bytes = self.send_indication(peer, data);
        let verdict = world.server.handle_client(world.now, self.flow, &bytes);
        assert_eq!(world.drive(), [], "indications are never answered");
        verdict
    }

    pub fn send_indication(&self, peer: &str, data: &[u8]) -> Vec<u8> {
        Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]))
            .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer))
            .raw(AttributeType::DATA, data)
            .finish()
    }

    /// ChannelData; what becomes of it.
    pub fn channel(&self, world: &mut World, number: u16, data: &[u8]) -> Verdict {
        let mut bytes = ChannelData::header(ChannelNumber(number), data.len()).to_vec();
        bytes.extend_from_slice(data);
        let verdict = world.server.handle_client(world.now, self.flow, &bytes);
        assert_eq!(world.drive(), [], "data is never answered");
        verdict
    }
}

/// The verdict that relays to this peer, from `relay`, a payload of `len` bytes.
#[track_caller]
pub fn assert_relayed(verdict: Verdict, from: RelayId, peer: &str, len: usize) {
    match verdict {
        Verdict::Relay { relay, to, payload, .. } => {
            assert_eq!((relay, to, payload.end - payload.start), (from, addr(peer), len));
        }
        other => panic!("not relayed: {other:?}"),
    }
}

/// The framing of a verdict that goes to this client.
#[track_caller]
pub fn assert_to_client(verdict: Verdict, client: &Client) -> ternd::turn::Framing {
    match verdict {
        Verdict::ToClient { flow, framing, .. } => {
            assert_eq!(flow, client.flow);
            framing
        }
        other => panic!("not relayed: {other:?}"),
    }
}

pub fn peer(text: &str) -> PeerAddr {
    PeerAddr(addr(text))
}

/// The message as the driver sends it: header, payload, padding.
pub fn wrapped(framing: Framing, payload: &[u8], transport: Transport) -> Vec<u8> {
    let mut room = [0xEE; Framing::HEADROOM];
    let (header, padding) = framing.header(&mut room, payload.len(), transport);
    [&room[Framing::HEADROOM - header..], payload, &[0; 4][..padding]].concat()
}
