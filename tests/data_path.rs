//! What the threads of the relay allocate: for relayed data nothing, over UDP and over TCP, both ways; for allocations
//! only what goes with them.
//!
//! A relay runs on loopback. The allocator counts the calls of all threads but the test's own, which is the client
//! and the peer, and the bytes they hold. After a warm-up, in which buffers find their size, thousands of packets must
//! not add one call.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ternd::auth::{self, Algorithm, Authenticator, Key, StaticUser};
use ternd::net::clock::Clock;
use ternd::net::{Admission, Relay, Settings, StreamLimits};
use ternd::stun::{
    Attribute, AttributeType as T, Builder, ChannelData, ChannelNumber, Class, Frame, Message, Method,
    TransactionId, frame,
};
use ternd::turn::{self, RelayAddress};

/// The system's allocator, counting what other threads than the test do.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// Of a thread that is being torn down nothing counts.
fn counts() -> bool {
    EXEMPT.try_with(|exempt| !exempt.get()).unwrap_or(false)
}

#[expect(unsafe_code, reason = "a global allocator has no safe form; this one only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if counts() {
            CALLS.fetch_add(1, Ordering::Relaxed);
            LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if counts() {
            LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// A client's line to the server.
enum Line {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Line {
    fn send(&mut self, message: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(message).unwrap()),
            Self::Tcp(stream) => stream.write_all(message).unwrap(),
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        match self {
            Self::Udp(socket) => {
                bytes.resize(2_000, 0);
                let len = socket.recv(&mut bytes).unwrap();
                bytes.truncate(len);
            }
            Self::Tcp(stream) => {
                let mut have = 0;
                while let Frame::Incomplete { needed } = frame(&bytes[..have]).unwrap() {
                    bytes.resize(needed, 0);
                    stream.read_exact(&mut bytes[have..]).unwrap();
                    have = needed;
                }
            }
        }
        bytes
    }

    /// Signs and sends a request; the answer must be a success.
    fn ask(&mut self, step: u8, method: Method, nonce: &[u8], build: impl Fn(Builder) -> Builder) -> Vec<u8> {
        let key = Key::derive(Algorithm::Md5, b"alice", "ternd", "her password");
        let request = build(Builder::new(Class::Request, method, TransactionId([step; 12])))
            .raw(T::USERNAME, b"alice")
            .raw(T::REALM, b"ternd")
            .raw(T::NONCE, nonce);
        self.send(&request.message_integrity(key.as_bytes()).finish());
        let answer = self.receive();
        assert_eq!(Message::parse(&answer).unwrap().class(), Class::Success);
        answer
    }

    /// What a request needs that is not the first.
    fn nonce(&mut self) -> Vec<u8> {
        self.send(&Builder::new(Class::Request, Method::REFRESH, TransactionId([3; 12])).finish());
        let challenge = self.receive();
        Message::parse(&challenge).unwrap().find(T::NONCE).unwrap().value.to_vec()
    }

    /// A second channel.
    fn bind(&mut self, number: u16, peer: SocketAddr) {
        let (nonce, [a, b]) = (self.nonce(), number.to_be_bytes());
        self.ask(4, Method::CHANNEL_BIND, &nonce, |r| {
            r.raw(T::CHANNEL_NUMBER, &[a, b, 0, 0]).xor_address(T::XOR_PEER_ADDRESS, peer)
        });
    }

    /// The end of the allocation.
    fn leave(&mut self) {
        let nonce = self.nonce();
        self.ask(5, Method::REFRESH, &nonce, |r| r.raw(T::LIFETIME, &[0; 4]));
    }

    /// An allocation with a channel to `peer`; its relayed address.
    fn allocate(&mut self, peer: SocketAddr) -> SocketAddr {
        let udp = |b: Builder| b.raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        self.send(&udp(Builder::new(Class::Request, Method::ALLOCATE, TransactionId([0; 12]))).finish());
        let challenge = self.receive();
        let nonce = Message::parse(&challenge).unwrap().find(T::NONCE).unwrap().value;
        let answer = self.ask(1, Method::ALLOCATE, nonce, udp);
        self.ask(2, Method::CHANNEL_BIND, nonce, |b| {
            b.raw(T::CHANNEL_NUMBER, &[0x40, 0, 0, 0]).xor_address(T::XOR_PEER_ADDRESS, peer)
        });
        let message = Message::parse(&answer).unwrap();
        match message.find(T::XOR_RELAYED_ADDRESS).unwrap().decode(message.transaction_id()) {
            Ok(Attribute::XorRelayedAddress(relayed)) => relayed,
            other => panic!("{other:?}"),
        }
    }
}

fn start() -> Relay {
    let ip: IpAddr = "127.0.0.1".parse().unwrap();
    let turn = turn::Settings {
        relay_addresses: vec![RelayAddress { local: ip, announced: ip }],
        allow_peers: vec!["127.0.0.0/8".parse().unwrap()],
        limits: turn::Limits {
            allocations: 20_000,
            allocations_per_user: 20_000,
            allocations_per_address: 20_000,
            unauthenticated_answers: 0,
            ..turn::Limits::default()
        },
        ..turn::Settings::default()
    };
    let users = vec![StaticUser { name: "alice".into(), password: "her password".to_owned().into() }];
    let auth = Authenticator::new(auth::Settings { users, ..auth::Settings::default() }, [1; 32]);
    let settings =
        Settings { udp: vec![(ip, 0).into()], tcp: vec![(ip, 0).into()], shards: 1, ..Settings::default() };
    let admission = Admission::new(StreamLimits { total: 9, per_address: 9 });
    Relay::start(&settings, Arc::new(turn), Arc::new(auth), admission, Clock::start()).unwrap()
}

/// A client's socket at this port, or at any (0), of an address where nothing else is.
fn client(port: u16, server: SocketAddr) -> Line {
    let socket = UdpSocket::bind(("127.0.0.9", port)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Line::Udp(socket)
}

/// One test, as there is one count: what the threads of another would allocate meanwhile, and the harness when it ends,
/// would be in it.
#[test]
fn what_is_relayed_allocates_nothing_and_what_is_over_leaves_nothing() {
    EXEMPT.set(true);
    relayed_data_allocates_nothing();
    ten_thousand_allocations_leave_no_memory_behind();
}

fn ten_thousand_allocations_leave_no_memory_behind() {
    let relay = start();
    let server = relay.listeners()[0].1;
    // Each from a port of its own; the sockets are the server's to hold, not ours.
    let round = |ports: std::ops::Range<u16>| {
        let before = LIVE.load(Ordering::Relaxed);
        let peer = "127.0.0.1:9".parse().unwrap();
        for port in ports.clone() {
            client(port, server).allocate(peer);
        }
        let held = LIVE.load(Ordering::Relaxed) - before;
        ports.for_each(|port| client(port, server).leave());
        held
    };
    round(20_000..20_100);
    let before = LIVE.load(Ordering::Relaxed);
    let held = round(20_000..30_000);
    let kept = LIVE.load(Ordering::Relaxed) - before;
    println!(
        "{} bytes for each of 10,000 allocations with a channel, {kept} bytes stay behind",
        held / 10_000
    );
    assert!(held / 10_000 <= 2_048, "{held} bytes for 10,000 allocations");
    assert!(kept < 128 * 1024, "{kept} bytes stay behind");
    relay.stop();
}

fn relayed_data_allocates_nothing() {
    let relay = start();
    let [udp, tcp] = [0, 1].map(|n| relay.listeners()[n].1);
    let patience = Some(Duration::from_secs(5));
    let stream = TcpStream::connect(tcp).unwrap();
    stream.set_read_timeout(patience).unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(patience).unwrap();

    for (name, mut line) in [("udp", client(0, udp)), ("tcp", Line::Tcp(stream))] {
        let relayed = line.allocate(peer.local_addr().unwrap());
        let mut buf = vec![0; 2_000];
        let mut bursts = |count: usize| {
            for n in 0..count {
                // Runs of equal ones, and others; on the stream 24 KB at a time.
                let len = if n % 3 == 0 { 160 } else { 1_200 };
                let data = vec![n as u8; len];
                let header = ChannelData::header(ChannelNumber(0x4000), len);
                let message = [&header[..], &data].concat();
                match &mut line {
                    Line::Udp(_) => (0..20).for_each(|_| line.send(&message)),
                    Line::Tcp(stream) => stream.write_all(&message.repeat(20)).unwrap(),
                }
                (0..20).for_each(|_| assert_eq!(peer.recv(&mut buf).unwrap(), len));
                (0..20).for_each(|_| assert_eq!(peer.send_to(&data, relayed).unwrap(), len));
                (0..20).for_each(|_| assert_eq!(line.receive(), message));
            }
        };
        bursts(50);
        let before = CALLS.load(Ordering::Relaxed);
        bursts(200);
        let calls = CALLS.load(Ordering::Relaxed) - before;
        assert_eq!(calls, 0, "{name}: calls of the allocator for 8,000 packets");
    }

    // Two clients of one server, from allocation to allocation.
    let mut lines = [0, 1].map(|_| client(0, udp));
    let nobody = peer.local_addr().unwrap();
    let relayed = lines.each_mut().map(|line| line.allocate(nobody));
    for (n, line) in lines.iter_mut().enumerate() {
        line.bind(0x4001, relayed[1 - n]);
    }
    let mut bursts = |count: usize| {
        for n in 0..count {
            let len = if n % 3 == 0 { 160 } else { 1_200 };
            let message =
                [&ChannelData::header(ChannelNumber(0x4001), len)[..], &vec![n as u8; len]].concat();
            for there in [0, 1] {
                (0..20).for_each(|_| lines[there].send(&message));
                (0..20).for_each(|_| assert_eq!(lines[1 - there].receive(), message));
            }
        }
    };
    bursts(50);
    let before = CALLS.load(Ordering::Relaxed);
    bursts(200);
    let calls = CALLS.load(Ordering::Relaxed) - before;
    assert_eq!(calls, 0, "relay to self: calls of the allocator for 8,000 packets");

    // The count is not blind: a new stream and its answer need memory.
    let before = CALLS.load(Ordering::Relaxed);
    let mut other = TcpStream::connect(tcp).unwrap();
    other.write_all(&Builder::new(Class::Request, Method::BINDING, TransactionId([9; 12])).finish()).unwrap();
    other.read_exact(&mut [0; 20]).unwrap();
    assert!(CALLS.load(Ordering::Relaxed) > before, "the allocator counts the shard's calls");
    relay.stop();
}
