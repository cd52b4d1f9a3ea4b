//! A third client by other people: `turn-client-proto`, which has no sockets of its own. Its codec, its timers and its
//! reading of the RFCs are neither ours nor those of the `turn` crate.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ternd::net::clock::Clock;
use turn_client_proto::api::{
    Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPeerData, TurnPollRet, TurnRecvRet,
};
use turn_client_proto::stun::Instant;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::stun::message::IntegrityAlgorithm;
use turn_client_proto::types::{TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use crate::client::Login;
use crate::harness::{Daemon, SECRET, poll, unix_now};
use crate::{https, interop};

turn_client_proto::impl_client!(Any, (Udp, TurnClientUdp), (Stream, TurnClientTcp));

const UDP: TransportType = TransportType::Udp;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

/// The client with a socket and a clock.
struct Driver {
    client: Any,
    wire: Wire,
    local: SocketAddr,
    server: SocketAddr,
    clock: Clock,
    events: Vec<TurnEvent>,
    /// What came from peers.
    data: Vec<(SocketAddr, Vec<u8>)>,
}

/// How long a read waits, so that timers are looked at.
const TICK: Duration = Duration::from_millis(20);

fn config(integrity: IntegrityAlgorithm) -> TurnConfig {
    let Login { username, password } = Login::new(SECRET, format!("{}:ystreet", unix_now() + 600));
    let mut config = TurnConfig::new(TurnCredentials::new(&username, &password));
    config.set_supported_integrity(integrity);
    config
}

impl Driver {
    fn udp(server: SocketAddr, config: TurnConfig) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(TICK)).unwrap();
        let local = socket.local_addr().unwrap();
        Self::new(Any::Udp(TurnClientUdp::allocate(local, server, config)), Wire::Datagrams(socket))
    }

    fn tcp(server: SocketAddr, config: TurnConfig) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        let local = stream.local_addr().unwrap();
        stream.set_read_timeout(Some(TICK)).unwrap();
        Self::new(Any::Stream(TurnClientTcp::allocate(local, server, config)), Wire::Stream(Box::new(stream)))
    }

    fn tls(server: SocketAddr, config: TurnConfig) -> Self {
        let mut stream = https::connect(server, &[]);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let local = stream.sock.local_addr().unwrap();
        stream.sock.set_read_timeout(Some(TICK)).unwrap();
        Self::new(Any::Stream(TurnClientTcp::allocate(local, server, config)), Wire::Stream(Box::new(stream)))
    }

    fn new(client: Any, wire: Wire) -> Self {
        let (local, server) = (client.local_addr(), client.remote_addr());
        Self { client, wire, local, server, clock: Clock::start(), events: Vec::new(), data: Vec::new() }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(i64::try_from(self.clock.now().instant.as_millis()).unwrap() * 1_000_000)
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Datagrams(socket) => assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
            Wire::Stream(stream) => {
                stream.write_all(bytes).unwrap();
                stream.flush().unwrap();
            }
        }
    }

    /// Sends what waits, reads what came. `false`: the client has closed.
    fn step(&mut self) -> bool {
        let now = self.now();
        let open = match self.client.poll(now) {
            TurnPollRet::Closed => false,
            TurnPollRet::WaitUntil(_) => true,
            other => panic!("not asked for: {other:?}"),
        };
        while let Some(transmit) = self.client.poll_transmit(now) {
            assert_eq!(transmit.to, self.server);
            self.send(&transmit.data);
        }
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        if !open {
            return false;
        }
        let mut buffer = [0; 2048];
        let read = match &mut self.wire {
            Wire::Datagrams(socket) => socket.recv(&mut buffer),
            Wire::Stream(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(0) => panic!("the server has closed"),
            Ok(n) => self.take(buffer[..n].to_vec()),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            Err(error) => panic!("{error}"),
        }
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        true
    }

    fn take(&mut self, bytes: Vec<u8>) {
        let now = self.now();
        let transport = self.client.transport();
        let received = Transmit { data: bytes, transport, from: self.server, to: self.local };
        match self.client.recv(received, now) {
            TurnRecvRet::Handled => {}
            TurnRecvRet::PeerData(data) => self.heard(&data),
            // It is done, and what comes from peers meanwhile is nothing to it.
            TurnRecvRet::Ignored(_) if self.client.relayed_addresses().count() == 0 => {}
            other => panic!("not for a client: {other:?}"),
        }
        // A segment of a stream may hold several.
        while let Some(data) = self.client.poll_recv(now) {
            self.heard(&data);
        }
    }

    fn heard<T: AsRef<[u8]> + std::fmt::Debug>(&mut self, data: &TurnPeerData<T>) {
        self.data.push((data.peer, data.data().to_vec()));
    }

    /// Goes on until there is what `find` looks for.
    fn until<T>(&mut self, what: &str, mut find: impl FnMut(&mut Self) -> Option<T>) -> T {
        let found = poll(|| {
            self.step();
            find(self)
        });
        found.unwrap_or_else(|| panic!("no {what}; there was {:?}", self.events))
    }

    fn event<T>(&mut self, what: &str, find: impl Fn(&TurnEvent) -> Option<T>) -> T {
        self.until(what, |driver| driver.events.iter().find_map(&find))
    }

    fn relay(&mut self, to: SocketAddr, data: &[u8]) {
        let now = self.now();
        let built = self.client.send_to(UDP, to, data, now).expect("it may send");
        if let Some(transmit) = built {
            let bytes = transmit.build().data;
            self.send(&bytes);
        }
    }
}

