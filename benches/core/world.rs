//! A relay without sockets, and clients that each have an allocation and a channel.

use std::net::SocketAddr;
use std::sync::Arc;

use ternd::auth::{self, Algorithm, Authenticator, Key, StaticUser};
use ternd::stun::{
    AttributeType as T, Builder, CHANNEL_DATA_HEADER, ChannelData, ChannelNumber, Class, Message, Method,
    TransactionId,
};
use ternd::time::{Instant, Now};
use ternd::turn::{
    ClientAddr, FiveTuple, Limits, Output, RelayAddress, RelayId, Server, ServerAddr, Settings, Shared,
    Transport, Verdict,
};

const CHANNEL: ChannelNumber = ChannelNumber(0x4000);
const USER: &str = "alice";
const PASSWORD: &str = "her password";
const REALM: &str = "ternd";

pub struct World {
    pub server: Server,
    pub now: Now,
    pub flows: Vec<FiveTuple>,
    /// Of each client.
    pub relays: Vec<RelayId>,
    pub peer: SocketAddr,
    /// One whole ChannelData message.
    pub packet: Vec<u8>,
    key: Key,
    nonce: Vec<u8>,
    next_port: u16,
    next_id: u64,
}

impl World {
    /// `clients` with an allocation and a channel; `payload` bytes in each packet.
    pub fn new(clients: usize, payload: usize) -> Self {
        let ip = "203.0.113.1".parse().unwrap();
        let settings = Arc::new(Settings {
            relay_addresses: vec![RelayAddress { local: ip, announced: ip }],
            allow_peers: vec!["192.0.2.0/24".parse().unwrap()],
            limits: Limits {
                allocations: 1_000_000,
                allocations_per_user: 1_000_000,
                allocations_per_address: 1_000_000,
                unauthenticated_answers: 0,
                ..Limits::default()
            },
            ..Settings::default()
        });
        let alice = StaticUser { name: USER.into(), password: PASSWORD.to_owned().into() };
        let auth = auth::Settings { users: vec![alice], ..auth::Settings::default() };
        let auth = Arc::new(Authenticator::new(auth, [7; 32]));
        let shared = Shared::new(&settings, 1);
        let mut world = Self {
            server: Server::new(settings, auth, shared, [9; 32], 0),
            now: Now { instant: Instant::from_millis(0), unix: 1_795_000_000 },
            flows: (0..clients).map(flow).collect(),
            relays: Vec::new(),
            peer: "192.0.2.1:4000".parse().unwrap(),
            packet: [&ChannelData::header(CHANNEL, payload)[..], &vec![7; payload]].concat(),
            key: Key::derive(Algorithm::Md5, USER.as_bytes(), REALM, PASSWORD),
            nonce: Vec::new(),
            next_port: 10_000,
            next_id: 0,
        };
        for n in 0..clients {
            let flow = world.flows[n];
            world.allocate(flow);
            let bind = world.request(Method::CHANNEL_BIND, |b, world| {
                let [high, low] = CHANNEL.0.to_be_bytes();
                b.raw(T::CHANNEL_NUMBER, &[high, low, 0, 0]).xor_address(T::XOR_PEER_ADDRESS, world.peer)
            });
            assert_eq!(world.ask(flow, &bind), Class::Success);
        }
        world
    }

    /// What the relay is asked for each packet from a client.
    pub fn channel_data(&mut self, client: usize) -> Verdict {
        self.server.handle_client(self.now, self.flows[client], &self.packet)
    }

    /// What the relay is asked for each packet from a peer.
    pub fn peer_data(&mut self, client: usize) -> Verdict {
        let len = self.packet.len() - CHANNEL_DATA_HEADER;
        self.server.handle_peer(self.now, self.relays[client], self.peer, len)
    }

    /// A Binding request and its answer.
    pub fn binding(&mut self, client: usize, request: &[u8]) -> Vec<u8> {
        let _ = self.server.handle_client(self.now, self.flows[client], request);
        match self.server.poll_output() {
            Some(Output::Send { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// An allocation at this path, and the whole way to it: the challenge and the request that is signed.
    pub fn allocate(&mut self, flow: FiveTuple) {
        let transport = |b: Builder, _: &Self| b.raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let bare = Builder::new(Class::Request, Method::ALLOCATE, self.id());
        let bare = transport(bare, self).finish();
        assert_eq!(self.ask(flow, &bare), Class::Error);
        let signed = self.request(Method::ALLOCATE, transport);
        assert_eq!(self.ask(flow, &signed), Class::Success);
    }

    /// Ends the allocation at this path.
    pub fn release(&mut self, flow: FiveTuple) {
        let request = self.request(Method::REFRESH, |b, _| b.u32(T::LIFETIME, 0));
        assert_eq!(self.ask(flow, &request), Class::Success);
        self.relays.pop();
    }

    fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId(id)
    }

    fn request(&mut self, method: Method, add: impl FnOnce(Builder, &Self) -> Builder) -> Vec<u8> {
        let b = Builder::new(Class::Request, method, self.id());
        add(b, self)
            .raw(T::USERNAME, USER.as_bytes())
            .raw(T::REALM, REALM.as_bytes())
            .raw(T::NONCE, &self.nonce)
            .message_integrity(self.key.as_bytes())
            .finish()
    }

    /// Hands a request to the relay, and does what it wants done.
    fn ask(&mut self, flow: FiveTuple, request: &[u8]) -> Class {
        let _ = self.server.handle_client(self.now, flow, request);
        let mut class = None;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { bytes, .. } => {
                    let message = Message::parse(&bytes).unwrap();
                    if let Some(nonce) = message.find(T::NONCE) {
                        self.nonce = nonce.value.to_vec();
                    }
                    class = Some(message.class());
                }
                Output::BindRelay { relay, .. } => {
                    self.next_port = self.next_port.checked_add(1).unwrap_or(10_000);
                    let local = SocketAddr::new("203.0.113.1".parse().unwrap(), self.next_port);
                    self.relays.push(relay);
                    self.server.relay_bound(self.now, relay, Ok(local));
                }
                _ => {}
            }
        }
        class.expect("an answer")
    }
}

/// The path of a client.
pub fn flow(client: usize) -> FiveTuple {
    let [.., a, b, c] = (client as u32).to_be_bytes();
    FiveTuple {
        client: ClientAddr(SocketAddr::from(([198, 51 + a, b, c], 40_000))),
        server: ServerAddr(SocketAddr::from(([203, 0, 113, 1], 3_478))),
        transport: Transport::Udp,
    }
}
