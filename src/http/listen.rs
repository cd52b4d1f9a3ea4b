//! Listening sockets.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::{Door, Settings, Shared, front};
use crate::net::listen::{self as net, overlap};

/// Why the server can't start. Displays with the address and a way out.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; {}", way_out(error, *address))]
pub struct StartError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

fn way_out(error: &io::Error, address: SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "another program, or another kind of listener of this one, has this port (`ss -ltnp 'sport = :{port}'` shows which): stop it, or take another"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "port {port} needs the capability CAP_NET_BIND_SERVICE, which the systemd unit gives; or take one above 1023"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface has this address (`ip address` shows those there are)".into()
        }
        io::ErrorKind::Unsupported => "this machine has no such kind of address: leave it out".into(),
        _ => "take another address or port".into(),
    }
}

/// A listener that is bound, and not yet served.
struct Bound {
    listener: Listener,
    socket: TcpListener,
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    door: Door,
    /// As the settings name it: port 0 stands for any.
    wanted: SocketAddr,
    bound: SocketAddr,
}

/// Listeners that are bound and not served yet, and those that are to go. Dropped, it has changed nothing.
pub struct Rebound {
    added: Vec<Bound>,
    removed: Vec<Listener>,
}

impl fmt::Debug for Rebound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed): (Vec<_>, Vec<_>) = (self.added().collect(), self.removed().collect());
        f.debug_struct("Rebound").field("added", &added).field("removed", &removed).finish()
    }
}

impl Rebound {
    /// What is listened on from here on, with the ports that were really taken.
    pub fn added(&self) -> impl Iterator<Item = (Door, SocketAddr)> {
        self.added.iter().map(|Bound { listener, .. }| (listener.door, listener.bound))
    }

    /// What nobody can connect to any more.
    pub fn removed(&self) -> impl Iterator<Item = (Door, SocketAddr)> {
        self.removed.iter().map(|listener| (listener.door, listener.bound))
    }
}

/// All listeners that accept.
pub(super) struct Listeners(Mutex<Open>);

struct Open {
    /// The accepting task of each ends when its sender is dropped.
    listeners: Vec<(Listener, oneshot::Sender<()>)>,
    /// While a clone of it lives, the server is not done. `None`: it stops, and listens on nothing more.
    alive: Option<mpsc::Sender<()>>,
}

impl Listeners {
    pub(super) fn new(alive: mpsc::Sender<()>) -> Self {
        Self(Mutex::new(Open { listeners: Vec::new(), alive: Some(alive) }))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds what of these is new. Must be called in a tokio runtime.
    pub(super) fn bind(&self, settings: &Settings) -> Result<Rebound, StartError> {
        let all = [
            (Door::Tls, &settings.tls),
            (Door::Plain, &settings.plain),
            (Door::Redirect, &settings.redirect),
        ];
        let wanted: Vec<_> =
            all.iter().flat_map(|(door, addrs)| addrs.iter().map(|addr| (*door, *addr))).collect();
        let open: Vec<Listener> = self.open().listeners.iter().map(|(listener, _)| *listener).collect();
        let removed = open.iter().filter(|l| !wanted.contains(&(l.door, l.wanted))).copied().collect();
        let mut added: Vec<Bound> = Vec::new();
        for (door, wanted) in wanted {
            let mut ours = open.iter().chain(added.iter().map(|bound| &bound.listener));
            if ours.clone().any(|l| (l.door, l.wanted) == (door, wanted)) {
                continue;
            }
            let is_ours = ours.any(|l| overlap(l.bound, wanted));
            let socket = bind(wanted, &settings.inherited, is_ours)?;
            let bound = socket.local_addr().map_err(|error| StartError { address: wanted, error })?;
            added.push(Bound { listener: Listener { door, wanted, bound }, socket });
        }
        Ok(Rebound { added, removed })
    }

    /// Accepts on what was bound, and on what was removed no more. Must be called in a tokio runtime.
    pub(super) fn listen(&self, shared: &Arc<Shared>, rebound: Rebound) {
        let mut open = self.open();
        open.listeners.retain(|(listener, _)| !rebound.removed.contains(listener));
        let Some(alive) = open.alive.clone() else { return };
        for Bound { listener, socket } in rebound.added {
            let (keep, removed) = oneshot::channel();
            let accepting =
                front::accept(shared.clone(), listener.door, listener.bound, socket, removed, alive.clone());
            tokio::spawn(accepting);
            open.listeners.push((listener, keep));
        }
    }

    /// Listening sockets.
    pub(super) fn len(&self) -> usize {
        self.open().listeners.len()
    }

    /// A port where HTTPS is spoken.
    pub(super) fn https(&self) -> Option<u16> {
        let open = self.open();
        open.listeners.iter().find(|(l, _)| l.door == Door::Tls).map(|(l, _)| l.bound.port())
    }

    /// Listens on nothing, for ever.
    pub(super) fn close(&self) {
        let mut open = self.open();
        (open.listeners, open.alive) = (Vec::new(), None);
    }
}

/// Binds an address. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` go together.
/// What is bound already is taken over. With `is_ours` another listener of this server has a part of the address.
pub(super) fn bind(
    address: SocketAddr,
    inherited: &[StdListener],
    is_ours: bool,
) -> Result<TcpListener, StartError> {
    let socket = net::for_one(address, inherited, is_ours).map_err(|error| error.source);
    socket.and_then(TcpListener::from_std).map_err(|error| StartError { address, error })
}
