//! The relay sockets of a shard: one for each relayed transport address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use super::udp::{self, Wish};
use crate::stun::Family;
use crate::time::Instant;
use crate::turn::{BindError, PortChoice, RelayAddress, RelayId, Shared};

/// Ports tried in a row before the range is called full.
const TRIES: u32 = 4_096;

/// Binds relay sockets and finds them by their id.
pub(super) struct Relays {
    addresses: Vec<RelayAddress>,
    ports: RangeInclusive<u16>,
    shared: Arc<Shared>,
    /// Index: the id.
    sockets: Vec<Option<Relay>>,
    random: u64,
}

pub(super) struct Relay {
    socket: UdpSocket,
    pub v6: bool,
}

impl Relay {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Relays {
    pub(super) fn new(
        addresses: Vec<RelayAddress>,
        ports: RangeInclusive<u16>,
        shared: Arc<Shared>,
        seed: u64,
    ) -> Self {
        Self { addresses, ports, shared, sockets: Vec::new(), random: seed | 1 }
    }

    pub(super) fn get(&self, id: RelayId) -> Option<&Relay> {
        self.sockets.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn close(&mut self, id: RelayId) -> Option<Relay> {
        self.sockets.get_mut(id.0 as usize)?.take()
    }

    /// Binds a UDP socket under this id.
    pub(super) fn bind(
        &mut self,
        id: RelayId,
        family: Family,
        choice: PortChoice,
        now: Instant,
    ) -> Result<SocketAddr, BindError> {
        let (socket, local) = self.find(family, choice, now, bind_udp)?;
        let index = id.0 as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Relay { socket, v6: local.is_ipv6() });
        Ok(local)
    }

    /// Looks for a free address: a random start, then one port after the other, so that a range which is nearly full
    /// is still found to have a place.
    pub(super) fn find<T>(
        &mut self,
        family: Family,
        choice: PortChoice,
        now: Instant,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
    ) -> Result<(T, SocketAddr), BindError> {
        if let PortChoice::Exactly(local) = choice {
            return bind(local).map(|socket| (socket, local)).map_err(|_| BindError::NoPort);
        }
        let start = self.next_random();
        let of_family: Vec<_> = self.addresses.iter().filter(|a| Family::of(&a.local) == family).collect();
        if of_family.is_empty() {
            return Err(BindError::FamilyNotSupported);
        }
        // Several addresses share the load.
        let ip = of_family[start as usize % of_family.len()].local;
        let count = u32::from(*self.ports.end() - *self.ports.start()) + 1;
        for n in 0..count.min(TRIES) {
            let port = self.ports.start() + ((start >> 32) as u32).wrapping_add(n).rem_euclid(count) as u16;
            let local = SocketAddr::new(ip, port);
            if choice != PortChoice::Any && port % 2 == 1 || self.shared.is_reserved(local, now) {
                continue;
            }
            let Ok(socket) = bind(local) else { continue };
            if choice == PortChoice::EvenPair {
                let next = SocketAddr::new(ip, port + 1);
                let free =
                    port < *self.ports.end() && !self.shared.is_reserved(next, now) && bind(next).is_ok();
                if !free {
                    continue;
                }
            }
            return Ok((socket, local));
        }
        Err(BindError::NoPort)
    }

    /// xorshift64*: spreads ports. That nobody can guess them comes from the seed.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

fn bind_udp(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&local.into())?;
    let fd = socket.as_fd();
    // Each of these is a help, none a need.
    for wish in [Wish::Gro, Wish::Errors, Wish::DontFragment(false)] {
        let _ = udp::ask(fd, local.is_ipv6(), wish);
    }
    Ok(socket.into())
}
