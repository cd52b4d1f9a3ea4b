//! The clients: WebSockets in one thread with one loop, so that they need less CPU for a message than any server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::dialect::{self, Payload, Step};
use crate::frame;
use crate::server::{Kind, Server};

/// Connections that are opened at the same time.
const AT_A_TIME: usize = 64;
/// Connections of one source address: less than a server's bound on them.
const PER_ADDRESS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fleet<'a> {
    pub server: &'a mut Server,
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    scratch: Vec<u8>,
    clients: Vec<Client>,
    /// Members of each room; rooms are filled in turn.
    members: usize,
    joined: usize,
    /// Messages that came, and were not what they should be.
    pub damaged: usize,
}

struct Client {
    socket: TcpStream,
    state: State,
    /// The beginning of a frame that is not all there.
    unread: Vec<u8>,
    /// What the others call it.
    name: String,
}

#[derive(PartialEq)]
enum State {
    Upgrading,
    Joining,
    Joined,
}

impl<'a> Fleet<'a> {
    pub fn new(server: &'a mut Server, members: usize) -> Self {
        Self {
            server,
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(1024),
            buffer: vec![0; 256 * 1024].into_boxed_slice(),
            scratch: Vec::new(),
            clients: Vec::new(),
            members,
            joined: 0,
            damaged: 0,
        }
    }

    pub fn rooms(&self) -> usize {
        self.clients.len() / self.members
    }

    pub fn members(&self) -> usize {
        self.members
    }

    /// Opens this many connections more, each a member of a room, and waits until all have joined.
    pub fn open(&mut self, count: usize) {
        let (end, all) = (Instant::now() + PATIENCE, self.clients.len() + count);
        while self.joined < all {
            while self.clients.len() < all && self.clients.len() < self.joined + AT_A_TIME {
                self.connect();
            }
            self.turn(Duration::from_millis(10), &Payload { field: "", json: String::new() }, &mut |_| {});
            let alive = self.server.process.is_alive() && Instant::now() < end;
            assert!(alive, "{}: {} of {all} have joined", self.server.kind.name(), self.joined);
        }
    }

    fn connect(&mut self) {
        let index = self.clients.len();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        // A reset at the end: no port waits for a minute.
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.bind(&source(index).into()).unwrap();
        match socket.connect(&self.server.at.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => panic!("{}: {e}", self.server.at),
        }
        let mut socket = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(index), interest).unwrap();
        let (state, unread, name) = (State::Upgrading, Vec::new(), String::new());
        self.clients.push(Client { socket, state, unread, name });
    }

    /// Sends a payload to the other members of a room.
    pub fn send(&mut self, room: usize, member: usize, payload: &Payload) {
        let (from, to) = (room * self.members + member, room * self.members + (member + 1) % self.members);
        self.scratch.clear();
        let parts = dialect::parts(self.server.kind, payload, &self.clients[to].name);
        frame::push(&mut self.scratch, frame::TEXT, &parts);
        self.clients[from].write(&self.scratch);
    }

    /// Takes what has come, and tells for each payload which client got it.
    pub fn turn(&mut self, wait: Duration, payload: &Payload, got: &mut impl FnMut(usize)) {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            result => result.unwrap(),
        }
        for event in &self.events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            let room = index / self.members;
            let kind = self.server.kind;
            if event.is_writable() && client.state == State::Upgrading && client.unread.is_empty() {
                let path = dialect::path(kind);
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
                    if kind == Kind::Ternd { "Sec-WebSocket-Protocol: ternd.v1\r\n" } else { "" }
                );
                client.write(request.as_bytes());
                // Only once: what comes next is an answer.
                self.poll
                    .registry()
                    .reregister(&mut client.socket, Token(index), Interest::READABLE)
                    .unwrap();
            }
            if !event.is_readable() {
                continue;
            }
            loop {
                let read = client.socket.read(&mut self.buffer);
                let n = match read {
                    Ok(0) => panic!("{} has closed client {index}", kind.name()),
                    Ok(n) => n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("{} has lost client {index}: {e}", kind.name()),
                };
                let joined = client.state == State::Joined;
                client.take(kind, room, &self.buffer[..n], &mut |text| {
                    if dialect::carries(kind, text, payload) {
                        got(index);
                    } else {
                        self.damaged += usize::from(!dialect::is_notice(kind, text));
                    }
                });
                self.joined += usize::from(!joined && client.state == State::Joined);
                if n < self.buffer.len() {
                    break;
                }
            }
        }
    }
}

impl Client {
    fn write(&mut self, bytes: &[u8]) {
        let n = self.socket.write(bytes).unwrap_or_else(|e| panic!("a server that does not read: {e}"));
        assert_eq!(n, bytes.len(), "a server that does not read");
    }

    /// Takes what was read: answers what must be, and hands on what others sent.
    fn take(&mut self, kind: Kind, room: usize, bytes: &[u8], got: &mut impl FnMut(&[u8])) {
        let mut unread = std::mem::take(&mut self.unread);
        let mut bytes = match unread.is_empty() {
            true => bytes,
            false => {
                unread.extend(bytes);
                &unread[..]
            }
        };
        if self.state == State::Upgrading {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                self.unread = bytes.into();
                return;
            };
            let head = &bytes[..end];
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(head));
            bytes = &bytes[end + 4..];
            self.state = State::Joining;
            dialect::opening(kind, room).iter().for_each(|text| self.say(frame::TEXT, text));
        }
        while let Some((opcode, payload, len)) = frame::first(bytes) {
            match opcode {
                frame::PING => self.say(frame::PONG, std::str::from_utf8(payload).unwrap()),
                frame::CLOSE => panic!("{} closes: {}", kind.name(), String::from_utf8_lossy(&payload[2..])),
                _ if dialect::is_ping(kind, payload) => self.say(frame::TEXT, "3"),
                _ if self.state == State::Joined => got(payload),
                _ => match dialect::step(kind, room, std::str::from_utf8(payload).unwrap()) {
                    Step::Wait => {}
                    Step::Say(text) => self.say(frame::TEXT, &text),
                    Step::Joined(name) => (self.name, self.state) = (name, State::Joined),
                },
            }
            bytes = &bytes[len..];
        }
        self.unread = bytes.into();
    }

    fn say(&mut self, opcode: u8, text: &str) {
        let mut bytes = Vec::new();
        frame::push(&mut bytes, opcode, &[text]);
        self.write(&bytes);
    }
}

/// Where a client comes from: one of many addresses of loopback.
pub fn source(index: usize) -> SocketAddr {
    let address = u32::try_from(index / PER_ADDRESS).unwrap();
    SocketAddr::from((Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + address), 0))
}
