//! The floor: a forwarder with the batched calls that a relay needs, a socket for each client, and no TURN at all.
//!
//! Its clients say hello and are told a port; from there on what they send goes to the peer, and what the peer
//! sends to that port goes to the client, byte by byte. No header, no permission, no timer, no counter. What looks like a
//! Binding request gets what looks like its answer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::sys::{self, Batch, RUNS};

/// What a client sends first.
pub const HELLO: &[u8] = b"race: hello";

/// The first bytes of a Binding request without attributes, and of its answer with one.
const BINDING: [u8; 4] = [0, 1, 0, 0];
const BOUND: [u8; 4] = [1, 1, 0, 12];

const LISTENER: Token = Token(usize::MAX);
/// As many as ternd takes from one relay socket at a time.
const PER_RELAY: usize = 16;

struct Relay {
    socket: UdpSocket,
    client: SocketAddrV4,
    port: u16,
}

/// Runs until it is killed.
pub fn run(listen: SocketAddrV4, peer: SocketAddrV4) -> ! {
    let mut poll = Poll::new().unwrap();
    let listener = open(listen, 4 << 20);
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE).unwrap();

    let mut relays: Vec<Relay> = Vec::new();
    let mut by_client: HashMap<SocketAddrV4, usize, _> =
        HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
    let mut batch = Batch::new();
    let mut down = Vec::new();
    let mut events = Events::with_capacity(1_024);
    loop {
        let _ = poll.poll(&mut events, None);
        for event in &events {
            if event.token() == LISTENER {
                batch.send(&listener, &down);
                down.clear();
                loop {
                    batch.slots.clear();
                    let n = batch.receive(&listener, RUNS);
                    for slot in 0..n {
                        let client = batch.slots[slot].0;
                        if batch.bytes(slot).starts_with(&BINDING) {
                            batch.rewrite(slot, |request| reflect(request, client));
                            down.push((slot, client));
                            continue;
                        }
                        match by_client.get(&client).filter(|_| batch.bytes(slot) != HELLO) {
                            Some(relay) => batch.send(&relays[*relay].socket, &[(slot, peer)]),
                            None => {
                                let relay = *by_client.entry(client).or_insert_with(|| {
                                    relays.push(allocate(&poll, relays.len(), *listen.ip(), client));
                                    relays.len() - 1
                                });
                                let _ = listener.send_to(&relays[relay].port.to_be_bytes(), client);
                            }
                        }
                    }
                    batch.send(&listener, &down);
                    down.clear();
                    if n < RUNS {
                        break;
                    }
                }
                batch.slots.clear();
                continue;
            }
            let relay = &relays[event.token().0];
            loop {
                if batch.slots.len() + PER_RELAY > RUNS {
                    batch.send(&listener, &down);
                    down.clear();
                    batch.slots.clear();
                }
                let first = batch.slots.len();
                let n = batch.receive(&relay.socket, PER_RELAY);
                down.extend((first..first + n).map(|slot| (slot, relay.client)));
                if n < PER_RELAY {
                    break;
                }
            }
        }
        batch.send(&listener, &down);
        down.clear();
        batch.slots.clear();
    }
}

/// Makes an answer with XOR-MAPPED-ADDRESS of a request; how long it is.
fn reflect(message: &mut [u8], client: SocketAddrV4) -> usize {
    message[..4].copy_from_slice(&BOUND);
    message[20..26].copy_from_slice(&[0, 0x20, 0, 8, 0, 1]);
    message[26..28].copy_from_slice(&(client.port() ^ 0x2112).to_be_bytes());
    message[28..32].copy_from_slice(&(u32::from(*client.ip()) ^ 0x2112_A442).to_be_bytes());
    32
}

fn allocate(poll: &Poll, index: usize, ip: Ipv4Addr, client: SocketAddrV4) -> Relay {
    let socket = open(SocketAddrV4::new(ip, 0), 1 << 20);
    let SocketAddr::V4(local) = socket.local_addr().unwrap() else { unreachable!() };
    let interest = Interest::READABLE;
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), interest).unwrap();
    Relay { socket, client, port: local.port() }
}

fn open(at: SocketAddrV4, buffer: i32) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_nonblocking(true).unwrap();
    sys::prepare(&socket, buffer).unwrap();
    socket
}
