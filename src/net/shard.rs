//! A shard: one thread with its own sockets, streams, allocations and timers. Here a packet enters and leaves.
//!
//! ```text
//!   UDP listeners ──recvmmsg──► pool ─► Server::handle_client ─► Verdict::Relay ────► relay socket ──► peer
//!   streams ──────────read────► frames ┘                      └► Output::Send ─┐
//!                                                                              ▼
//!   UDP listeners ◄─sendmmsg─ outgoing ◄────────────────────────────────────── client
//!   streams ◄───────write──── stream queue ◄─ Verdict::ToClient ◄─ Server::handle_peer ◄─ pool ◄── relay socket
//! ```
//!
//! A wake-up reads what is ready, within a budget for each socket, so that one flood starves nobody; what it left
//! is read in the next round, which does not sleep. The clock is read once for each wake-up. On the way of relayed
//! data nothing is locked and nothing is allocated.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use ahash::RandomState;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::admission::Admission;
use super::again::Again;
use super::clock::Clock;
use super::connection::Connection;
use super::relays::Relays;
use super::stream::Kind;
use super::udp::{self, Outgoing, Piece, Pool, Sender, Target, Wish};
use super::{Counters, Settings, events, peers};
use crate::stun::Family;
use crate::time::{Instant, Now};
use crate::turn::{
    BindError, ClientAddr, FiveTuple, Framing, Output, PayloadRange, PortChoice, RelayId, RelayTransport,
    Server, ServerAddr, Transport, Verdict,
};

/// Slots of the pool: datagrams in one round, and the answers to them.
const SLOTS: usize = 2 * udp::BATCH;
/// Batches read from a listener before the others get their turn.
const LISTENER_ROUNDS: usize = 4;
/// Datagrams, or runs of them, read from a relay socket before the others get their turn.
const RELAY_BUDGET: usize = 16;
/// How often streams are looked at for their deadlines.
const SWEEP: Duration = Duration::from_secs(1);

/// What is ready, by token.
pub(super) const WAKER: Token = Token(0);
const LISTENERS: usize = 1;
pub(super) const STREAMS: usize = 1 << 32;
const RELAYS: usize = 1 << 40;
pub(super) const PEERS: usize = 1 << 48;

/// What a shard is told from outside.
pub(super) enum Command {
    /// Take over a stream: its transport, TLS state, and the bytes read so far.
    Adopt(mio::net::TcpStream, Option<Box<rustls::ServerConnection>>, Vec<u8>),
    /// Tell what you have done.
    Report(SyncSender<Counters>),
    /// The credentials of this user are good no more; the last of them would be over at that second (Unix time).
    Revoke(Arc<str>, u64),
    /// End.
    Stop,
}

/// A UDP socket that clients talk to.
pub(super) struct UdpListener {
    pub socket: UdpSocket,
    pub addr: SocketAddr,
    outgoing: Outgoing,
}

impl UdpListener {
    pub(super) fn new(socket: UdpSocket, addr: SocketAddr) -> Self {
        Self { socket, addr, outgoing: Outgoing::default() }
    }
}

pub(super) struct TcpListener {
    pub socket: mio::net::TcpListener,
    /// After an error: not before then.
    pub paused: Option<Instant>,
}

pub(super) struct Shard {
    pub poll: Poll,
    pub clock: Clock,
    pub server: Server,
    pub settings: Settings,
    pub counters: Counters,
    pub admission: Arc<Admission>,
    pub siblings: Arc<Vec<super::Mailbox>>,
    inbox: Receiver<Command>,

    listeners: Vec<UdpListener>,
    pub tcp_listeners: Vec<TcpListener>,
    relays: Relays,
    pool: Pool,
    sender: Sender,
    gso: bool,
    /// Datagrams for peers, all from this relay.
    to_peers: (Option<RelayId>, bool, Outgoing),

