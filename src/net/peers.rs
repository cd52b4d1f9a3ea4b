//! Streams between TCP relays and peers (RFC 6062), and the bytes between them and clients.
//!
//! ```text
//! client ══ data connection ══►  pump_to_peer ──► outgoing ══► peer
//!        ◄═ stream queue ◄────── pump_to_client ◄═════════════ peer
//! ```
//! A side that reads slowly stops the other side from being read: nothing grows.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::{FAREWELL, Phase};
use super::shard::{PEERS, STREAMS, Shard};
use super::stream::{Kind, Over};
use crate::time::{Instant, Now};
use crate::turn::{ConnectionId, FiveTuple, RelayId};

/// Bytes that may wait on one side before the other is read no more.
const HIGH_WATER: usize = 32 * 1024;
/// Reads from a peer before the others get their turn.
const READS: usize = 8;

/// The TCP relays and peers of a shard.
#[derive(Default)]
pub(super) struct Peers {
    entries: Slab<Entry>,
    by_connection: HashMap<ConnectionId, usize>,
    listeners: HashMap<RelayId, usize>,
    /// Those that are [`State::Ending`], and until when.
    ending: VecDeque<(Instant, usize)>,
}

enum Entry {
    Listener { relay: RelayId, socket: TcpListener, local: SocketAddr },
    Peer(Peer),
}

struct Peer {
    connection: ConnectionId,
    socket: TcpStream,
    state: State,
    outgoing: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    /// Connected; nothing is read until the client has bound it.
    Waiting,
    /// Joined to a client's stream.
    Joined(usize),
    /// The client has gone; what it said is still written, until this time at most.
    Ending(Instant),
}

