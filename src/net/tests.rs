//! Real sockets on loopback.

mod listeners;
mod moves;
mod streams;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::*;
use crate::auth::{self, Algorithm, Authenticator, Key, StaticUser};
use crate::stun::{
    Attribute, AttributeType as T, Builder, ChannelData, ChannelNumber, Class, Frame, Message, Method,
    TransactionId, frame,
};
use crate::turn::RelayAddress;

const PATIENCE: Duration = Duration::from_secs(5);

fn start(settings: Settings) -> Relay {
    start_with(settings, |_| {})
}

fn start_with(settings: Settings, change: impl FnOnce(&mut turn::Settings)) -> Relay {
    let relay = |text: &str| {
        let ip: IpAddr = text.parse().unwrap();
        RelayAddress { local: ip, announced: ip }
    };
    let mut turn = turn::Settings {
        relay_addresses: vec![relay("127.0.0.1"), relay("::1")],
        allow_peers: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ..turn::Settings::default()
    };
    change(&mut turn);
    let users = vec![StaticUser { name: "alice".into(), password: "secret".to_owned().into() }];
    let auth = Authenticator::new(auth::Settings { users, ..auth::Settings::default() }, [1; 32]);
    let admission = Admission::new(StreamLimits { total: 64, per_address: 64 });
    Relay::start(&settings, Arc::new(turn), Arc::new(auth), admission, Clock::start()).unwrap()
}

fn settings(udp: &[&str], tcp: &[&str]) -> Settings {
    let all = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
    Settings { udp: all(udp), tcp: all(tcp), shards: 2, ..Settings::default() }
}

fn port(relay: &Relay, index: usize) -> u16 {
    relay.listeners()[index].1.port()
}

/// Runs an ignored test in a process of its own, started by `wrapper`.
pub(super) fn in_its_own_process(wrapper: &[&str], test: &str) {
    let output = std::process::Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
}

fn binding(n: u8) -> Vec<u8> {
    Builder::new(Class::Request, Method::BINDING, TransactionId([n; 12])).finish()
}

/// How a client under test talks to the server.
enum Line {
    Udp(UdpSocket),
    Stream(Box<dyn ReadWrite>),
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// A blocking client.
struct Client {
    line: Line,
    key: Key,
    nonce: Vec<u8>,
    step: u8,
}

impl Client {
    fn new(line: Line) -> Self {
        let key = Key::derive(Algorithm::Md5, b"alice", "ternd", "secret");
        Self { line, key, nonce: Vec::new(), step: 0 }
    }

    fn udp(server: SocketAddr) -> Self {
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::new(Line::Udp(socket))
    }

    fn tcp(server: SocketAddr) -> Self {
        Self::stream(TcpStream::connect(server).unwrap())
    }

    fn stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::new(Line::Stream(Box::new(stream)))
    }

