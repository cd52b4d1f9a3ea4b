//! The sockets of the relay: [`Relay::start`] binds them and runs the shards.
//!
//! | file | what is there |
//! |---|---|
//! | `shard.rs` | the loop of one thread: where a packet enters and leaves |
//! | `burst.rs` | what one read brought: a datagram, or a run of them |
//! | `udp.rs` | batches of datagrams; `udp/linux.rs` is the one module with unsafe code |
//! | `across.rs` | datagrams from one allocation to another, where two shards have them |
//! | `connection.rs`, `stream.rs` | TCP and TLS streams of clients |
//! | `forward.rs` | datagrams of a client that has moved, where they come to the wrong shard |
//! | `relays.rs`, `peers.rs` | sockets toward peers: UDP, and TCP (RFC 6062) |
//! | `listeners.rs` | what is listened on, at the start and after a reload |
//! | `listen.rs`, `tls.rs`, `detect.rs`, `proxy.rs` | what is bound and announced; whose connection it is |
//! | `again.rs`, `pin.rs` | who gets another turn; threads on CPUs of their own |
//! | `admission.rs`, `counters.rs`, `events.rs` | bounds, counts, log |
//! | `control.rs` | new settings, questions and orders while it runs |

pub mod clock;
pub mod detect;
pub mod proxy;
pub mod tls;

mod across;
pub(crate) mod admission;
mod again;
mod burst;
mod connection;
mod control;
mod counters;
mod events;
mod forward;
pub(crate) mod listen;
mod listeners;
mod peers;
mod pin;
mod relays;
mod shard;
mod stream;
mod udp;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ahash::RandomState;
use ipnet::IpNet;
use mio::{Poll, Waker};

pub use admission::{Admission, StreamLimits, StreamTicket};
pub use control::{Changes, Control, Stuck};
pub use counters::Counters;
pub use listen::{ListenError, covers, overlap};
pub use listeners::Rebound;

use crate::auth::Authenticator;
use crate::turn::{self, Shared, Transport};
use clock::Clock;
use listeners::Listeners;
use shard::{Command, Parts, Shard};

/// What the relay binds, and how it treats streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// STUN and TURN over UDP. A wildcard answers from the address that was asked.
    pub udp: Vec<SocketAddr>,
    /// STUN and TURN over TCP.
    pub tcp: Vec<SocketAddr>,
    /// Ports of relayed transport addresses.
    pub relay_ports: RangeInclusive<u16>,
    /// Threads; 0: one for each CPU.
    pub shards: usize,
    /// How long a stream may take until its first whole message.
    pub first_message_timeout: Duration,
    /// How long a stream without an allocation may be silent.
    pub idle_timeout: Duration,
    /// Bytes that wait for a client which reads too slowly.
    pub stream_queue: usize,
    /// SO_RCVBUF and SO_SNDBUF of the UDP listeners, in bytes; a warning tells if the system gives less. `None`: as much
    /// as it gives, up to 4 MiB.
    pub socket_buffer: Option<usize>,
    /// The same of each relay socket. `None`: what the system gives by default.
    pub relay_socket_buffer: Option<usize>,
    /// Each shard's thread stays on one CPU.
    pub pin_shards: bool,
    /// Proxies whose connections begin with a header of the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// Listeners of `tcp` that are bound already: systemd keeps them open over a restart.
    pub inherited: Arc<Vec<std::net::TcpListener>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            relay_ports: 49_152..=65_535,
            shards: 0,
            first_message_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stream_queue: 256 * 1024,
            socket_buffer: None,
            relay_socket_buffer: None,
            pin_shards: false,
            proxies: Vec::new(),
            inherited: Arc::default(),
        }
    }
}

/// The relay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system refused something else.
    #[error("the relay can't be started: {0}")]
    System(#[from] io::Error),
    /// The system has no randomness.
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
}

/// Does one of these networks have the address?
fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip.to_canonical()))
}

/// The listener for this address, if it was bound by somebody else: each shard gets a handle to the same socket.
fn inherited(
    listeners: &[std::net::TcpListener],
    addr: SocketAddr,
) -> Option<io::Result<std::net::TcpListener>> {
    let listener = listeners.iter().find(|l| l.local_addr().is_ok_and(|bound| bound == addr))?;
    Some(listener.try_clone().and_then(|listener| listener.set_nonblocking(true).map(|()| listener)))
}

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    listeners: Arc<Mutex<Listeners>>,
    mailboxes: Arc<Vec<Mailbox>>,
    threads: Vec<JoinHandle<()>>,
    admission: Arc<Admission>,
}

