//! Clients over TCP and TLS: the kernel's own TCP on the load's side, and rustls.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use ternd::stun::{Frame, frame};

use crate::server::NAME;

/// What waits for one connection at most; more is lost.
const BACKLOG: usize = 1 << 16;

pub struct Streams {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Those that could not send all they should.
    blocked: Vec<usize>,
    scratch: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    tls: Option<ClientConnection>,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Streams {
    /// Connects `count` times; with TLS if there is a certificate to trust.
    pub fn connect(server: SocketAddrV4, trust: Option<&CertificateDer<'static>>, count: usize) -> Self {
        let config = trust.map(|certificate| {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
        });
        let poll = Poll::new().unwrap();
        let connections = (0..count).map(|n| {
            let mut socket = connect(server);
            socket.set_nodelay(true).unwrap();
            socket2::SockRef::from(&socket).set_send_buffer_size(BACKLOG).unwrap();
            let tls = config.clone().map(|config| {
                let mut tls = ClientConnection::new(config, ServerName::try_from(NAME).unwrap()).unwrap();
                tls.set_buffer_limit(Some(BACKLOG));
                while tls.is_handshaking() {
                    tls.complete_io(&mut socket).expect("a TLS handshake");
                }
                tls
            });
            socket.set_nonblocking(true).unwrap();
            poll.registry()
                .register(&mut SourceFd(&socket.as_raw_fd()), Token(n), Interest::READABLE)
                .unwrap();
            Connection { socket, tls, input: Vec::new(), output: Vec::new() }
        });
        let connections = connections.collect();
        let events = Events::with_capacity(256);
        Self { poll, events, connections, blocked: Vec::new(), scratch: vec![0; 1 << 17] }
    }

    /// Sends one or more frames.
    pub fn send(&mut self, client: usize, frames: &[u8]) {
        let connection = &mut self.connections[client];
        connection.put(frames);
        if !connection.flush() {
            self.blocked.push(client);
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self) {
        let connections = &mut self.connections;
        self.blocked.retain(|client| !connections[*client].flush());
    }

    /// Hands over the messages that came.
    pub fn poll(&mut self, mut each: impl FnMut(usize, &[u8])) {
        if self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_err() {
            return;
        }
        for event in &self.events {
            let client = event.token().0;
            let connection = &mut self.connections[client];
            while connection.read(&mut self.scratch) {
                let mut done = 0;
                while let Ok(Frame::Complete { message, consumed }) = frame(&connection.input[done..]) {
                    if connection.input.len() < done + consumed {
                        break;
                    }
                    each(client, &connection.input[done..done + message]);
                    done += consumed;
                }
                connection.input.drain(..done);
            }
        }
    }
}

fn connect(server: SocketAddrV4) -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&SocketAddr::V4(server), Duration::from_secs(5)) {
            Ok(socket) => return socket,
            Err(e) if start.elapsed() > Duration::from_secs(10) => panic!("connecting to {server}: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Connection {
    fn put(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => drop(tls.writer().write(bytes)), // what does not fit is lost
            None if self.output.len() < BACKLOG => self.output.extend_from_slice(bytes),
            None => {}
        }
    }

    /// Sends what waits; true if that was all.
    fn flush(&mut self) -> bool {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                if tls.write_tls(&mut self.socket).is_err() {
                    return false;
                }
            }
            return true;
        }
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(n) => drop(self.output.drain(..n)),
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads some; false if there was nothing.
    fn read(&mut self, scratch: &mut [u8]) -> bool {
        if let Some(tls) = &mut self.tls {
            match tls.read_tls(&mut self.socket) {
                Ok(0) => panic!("the server closed a connection"),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(e) => panic!("reading: {e}"),
            }
            tls.process_new_packets().expect("TLS");
            while let Ok(n @ 1..) = tls.reader().read(scratch) {
                self.input.extend_from_slice(&scratch[..n]);
            }
            return true;
        }
        match self.socket.read(scratch) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(n) => self.input.extend_from_slice(&scratch[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) => panic!("reading: {e}"),
        }
        true
    }
}