    fn send(&mut self, message: &[u8]) {
        match &mut self.line {
            Line::Udp(socket) => assert_eq!(socket.send(message).unwrap(), message.len()),
            Line::Stream(stream) => {
                stream.write_all(message).unwrap();
                stream.write_all(&[0; 4][..message.len().next_multiple_of(4) - message.len()]).unwrap();
            }
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        match &mut self.line {
            Line::Udp(socket) => {
                let mut buf = vec![0; 65_536];
                let len = socket.recv(&mut buf).expect("an answer in time");
                buf.truncate(len);
                buf
            }
            // Not a byte more than the message: what follows may not be STUN.
            Line::Stream(stream) => {
                let mut buffer = Vec::new();
                loop {
                    match frame(&buffer).expect("whole messages only") {
                        Frame::Complete { message, .. } => {
                            buffer.truncate(message);
                            return buffer;
                        }
                        Frame::Incomplete { needed } => {
                            let have = buffer.len();
                            buffer.resize(needed, 0);
                            stream.read_exact(&mut buffer[have..]).expect("an answer in time");
                        }
                    }
                }
            }
        }
    }

    fn request(&mut self, method: Method) -> Builder {
        self.step += 1;
        Builder::new(Class::Request, method, TransactionId([self.step; 12]))
    }

    /// Signs, sends, and returns the answer; the first time after a challenge.
    fn ask(&mut self, builder: Builder) -> Vec<u8> {
        if self.nonce.is_empty() {
            let bare = self.request(Method::ALLOCATE).finish();
            self.send(&bare);
            let answer = self.receive();
            self.nonce = Message::parse(&answer).unwrap().find(T::NONCE).unwrap().value.to_vec();
        }
        let signed = self.sign(builder);
        self.send(&signed);
        self.receive()
    }

    fn sign(&self, builder: Builder) -> Vec<u8> {
        builder
            .raw(T::USERNAME, b"alice")
            .raw(T::REALM, b"ternd")
            .raw(T::NONCE, &self.nonce)
            .message_integrity(self.key.as_bytes())
            .finish()
    }

    fn succeed(&mut self, builder: Builder) -> Vec<u8> {
        let answer = self.ask(builder);
        assert_eq!(Message::parse(&answer).unwrap().class(), Class::Success, "{:?}", Message::parse(&answer));
        answer
    }

    fn allocate(&mut self, protocol: u8, family: u8) -> SocketAddr {
        let request = self
            .request(Method::ALLOCATE)
            .raw(T::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
            .raw(T::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        let answer = self.succeed(request);
        let message = Message::parse(&answer).unwrap();
        match message.find(T::XOR_RELAYED_ADDRESS).unwrap().decode(message.transaction_id()) {
            Ok(Attribute::XorRelayedAddress(relayed)) => relayed,
            other => panic!("{other:?}"),
        }
    }

    fn bind(&mut self, number: u16, peer: SocketAddr) {
        let [a, b] = number.to_be_bytes();
        let request = self.request(Method::CHANNEL_BIND).raw(T::CHANNEL_NUMBER, &[a, b, 0, 0]);
        self.succeed(request.xor_address(T::XOR_PEER_ADDRESS, peer));
    }

    fn permit(&mut self, peer: SocketAddr) {
        let request = self.request(Method::CREATE_PERMISSION);
        self.succeed(request.xor_address(T::XOR_PEER_ADDRESS, peer));
    }
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    [&ChannelData::header(ChannelNumber(number), data.len())[..], data].concat()
}

fn peer(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Data both ways through a channel and through indications, in all sizes.
fn relay_both_ways(client: &mut Client, family: u8) {
    let peer = peer(if family == 1 { "127.0.0.1" } else { "::1" });
    let relayed = client.allocate(17, family);
    let at = peer.local_addr().unwrap();
    let mut buf = vec![0; 65_536];

    client.permit(at);
    let indication = Builder::new(Class::Indication, Method::SEND, TransactionId([9; 12]))
        .xor_address(T::XOR_PEER_ADDRESS, at)
        .raw(T::DONT_FRAGMENT, b"")
        .raw(T::DATA, b"hello");
    client.send(&indication.finish());
    assert_eq!(peer.recv_from(&mut buf).unwrap(), (5, relayed));
    peer.send_to(b"hi!", relayed).unwrap();
    let answer = client.receive();
    let message = Message::parse(&answer).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    assert_eq!(message.find(T::DATA).unwrap().value, b"hi!");

    client.bind(0x4000, at);
    for len in [0, 1, 2, 3, 4, 160, 1_200, 9_000, 60_000] {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        client.send(&channel_data(0x4000, &data));
        let (n, from) = peer.recv_from(&mut buf).unwrap();
        assert_eq!((&buf[..n], from), (&data[..], relayed), "{len} bytes to the peer");
        peer.send_to(&data, relayed).unwrap();
        assert_eq!(client.receive(), channel_data(0x4000, &data), "{len} bytes to the client");
    }
}

//= 8489-12-3 8656-5-7 8656-13-2 8656-13.2-1 8656-16-1
#[test]
fn data_goes_both_ways_over_udp_and_tcp_and_both_families() {
    let relay = start(settings(&["127.0.0.1:0", "[::1]:0"], &["127.0.0.1:0", "[::1]:0"]));
    let at = |index: usize| relay.listeners()[index].1;
    for family in [1, 2] {
        relay_both_ways(&mut Client::udp(at(0)), family);
        relay_both_ways(&mut Client::udp(at(1)), family);
        relay_both_ways(&mut Client::tcp(at(2)), family);
        relay_both_ways(&mut Client::tcp(at(3)), family);
    }
    let counters = relay.counters();
    assert_eq!(counters.turn.traffic.to_peers, 8 * 10);
    assert_eq!(counters.turn.traffic.to_client, 8 * 10);
    assert_eq!((counters.send_dropped, counters.stream_dropped), (0, 0));
    relay.stop();
}

#[test]
fn bursts_keep_their_order_and_their_borders() {
    let relay = start(settings(&["127.0.0.1:0"], &[]));
    let mut client = Client::udp(relay.listeners()[0].1);
    let peer = peer("127.0.0.1");
    let relayed = client.allocate(17, 1);
    client.bind(0x4000, peer.local_addr().unwrap());
    let mut buf = vec![0; 2_000];
    for round in 0..20u8 {
        // Equal ones and others, so that runs begin and end.
        let sizes = [1_200, 1_200, 1_200, 700, 1_200, 1_200, 40, 40, 40, 0, 1_200];
        let datagrams: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, s)| vec![round ^ n as u8; *s]).collect();
        datagrams.iter().for_each(|d| client.send(&channel_data(0x4000, d)));
        for expected in &datagrams {
            let n = peer.recv(&mut buf).unwrap();
            assert_eq!(&buf[..n], &expected[..]);
        }
        datagrams.iter().for_each(|d| assert_eq!(peer.send_to(d, relayed).unwrap(), d.len()));
        for expected in &datagrams {
            assert_eq!(client.receive(), channel_data(0x4000, expected));
        }
    }
    relay.stop();
}

#[test]
fn two_clients_of_one_server_meet_through_their_relays() {
    let relay = start(settings(&["127.0.0.1:0"], &["127.0.0.1:0"]));
    let mut alice = Client::udp(relay.listeners()[0].1);
    let mut bob = Client::tcp(relay.listeners()[1].1);
    let (at_alice, at_bob) = (alice.allocate(17, 1), bob.allocate(17, 1));
    alice.bind(0x4000, at_bob);
    bob.bind(0x4abc, at_alice);
    alice.send(&channel_data(0x4000, b"ping"));
    assert_eq!(bob.receive(), channel_data(0x4abc, b"ping"));
    bob.send(&channel_data(0x4abc, b"pong"));
    assert_eq!(alice.receive(), channel_data(0x4000, b"pong"));
    relay.stop();
}

#[test]
fn clients_on_different_shards_meet_without_the_kernel() {
    let relay = start(settings(&["127.0.0.1:0"], &["127.0.0.1:0"]));
    let (udp, tcp) = (relay.listeners()[0].1, relay.listeners()[1].1);
    // The kernel chooses the shard of each: that all of them get one is as good as impossible.
    let mut clients: Vec<Client> =
        (0..40).map(|n| if n % 4 == 0 { Client::tcp(tcp) } else { Client::udp(udp) }).collect();
    let relayed: Vec<SocketAddr> = clients.iter_mut().map(|c| c.allocate(17, 1)).collect();
    let next = |n: usize| (n + 1) % 40;
    for n in 0..40 {
        clients[n].bind(0x4000, relayed[next(n)]);
        // One of two answers through a channel.
        match n % 2 {
            0 => clients[next(n)].bind(0x4ABC, relayed[n]),
            _ => clients[next(n)].permit(relayed[n]),
        }
    }
    let mut sent = 0;
    for len in [0, 5, 1_200, 1_200, 9_000, 60_000] {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        // As many as a socket's buffer holds.
        let burst = if len > 1_200 { 1 } else { 5 };
        for n in 0..40 {
            for _ in 0..burst {
                clients[n].send(&channel_data(0x4000, &data));
                sent += 1;
            }
            for _ in 0..burst {
                let got = clients[next(n)].receive();
                if n % 2 == 0 {
                    assert_eq!(got, channel_data(0x4ABC, &data), "{len} bytes from {n}");
                    continue;
                }
                let message = Message::parse(&got).unwrap();
                assert_eq!(message.find(T::DATA).unwrap().value, data, "{len} bytes from {n}");
                let from = message.find(T::XOR_PEER_ADDRESS).unwrap().decode(message.transaction_id());
                assert_eq!(from, Ok(Attribute::XorPeerAddress(relayed[n])));
            }
        }
    }
    let counters = relay.counters();
    assert_eq!((counters.turn.traffic.to_peers, counters.turn.traffic.to_client), (sent, sent));
    assert!(counters.across > 0 && counters.across < sent, "{} of {sent} between shards", counters.across);
    assert_eq!((counters.across_dropped, counters.send_dropped, counters.stream_dropped), (0, 0, 0));
    relay.stop();
}

#[test]
fn pinned_shards_with_buffers_of_their_own_relay_as_well() {
    let own = Settings {
        pin_shards: true,
        socket_buffer: Some(1 << 20),
        relay_socket_buffer: Some(1 << 20),
        ..settings(&["127.0.0.1:0"], &[])
    };
    let relay = start(own);
    relay_both_ways(&mut Client::udp(relay.listeners()[0].1), 1);
    relay.stop();
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let relay = start(settings(&["0.0.0.0:0", "[::]:0"], &[]));
    for asked in ["127.0.0.1", "127.0.0.2", "127.9.8.7", "::1"] {
        let ip: IpAddr = asked.parse().unwrap();
        let server = SocketAddr::new(ip, port(&relay, usize::from(ip.is_ipv6())));
        let socket = peer(if ip.is_ipv4() { "127.0.0.1" } else { "::1" });
        socket.send_to(&binding(1), server).unwrap();
        let mut buf = [0; 256];
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        assert_eq!(from, server);
        let message = Message::parse(&buf[..len]).unwrap();
        let mapped = message.find(T::XOR_MAPPED_ADDRESS).unwrap().decode(message.transaction_id());
        assert_eq!(mapped, Ok(Attribute::XorMappedAddress(socket.local_addr().unwrap())));
    }
    relay.stop();
}

#[test]
fn messages_on_a_stream_may_come_in_one_piece_or_in_many() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let mut client = Client::tcp(relay.listeners()[0].1);
    let three = [binding(1), binding(2), binding(3)].concat();
    let Line::Stream(stream) = &mut client.line else { unreachable!() };
    stream.write_all(&three).unwrap();
    for byte in &three {
        stream.write_all(&[*byte]).unwrap();
        stream.flush().unwrap();
    }
    for n in [1, 2, 3, 1, 2, 3] {
        assert_eq!(Message::parse(&client.receive()).unwrap().transaction_id(), TransactionId([n; 12]));
    }
    relay.stop();
}

#[test]
fn a_browser_on_the_turn_port_gets_a_page() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let mut stream = TcpStream::connect(relay.listeners()[0].1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for part in ["G", "ET", " / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        stream.write_all(part.as_bytes()).unwrap();
    }
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("STUN/TURN port"), "{page}");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    relay.stop();
}

