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
use crate::turn::{BindError, PortChoice, RelayAddress, RelayId, RelayTransport, Shared};

/// Ports that somebody else may have, tried before the range is called full: a millisecond of system calls.
const TRIES: u32 = 256;

/// Binds relay sockets and finds them by their id.
pub(super) struct Relays {
    addresses: Vec<RelayAddress>,
    ports: RangeInclusive<u16>,
    shared: Arc<Shared>,
    /// SO_RCVBUF and SO_SNDBUF; `None`: what the system gives.
    buffer: Option<usize>,
    /// Index: the id.
    sockets: Vec<Option<Relay>>,
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
        buffer: Option<usize>,
    ) -> Self {
        Self { addresses, ports, shared, buffer, sockets: Vec::new() }
    }

    /// Sockets that are open. Looks at each place: for whoever asks now and then.
    pub(super) fn len(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    pub(super) fn get(&self, id: RelayId) -> Option<&Relay> {
        self.sockets.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn close(&mut self, id: RelayId) -> Option<Relay> {
        let closed = self.sockets.get_mut(id.0 as usize)?.take();
        // The memory of a crowded hour goes with it.
        let used = self.sockets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.sockets.truncate(used);
        if self.sockets.capacity() > 64 + 4 * used {
            self.sockets.shrink_to(2 * used);
        }
        closed
    }

    /// Binds a UDP socket under this id.
    pub(super) fn bind(
        &mut self,
        id: RelayId,
        family: Family,
        choice: PortChoice,
        now: Instant,
    ) -> Result<SocketAddr, BindError> {
        let (socket, local) =
            self.find(RelayTransport::Udp, family, choice, now, |local| bind_udp(local, self.buffer))?;
        let index = id.0 as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Relay { socket, v6: local.is_ipv6() });
        Ok(local)
    }

    /// Looks for a free address, in an order that is random and comes past each port once, so that ports in use in a row
    /// are no hurdle: in a range that is 90 % full about the tenth try hits. Ports of live allocations cost one look at
    /// a bit.
    pub(super) fn find<T>(
        &self,
        transport: RelayTransport,
        family: Family,
        choice: PortChoice,
        now: Instant,
        bind: impl Fn(SocketAddr) -> io::Result<T>,
    ) -> Result<(T, SocketAddr), BindError> {
        if let PortChoice::Exactly(local) = choice {
            return bind(local).map(|socket| (socket, local)).map_err(|_| BindError::NoPort);
        }
        let of_family = || self.addresses.iter().filter(|a| Family::of(&a.local) == family);
        if of_family().next().is_none() {
            return Err(BindError::FamilyNotSupported);
        }
        //= 8656-7.2-9
        // From the system each time: nobody learns the next port from those before.
        let random = getrandom::u64().map_err(|_| BindError::NoPort)?;
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let count = last - first + 1;
        let order = getrandom::u64().map_err(|_| BindError::NoPort)?;
        //= 8656-6-1
        let is_free =
            |local| !self.shared.is_relay_port(transport, local) && !self.shared.is_reserved(local, now);

        let mut tries = 0;
        // Several addresses share the load.
        let addresses = of_family().count();
        let skipped = random as u32 as usize % addresses;
        for ip in of_family().cycle().skip(skipped).take(addresses).map(|a| a.local) {
            for at in walk(order, count) {
                let port = (first + at) as u16;
                let local = SocketAddr::new(ip, port);
                if choice != PortChoice::Any && port % 2 == 1 || !is_free(local) {
                    continue;
                }
                let next = SocketAddr::new(ip, port | 1);
                if choice == PortChoice::EvenPair && (u32::from(next.port()) > last || !is_free(next)) {
                    continue;
                }
                if tries == TRIES {
                    return Err(BindError::NoPort);
                }
                tries += 1;
                let Ok(socket) = bind(local) else { continue };
                if choice != PortChoice::EvenPair || bind(next).is_ok() {
                    return Ok((socket, local));
                }
            }
        }
        Err(BindError::NoPort)
    }
}

