//! Many clients of one server: how they get their allocations and channels.

use std::collections::HashMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use ternd::auth::{Algorithm, Key};
use ternd::stun::{
    AttributeType as T, Builder, Class, Message, Method, TransactionId, decode_xor_address, padded,
};

use crate::floor::HELLO;
use crate::lab;
use crate::server::{Files, Kind, PASSWORD, Server, USER};
use crate::streams::Streams;
use crate::sys::Wire;

/// How clients talk to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// The one peer.
pub const PEER: SocketAddrV4 = SocketAddrV4::new(lab::PEER, 9_000);
pub const CHANNEL: u16 = 0x4000;

/// Client 0 over UDP has this port, the next the next.
const FIRST_PORT: u16 = 10_000;
pub const MOST: usize = 50_000;
/// Clients that ask at the same time.
const WINDOW: usize = 64;
const RETRY: Duration = Duration::from_millis(500);
const GIVE_UP: Duration = Duration::from_secs(15);

pub struct Fleet {
    pub server: Server,
    pub clients: Vec<Client>,
    pub streams: Option<Streams>,
    /// Which client has this relay port, plus one.
    pub by_relay_port: Vec<u32>,
    key: Option<(Key, Vec<u8>)>,
    step: u32,
}

pub struct Client {
    pub relayed: SocketAddrV4,
    /// What its channel is bound to.
    pub peer: SocketAddrV4,
    nonce: Vec<u8>,
}

/// What the clients are to get.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Binding,
    Allocation,
    Permission(SocketAddrV4),
    Channel,
}

