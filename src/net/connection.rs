//! The streams of a shard: accepted, read frame by frame, written, closed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Token};

use super::admission::StreamTicket;
use super::listeners::TcpListener;
use super::proxy;
use super::shard::{STREAMS, Shard};
use super::stream::{Kind, Over, Stream};
use crate::time::{Instant, Now};
use crate::turn::{ClientAddr, ConnectionId, FiveTuple, ServerAddr, Transport, Verdict};

/// Reads from one stream before the others get their turn.
const READS: usize = 8;
/// Streams accepted before the sockets get their turn.
const ACCEPTS: usize = 64;
/// Streams that end in one sweep.
const ENDS: usize = 64;
/// At a stop: for streams that have not yet said anything.
const FIRST_QUESTION: Duration = Duration::from_secs(1);
/// How long a stream that was told goodbye may take to read what waits for it, and to close.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);
/// After an error of accept, which is most often a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two lines in the log that say the same.
const SELDOM: Duration = Duration::from_secs(60);

const PAGE: &str = include_str!("page.html");

/// A client's stream.
pub(super) struct Connection {
    pub stream: Stream,
    pub flow: FiveTuple,
    pub phase: Phase,
    /// When it is looked at again, and closed if it leads nowhere.
    pub deadline: Instant,
    /// It has something to write, and is in the list for it.
    dirty: bool,
    /// More answers wait than the queue holds.
    pub stuck: bool,
    /// Its place among all streams, given back when it is dropped.
    ticket: StreamTicket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A proxy passes it on, and says first whose it is.
    Proxied,
    /// Nothing has come yet: it may turn out to be a browser that was led here.
    New,
    /// STUN and ChannelData.
    Turn,
    /// Joined to a peer's stream (RFC 6062): raw bytes.
    Joined(ConnectionId),
    /// All is said: what comes is thrown away until the client closes.
    Leaving,
}

