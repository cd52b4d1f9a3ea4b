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
//! When the peer is a relayed address of this server, the datagram goes from one allocation to the other without the
//! kernel: here at once, to another shard by `across.rs`.
//!
//! A wake-up reads what is ready, within a budget for each socket, so that one flood starves nobody; what it left
//! is read in the next round, which does not sleep. The clock is read once for each wake-up. On the way of relayed
//! data nothing is locked and nothing is allocated.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use ahash::RandomState;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::across::Parcel;
use super::admission::Admission;
use super::again::Again;
use super::burst::Burst;
use super::clock::Clock;
use super::connection::Connection;
use super::forward::{Forward, Passed};
use super::listeners::{FEW, Socket, TcpListener, UdpListener};
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
/// Datagrams, or runs of them, read from a listener before the others get their turn.
const LISTENER_BUDGET: usize = 4 * udp::BATCH;
/// The same of a relay socket.
const RELAY_BUDGET: usize = 16;
/// Parcels of other shards taken before the sockets get their turn.
const PARCEL_BUDGET: usize = udp::BATCH;
/// How often streams are looked at for their deadlines.
const SWEEP: Duration = Duration::from_secs(1);

/// What is ready, by token.
pub(super) const WAKER: Token = Token(0);
pub(super) const LISTENERS: usize = 1;
pub(super) const TCP_LISTENERS: usize = 1 << 24;
pub(super) const STREAMS: usize = 1 << 32;
const RELAYS: usize = 1 << 40;
pub(super) const PEERS: usize = 1 << 48;

/// What a shard is told from outside.
pub(super) enum Command {
    /// Take over a stream: its transport, its client, TLS state, and the bytes read so far.
    Adopt(mio::net::TcpStream, SocketAddr, Option<Box<rustls::ServerConnection>>, Vec<u8>),
    /// Handle a datagram that another shard has got.
    Datagram(Passed),
    /// Pass on what comes over this path to that shard, until it wants no more.
    Follow(FiveTuple, u8),
    Unfollow(FiveTuple, u8),
    /// Tell what you have done.
    Report(SyncSender<Counters>),
    /// Do this piece of work.
    Control(super::control::Work),
    /// End.
    Stop,
}

pub(super) struct Shard {
    pub poll: Poll,
    pub clock: Clock,
    pub server: Server,
    pub settings: Settings,
    pub counters: Counters,
    pub admission: Arc<Admission>,
    pub siblings: Arc<Vec<super::Mailbox>>,
    pub number: usize,
    inbox: Receiver<Command>,
    /// Shards that have parcels of ours and may sleep.
    to_wake: Vec<u8>,

    pub listeners: Slab<UdpListener>,
    pub tcp_listeners: Slab<TcpListener>,
    relays: Relays,
    pub pool: Pool,
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
    pub sweep_at: Instant,
    /// It ends then, or as soon as nobody waits for a first answer.
    pub stop_at: Option<Instant>,
    pub again: Again,
    pub forward: Forward,
}

/// What a shard is made of.
pub(super) struct Parts {
    pub poll: Poll,
    pub clock: Clock,
    pub server: Server,
    pub settings: Settings,
    pub admission: Arc<Admission>,
    pub siblings: Arc<Vec<super::Mailbox>>,
    pub number: usize,
    pub inbox: Receiver<Command>,
    pub sockets: Vec<Socket>,
    pub relays: Relays,
    pub hasher: RandomState,
}

