//! What the relay listens on: at the start, and after a reload that adds and removes.
//!
//! ```text
//! addresses wanted ─► Listeners::bind: all that is new, for each shard ─┬─► Rebound ─► shards: listen, leave, stay
//!                                                                       └─► one can't be had: nothing has changed
//! ```
//! A TCP listener that is removed closes at once; its streams go on. The socket of a UDP listener is the way of its
//! allocations: it stays for them, is deaf to strangers, and closes with the last. All shards close theirs together, for
//! with one socket less the kernel would deal the datagrams of the others anew.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};

use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::Settings;
use super::control::{Control, Stuck};
use super::listen::{self, ListenError, covers, overlap};
use super::shard::{self, Shard};
use super::udp::Outgoing;
use crate::time::Instant;
use crate::turn::{FiveTuple, Transport};

/// Datagrams asked of a socket that has had few.
pub(super) const FEW: usize = 4;

/// A UDP socket that clients talk to.
pub(super) struct UdpListener {
    pub socket: UdpSocket,
    pub addr: SocketAddr,
    pub outgoing: Outgoing,
    /// Datagrams asked of it at once: room is made for each, so not many more than come.
    pub want: usize,
    /// A reload has removed it.
    pub leaving: Option<Leaving>,
}

pub(super) struct TcpListener {
    pub socket: mio::net::TcpListener,
    /// After an error: not before then.
    pub paused: Option<Instant>,
}

/// Who still needs a listener that is to close.
pub(super) struct Leaving {
    /// This shard does.
    here: Option<Arc<()>>,
    anywhere: Weak<()>,
}

impl UdpListener {
    /// Does what is sent to the server's address of this path arrive here?
    pub(super) fn serves(&self, flow: &FiveTuple) -> bool {
        flow.transport == Transport::Udp && covers(self.addr, flow.server.0)
    }
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    transport: Transport,
    /// As the settings name it: port 0 stands for any.
    wanted: SocketAddr,
    bound: SocketAddr,
}

impl Listener {
    /// The kernel would deal the datagrams of running calls anew, to shards that don't know them.
    fn in_the_way_of(&self, addr: SocketAddr) -> ListenError {
        let text = format!(
            "{} serves this port, and becomes another address of it with a restart only; `systemctl restart ternd`, or \
             take another port",
            self.bound
        );
        ListenError { addr, transport: self.transport, source: io::Error::other(text) }
    }

    fn overlaps(&self, transport: Transport, addr: SocketAddr) -> bool {
        self.transport == transport && overlap(self.bound, addr)
    }
}

/// All that is listened on, by all shards.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Listener>,
    leaving: Vec<(Listener, Weak<()>)>,
}

/// One socket of one shard.
pub(super) enum Socket {
    Udp(UdpSocket),
    Tcp(StdListener),
}

/// Listeners that are bound and not served yet, and those that are to go. Dropped, it has changed nothing.
pub struct Rebound {
    /// For each shard its sockets.
    sockets: Vec<Vec<Socket>>,
    added: Vec<Listener>,
    /// They were leaving, and are wanted again. While this lives they can't close.
    back: Vec<(Listener, Arc<()>)>,
    removed: Vec<Listener>,
}

impl std::fmt::Debug for Rebound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebound")
            .field("added", &self.added)
            .field("back", &self.back)
            .field("removed", &self.removed)
            .finish_non_exhaustive()
    }
}

impl Rebound {
    /// What is listened on from here on.
    pub fn added(&self) -> impl Iterator<Item = (Transport, SocketAddr)> {
        self.added.iter().chain(self.back.iter().map(|(l, _)| l)).map(|l| (l.transport, l.bound))
    }

    /// What no stranger reaches any more.
    pub fn removed(&self) -> impl Iterator<Item = (Transport, SocketAddr)> {
        self.removed.iter().map(|l| (l.transport, l.bound))
    }

    pub(super) fn take_sockets(&mut self) -> Vec<Vec<Socket>> {
        std::mem::take(&mut self.sockets)
    }
}

impl Listeners {
    pub(super) fn addresses(&self) -> Vec<(Transport, SocketAddr)> {
        self.open.iter().map(|l| (l.transport, l.bound)).collect()
    }