impl Shard {
    /// Accepts what waits at a TCP listener. `true`: there may be more.
    pub(super) fn accept(&mut self, now: Now, index: usize) -> bool {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.tcp_listeners.get_mut(index) else { return false };
            match listener.socket.accept() {
                Ok((socket, from)) => {
                    let proxied = super::is_in(&self.settings.proxies, from.ip());
                    let phase = if proxied { Phase::Proxied } else { Phase::New };
                    self.take_in(now, socket, from, phase, None, Vec::new());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.counters.accept_errors += 1;
                    listener.paused = Some(now.instant + PAUSE);
                    if self.accept_warned.is_none_or(|at| at + SELDOM <= now.instant) {
                        self.accept_warned = Some(now.instant);
                        log::warn!("can't accept connections, trying again twice a second: {error}");
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Takes over a stream from outside.
    pub(super) fn adopt(
        &mut self,
        now: Now,
        socket: TcpStream,
        client: SocketAddr,
        tls: Option<Box<rustls::ServerConnection>>,
        early: Vec<u8>,
    ) {
        self.take_in(now, socket, client, Phase::New, tls, early);
    }

    fn take_in(
        &mut self,
        now: Now,
        mut socket: TcpStream,
        from: SocketAddr,
        phase: Phase,
        tls: Option<Box<rustls::ServerConnection>>,
        early: Vec<u8>,
    ) {
        let Some(ticket) = self.admission.admit(from.ip()) else {
            self.counters.streams_refused += 1;
            if self.refusal_warned.is_none_or(|at| at + SELDOM <= now.instant) {
                self.refusal_warned = Some(now.instant);
                log::warn!(
                    client:% = from;
                    "connection from {from} refused: limits.connections or limits.connections-per-address is reached"
                );
            }
            return;
        };
        let Ok(local) = socket.local_addr() else { return };
        let _ = socket.set_nodelay(true);
        let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
        let flow = FiveTuple { client: ClientAddr(from), server: ServerAddr(local), transport };
        if let Some(&old) = self.by_flow.get(&flow) {
            // A client that has broken its stream and comes again from the same port, before we heard of the first.
            self.close_stream(now, old, Over::Gone);
        }
        let entry = self.streams.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut socket, Token(STREAMS + key), interest) {
            log::warn!("a connection can't be watched: {error}");
            return;
        }
        entry.insert(Connection {
            stream: Stream::new(socket, tls, early, self.settings.stream_queue),
            flow,
            phase,
            deadline: now.instant + self.settings.first_message_timeout,
            dirty: false,
            stuck: false,
            ticket,
        });
        self.by_flow.insert(flow, key);
        self.counters.streams_accepted += 1;
        // What was read before, in plaintext or inside TLS, raises no event.
        if self.serve_stream(now, key, None) {
            self.again.push(Token(STREAMS + key));
        }
    }

    /// Reads a stream and takes its messages. `true`: there may be more.
    pub(super) fn serve_stream(&mut self, now: Now, key: usize, event: Option<&Event>) -> bool {
        if !self.streams.contains(key) {
            return false;
        }
        if event.is_some_and(Event::is_writable) {
            self.mark_dirty(key);
        }
        self.streams[key].stream.borrow(&mut self.input);
        let thorough = event.is_none_or(Event::is_read_closed);
        let mut result = Ok(true);
        for _ in 0..READS {
            result = self.read_stream(now, key, thorough);
            if result != Ok(true) {
                break;
            }
        }
        // It may have moved to another shard, with all that is its own.
        if let Some(connection) = self.streams.get_mut(key) {
            connection.stream.give_back(&mut self.input);
        }
        match result {
            Ok(more) => more,
            Err(over) => {
                self.close_stream(now, key, over);
                false
            }
        }
    }

    /// One read and all messages that are whole by then.
    fn read_stream(&mut self, now: Now, key: usize, thorough: bool) -> Result<bool, Over> {
        if let Phase::Joined(peer) = self.streams[key].phase {
            return self.pump_to_peer(key, peer);
        }
        self.take_messages(now, key)?;
        // Taking a message may have joined, migrated or ended the stream.
        let Some(connection) = self.streams.get_mut(key) else { return Ok(false) };
        if let Phase::Joined(_) = connection.phase {
            return Ok(true);
        }
        let more = connection.stream.read(&mut self.scratch, thorough)?;
        if connection.stream.wants_write() {
            self.mark_dirty(key);
        }
        self.take_messages(now, key)?;
        Ok(more && self.streams.contains(key))
    }

    fn take_messages(&mut self, now: Now, key: usize) -> Result<(), Over> {
        loop {
            let Some(connection) = self.streams.get_mut(key) else { return Ok(()) };
            match connection.phase {
                Phase::Leaving => {
                    connection.stream.discard_input();
                    return Ok(());
                }
                Phase::Joined(_) => return Ok(()),
                Phase::Proxied => match proxy::parse(connection.stream.input()) {
                    Ok(None) => return Ok(()),
                    Ok(Some(header)) => {
                        connection.stream.consume(header.len);
                        connection.phase = Phase::New;
                        self.introduce(now, key, header.client)?;
                        continue;
                    }
                    Err(_) => return Err(Over::Garbage),
                },
                // Somebody who may not speak for others. As ChannelData it would be waited for.
                Phase::New if proxy::is_header(connection.stream.input()) => return Err(Over::Garbage),
                Phase::New => match looks_like_http(connection.stream.input()) {
                    None => return Ok(()),
                    Some(true) => {
                        self.explain(now, key);
                        return Ok(());
                    }
                    Some(false) => connection.phase = Phase::Turn,
                },
                Phase::Turn => {}
            }
            let Some((message, consumed)) = connection.stream.next_frame()? else { return Ok(()) };
            connection.deadline = now.instant + self.settings.idle_timeout;
            let flow = connection.flow;
            let verdict = self.server.handle_client(now, flow, &connection.stream.input()[..message]);
            if verdict == Verdict::Nothing {
                connection.stream.consume(consumed);
                self.carry_out(now);
            } else {
                self.enact_for_stream(key, verdict);
                self.streams[key].stream.consume(consumed);
            }
        }
    }

    /// A proxy has said whose stream this is: from here on it is the client's. `None`: the proxy's own.
    fn introduce(&mut self, now: Now, key: usize, client: Option<SocketAddr>) -> Result<(), Over> {
        let Some(client) = client else { return Ok(()) };
        let old = self.streams[key].flow;
        let flow = FiveTuple { client: ClientAddr(client), ..old };
        let Some(ticket) = self.admission.admit(client.ip()) else {
            self.counters.streams_refused += 1;
            return Err(Over::Gone);
        };
        if let Some(&other) = self.by_flow.get(&flow) {
            self.close_stream(now, other, Over::Gone);
        }
        self.by_flow.remove(&old);
        self.by_flow.insert(flow, key);
        let connection = &mut self.streams[key];
        (connection.flow, connection.ticket) = (flow, ticket);
        Ok(())
    }

    /// A browser or a curl was pointed at this port: tell it what the port is.
    fn explain(&mut self, now: Now, key: usize) {
        let connection = &mut self.streams[key];
        connection.stream.discard_input();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\nConnection: close\r\n\r\n",
            PAGE.len()
        );
        // It fits: nothing was queued before.
        let _ = connection.stream.push(&[head.as_bytes(), PAGE.as_bytes()], Kind::Control);
        connection.stream.end();
        connection.phase = Phase::Leaving;
        connection.deadline = now.instant + FAREWELL;
        self.counters.http_requests += 1;
        self.mark_dirty(key);
    }

    pub(super) fn mark_dirty(&mut self, key: usize) {
        if let Some(connection) = self.streams.get_mut(key).filter(|c| !c.dirty) {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Writes what has gathered in this round.
    pub(super) fn flush_streams(&mut self, now: Now) {
        while let Some(key) = self.dirty.pop() {
            let Some(connection) = self.streams.get_mut(key) else { continue };
            connection.dirty = false;
            let result = if connection.stuck { Err(Over::Stuck) } else { connection.stream.flush() };
            if let Err(over) = result {
                self.close_stream(now, key, over);
            } else if let Phase::Joined(peer) = self.streams[key].phase {
                // There is room again for what the peer sends.
                self.peer_may_go_on(peer);
            }
        }
    }

    /// Listens on nothing more. Who has just been let in asks its first question, and is answered; who comes later waits
    /// with systemd for the next process, if that holds the port.
    pub(super) fn begin_to_stop(&mut self, now: Now) {
        let registry = self.poll.registry();
        for mut listener in self.tcp_listeners.drain() {
            let _ = registry.deregister(&mut listener.socket);
        }
        self.stop_at = Some(now.instant + FIRST_QUESTION);
    }

    /// Is there a stream of which nothing has been heard?
    pub(super) fn has_young_streams(&self) -> bool {
        self.streams.iter().any(|(_, c)| matches!(c.phase, Phase::New | Phase::Proxied))
    }

    pub(super) fn close_stream(&mut self, now: Now, key: usize, over: Over) {
        let Some(mut connection) = self.streams.try_remove(key) else { return };
        match over {
            Over::Gone => {
                // It may have closed its own side only, and wait for an answer.
                connection.stream.end();
                let _ = connection.stream.flush();
            }
            //= 8489-6.2.2-2
            Over::Garbage => {
                self.counters.streams_garbage += 1;
                // What was asked before the garbage is answered (RFC 8489 section 6.2.2).
                let _ = connection.stream.flush();
            }
            Over::Stuck => self.counters.streams_stuck += 1,
        }
        self.by_flow.remove(&connection.flow);
        if let Phase::Joined(peer) = connection.phase {
            self.end_peer(now, peer);
            //= 6062-5.5-2
            self.server.peer_gone(peer);
        }
        self.server.client_gone(now, connection.flow);
        self.carry_out(now);
    }

    /// Closes streams that lead nowhere, and goes on accepting after a pause.
    //= 8489-6.2.2-1
    pub(super) fn sweep_streams(&mut self, now: Now) {
        self.streams.iter_mut().for_each(|(_, c)| c.stream.relax());
        let due = |c: &Connection| c.deadline <= now.instant && !matches!(c.phase, Phase::Joined(_));
        let due = self.streams.iter().filter(|(_, c)| due(c)).map(|(key, _)| key).take(ENDS);
        let due: Vec<usize> = due.collect();
        if due.len() == ENDS {
            // The rest in the next round: a wave of ends must not hold up packets.
            self.sweep_at = now.instant;
        }
        for key in due {
            let connection = &mut self.streams[key];
            if self.server.has_allocation(&connection.flow) {
                connection.deadline = now.instant + self.settings.idle_timeout;
                continue;
            }
            if connection.phase != Phase::Leaving {
                self.counters.streams_timed_out += 1;
            }
            self.close_stream(now, key, Over::Gone);
        }
        let waited = |l: &mut TcpListener| l.paused.take_if(|at| *at <= now.instant).is_some();
        let ready: Vec<usize> =
            self.tcp_listeners.iter_mut().filter_map(|(key, l)| waited(l).then_some(key)).collect();
        for index in ready {
            while self.accept(now, index) {}
        }
    }

    /// Hands a stream to the shard that has the connection it asks for (RFC 6062).
    pub(super) fn migrate(&mut self, now: Now, flow: &FiveTuple, shard: u8, message: Vec<u8>) {
        let Some(key) = self.by_flow.remove(flow) else { return };
        let Some(mut connection) = self.streams.try_remove(key) else { return };
        let _ = connection.stream.flush();
        let (mut socket, tls, rest) = connection.stream.into_parts();
        // The other shard takes a place for it.
        drop(connection.ticket);
        let _ = self.poll.registry().deregister(&mut socket);
        let early = [message, rest].concat();
        if let Some(mailbox) = self.siblings.get(usize::from(shard)) {
            mailbox.send(super::shard::Command::Adopt(socket, flow.client.0, tls, early));
        }
        self.server.client_gone(now, *flow);
    }
}

/// Errors that concern the one connection that could not be accepted, not the listener.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

/// `None`: too little to say. The letters would be ChannelData, which nobody can send first.
fn looks_like_http(start: &[u8]) -> Option<bool> {
    const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE"];
    let possible = |method: &[u8]| method.iter().zip(start).all(|(a, b)| a == b);
    if start.is_empty() || (start.len() < 4 && METHODS.iter().any(|m| possible(m))) {
        return None;
    }
    Some(METHODS.iter().any(|m| possible(m)))
}