/// All that a call needs; at the end the relayed address is free.
fn call(mut driver: Driver) {
    let relayed = driver.event("allocation", |event| match event {
        TurnEvent::AllocationCreated(UDP, relayed) => Some(*relayed),
        _ => None,
    });
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let at = peer.local_addr().unwrap();

    let now = driver.now();
    driver.client.create_permission(UDP, at.ip(), now).unwrap();
    driver.event("permission", |event| match event {
        TurnEvent::PermissionCreated(UDP, ip) => (*ip == at.ip()).then_some(()),
        _ => None,
    });
    both_ways(&mut driver, &peer, relayed, &[0, 1, 2, 3, 4, 100, 1200]);

    let now = driver.now();
    driver.client.bind_channel(UDP, at, now).unwrap();
    driver.event("channel", |event| match event {
        TurnEvent::ChannelCreated(UDP, bound) => (*bound == at).then_some(()),
        _ => None,
    });
    // It knows nothing of the padding that RFC 8656 section 12.5 wants in a stream: these lengths need none.
    both_ways(&mut driver, &peer, relayed, &[0, 4, 100, 1200]);

    let now = driver.now();
    driver.client.delete(now).unwrap();
    let gone = poll(|| {
        // What the client still has to say: it may be done with, too.
        driver.step();
        interop::is_closed(relayed).then_some(())
    });
    assert!(gone.is_some(), "{relayed} is free");
}

fn both_ways(driver: &mut Driver, peer: &UdpSocket, relayed: SocketAddr, lengths: &[usize]) {
    let mut buffer = [0; 2048];
    for &length in lengths {
        let ping = vec![b'i'; length];
        driver.relay(peer.local_addr().unwrap(), &ping);
        let (n, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..n], from), (&ping[..], relayed));

        let pong = vec![b'o'; length];
        peer.send_to(&pong, relayed).unwrap();
        let heard = driver.until("data of the peer", |driver| driver.data.pop());
        assert_eq!(heard, (peer.local_addr().unwrap(), pong));
    }
}

// What it signs with is what the challenge offers: over UDP that is too short for an offer, so it is MESSAGE-INTEGRITY; over
// streams it is SHA-256. A client of its kind that knows no SHA-256 can't use a server that offers it: it takes MD5 from the
// offer, and then wants another signature than RFC 8489 section 9.2.4 has the server make.

#[test]
fn turn_client_proto_relays_over_udp() {
    let daemon = Daemon::start();
    call(Driver::udp(daemon.turn(), config(IntegrityAlgorithm::Sha1)));
}

#[test]
fn turn_client_proto_relays_over_tcp() {
    let daemon = Daemon::start();
    call(Driver::tcp(daemon.turn(), config(IntegrityAlgorithm::Sha256)));
}

#[test]
fn turn_client_proto_relays_over_tls() {
    let daemon = Daemon::start();
    call(Driver::tls(daemon.https(), config(IntegrityAlgorithm::Sha256)));
}