//= 8489-6.2.2-2
#[test]
fn garbage_on_a_stream_closes_it_and_on_udp_is_counted() {
    let relay = start(settings(&["127.0.0.1:0"], &["127.0.0.1:0"]));
    let mut stream = TcpStream::connect(relay.listeners()[1].1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // What was asked before it is answered all the same.
    stream.write_all(&[binding(7), vec![0xFF; 64]].concat()).unwrap();
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Message::parse(&answer).unwrap().transaction_id(), TransactionId([7; 12]));
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));

    let socket = peer("127.0.0.1");
    let server = relay.listeners()[0].1;
    for n in 0..1_000u32 {
        let noise: Vec<u8> = (0..n % 64).map(|i| 0x80 | (n.wrapping_mul(31) + i) as u8).collect();
        socket.send_to(&noise, server).unwrap();
    }
    socket.send_to(&binding(1), server).unwrap();
    assert!(socket.recv(&mut [0; 256]).is_ok(), "and the server goes on");
    let counters = relay.counters();
    assert_eq!((counters.turn.not_stun, counters.streams_garbage), (1_000, 1));
    relay.stop();
}

#[test]
fn an_address_that_cannot_be_had_is_named_with_the_way_out() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp, tcp) = (udp.local_addr().unwrap().to_string(), tcp.local_addr().unwrap().to_string());
    let first = start(settings(&["127.0.0.1:0"], &["127.0.0.1:0"]));
    let ours = first.listeners()[0].1.to_string();
    for (settings, addr, reason) in [
        (settings(&[&udp], &[]), &udp[..], "another program uses this port"),
        (settings(&[], &[&tcp]), &tcp, "another program uses this port"),
        (settings(&[&ours], &[]), &ours, "another program uses this port"),
        (settings(&["192.0.2.1:3478"], &[]), "192.0.2.1:3478", "no interface of this machine"),
    ] {
        let auth = Arc::new(Authenticator::new(auth::Settings::default(), [1; 32]));
        let admission = Admission::new(StreamLimits { total: 1, per_address: 1 });
        let error =
            Relay::start(&settings, Arc::default(), auth, admission, Clock::start()).unwrap_err().to_string();
        assert!(error.contains(addr) && error.contains(reason), "{error}");
    }
    first.stop();
}

