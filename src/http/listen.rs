//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

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
                "another program has this port (`ss -ltnp 'sport = :{port}'` shows which): stop it, or take another"
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

/// Binds an address. IPv6 sockets take IPv6 only, so that `0.0.0.0` and `[::]` go together.
/// What is bound already is taken over.
pub(super) fn bind(
    address: SocketAddr,
    inherited: &[std::net::TcpListener],
) -> Result<TcpListener, StartError> {
    let found = inherited.iter().find(|l| l.local_addr().is_ok_and(|bound| bound == address));
    let listener = match found {
        Some(listener) => listener.try_clone().and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }),
        None => socket(address),
    };
    listener.map_err(|error| StartError { address, error })
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the last run.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}