/// Each of `count` places once, in one of very many orders in which neighbours lie far apart: a number that counts up is
/// mixed in rounds, each of which can be undone (an odd factor, a summand, its high half onto its low one).
fn walk(random: u64, count: u32) -> impl Iterator<Item = u32> {
    const ROUNDS: u64 = 3;
    let bits = count.next_power_of_two().trailing_zeros();
    let mask = (1_u32 << bits) - 1;
    let rounds = move |place: u32, round: u64| {
        // Nothing of a round is as in the one before: the next number of the sequence "splitmix64".
        let key = random.wrapping_add((round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let key = (key ^ key >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let key = (key ^ key >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let place = place.wrapping_mul(key as u32 | 1).wrapping_add((key >> 32) as u32) & mask;
        place ^ place >> bits.div_ceil(2).max(1)
    };
    let all = (0..=mask).map(move |place| (0..ROUNDS).fold(place, rounds));
    all.filter(move |at| *at < count)
}

//= 8656-13-2 8656-13.2-1 8656-14-2 8656-15-1
fn bind_udp(local: SocketAddr, buffer: Option<usize>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&local.into())?;
    let fd = socket.as_fd();
    // Each of these is a help, none a need.
    if let Some(buffer) = buffer {
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
    }
    for wish in [Wish::Gro, Wish::Errors, Wish::DontFragment(false)] {
        let _ = udp::ask(fd, local.is_ipv6(), wish);
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::io::ErrorKind::AddrInUse;

    use crate::turn::Settings;

    fn relays(ports: RangeInclusive<u16>) -> Relays {
        let relay = |text: &str| {
            let ip = text.parse().unwrap();
            RelayAddress { local: ip, announced: ip }
        };
        let addresses = vec![relay("127.0.0.1"), relay("127.0.0.2")];
        let settings = Settings { relay_addresses: addresses.clone(), ..Settings::default() };
        Relays::new(addresses, ports, Shared::new(&settings, 1), None)
    }

    fn find(
        relays: &Relays,
        choice: PortChoice,
        taken: impl Fn(SocketAddr) -> bool,
    ) -> Result<SocketAddr, BindError> {
        let bind = |local| if taken(local) { Err(AddrInUse.into()) } else { Ok(()) };
        relays
            .find(RelayTransport::Udp, Family::V4, choice, Instant::default(), bind)
            .map(|((), local)| local)
    }

    //= 8656-7.2-9
    #[test]
    fn a_range_nine_tenths_full_has_a_place_for_everybody() {
        let relays = relays(49_152..=65_535);
        let mut ports = HashSet::new();
        for _ in 0..500 {
            let local = find(&relays, PortChoice::Any, |local| local.port() % 10 != 0).unwrap();
            assert!(relays.ports.contains(&local.port()));
            ports.insert(local);
        }
        assert!(ports.len() > 300, "spread over the range: {} different ones", ports.len());
        assert!(ports.iter().any(|a| a.ip() != ports.iter().next().unwrap().ip()), "and the addresses");
    }

    #[test]
    fn a_full_range_is_given_up_soon() {
        let tried = RefCell::new(Vec::new());
        let all_taken = |local| {
            tried.borrow_mut().push(local);
            true
        };
        assert_eq!(find(&relays(49_152..=65_535), PortChoice::Any, all_taken), Err(BindError::NoPort));
        assert_eq!(tried.borrow().len(), TRIES as usize);
        tried.borrow_mut().clear();
        assert_eq!(find(&relays(50_000..=50_003), PortChoice::Any, all_taken), Err(BindError::NoPort));
        let distinct: HashSet<_> = tried.borrow().iter().copied().collect();
        assert_eq!((tried.borrow().len(), distinct.len()), (8, 8), "both addresses, each port once");
    }

    #[test]
    fn pairs_begin_at_an_even_port_and_lie_in_the_range() {
        for _ in 0..50 {
            let even = find(&relays(50_001..=50_004), PortChoice::Even, |_| false).unwrap().port();
            assert!([50_002, 50_004].contains(&even));
            let pair = find(&relays(50_001..=50_004), PortChoice::EvenPair, |_| false).unwrap().port();
            assert_eq!(pair, 50_002);
        }
        let odd_taken = |local: SocketAddr| local.port() % 2 == 1;
        assert_eq!(find(&relays(50_000..=50_009), PortChoice::EvenPair, odd_taken), Err(BindError::NoPort));
        let other_family =
            relays(1..=2)
                .find(RelayTransport::Udp, Family::V6, PortChoice::Any, Instant::default(), |_| Ok(()));
        assert_eq!(other_family.map(|_| ()), Err(BindError::FamilyNotSupported));
    }

    #[test]
    fn a_walk_comes_past_each_place_once() {
        for count in [1, 2, 3, 4, 6, 97, 100, 16_384, 65_536] {
            for random in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210] {
                let places: HashSet<_> = walk(random, count).collect();
                assert_eq!((places.len(), walk(random, count).count()), (count as usize, count as usize));
            }
        }
    }

    #[test]
    fn a_crowded_range_costs_no_long_search() {
        // All that is in use lies in a row, the worst case for a search in order; or is all but each nth port.
        let (block, comb) = (|at, free| at < free, |at, free| at % (1_000 / free) == 0);
        for (free, most) in [(100, 20), (10, 200)] {
            for is_free in [&block as &dyn Fn(u32, u32) -> bool, &comb] {
                let search = |n: u64| {
                    let random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    1 + walk(random, 1_000).position(|at| is_free(at, free)).unwrap()
                };
                let each = (1..=2_000).map(search).sum::<usize>() / 2_000;
                assert!(each <= most, "{each} tries with {free} of 1,000 free");
            }
        }
        // Luck counts, too: not one of so many searches is given up.
        let relays = relays(50_000..=50_999);
        let mut tried = 0;
        for _ in 0..5_000 {
            let taken = |local: SocketAddr| local.port() < 50_900;
            let tries = RefCell::new(0);
            let counted = |local| {
                *tries.borrow_mut() += 1;
                taken(local)
            };
            assert!(find(&relays, PortChoice::Any, counted).unwrap().port() >= 50_900);
            tried += tries.into_inner();
        }
        assert!(tried < 5_000 * 20, "{tried} tries for 5,000 ports");
    }

    #[test]
    fn the_last_free_port_is_found_among_those_in_use() {
        let relays = relays(50_000..=50_099);
        for last in [50_000, 50_042, 50_099] {
            let found = find(&relays, PortChoice::Any, |local| local.port() != last);
            assert_eq!(found.unwrap().port(), last);
        }
    }

    #[test]
    fn closed_sockets_leave_no_memory() {
        let mut relays = relays(20_000..=60_000);
        let ids = |n: u32| (0..n).map(RelayId);
        for id in ids(40).filter(|id| id.0 % 2 == 0) {
            relays.bind(id, Family::V4, PortChoice::Any, Instant::default()).unwrap();
        }
        // As if there had been ten thousand.
        relays.sockets.resize_with(10_000, || None);
        assert!(relays.close(RelayId(38)).is_some() && relays.close(RelayId(38)).is_none());
        assert!(relays.get(RelayId(36)).is_some());
        assert!(relays.sockets.capacity() < 200, "{}", relays.sockets.capacity());
        ids(40).for_each(|id| drop(relays.close(id)));
        assert!(relays.sockets.is_empty() && relays.sockets.capacity() <= 64);
    }
}