/// Listens at a relayed address that nobody else has; connections to peers leave from it, too.
pub(super) fn listen(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(local, false)?;
    socket.listen(64)?;
    // Not before: with it, two relays could get one address.
    socket.set_reuse_port(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn open(local: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the last relay at this address may not be over yet.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

impl Peers {
    pub(super) fn add_listener(
        &mut self,
        poll: &Poll,
        relay: RelayId,
        mut socket: TcpListener,
        local: SocketAddr,
    ) -> io::Result<()> {
        let key = self.entries.vacant_key();
        poll.registry().register(&mut socket, Token(PEERS + key), Interest::READABLE)?;
        self.entries.insert(Entry::Listener { relay, socket, local });
        self.listeners.insert(relay, key);
        Ok(())
    }

    pub(super) fn close_listener(&mut self, relay: RelayId) {
        if let Some(key) = self.listeners.remove(&relay) {
            self.entries.try_remove(key);
        }
    }

    fn add(
        &mut self,
        poll: &Poll,
        connection: ConnectionId,
        mut socket: TcpStream,
        state: State,
    ) -> io::Result<usize> {
        let key = self.entries.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut socket, Token(PEERS + key), interest)?;
        let _ = socket.set_nodelay(true);
        self.entries.insert(Entry::Peer(Peer { connection, socket, state, outgoing: Vec::new() }));
        self.by_connection.insert(connection, key);
        Ok(key)
    }

    /// Are there any that must be given up in time?
    /// Sockets that are open.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn are_ending(&self) -> bool {
        !self.ending.is_empty()
    }

    fn get(&mut self, key: usize) -> Option<&mut Peer> {
        match self.entries.get_mut(key)? {
            Entry::Peer(peer) => Some(peer),
            Entry::Listener { .. } => None,
        }
    }

    fn find(&mut self, connection: ConnectionId) -> Option<(usize, &mut Peer)> {
        let key = *self.by_connection.get(&connection)?;
        self.get(key).map(|peer| (key, peer))
    }
}

impl Shard {
    pub(super) fn connect_peer(
        &mut self,
        now: Now,
        relay: RelayId,
        connection: ConnectionId,
        to: SocketAddr,
    ) {
        let listener = self.peers.listeners.get(&relay).and_then(|key| self.peers.entries.get(*key));
        let connect = || {
            let Some(Entry::Listener { local, .. }) = listener else {
                return Err(io::ErrorKind::NotFound.into());
            };
            //= 6062-5.2-3
            // The listener and each connection share one local address.
            let socket = open(*local, true)?;
            match socket.connect(&to.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(TcpStream::from_std(socket.into())),
            }
        };
        let added =
            connect().and_then(|socket| self.peers.add(&self.poll, connection, socket, State::Connecting));
        if added.is_err() {
            self.server.peer_connected(now, connection, false);
        }
    }

    /// A TCP relay or a peer is ready. `true`: there may be more.
    pub(super) fn serve_peer(&mut self, now: Now, key: usize, event: Option<&Event>) -> bool {
        match self.peers.entries.get_mut(key) {
            None => false,
            Some(Entry::Listener { relay, socket, .. }) => {
                let relay = *relay;
                // An error of accept concerns the peer that has gone again, or passes.
                let Ok((stream, from)) = socket.accept() else { return false };
                if let Some(connection) = self.server.peer_accepted(now, relay, from)
                    && self.peers.add(&self.poll, connection, stream, State::Waiting).is_err()
                {
                    self.server.peer_gone(connection);
                }
                self.carry_out(now);
                true
            }
            Some(Entry::Peer(peer)) => {
                let connection = peer.connection;
                match peer.state {
                    State::Connecting => {
                        self.finish_connecting(now, key, event);
                        false
                    }
                    //= 6062-5.2-6 6062-5.3-3
                    State::Waiting => false,
                    State::Ending(_) => {
                        if peer.flush() != Ok(()) || peer.outgoing.is_empty() {
                            self.peers.entries.remove(key);
                        }
                        false
                    }
                    State::Joined(stream) => match self.serve_joined(key, stream) {
                        Ok(more) => more,
                        Err(Over::Gone | Over::Garbage | Over::Stuck) => {
                            self.end_joined(connection);
                            false
                        }
                    },
                }
            }
        }
    }

    fn finish_connecting(&mut self, now: Now, key: usize, event: Option<&Event>) {
        let Some(peer) = self.peers.get(key) else { return };
        let connection = peer.connection;
        let failed =
            matches!(peer.socket.take_error(), Ok(Some(_)) | Err(_)) || event.is_some_and(Event::is_error);
        if failed {
            self.close_peer(connection);
            self.server.peer_connected(now, connection, false);
        } else if peer.socket.peer_addr().is_ok() {
            peer.state = State::Waiting;
            self.server.peer_connected(now, connection, true);
        }
        self.carry_out(now);
    }

    /// The client's stream and the peer's become one.
    //= 6062-5.4-3
    pub(super) fn join(&mut self, flow: FiveTuple, connection: ConnectionId) {
        let Some(&stream) = self.by_flow.get(&flow) else { return };
        let Some((key, peer)) = self.peers.find(connection) else { return };
        peer.state = State::Joined(stream);
        self.streams[stream].phase = Phase::Joined(connection);
        // What the peer has said meanwhile raises no event any more.
        self.again.push(Token(PEERS + key));
        self.again.push(Token(STREAMS + stream));
    }

    /// Client to peer. `false`: nothing more now.
    pub(super) fn pump_to_peer(&mut self, stream: usize, connection: ConnectionId) -> Result<bool, Over> {
        let Some((_, peer)) = self.peers.find(connection) else { return Err(Over::Gone) };
        let client = &mut self.streams[stream].stream;
        if peer.outgoing.len() < HIGH_WATER {
            let more = client.read(&mut self.scratch, true);
            peer.outgoing.extend_from_slice(client.input());
            client.discard_input();
            peer.flush()?;
            return Ok(more? && peer.outgoing.len() < HIGH_WATER);
        }
        peer.flush()?;
        Ok(peer.outgoing.len() < HIGH_WATER)
    }

    /// Peer to client, and what waits for the peer.
    fn serve_joined(&mut self, key: usize, stream: usize) -> Result<bool, Over> {
        let Some(peer) = self.peers.get(key) else { return Ok(false) };
        let was_full = peer.outgoing.len() >= HIGH_WATER;
        peer.flush()?;
        if was_full && peer.outgoing.len() < HIGH_WATER {
            self.again.push(Token(STREAMS + stream));
        }
        for _ in 0..READS {
            let Some(Entry::Peer(peer)) = self.peers.entries.get_mut(key) else { return Ok(false) };
            let Some(connection) = self.streams.get_mut(stream) else { return Err(Over::Gone) };
            if connection.stream.waiting() >= HIGH_WATER {
                return Ok(false); // peer_may_go_on reads on
            }
            match peer.socket.read(&mut self.scratch[..HIGH_WATER / 2]) {
                Ok(0) => return Err(Over::Gone),
                Ok(n) => {
                    connection.stream.push(&[&self.scratch[..n]], Kind::Control)?;
                    self.mark_dirty(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over::Gone),
            }
        }
        Ok(true)
    }

    /// The client's queue has room again.
    pub(super) fn peer_may_go_on(&mut self, connection: ConnectionId) {
        let room = |shard: &Self, stream: usize| {
            shard.streams.get(stream).is_some_and(|c| c.stream.waiting() < HIGH_WATER)
        };
        if let Some((key, State::Joined(stream))) =
            self.peers.find(connection).map(|(key, peer)| (key, peer.state))
            && room(self, stream)
        {
            self.again.push(Token(PEERS + key));
        }
    }

    //= 6062-5.5-2
    fn end_joined(&mut self, connection: ConnectionId) {
        self.close_peer(connection);
        self.server.peer_gone(connection);
    }

    /// Closes a peer's stream. What waits for the client joined to it is written, then its stream ends, too.
    pub(super) fn close_peer(&mut self, connection: ConnectionId) {
        let Some(key) = self.peers.by_connection.remove(&connection) else { return };
        let Some(Entry::Peer(peer)) = self.peers.entries.try_remove(key) else { return };
        if let State::Joined(stream) = peer.state
            && let Some(c) = self.streams.get_mut(stream).filter(|c| c.phase == Phase::Joined(connection))
        {
            c.phase = Phase::Leaving;
            c.deadline = self.clock.now().instant + FAREWELL;
            c.stream.end();
            self.mark_dirty(stream);
        }
    }

    /// The client joined to a peer has gone: what it said is written, then the peer's stream ends, too.
    pub(super) fn end_peer(&mut self, now: Now, connection: ConnectionId) {
        let Some((key, peer)) = self.peers.find(connection) else { return };
        if peer.flush() != Ok(()) || peer.outgoing.is_empty() {
            return self.close_peer(connection);
        }
        let until = now.instant + FAREWELL;
        peer.state = State::Ending(until);
        self.peers.by_connection.remove(&connection);
        self.peers.ending.push_back((until, key));
    }

    /// Gives up peers that did not read the rest in time.
    pub(super) fn sweep_peers(&mut self, now: Now) {
        while let Some((until, key)) = self.peers.ending.front().copied().filter(|(t, _)| *t <= now.instant) {
            self.peers.ending.pop_front();
            // The place may have been taken by somebody else since.
            if self.peers.get(key).is_some_and(|peer| peer.state == State::Ending(until)) {
                self.peers.entries.remove(key);
            }
        }
    }
}

impl Peer {
    fn flush(&mut self) -> Result<(), Over> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over::Gone),
            }
        }
        Ok(())
    }
}