/// A TLS connection to the relay, as the front door would hand it over: with the first bytes already read.
fn tls_client(relay: &Relay, early: &[u8]) -> Client {
    let server_config = tls::self_signed(vec!["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client_config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let connection =
        rustls::ClientConnection::new(Arc::new(client_config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let door = std::thread::spawn({
        let handoff = relay.handoff();
        move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(server_config).unwrap();
            let mut early = [0; 8];
            let read = loop {
                tls.complete_io(&mut socket).unwrap();
                if let Ok(n) = tls.reader().read(&mut early) {
                    break n;
                }
            };
            socket.set_nonblocking(true).unwrap();
            let client = socket.peer_addr().unwrap();
            handoff.adopt(socket, client, Box::new(tls), early[..read].to_vec());
        }
    });
    stream.write_all(early).unwrap();
    door.join().unwrap();
    Client::new(Line::Stream(Box::new(stream)))
}

/// Trusts every certificate: the server's is made for this test.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//= 8656-5-7
#[test]
fn a_tls_connection_is_taken_over_with_what_was_read_before() {
    let relay = start(settings(&[], &[]));
    let mut client = tls_client(&relay, &binding(7));
    assert_eq!(Message::parse(&client.receive()).unwrap().transaction_id(), TransactionId([7; 12]));
    relay_both_ways(&mut client, 1);
    drop(client);
    wait_until(
        || relay.counters().allocations == 0 && relay.counters().streams == 0,
        "all has ended with it",
    );
    relay.stop();
}

fn wait_until(mut done: impl FnMut() -> bool, what: &str) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 5 s: {what}");
}

#[test]
fn a_client_that_reads_too_slowly_loses_the_oldest_data_and_nothing_grows() {
    let relay = start(Settings { stream_queue: 64 * 1024, ..settings(&[], &["127.0.0.1:0"]) });
    let mut client = Client::tcp(relay.listeners()[0].1);
    let peer = peer("127.0.0.1");
    let relayed = client.allocate(17, 1);
    client.bind(0x4000, peer.local_addr().unwrap());
    // Far more than the sockets' buffers and the queue hold, while the client reads nothing.
    let mut sent = 0u32;
    wait_until(
        || {
            for _ in 0..200 {
                let mut data = [0; 1_200];
                data[..4].copy_from_slice(&sent.to_be_bytes());
                peer.send_to(&data, relayed).unwrap();
                sent += 1;
            }
            relay.counters().stream_dropped > 500
        },
        "data is dropped",
    );
    // The newest is still there, and what arrives is whole and in order.
    peer.send_to(&u32::MAX.to_be_bytes(), relayed).unwrap();
    let mut last = None;
    loop {
        let frame = client.receive();
        let data = ChannelData::parse(&frame).expect("whole frames only").data;
        let n = u32::from_be_bytes(data[..4].try_into().unwrap());
        assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
        last = Some(n);
        if n == u32::MAX {
            break;
        }
    }
    relay.stop();
}

//= 8489-6.2.2-1
#[test]
fn silent_streams_are_closed_and_those_with_an_allocation_are_not() {
    let relay = start(Settings {
        first_message_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        ..settings(&[], &["127.0.0.1:0"])
    });
    let mut silent = TcpStream::connect(relay.listeners()[0].1).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::tcp(relay.listeners()[0].1);
    client.allocate(17, 1);
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "closed by the server");
    wait_until(|| relay.counters().streams_timed_out == 1, "counted");
    std::thread::sleep(Duration::from_millis(1_500));
    client.permit("127.0.0.1:9".parse().unwrap());
    relay.stop();
}

//= 8489-6.2.2-4
#[test]
fn streams_beyond_the_limit_are_refused() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let all: Vec<_> = (0..80).map(|_| TcpStream::connect(relay.listeners()[0].1).unwrap()).collect();
    wait_until(|| relay.counters().streams_refused == 16, "64 of 80 are kept");
    assert_eq!(relay.counters().streams, 64);
    drop(all);
    wait_until(|| relay.counters().streams == 0, "places are given back");
    relay.stop();
}