    /// Binds what is new, for each shard.
    pub(super) fn bind(&mut self, settings: &Settings, shards: usize) -> Result<Rebound, ListenError> {
        self.leaving.retain(|(_, needed)| needed.strong_count() > 0);
        let udp = settings.udp.iter().map(|addr| (Transport::Udp, *addr));
        let tcp = settings.tcp.iter().map(|addr| (Transport::Tcp, *addr));
        let wanted: Vec<_> = udp.chain(tcp).filter(|(_, addr)| listen::is_possible(*addr)).collect();
        let is_wanted = |l: &Listener| wanted.contains(&(l.transport, l.wanted));
        let mut rebound = Rebound {
            sockets: (0..shards).map(|_| Vec::new()).collect(),
            added: Vec::new(),
            back: Vec::new(),
            removed: self.open.iter().filter(|l| !is_wanted(l)).copied().collect(),
        };
        for &(transport, wanted) in &wanted {
            let same = |l: &Listener| (l.transport, l.wanted) == (transport, wanted);
            if self.open.iter().chain(&rebound.added).any(same) {
                continue;
            }
            let back = self.leaving.iter().find(|(l, _)| same(l));
            if let Some(back) = back.and_then(|(l, needed)| Some((*l, needed.upgrade()?))) {
                rebound.back.push(back);
                continue;
            }
            let served = || self.open.iter().chain(self.leaving.iter().map(|(l, _)| l));
            let overlaps = |l: &&Listener| l.overlaps(transport, wanted);
            if let Some(other) = served().find(overlaps).filter(|_| transport == Transport::Udp) {
                return Err(other.in_the_way_of(wanted));
            }
            let mut bound = wanted;
            if !served().chain(&rebound.added).any(|l| overlaps(&l)) {
                listen::probe(wanted, transport, &settings.inherited)?;
            }
            for shard in &mut rebound.sockets {
                // Port 0 becomes a real one, which the other shards share.
                let socket = socket(transport, bound, settings)?;
                bound =
                    socket.local_addr().map_err(|source| ListenError { addr: bound, transport, source })?;
                shard.push(socket);
            }
            rebound.added.push(Listener { transport, wanted, bound });
        }
        Ok(rebound)
    }

    /// Counts with what has changed. In return the UDP listeners that leave, with what keeps them.
    pub(super) fn settle(&mut self, rebound: &Rebound) -> Vec<(SocketAddr, Arc<()>)> {
        self.open.retain(|l| !rebound.removed.contains(l));
        self.open.extend(&rebound.added);
        self.open.extend(rebound.back.iter().map(|(l, _)| l));
        self.leaving.retain(|(l, _)| rebound.back.iter().all(|(back, _)| back != l));
        let udp = rebound.removed.iter().filter(|l| l.transport == Transport::Udp);
        udp.map(|l| {
            let needed = Arc::new(());
            self.leaving.push((*l, Arc::downgrade(&needed)));
            (l.bound, needed)
        })
        .collect()
    }
}

impl Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(socket) => socket.local_addr(),
        }
    }
}

fn socket(transport: Transport, addr: SocketAddr, settings: &Settings) -> Result<Socket, ListenError> {
    if transport == Transport::Udp {
        return listen::udp(addr, settings.socket_buffer.unwrap_or(4 << 20)).map(Socket::Udp);
    }
    listen::tcp(addr, &settings.inherited).map(Socket::Tcp)
}

impl Control {
    /// Binds the listeners that `settings` name and that are not there yet. Nothing changes until [`Control::listen`].
    ///
    /// # Errors
    /// [`ListenError`] for the first that can't be had.
    pub fn bind(&self, settings: &Settings) -> Result<Rebound, ListenError> {
        // What nobody needs is gone before its address may be bound again.
        let _ = self.each(|shard, _| shard.close_listeners());
        self.listeners().bind(settings, self.shards())
    }

