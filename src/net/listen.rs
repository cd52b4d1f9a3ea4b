//! Binding what clients talk to.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::udp::{self, Wish};
use crate::turn::Transport;

/// A listener that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {addr} ({}): {}", .transport.name(), explain(.source))]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// The protocol.
    pub transport: Transport,
    /// What the system says.
    pub source: io::Error,
}

/// The system's word for it, and the way out.
fn explain(error: &io::Error) -> String {
    let way_out = match error.kind() {
        io::ErrorKind::AddrInUse => "another program uses this port: stop it, or choose another in [listen]",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a right: run under systemd, or give CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
        _ => return error.to_string(),
    };
    format!("{error}; {way_out}")
}

/// Is there anything that both of these addresses stand for?
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one)
}

/// Does a listener get what is sent to this address?
pub fn covers(listener: SocketAddr, addr: SocketAddr) -> bool {
    let wildcard = listener.ip().is_unspecified() && listener.is_ipv4() == addr.is_ipv4();
    listener.port() == addr.port() && (wildcard || listener.ip() == addr.ip())
}

/// `[::]` is listened on by default, and a machine without IPv6 is no reason not to start.
pub(super) fn is_possible(addr: SocketAddr) -> bool {
    let possible = addr.ip() != Ipv6Addr::UNSPECIFIED || has_ipv6();
    if !possible {
        log::warn!("this machine has no IPv6: not listening on {addr}");
    }
    possible
}

fn has_ipv6() -> bool {
    let opened = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP));
    !opened.is_err_and(|error| error.raw_os_error() == Some(libc::EAFNOSUPPORT))
}

/// Says so if the system makes the buffers of a socket smaller than was asked for.
pub(super) fn check_buffers(wanted: usize) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    // Linux doubles what was asked for, and tells the double.
    let (received, sent) = (socket.recv_buffer_size(), socket.send_buffer_size());
    for (have, key) in [(received, "net.core.rmem_max"), (sent, "net.core.wmem_max")] {
        if let Ok(have) = have.map(|double| double / 2)
            && have < wanted
        {
            log::warn!(
                "socket buffers are {have} bytes instead of {wanted}, so bursts may be lost: `sysctl -w {key}={wanted}`"
            );
        }
    }
    Ok(())
}

/// Each allocation and each connection is a descriptor, and a shell gives 1,024: takes as many as the system allows.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// A UDP socket for clients. Several may be bound to one address: each shard has its own.
//= 8489-12-3 8656-5-7
pub(super) fn udp(addr: SocketAddr, buffer: usize) -> Result<UdpSocket, ListenError> {
    let bind = || {
        let socket = open(addr, Type::DGRAM, Protocol::UDP)?;
        // A larger buffer rides out a burst; the system may cap it.
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
        for wish in [Wish::PacketInfo, Wish::Gro, Wish::DontFragment(false)] {
            // Which of this machine's addresses was asked.
            let needed = wish == Wish::PacketInfo && addr.ip().is_unspecified();
            udp::ask(socket.as_fd(), addr.is_ipv6(), wish)
                .or_else(|e| if needed { Err(e) } else { Ok(()) })?;
        }
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| ListenError { addr, transport: Transport::Udp, source })
}

/// A TCP listener: the one that is bound already, or a new one. Several may be bound to one address.
//= 8489-12-3 8656-5-7
pub(super) fn tcp(addr: SocketAddr, inherited: &[TcpListener]) -> Result<TcpListener, ListenError> {
    let bind = || {
        if let Some(socket) = super::inherited(inherited, addr) {
            return socket;
        }
        let socket = open(addr, Type::STREAM, Protocol::TCP)?;
        socket.bind(&addr.into())?;
        socket.listen(1_024)?;
        Ok(socket.into())
    };
    bind().map_err(|source| ListenError { addr, transport: Transport::Tcp, source })
}

/// A TCP listener that is no shard's. With `is_ours` another listener of this process has a part of the address.
pub(crate) fn for_one(
    addr: SocketAddr,
    inherited: &[TcpListener],
    is_ours: bool,
) -> Result<TcpListener, ListenError> {
    if !is_ours {
        probe(addr, Transport::Tcp, inherited)?;
    }
    tcp(addr, inherited)
}

fn open(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// SO_REUSEPORT lets any program of the same user bind the same address. So that two servers don't share a port
/// unnoticed, each address is first bound once without it.
/// What is inherited is ours already.
pub(super) fn probe(
    addr: SocketAddr,
    transport: Transport,
    inherited: &[TcpListener],
) -> Result<(), ListenError> {
    if transport != Transport::Udp && super::inherited(inherited, addr).is_some() {
        return Ok(());
    }
    let bind = || {
        let (kind, protocol) = match transport {
            Transport::Udp => (Type::DGRAM, Protocol::UDP),
            _ => (Type::STREAM, Protocol::TCP),
        };
        let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            // Connections of a server that has just ended are no reason to refuse.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&addr.into())?;
        if kind == Type::STREAM { socket.listen(1) } else { Ok(()) }
    };
    bind().map_err(|source| ListenError { addr, transport, source })
}