/// What came in.
pub enum Arrival<'a> {
    AtClient(usize, &'a [u8]),
    /// From this relay port.
    AtPeer(u16, &'a [u8]),
}

impl Fleet {
    /// `count` clients without allocations; waits until the server answers.
    pub fn new(server: Server, transport: Transport, count: usize, files: &Files, wire: &mut Wire) -> Self {
        assert!(count <= MOST, "at most {MOST} clients: they differ in their ports");
        let nowhere = SocketAddrV4::new(lab::PEER, 0);
        let client = || Client { relayed: nowhere, peer: PEER, nonce: Vec::new() };
        let mut fleet = Self {
            clients: (0..count.max(1)).map(|_| client()).collect(),
            streams: None,
            by_relay_port: vec![0; 1 << 16],
            key: None,
            step: 0,
            server,
        };
        fleet.converse(wire, Wish::Binding, 1);
        fleet.streams = match transport {
            Transport::Udp => None,
            Transport::Tcp => Some(Streams::connect(fleet.server.udp, None, count)),
            Transport::Tls => Some(Streams::connect(fleet.server.tls, Some(&files.certificate), count)),
        };
        fleet
    }

    /// The full handshake for each: challenge, Allocate. How long all of it took.
    pub fn allocate(&mut self, wire: &mut Wire) -> Duration {
        let start = Instant::now();
        self.converse(wire, Wish::Allocation, self.clients.len());
        let took = start.elapsed();
        for (n, client) in self.clients.iter().enumerate() {
            self.by_relay_port[usize::from(client.relayed.port())] = n as u32 + 1;
        }
        took
    }

    /// A permission for each.
    pub fn permit(&mut self, wire: &mut Wire, peer: SocketAddrV4) {
        self.converse(wire, Wish::Permission(peer), self.clients.len());
    }

    /// A channel for each to its peer; refreshes it, too. The forwarder knows none.
    pub fn bind(&mut self, wire: &mut Wire) {
        if self.server.kind != Kind::Floor {
            self.converse(wire, Wish::Channel, self.clients.len());
        }
    }

    /// Each client's peer becomes the relayed address of the next one, in pairs.
    pub fn pair(&mut self) {
        for n in 0..self.clients.len() {
            self.clients[n].peer = self.clients[n ^ 1].relayed;
        }
    }

    /// Asks for each of the first `count` clients, [`WINDOW`] at a time.
    fn converse(&mut self, wire: &mut Wire, wish: Wish, count: usize) {
        let mut open: HashMap<usize, (Vec<u8>, Instant)> = HashMap::new();
        let (mut started, mut looked, mut heard) = (0, Instant::now(), Instant::now());
        let mut answers = Vec::new();
        while started < count || !open.is_empty() {
            while started < count && open.len() < WINDOW {
                let request = self.next(wish, started, None).expect("there is a first request");
                self.send(wire, started, &request);
                open.insert(started, (request, Instant::now()));
                started += 1;
            }
            self.flush(wire);
            self.poll(wire, |arrival| {
                if let Arrival::AtClient(client, bytes) = arrival {
                    answers.push((client, bytes.to_vec()));
                }
            });
            for (client, answer) in answers.drain(..) {
                let Some((request, _)) = open.get(&client) else { continue };
                if request != HELLO && request.get(8..20) != answer.get(8..20) {
                    continue;
                }
                heard = Instant::now();
                match self.next(wish, client, Some(&answer)) {
                    Some(request) => {
                        self.send(wire, client, &request);
                        open.insert(client, (request, heard));
                    }
                    None => drop(open.remove(&client)),
                }
            }
            if looked.elapsed() > Duration::from_millis(50) {
                looked = Instant::now();
                assert!(
                    self.server.process.is_alive(),
                    "{} has ended; try RACE_LOG=1",
                    self.server.kind.name()
                );
                assert!(heard.elapsed() < GIVE_UP, "{} does not answer", self.server.kind.name());
                if self.streams.is_none() {
                    let late: Vec<_> = open.iter().filter(|(_, (_, at))| at.elapsed() > RETRY).collect();
                    for (client, (request, _)) in late {
                        push(wire, *client, self.server.udp, request);
                    }
                }
            }
        }
    }

    /// What this client has to ask after this answer.
    fn next(&mut self, wish: Wish, client: usize, answer: Option<&[u8]>) -> Option<Vec<u8>> {
        if self.server.kind == Kind::Floor {
            let Some(port) = answer else { return Some(HELLO.to_vec()) };
            let port = u16::from_be_bytes(port.try_into().expect("a port"));
            self.clients[client].relayed = SocketAddrV4::new(*self.server.udp.ip(), port);
            return None;
        }
        let Some(answer) = answer else {
            let (method, signed) = match wish {
                Wish::Binding => (Method::BINDING, false),
                Wish::Allocation => (Method::ALLOCATE, false),
                Wish::Permission(_) => (Method::CREATE_PERMISSION, true),
                Wish::Channel => (Method::CHANNEL_BIND, true),
            };
            return Some(self.request(wish, method, client, signed));
        };
        let message = Message::parse(answer).expect("a STUN message");
        match (message.class(), wish) {
            (Class::Success, Wish::Allocation) => {
                let relayed = message.find(T::XOR_RELAYED_ADDRESS).expect("a relayed address").value;
                let relayed = decode_xor_address(relayed, message.transaction_id());
                let Some(SocketAddr::V4(relayed)) = relayed else { panic!("{relayed:?}") };
                self.clients[client].relayed = relayed;
                None
            }
            (Class::Success, _) => None,
            (_, Wish::Allocation) if self.clients[client].nonce.is_empty() => {
                let value = |kind| message.find(kind).expect("a challenge").value;
                let realm = value(T::REALM);
                self.clients[client].nonce = value(T::NONCE).to_vec();
                self.key.get_or_insert_with(|| {
                    let text = std::str::from_utf8(realm).expect("a realm");
                    (Key::derive(Algorithm::Md5, USER.as_bytes(), text, PASSWORD), realm.to_vec())
                });
                Some(self.request(wish, Method::ALLOCATE, client, true))
            }
            (class, _) => {
                let code = message.find(T::ERROR_CODE).map(|a| a.value.to_vec());
                panic!("{}: {wish:?} for client {client}: {class:?} {code:?}", self.server.kind.name())
            }
        }
    }

    fn request(&mut self, wish: Wish, method: Method, client: usize, signed: bool) -> Vec<u8> {
        self.step += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.server.udp.ip().octets());
        id[4..8].copy_from_slice(&self.step.to_be_bytes());
        id[8..].copy_from_slice(&(client as u32).to_be_bytes());
        let mut b = Builder::new(Class::Request, method, TransactionId(id));
        b = match wish {
            Wish::Binding => b,
            Wish::Allocation => b.raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
            Wish::Permission(peer) => b.xor_address(T::XOR_PEER_ADDRESS, peer.into()),
            Wish::Channel => {
                let [high, low] = CHANNEL.to_be_bytes();
                b.raw(T::CHANNEL_NUMBER, &[high, low, 0, 0])
                    .xor_address(T::XOR_PEER_ADDRESS, self.clients[client].peer.into())
            }
        };
        if !signed {
            return b.finish();
        }
        let (key, realm) = self.key.as_ref().expect("there was a challenge");
        b.raw(T::USERNAME, USER.as_bytes())
            .raw(T::REALM, realm)
            .raw(T::NONCE, &self.clients[client].nonce)
            .message_integrity(key.as_bytes())
            .finish()
    }

    /// Sends one message from a client.
    pub fn send(&mut self, wire: &mut Wire, client: usize, message: &[u8]) {
        match &mut self.streams {
            None => push(wire, client, self.server.udp, message),
            Some(streams) => {
                let mut message = message.to_vec();
                message.resize(padded(message.len()), 0);
                streams.send(client, &message);
            }
        }
    }

    pub fn flush(&mut self, wire: &mut Wire) {
        wire.flush();
        if let Some(streams) = &mut self.streams {
            streams.flush();
        }
    }

    /// Hands over what came from this server.
    pub fn poll(&mut self, wire: &mut Wire, mut each: impl FnMut(Arrival<'_>)) {
        let (server, count) = (*self.server.udp.ip(), self.clients.len());
        wire.poll(|d| {
            if *d.from.ip() != server {
                return;
            }
            if d.to == PEER {
                return each(Arrival::AtPeer(d.from.port(), d.payload));
            }
            let client = usize::from(d.to.port().wrapping_sub(FIRST_PORT));
            if *d.to.ip() == lab::CLIENTS && client < count {
                each(Arrival::AtClient(client, d.payload));
            }
        });
        if let Some(streams) = &mut self.streams {
            streams.poll(|client, bytes| each(Arrival::AtClient(client, bytes)));
        }
    }
}

/// The address of a client over UDP.
pub fn address(client: usize) -> SocketAddrV4 {
    SocketAddrV4::new(lab::CLIENTS, FIRST_PORT + client as u16)
}

fn push(wire: &mut Wire, client: usize, server: SocketAddrV4, message: &[u8]) {
    wire.push(address(client), server, |slot| {
        slot[..message.len()].copy_from_slice(message);
        message.len()
    });
}