    /// Listens on what was bound, and on what was removed no more. Established streams and allocations go on.
    ///
    /// # Errors
    /// [`Stuck`], if a shard does not answer.
    pub fn listen(&self, mut rebound: Rebound) -> Result<(), Stuck> {
        let leaving = self.listeners().settle(&rebound);
        let sockets = rebound.take_sockets().into_iter();
        let work = sockets.map(|sockets| {
            let (leaving, removed) = (leaving.clone(), rebound.removed.clone());
            let back: Vec<_> = rebound.back.iter().map(|(l, _)| l.bound).collect();
            move |shard: &mut Shard, _| {
                for socket in sockets {
                    if let Err(error) = shard.listen(socket) {
                        log::error!("a listener can't be watched: {error}");
                    }
                }
                back.iter().for_each(|addr| shard.keep_udp(*addr));
                for (addr, needed) in leaving {
                    shard.leave_udp(addr, needed);
                }
                let tcp = removed.iter().filter(|l| l.transport == Transport::Tcp);
                tcp.for_each(|l| shard.close_tcp(l.bound));
                shard.close_listeners();
            }
        });
        let work: Vec<_> = work.collect();
        drop(leaving);
        self.each_its(work).map(drop)
    }
}

impl Shard {
    /// Serves a listener from here on.
    pub(super) fn listen(&mut self, socket: Socket) -> io::Result<()> {
        let registry = self.poll.registry();
        match socket {
            Socket::Udp(socket) => {
                let (addr, entry) = (socket.local_addr()?, self.listeners.vacant_entry());
                let token = Token(shard::LISTENERS + entry.key());
                registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
                let outgoing = Outgoing::default();
                entry.insert(UdpListener { socket, addr, outgoing, want: FEW, leaving: None });
            }
            Socket::Tcp(socket) => {
                let mut socket = mio::net::TcpListener::from_std(socket);
                let entry = self.tcp_listeners.vacant_entry();
                let token = Token(shard::TCP_LISTENERS + entry.key());
                registry.register(&mut socket, token, Interest::READABLE)?;
                entry.insert(TcpListener { socket, paused: None });
            }
        }
        Ok(())
    }

    fn leave_udp(&mut self, addr: SocketAddr, needed: Arc<()>) {
        let anywhere = Arc::downgrade(&needed);
        for (_, listener) in self.listeners.iter_mut().filter(|(_, l)| l.addr == addr) {
            listener.leaving = Some(Leaving { here: Some(needed.clone()), anywhere: anywhere.clone() });
        }
    }

    fn keep_udp(&mut self, addr: SocketAddr) {
        self.listeners.iter_mut().filter(|(_, l)| l.addr == addr).for_each(|(_, l)| l.leaving = None);
    }

    fn close_tcp(&mut self, addr: SocketAddr) {
        let registry = self.poll.registry();
        self.tcp_listeners.retain(|_, listener| {
            let stays = listener.socket.local_addr().is_ok_and(|bound| bound != addr);
            if !stays {
                let _ = registry.deregister(&mut listener.socket);
            }
            stays
        });
    }

    /// Is this datagram none of ours? To a listener that leaves only those of allocations are welcome, and what another
    /// listener would have got.
    pub(super) fn is_strange(&self, listener: usize, flow: &FiveTuple) -> bool {
        self.listeners[listener].leaving.is_some()
            && !self.server.has_allocation(flow)
            && !self.listeners.iter().any(|(_, l)| l.leaving.is_none() && l.serves(flow))
    }

    /// Closes the UDP listeners that leave and that no shard needs.
    pub(super) fn close_listeners(&mut self) {
        let (server, registry) = (&self.server, self.poll.registry());
        for (_, listener) in self.listeners.iter_mut().filter(|(_, l)| l.leaving.is_some()) {
            let unused = !server.has_path(|flow| listener.serves(flow));
            if let Some(leaving) = listener.leaving.as_mut().filter(|_| unused) {
                leaving.here = None;
            }
        }
        self.listeners.retain(|_, listener| {
            let needed = listener.leaving.as_ref().is_none_or(|l| l.anywhere.strong_count() > 0);
            // Its last answer may wait in it.
            let stays = needed || !listener.outgoing.is_empty();
            if !stays {
                let _ = registry.deregister(&mut SourceFd(&listener.socket.as_raw_fd()));
            }
            stays
        });
    }
}