/// A way to tell a shard something.
#[derive(Debug)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    across: across::Across,
    places: forward::Places,
    waker: Waker,
}

impl Mailbox {
    fn send(&self, command: Command) {
        // A shard that has ended needs no command.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }

    fn wake_for_parcels(&self) {
        if self.across.must_wake() {
            let _ = self.waker.wake();
        }
    }
}

impl Relay {
    /// Binds all sockets, then starts the shards.
    ///
    /// # Errors
    /// [`StartError`], before anything runs.
    pub fn start(
        settings: &Settings,
        turn: Arc<turn::Settings>,
        auth: Arc<Authenticator>,
        admission: Arc<Admission>,
        clock: Clock,
    ) -> Result<Self, StartError> {
        listen::raise_descriptor_limit();
        let count = match settings.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        }
        .min(usize::from(u8::MAX));
        let shared = Shared::new(&turn, count as u8);

        let mut listeners = Listeners::default();
        let mut bound = listeners.bind(settings, count)?;
        listeners.settle(&bound);
        if let (Some(wanted), false) = (settings.socket_buffer, settings.udp.is_empty()) {
            listen::check_buffers(wanted)?;
        }
        if let Some(wanted) = settings.relay_socket_buffer {
            listen::check_buffers(wanted)?;
        }
        let (mut polls, mut mailboxes, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let poll = Poll::new()?;
            let (commands, inbox) = mpsc::channel();
            mailboxes.push(Mailbox {
                commands,
                across: across::Across::new(),
                places: forward::Places::default(),
                waker: shard::waker(&poll)?,
            });
            polls.push(poll);
            inboxes.push(inbox);
        }
        let mailboxes = Arc::new(mailboxes);

        let mut shards = Vec::new();
        let parts = polls.into_iter().zip(inboxes).zip(bound.take_sockets());
        for (number, ((poll, inbox), sockets)) in parts.enumerate() {
            let [a, b, c, d] = [(); 4].map(|()| getrandom::u64());
            let hasher = RandomState::with_seeds(a?, b?, c?, d?);
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            shards.push(Shard::new(Parts {
                poll,
                clock,
                server: turn::Server::new(turn.clone(), auth.clone(), shared.clone(), seed, number as u8),
                settings: settings.clone(),
                admission: admission.clone(),
                siblings: mailboxes.clone(),
                number,
                inbox,
                sockets,
                relays: relays::Relays::new(
                    turn.relay_addresses.clone(),
                    settings.relay_ports.clone(),
                    shared.clone(),
                    settings.relay_socket_buffer,
                ),
                hasher,
            })?);
        }
        let pin = settings.pin_shards;
        let spawn = |(number, shard): (usize, Shard)| {
            std::thread::Builder::new().name(format!("ternd-shard-{number}")).spawn(move || {
                if pin {
                    pin::to_one_cpu(number);
                }
                shard.run();
            })
        };
        let threads = shards.into_iter().enumerate().map(spawn).collect::<io::Result<_>>()?;
        Ok(Self { listeners: Arc::new(Mutex::new(listeners)), mailboxes, threads, admission })
    }

    /// What it listens on, with real ports where 0 was asked for.
    pub fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        self.control().listeners().addresses()
    }

    /// For whoever accepts TLS connections.
    pub fn handoff(&self) -> Handoff {
        Handoff { mailboxes: self.mailboxes.clone(), next: Arc::new(AtomicUsize::new(0)) }
    }

    /// Counts of all shards at this moment. Asks each shard, and waits for its answer.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for mailbox in self.mailboxes.iter() {
            let (to, from) = sync_channel(1);
            mailbox.send(Command::Report(to));
            if let Ok(counters) = from.recv_timeout(Duration::from_secs(1)) {
                sum.add(&counters);
            }
        }
        sum
    }

    /// Bounds shared with whoever accepts streams beside the shards.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Ends all shards and waits for them.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Command::Stop));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands TLS connections that turned out to carry TURN to the shards, in turn. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handoff {
    mailboxes: Arc<Vec<Mailbox>>,
    next: Arc<AtomicUsize>,
}

impl Handoff {
    /// Gives a connection away: the socket (nonblocking), its TLS state, and the plaintext read from it so far.
    /// `client` is whose it is: behind a proxy not the socket's peer.
    pub fn adopt(
        &self,
        socket: std::net::TcpStream,
        client: SocketAddr,
        tls: Box<rustls::ServerConnection>,
        early: Vec<u8>,
    ) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len();
        let socket = mio::net::TcpStream::from_std(socket);
        self.mailboxes[next].send(Command::Adopt(socket, client, Some(tls), early));
    }
}