//= 8656-11.5-2
#[test]
fn an_icmp_error_reaches_the_client() {
    let relay = start(settings(&["127.0.0.1:0"], &[]));
    let mut client = Client::udp(relay.listeners()[0].1);
    client.allocate(17, 1);
    let nobody = peer("127.0.0.1").local_addr().unwrap(); // closed at once
    client.bind(0x4000, nobody);
    client.send(&channel_data(0x4000, b"anybody there?"));
    let answer = client.receive();
    let message = Message::parse(&answer).unwrap();
    let get = |kind| message.find(kind).unwrap().decode(message.transaction_id()).unwrap();
    assert_eq!(get(T::XOR_PEER_ADDRESS), Attribute::XorPeerAddress(nobody));
    assert_eq!(get(T::ICMP), Attribute::Icmp { kind: 3, code: 3, data: 0 });
    relay.stop();
}

/// ConnectionBind on a connection of its own; the stream that carries raw bytes from here on.
fn data_connection(relay: &Relay, id: u32) -> TcpStream {
    let mut client = Client::tcp(relay.listeners()[0].1);
    let stream = TcpStream::connect(relay.listeners()[0].1).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.line = Line::Stream(Box::new(stream.try_clone().unwrap()));
    let request = client.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, id);
    client.succeed(request);
    stream
}