    pub streams: Slab<Connection>,
    pub by_flow: HashMap<FiveTuple, usize, RandomState>,
    /// Streams with something to write.
    pub dirty: Vec<usize>,
    pub peers: peers::Peers,
    /// For reading streams: what one read brings, and the input of the stream that is being read.
    pub scratch: Box<[u8]>,
    pub input: Vec<u8>,
    /// When the log was last told that connections can't be accepted, and that they are refused.
    pub accept_warned: Option<Instant>,
    pub refusal_warned: Option<Instant>,
    sweep_at: Instant,
    pub again: Again,
}

/// What a shard is made of.
pub(super) struct Parts {
    pub poll: Poll,
    pub clock: Clock,
    pub server: Server,
    pub settings: Settings,
    pub admission: Arc<Admission>,
    pub siblings: Arc<Vec<super::Mailbox>>,
    pub inbox: Receiver<Command>,
    pub udp: Vec<UdpListener>,
    pub tcp: Vec<TcpListener>,
    pub relays: Relays,
    pub hasher: RandomState,
}

impl Shard {
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let registry = parts.poll.registry();
        for (i, listener) in parts.udp.iter().enumerate() {
            let fd = listener.socket.as_raw_fd();
            registry.register(&mut SourceFd(&fd), Token(LISTENERS + i), Interest::READABLE)?;
        }
        let again = Again::new(parts.hasher.clone());
        let mut tcp = parts.tcp;
        for (i, listener) in tcp.iter_mut().enumerate() {
            registry.register(
                &mut listener.socket,
                Token(LISTENERS + parts.udp.len() + i),
                Interest::READABLE,
            )?;
        }
        Ok(Self {
            poll: parts.poll,
            clock: parts.clock,
            server: parts.server,
            settings: parts.settings,
            counters: Counters::default(),
            admission: parts.admission,
            siblings: parts.siblings,
            inbox: parts.inbox,
            listeners: parts.udp,
            tcp_listeners: tcp,
            relays: parts.relays,
            pool: Pool::new(SLOTS),
            sender: Sender::new(),
            gso: true,
            to_peers: (None, false, Outgoing::default()),
            streams: Slab::new(),
            by_flow: HashMap::with_hasher(parts.hasher),
            dirty: Vec::new(),
            peers: peers::Peers::default(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            input: Vec::new(),
            accept_warned: None,
            refusal_warned: None,
            sweep_at: Instant::default(),
            again,
        })
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        let mut ready = Events::with_capacity(1_024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut ready, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("a shard can't wait for its sockets: {error}");
                    return;
                }
                _ => {}
            }
            let now = self.clock.now();
            for _ in 0..self.again.len() {
                if let Some(token) = self.again.pop() {
                    self.serve(now, token, None);
                }
            }
            for event in &ready {
                if event.token() == WAKER {
                    if self.take_commands(now).is_stop() {
                        return;
                    }
                } else {
                    self.serve(now, event.token(), Some(event));
                }
            }
            self.server.handle_timeout(now);
            self.carry_out(now);
            if now.instant >= self.sweep_at {
                self.sweep_at = now.instant + SWEEP;
                self.sweep_streams(now);
                self.sweep_peers(now);
                self.carry_out(now);
            }
            self.flush_streams(now);
            self.settle();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now().instant;
        let busy = !self.streams.is_empty()
            || self.peers.are_ending()
            || self.tcp_listeners.iter().any(|l| l.paused.is_some());
        let sweep = busy.then_some(self.sweep_at);
        let next = [self.server.poll_timeout(), sweep].into_iter().flatten().min()?;
        // Rounded up: waking a little early would mean to wake twice.
        Some(next.since(now) + Duration::from_millis(u64::from(next > now)))
    }

    fn serve(&mut self, now: Now, token: Token, event: Option<&Event>) {
        let more = match token.0 {
            PEERS.. => self.serve_peer(now, token.0 - PEERS, event),
            RELAYS.. => {
                self.read_relay(now, RelayId((token.0 - RELAYS) as u32), event.is_none_or(Event::is_error))
            }
            STREAMS.. => self.serve_stream(now, token.0 - STREAMS, event),
            n if n - LISTENERS < self.listeners.len() => self.read_listener(now, n - LISTENERS),
            n => self.accept(now, n - LISTENERS - self.listeners.len()),
        };
        if more {
            self.again.push(token);
        }
    }

    /// Datagrams of clients. `true`: there may be more.
    fn read_listener(&mut self, now: Now, index: usize) -> bool {
        for _ in 0..LISTENER_ROUNDS {
            // Each datagram may need a second slot, for its answer.
            if self.pool.free() < SLOTS {
                self.settle();
            }
            let listener = &self.listeners[index];
            let slots = match self.pool.receive(listener.socket.as_fd(), udp::BATCH) {
                Ok(slots) => slots,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP error about an earlier answer: the next call reads on.
                Err(_) => {
                    self.counters.receive_errors += 1;
                    continue;
                }
            };
            let (addr, drained) = (listener.addr, slots.len() < udp::BATCH);
            for slot in slots {
                let received = self.pool.meta(slot);
                if received.from.port() == 0 {
                    // Where no answer can go.
                    self.counters.receive_errors += 1;
                    continue;
                }
                let flow = FiveTuple {
                    client: ClientAddr(received.from),
                    server: ServerAddr(SocketAddr::new(received.local.unwrap_or(addr.ip()), addr.port())),
                    transport: Transport::Udp,
                };
                let mut start = 0;
                // A datagram may be empty; a run of them is not.
                loop {
                    let end = received.len.min(start + received.segment);
                    let verdict = self.server.handle_client(now, flow, self.pool.part(slot, start..end));
                    if let Verdict::Relay { relay, to, payload, dont_fragment } = verdict {
                        self.queue_for_peer(
                            relay,
                            to,
                            dont_fragment,
                            slot,
                            start + payload.start,
                            payload.end - payload.start,
                        );
                    } else {
                        self.carry_out(now);
                    }
                    start = end;
                    if start >= received.len {
                        break;
                    }
                }
            }
            self.settle();
            if drained {
                return false;
            }
        }
        true
    }

    /// Datagrams of peers, and errors about datagrams to them. `true`: there may be more.
    fn read_relay(&mut self, now: Now, relay: RelayId, errors: bool) -> bool {
        if self.pool.free() < 2 * RELAY_BUDGET {
            self.settle();
        }
        let more_errors = errors && self.read_errors(now, relay);
        let Some(socket) = self.relays.get(relay) else { return false };
        let slots = match self.pool.receive(socket.fd(), RELAY_BUDGET) {
            Ok(slots) => slots,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return more_errors,
            Err(_) => {
                self.counters.receive_errors += 1;
                return true;
            }
        };
        let more = more_errors || slots.len() == RELAY_BUDGET;
        for slot in slots {
            let received = self.pool.meta(slot);
            let mut start = 0;
            loop {
                let len = received.segment.min(received.len - start);
                if let Verdict::ToClient { flow, framing } =
                    self.server.handle_peer(now, relay, received.from, len)
                {
                    self.wrap_for_client(flow, framing, slot, start, len);
                }
                start += len;
                if start >= received.len {
                    break;
                }
            }
        }
        more
    }

    /// `true`: there may be more errors. They take the room of datagrams in the socket, so none may stay.
    fn read_errors(&mut self, now: Now, relay: RelayId) -> bool {
        for _ in 0..RELAY_BUDGET {
            let Some(socket) = self.relays.get(relay) else { return false };
            match udp::take_error(socket.fd()) {
                Some(Some(e)) => self.server.handle_peer_error(now, relay, e.to, (e.kind, e.code), e.mtu),
                Some(None) => {}
                None => return false,
            }
            self.carry_out(now);
        }
        true
    }

    /// Queues part of a slot for a peer.
    fn queue_for_peer(
        &mut self,
        relay: RelayId,
        to: SocketAddr,
        dont_fragment: bool,
        slot: usize,
        start: usize,
        len: usize,
    ) {
        if (self.to_peers.0, self.to_peers.1) != (Some(relay), dont_fragment) {
            self.flush_peers();
            (self.to_peers.0, self.to_peers.1) = (Some(relay), dont_fragment);
        }
        let piece = Piece { header: [0; Framing::HEADROOM], header_len: 0, slot, start, len, padding: 0 };
        self.to_peers.2.push(Target { to, from: None }, piece, self.gso);
    }

    /// Queues part of a stream's input for a peer: it leaves the stream's buffer for a slot, and with the batch.
    pub(super) fn stream_to_peer(
        &mut self,
        stream: usize,
        relay: RelayId,
        to: SocketAddr,
        dont_fragment: bool,
        payload: PayloadRange,
    ) {
        if self.pool.free() == 0 {
            self.settle();
        }
        let payload = &self.streams[stream].stream.input()[payload.start..payload.end];
        if let Some(slot) = self.pool.put(payload) {
            let len = payload.len();
            self.queue_for_peer(relay, to, dont_fragment, slot, 0, len);
        }
    }

    /// Queues part of a slot for a client, with its framing around it.
    fn wrap_for_client(&mut self, flow: FiveTuple, framing: Framing, slot: usize, start: usize, len: usize) {
        let mut header = [0; Framing::HEADROOM];
        let (header_len, padding) = framing.header(&mut header, len, flow.transport);
        //= 8656-16-1
        if flow.transport.is_stream() {
            let head = &header[Framing::HEADROOM - header_len..];
            let parts = [head, self.pool.part(slot, start..start + len), &[0; 4][..padding]];
            if let Some(&key) = self.by_flow.get(&flow) {
                let pushed = self.streams[key].stream.push(&parts, Kind::Data);
                self.counters.stream_dropped += u64::from(pushed != Ok(true));
                self.mark_dirty(key);
            }
            return;
        }
        self.queue_for_client(&flow, Piece { header, header_len, slot, start, len, padding });
    }

    fn queue_for_client(&mut self, flow: &FiveTuple, piece: Piece) {
        let server = flow.server.0;
        let serves = |l: &&mut UdpListener| {
            l.addr.port() == server.port()
                && (l.addr.ip() == server.ip()
                    || l.addr.ip().is_unspecified() && l.addr.is_ipv4() == server.is_ipv4())
        };
        if let Some(listener) = self.listeners.iter_mut().find(serves) {
            let from = listener.addr.ip().is_unspecified().then(|| server.ip());
            listener.outgoing.push(Target { to: flow.client.0, from }, piece, self.gso);
        }
    }

    /// Does what the relay asks for.
    pub(super) fn carry_out(&mut self, now: Now) {
        while let Some(output) = self.server.poll_output() {
            match output {
                //= 8489-6.2.2-3
                Output::Send { flow, bytes } if flow.transport.is_stream() => {
                    if let Some(&key) = self.by_flow.get(&flow) {
                        if self.streams[key].stream.push(&[&bytes], Kind::Control).is_err() {
                            self.streams[key].stuck = true;
                        }
                        self.mark_dirty(key);
                    }
                }
                Output::Send { flow, bytes } => {
                    if self.pool.free() == 0 {
                        // A run of requests has more answers than there are slots.
                        self.flush_datagrams();
                        self.pool.reset_put();
                    }
                    if let Some(slot) = self.pool.put(&bytes) {
                        let (header, len) = ([0; Framing::HEADROOM], bytes.len());
                        let piece = Piece { header, header_len: 0, slot, start: 0, len, padding: 0 };
                        self.queue_for_client(&flow, piece);
                    } else {
                        self.counters.send_dropped += 1;
                    }
                }
                Output::BindRelay { relay, transport: RelayTransport::Udp, family, port } => {
                    let bound = self.bind_udp(now, relay, family, port);
                    self.server.relay_bound(now, relay, bound);
                }
                Output::BindRelay { relay, transport: RelayTransport::Tcp, family, port } => {
                    let bound = self.bind_tcp(now, relay, family, port);
                    self.server.relay_bound(now, relay, bound);
                }
                Output::CloseRelay { relay } => {
                    if self.to_peers.0 == Some(relay) {
                        self.flush_peers();
                    }
                    self.relays.close(relay);
                    self.peers.close_listener(relay);
                }
                Output::ConnectPeer { relay, connection, to } => {
                    self.connect_peer(now, relay, connection, to)
                }
                Output::Join { flow, connection } => self.join(flow, connection),
                Output::ClosePeer { connection } => self.close_peer(connection),
                Output::Migrate { flow, shard, bytes } => self.migrate(now, &flow, shard, bytes),
                Output::Event(event) => events::record(&event),
            }
        }
    }

    fn bind_udp(
        &mut self,
        now: Now,
        relay: RelayId,
        family: Family,
        port: PortChoice,
    ) -> Result<SocketAddr, BindError> {
        let local = self.relays.bind(relay, family, port, now.instant)?;
        let Some(socket) = self.relays.get(relay) else { return Err(BindError::NoPort) };
        let (fd, token) = (socket.fd().as_raw_fd(), Token(RELAYS + relay.0 as usize));
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE) {
            log::error!("a relay socket can't be watched: {error}");
            self.relays.close(relay);
            return Err(BindError::NoPort);
        }
        Ok(local)
    }

    /// Finds the address for a TCP relay as for a UDP one.
    fn bind_tcp(
        &mut self,
        now: Now,
        relay: RelayId,
        family: Family,
        port: PortChoice,
    ) -> Result<SocketAddr, BindError> {
        let (socket, local) =
            self.relays.find(RelayTransport::Tcp, family, port, now.instant, peers::listen)?;
        self.peers.add_listener(&self.poll, relay, socket, local).map_err(|error| {
            log::error!("a relay socket can't be watched: {error}");
            BindError::NoPort
        })?;
        Ok(local)
    }

    fn flush_peers(&mut self) {
        let (relay, dont_fragment, outgoing) = &mut self.to_peers;
        if outgoing.is_empty() {
            return;
        }
        let Some(socket) = relay.and_then(|relay| self.relays.get(relay)) else { return outgoing.clear() };
        //= 8656-14-2
        // DONT-FRAGMENT is rare: the socket is switched for it and back.
        if *dont_fragment {
            let _ = udp::ask(socket.fd(), socket.v6, Wish::DontFragment(true));
        }
        let sent = self.sender.send(socket.fd(), outgoing, &self.pool);
        if *dont_fragment {
            let _ = udp::ask(socket.fd(), socket.v6, Wish::DontFragment(false));
        }
        self.counters.send_dropped += sent.dropped;
        self.gso &= !sent.no_gso;
    }

    /// Sends all that is queued from slots, and gives the slots back.
    fn settle(&mut self) {
        self.flush_datagrams();
        self.pool.reset();
    }

    fn flush_datagrams(&mut self) {
        self.flush_peers();
        for listener in self.listeners.iter_mut().filter(|l| !l.outgoing.is_empty()) {
            let sent = self.sender.send(listener.socket.as_fd(), &mut listener.outgoing, &self.pool);
            self.counters.send_dropped += sent.dropped;
            self.gso &= !sent.no_gso;
        }
    }

    fn take_commands(&mut self, now: Now) -> Stop {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Adopt(socket, tls, early) => self.adopt(now, socket, tls, early),
                Command::Report(to) => {
                    let mut counters = self.counters;
                    counters.turn = self.server.counters();
                    counters.allocations = self.server.allocations() as u64;
                    counters.streams = self.streams.len() as u64;
                    let _ = to.try_send(counters);
                }
                Command::Revoke(user, expires) => self.server.revoke(now, &user, expires),
                Command::Stop => return Stop(true),
            }
        }
        Stop(false)
    }
}

struct Stop(bool);

impl Stop {
    fn is_stop(&self) -> bool {
        self.0
    }
}

/// Registers the waker through which [`Command`]s are announced.
pub(super) fn waker(poll: &Poll) -> io::Result<Waker> {
    Waker::new(poll.registry(), WAKER)
}