impl Shard {
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let again = Again::new(parts.hasher.clone());
        let forward = Forward::new(parts.hasher.clone());
        let mut shard = Self {
            poll: parts.poll,
            clock: parts.clock,
            server: parts.server,
            settings: parts.settings,
            counters: Counters::default(),
            admission: parts.admission,
            siblings: parts.siblings,
            number: parts.number,
            inbox: parts.inbox,
            to_wake: Vec::new(),
            listeners: Slab::new(),
            tcp_listeners: Slab::new(),
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
            stop_at: None,
            again,
            forward,
        };
        for socket in parts.sockets {
            shard.listen(socket)?;
        }
        Ok(shard)
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        let mut ready = Events::with_capacity(1_024);
        let mut now = self.clock.now();
        loop {
            // Counted from the wake-up before: the clock is read once for both.
            let timeout = self.timeout(now.instant);
            match self.poll.poll(&mut ready, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("a shard can't wait for its sockets: {error}");
                    return;
                }
                _ => {}
            }
            now = self.clock.now();
            for _ in 0..self.again.len() {
                if let Some(token) = self.again.pop() {
                    self.serve(now, token, None);
                }
            }
            for event in &ready {
                if event.token() == WAKER {
                    self.take_commands(now);
                }
                self.serve(now, event.token(), Some(event));
            }
            self.server.handle_timeout(now);
            self.carry_out(now);
            if now.instant >= self.sweep_at {
                self.sweep_at = now.instant + SWEEP;
                self.sweep_streams(now);
                self.sweep_peers(now);
                self.sweep_forward();
                self.close_listeners();
                self.carry_out(now);
            }
            self.flush_streams(now);
            self.settle();
            if self.stop_at.is_some_and(|at| at <= now.instant || !self.has_young_streams()) {
                return;
            }
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let busy = !self.streams.is_empty()
            || self.peers.are_ending()
            || !self.forward.is_idle()
            || self.listeners.iter().any(|(_, l)| l.leaving.is_some())
            || self.tcp_listeners.iter().any(|(_, l)| l.paused.is_some());
        let sweep = busy.then_some(self.sweep_at);
        let next = [self.server.poll_timeout(), sweep, self.stop_at].into_iter().flatten().min()?;
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
            n if n == WAKER.0 => self.take_parcels(now),
            TCP_LISTENERS.. => self.accept(now, token.0 - TCP_LISTENERS),
            n => self.read_listener(now, n - LISTENERS),
        };
        if more {
            self.again.push(token);
        }
    }

    /// Datagrams of clients. `true`: there may be more.
    fn read_listener(&mut self, now: Now, index: usize) -> bool {
        let mut budget = LISTENER_BUDGET;
        // It may have closed since.
        while budget > 0 && self.listeners.contains(index) {
            let want = self.listeners[index].want;
            // Each datagram may need a second slot, for its answer.
            if self.pool.free() < 2 * want {
                self.settle();
            }
            let listener = &mut self.listeners[index];
            let slots = match self.pool.receive(listener.socket.as_fd(), want) {
                Ok(slots) => slots,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP error about an earlier answer: the next call reads on.
                Err(_) => {
                    self.counters.receive_errors += 1;
                    budget = budget.saturating_sub(udp::BATCH);
                    continue;
                }
            };
            let came = slots.len();
            listener.want = (2 * came).clamp(FEW, udp::BATCH);
            budget = budget.saturating_sub(came);
            let addr = listener.addr;
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
                if self.pass_on(&flow, slot) {
                    continue;
                }
                if self.is_strange(index, &flow) {
                    self.counters.listener_removed += 1;
                    continue;
                }
                self.take_from_client(now, flow, slot);
            }
            if came < want {
                return false;
            }
        }
        true
    }

    /// A datagram of a client, or a run of them: looked up once, if it can be.
    pub(super) fn take_from_client(&mut self, now: Now, flow: FiveTuple, slot: usize) {
        let all = Burst::of(slot, &self.pool);
        if all.is_run() {
            let bytes = self.pool.part(slot, all.range());
            let verdict = self.server.handle_client_run(now, flow, bytes, all.segment);
            if verdict != Verdict::Apart {
                return self.enact(verdict, all);
            }
        }
        for one in all.singles() {
            match self.server.handle_client(now, flow, self.pool.part(slot, one.range())) {
                Verdict::Nothing => self.carry_out(now),
                verdict => self.enact(verdict, one),
            }
        }
    }

    /// Datagrams of peers, and errors about datagrams to them. `true`: there may be more.
    fn read_relay(&mut self, now: Now, relay: RelayId, errors: bool) -> bool {
        let more_errors = errors && self.read_errors(now, relay);
        let (mut want, mut budget) = (FEW, RELAY_BUDGET);
        while budget > 0 {
            if self.pool.free() < want {
                self.settle();
            }
            let Some(socket) = self.relays.get(relay) else { return false };
            let slots = match self.pool.receive(socket.fd(), want) {
                Ok(slots) => slots,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return more_errors,
                Err(_) => {
                    self.counters.receive_errors += 1;
                    return true;
                }
            };
            let came = slots.len();
            for slot in slots {
                let from = self.pool.meta(slot).from;
                self.take_from_peer(now, relay, from, Burst::of(slot, &self.pool));
            }
            if came < want {
                return more_errors;
            }
            budget -= came.min(budget);
            want = budget;
        }
        true
    }

    /// A datagram of a peer, or a run of them: looked up once, if it can be.
    fn take_from_peer(&mut self, now: Now, relay: RelayId, from: SocketAddr, all: Burst) {
        if all.is_run() {
            let verdict = self.server.handle_peer_run(now, relay, from, all.segment, all.len);
            if verdict != Verdict::Apart {
                return self.enact(verdict, all);
            }
        }
        for one in all.singles() {
            let verdict = self.server.handle_peer(now, relay, from, one.len);
            self.enact(verdict, one);
        }
    }

    /// What other shards have relayed to allocations of this one. `true`: there may be more.
    fn take_parcels(&mut self, now: Now) -> bool {
        self.siblings[self.number].across.look();
        for _ in 0..PARCEL_BUDGET {
            let Some(Parcel { from, to, bytes, segment }) = self.siblings[self.number].across.take() else {
                return false;
            };
            if self.pool.free() == 0 {
                self.settle();
            }
            if let Some(slot) = self.pool.put(&bytes) {
                let all = Burst { slot, start: 0, segment, len: bytes.len() };
                match self.server.handle_relayed(now, from, to, segment, bytes.len()) {
                    Verdict::Apart => {
                        for one in all.singles() {
                            let verdict = self.server.handle_relayed(now, from, to, one.len, one.len);
                            self.enact(verdict, one);
                        }
                    }
                    verdict => self.enact(verdict, all),
                }
            }
            self.siblings[self.number].across.give_back(bytes);
        }
        true
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

    /// Relays what was handed in. It stays in its slot until it is sent.
    fn enact(&mut self, verdict: Verdict, burst: Burst) {
        match verdict {
            Verdict::Nothing | Verdict::Apart => {}
            Verdict::Relay { relay, to, payload, dont_fragment } => {
                if (self.to_peers.0, self.to_peers.1) != (Some(relay), dont_fragment) {
                    self.flush_peers();
                    (self.to_peers.0, self.to_peers.1) = (Some(relay), dont_fragment);
                }
                for piece in burst.pieces(payload) {
                    self.to_peers.2.push(Target { to, from: None }, piece, self.gso);
                }
            }
            Verdict::ToClient { flow, framing, payload } => {
                for piece in burst.pieces(payload) {
                    self.wrap_for_client(flow, framing, piece);
                }
            }
            Verdict::ToShard { shard, from, to, payload } => {
                self.send_across(shard, from, to, burst, payload)
            }
        }
    }

    /// The same for a frame of a stream: what is relayed of it leaves the stream's buffer for a slot.
    pub(super) fn enact_for_stream(&mut self, stream: usize, verdict: Verdict) {
        let (Verdict::Relay { payload, .. }
        | Verdict::ToClient { payload, .. }
        | Verdict::ToShard { payload, .. }) = verdict
        else {
            return;
        };
        if self.pool.free() == 0 {
            self.settle();
        }
        let data = &self.streams[stream].stream.input()[payload.start..payload.end];
        let len = data.len();
        let Some(slot) = self.pool.put(data) else { return };
        let payload = PayloadRange::all(len);
        let verdict = match verdict {
            Verdict::Nothing | Verdict::Apart => return,
            Verdict::Relay { relay, to, dont_fragment, .. } => {
                Verdict::Relay { relay, to, payload, dont_fragment }
            }
            Verdict::ToClient { flow, framing, .. } => Verdict::ToClient { flow, framing, payload },
            Verdict::ToShard { shard, from, to, .. } => Verdict::ToShard { shard, from, to, payload },
        };
        self.enact(verdict, Burst { slot, start: 0, segment: len, len });
    }

    fn send_across(
        &mut self,
        shard: u8,
        from: SocketAddr,
        to: SocketAddr,
        burst: Burst,
        payload: PayloadRange,
    ) {
        let Some(sibling) = self.siblings.get(usize::from(shard)) else { return };
        let pool = &self.pool;
        let all = burst.pieces(payload).flat_map(Piece::into_parts).map(|part| pool.part(burst.slot, part));
        if sibling.across.send(from, to, payload.end - payload.start, all) {
            self.counters.across += 1;
        } else {
            self.counters.across_dropped += burst.count() as u64;
        }
        if !self.to_wake.contains(&shard) {
            self.to_wake.push(shard);
        }
    }

    /// Queues parts of a slot for a client, with their framing around them.
    fn wrap_for_client(&mut self, flow: FiveTuple, framing: Framing, mut piece: Piece) {
        (piece.header_len, piece.padding) = framing.header(&mut piece.header, piece.len, flow.transport);
        //= 8656-16-1
        if !flow.transport.is_stream() {
            return self.queue_for_client(&flow, piece);
        }
        let Some(&key) = self.by_flow.get(&flow) else { return };
        let head = &piece.header[Framing::HEADROOM - piece.header_len..];
        for part in piece.into_parts() {
            let parts = [head, self.pool.part(piece.slot, part), &[0; 4][..piece.padding]];
            let pushed = self.streams[key].stream.push(&parts, Kind::Data);
            self.counters.stream_dropped += u64::from(pushed != Ok(true));
        }
        self.mark_dirty(key);
    }

    fn queue_for_client(&mut self, flow: &FiveTuple, piece: Piece) {
        if let Some((_, listener)) = self.listeners.iter_mut().find(|(_, l)| l.serves(flow)) {
            let from = listener.addr.ip().is_unspecified().then(|| flow.server.0.ip());
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
                        self.queue_for_client(&flow, Piece::plain(slot, 0, bytes.len()));
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
                Output::Migrate { flow, shard, bytes } if flow.transport.is_stream() => {
                    self.migrate(now, &flow, shard, bytes)
                }
                Output::Migrate { flow, shard, bytes } => self.pass(flow, shard, bytes),
                // Every packet asks the core. This is where a path in the kernel would be told.
                Output::Granted { .. } | Output::Revoked { .. } => {}
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
    pub(super) fn settle(&mut self) {
        self.flush_datagrams();
        self.pool.reset();
    }

    fn flush_datagrams(&mut self) {
        self.flush_peers();
        for listener in self.listeners.iter_mut().map(|(_, l)| l).filter(|l| !l.outgoing.is_empty()) {
            let sent = self.sender.send(listener.socket.as_fd(), &mut listener.outgoing, &self.pool);
            self.counters.send_dropped += sent.dropped;
            self.gso &= !sent.no_gso;
        }
        for shard in self.to_wake.drain(..) {
            self.siblings[usize::from(shard)].wake_for_parcels();
        }
    }

    fn take_commands(&mut self, now: Now) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Adopt(socket, client, tls, early) => self.adopt(now, socket, client, tls, early),
                Command::Datagram(passed) => self.take_passed(now, passed),
                Command::Follow(flow, owner) => self.forward.follow(flow, owner),
                Command::Unfollow(flow, owner) => self.forward.unfollow(&flow, owner),
                Command::Report(to) => {
                    let _ = to.try_send(self.report());
                }
                Command::Control(work) => work(self, now),
                Command::Stop => self.begin_to_stop(now),
            }
        }
    }

    /// What it has done, and what there is.
    pub(super) fn report(&self) -> Counters {
        let mut counters = self.counters;
        counters.turn = self.server.counters();
        counters.allocations = self.server.allocations() as u64;
        counters.streams = self.streams.len() as u64;
        counters.listeners = (self.listeners.len() + self.tcp_listeners.len()) as u64;
        counters.relay_sockets = self.relays.len() as u64;
        counters.peer_sockets = self.peers.len() as u64;
        counters
    }
}

/// Registers the waker through which [`Command`]s are announced.
pub(super) fn waker(poll: &Poll) -> io::Result<Waker> {
    Waker::new(poll.registry(), WAKER)
}