fn connection_id(message: &[u8]) -> u32 {
    let message = Message::parse(message).unwrap();
    match message.find(T::CONNECTION_ID).unwrap().decode(message.transaction_id()) {
        Ok(Attribute::ConnectionId(id)) => id,
        other => panic!("{other:?}"),
    }
}

//= 6062-5.2-3 6062-5.2-6 6062-5.3-3 6062-5.4-3 6062-5.5-1 6062-5.5-2
#[test]
fn tcp_peers_are_connected_both_ways() {
    let relay = start(settings(&[], &["127.0.0.1:0"]));
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = peer.local_addr().unwrap();
    let large: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();

    // Each shard gets its turn: the data connection may land on another one than the control connection.
    for _ in 0..8 {
        let mut client = Client::tcp(relay.listeners()[0].1);
        let relayed = client.allocate(6, 1);

        let request = client.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, at);
        let id = connection_id(&client.succeed(request));
        let (mut far, from) = peer.accept().unwrap();
        assert_eq!(from, relayed, "from the relayed address");
        far.write_all(b"said before it was bound").unwrap();
        let mut near = data_connection(&relay, id);
        let mut buf = [0; 24];
        near.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"said before it was bound");
        let writer = std::thread::spawn({
            let (mut near, large) = (near.try_clone().unwrap(), large.clone());
            move || near.write_all(&large).unwrap()
        });
        let mut arrived = vec![0; large.len()];
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        far.read_exact(&mut arrived).unwrap();
        assert!(arrived == large, "client to peer, unchanged");
        writer.join().unwrap();
        let writer = std::thread::spawn({
            let large = large.clone();
            move || {
                far.write_all(&large).unwrap();
                drop(far);
            }
        });
        arrived.clear();
        near.read_to_end(&mut arrived).unwrap();
        assert!(arrived == large, "peer to client, unchanged, then the end");
        writer.join().unwrap();

        client.permit(at);
        let mut caller = TcpStream::connect(relayed).unwrap();
        let attempt = client.receive();
        assert_eq!(Message::parse(&attempt).unwrap().method(), Method::CONNECTION_ATTEMPT);
        let mut near = data_connection(&relay, connection_id(&attempt));
        caller.write_all(b"hello").unwrap();
        near.read_exact(&mut buf[..5]).unwrap();
        near.write_all(b"hi").unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        caller.read_exact(&mut buf[..2]).unwrap();
        assert_eq!(&buf[..5], b"hillo");
        drop(client);
        assert!(matches!(caller.read(&mut buf), Ok(0) | Err(_)), "ends with the allocation");
    }
    wait_until(|| relay.counters().allocations == 0 && relay.counters().streams == 0, "nothing is left");

    let mut client = Client::tcp(relay.listeners()[0].1);
    client.allocate(6, 1);
    drop(peer);
    let request = client.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, at);
    let answer = client.ask(request);
    let code = Message::parse(&answer).unwrap().find(T::ERROR_CODE).unwrap().value[2..4].to_vec();
    assert_eq!(code, [4, 47], "447: nobody listens there");
    relay.stop();
}

#[test]
fn a_run_of_requests_gets_all_its_answers() {
    use super::udp::{Outgoing, Piece, Pool, Sender, Target};
    use std::os::fd::AsFd;

    let relay = start(Settings { shards: 1, ..settings(&["127.0.0.1:0"], &[]) });
    let socket = peer("127.0.0.1");
    let mut pool = Pool::new(1);
    let request = binding(1);
    pool.put(&request).unwrap();
    let target = Target { to: relay.listeners()[0].1, from: None };
    let piece = Piece::plain(0, 0, request.len());
    let mut outgoing = Outgoing::default();
    (0..180).for_each(|_| outgoing.push(target, piece, true));
    assert_eq!(Sender::new().send(socket.as_fd(), &mut outgoing, &pool).dropped, 0);
    let mut buf = [0; 256];
    for n in 0..180 {
        assert!(socket.recv(&mut buf).is_ok(), "answer {n} of 180");
    }
    assert_eq!(relay.counters().send_dropped, 0);
    relay.stop();
}
