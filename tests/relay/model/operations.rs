//! What can happen to a relay. An operation is read from a few bytes; smaller bytes mean simpler things, so that a
//! failing sequence shrinks to what matters.

use std::fmt;

use ternd::stun::Family;

/// One of the client's paths: see `runner::PATHS`.
pub type Path = usize;

/// How the relay is set up, and what a sequence is about.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub focus: Focus,
    /// Limits that are soon reached.
    pub tight: bool,
    /// IPv4 only, or both families.
    pub dual: bool,
    /// The IPv4 relay address is behind 1:1 NAT.
    pub nat: bool,
    /// Caps on packets per second.
    pub capped: bool,
    /// Clients begin without a nonce.
    pub strangers: bool,
    /// The channel numbers of RFC 5766.
    pub old: bool,
    /// There is another server to go to.
    pub elsewhere: bool,
    /// Strangers get few answers.
    pub stingy: bool,
    /// Allocations may move (RFC 8016).
    pub mobile: bool,
}

/// What happens most: a sequence about few things gets deeper into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    Everything,
    /// One client with some peers, and much time.
    OneCall,
    /// TCP allocations.
    Connections,
    /// Requests that are not signed, or not well.
    Strangers,
    /// Clients that change their paths.
    Moves,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A client sends a request.
    Request { path: Path, signer: Signer, same_id: bool, unknown: bool, fingerprint: bool, what: What },
    /// A client sends its last request once more.
    Again { path: Path },
    /// A Send indication.
    Send { path: Path, peer: Peer, len: u8, dont_fragment: bool },
    /// ChannelData.
    Channel { path: Path, number: u16, len: u8 },
    /// A datagram from a peer to a relay.
    FromPeer { relay: usize, peer: Peer, len: u8 },
    /// An ICMP error for what a relay has sent.
    Icmp { relay: usize, peer: Peer },
    /// Time passes. `late`: the next operation comes before the relay has looked at its timers.
    Wait { seconds: u64, late: bool },
    /// The client's connection ends.
    Gone { path: Path },
    /// From here on sockets can be bound, or not.
    Sockets { v4: bool, v6: bool },
    /// From here on binding takes until `Bound`.
    Slow { binds: bool },
    /// The oldest socket that is being bound is bound, or not.
    Bound,
    /// A peer answers a connection, or not.
    Connected { connection: usize, reached: bool },
    /// A peer connects to a relay.
    Accept { relay: usize, peer: Peer },
    /// A peer's connection ends.
    PeerGone { connection: usize },
}

/// A sequence, shown with one operation a line.
pub struct Ops(pub Vec<Op>);

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| write!(f, "\n    {op:?}"))
    }
}

/// Who signs a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    Alice,
    Bob,
    /// In alice's name.
    WrongPassword,
    Nobody,
    /// Signed by alice, without NONCE.
    WithoutNonce,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Binding,
    Allocate(Allocate),
    Refresh {
        lifetime: Option<u32>,
        family: Option<WireFamily>,
        ticket: Option<Ticket>,
    },
    /// One to three peers; `None`: left out.
    CreatePermission {
        peers: [Option<Peer>; 3],
    },
    ChannelBind {
        number: Option<u16>,
        peer: Option<Peer>,
    },
    Connect {
        peer: Option<Peer>,
    },
    ConnectionBind {
        connection: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocate {
    /// The value of REQUESTED-TRANSPORT.
    pub protocol: Option<u8>,
    pub lifetime: Option<u32>,
    /// The R bit of EVEN-PORT.
    pub even_port: Option<bool>,
    /// Which token of those that were given out, from the last one on.
    pub token: Option<usize>,
    pub requested: Option<WireFamily>,
    pub additional: Option<WireFamily>,
    pub dont_fragment: bool,
    /// MOBILITY-TICKET: empty, as it should be, or not.
    pub mobility: Option<bool>,
}

/// A mobility ticket that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticket {
    /// Which one of those that were given out, from the last one on.
    Given(usize),
    Forged,
    Malformed,
}

/// A family as attributes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFamily {
    Is(Family),
    /// 9.
    Unknown,
    /// One byte.
    Malformed,
}

/// A peer as operations name it; `runner::Runner::address` gives it its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// 192.0.2.99, .98 and .97, ports 1 and 2.
    V4(u8),
    /// 2001:db8:2::99 and ::98, ports 1 and 2.
    V6(u8),
    /// One of the server's relays.
    Relay(usize),
    /// One of the server's relays at the address its socket is bound to.
    Local(usize),
    /// A port of the server that relays nothing.
    Service,
    /// The same for IPv6.
    ServiceV6,
    /// 10.9.9.9, not open.
    Closed,
    /// The same in IPv6 clothes.
    ClosedV6,
    /// 192.0.2.99 without a port.
    WithoutPort,
    /// Three bytes.
    Malformed,
}

/// Bytes, one after the other, and zeros behind them.
struct Source<'a> {
    bytes: &'a [u8],
    focus: Focus,
}

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    /// One of `n`, evenly.
    fn of(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// One of these; those that are there more than once come more often.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.of(from.len())]
    }
}

impl Setup {
    pub const BYTES: usize = 5;

    pub fn decode(bytes: [u8; Self::BYTES]) -> Self {
        use Focus::{Connections, Everything, Moves, OneCall, Strangers};
        let [a, b, c, d, _] = bytes.map(|b| b & 1 == 1);
        let about = [
            Everything,
            Everything,
            Everything,
            OneCall,
            OneCall,
            OneCall,
            Connections,
            Strangers,
            Moves,
            Moves,
        ];
        let focus = about[usize::from(bytes[4]) % about.len()];
        let (strangers, stingy) = (bytes[1] & 6 == 6, bytes[2] & 6 == 6);
        let (old, elsewhere) = (bytes[3] & 6 == 6, bytes[0] & 2 == 2);
        let mobile = focus == Moves || bytes[0] & 4 == 4;
        Self { focus, tight: a, dual: !b, nat: c, capped: d, strangers, old, elsewhere, stingy, mobile }
    }
}

impl Op {
    /// As many as the longest needs.
    pub const BYTES: usize = 16;

    pub fn decode(focus: Focus, bytes: [u8; Self::BYTES]) -> Self {
        let s = &mut Source { bytes: &bytes, focus };
        let kind = match focus {
            Focus::Everything => s.of(32),
            Focus::OneCall => s.pick(&[0, 0, 0, 0, 0, 14, 18, 19, 20, 24, 24]),
            Focus::Connections => s.pick(&[0, 0, 0, 0, 0, 24, 27, 29, 29, 31]),
            Focus::Strangers => s.pick(&[0, 12, 12, 12, 24]),
            Focus::Moves => s.pick(&[0, 0, 0, 0, 0, 0, 14, 17, 18, 19, 19, 20, 23, 24, 27]),
        };
        match kind {
            0..=11 => Self::usual(s),
            12..=16 => Self::request(s),
            17 => Self::Again { path: path(s) },
            18 => Self::Send { path: path(s), peer: peer(s), len: s.byte() % 9, dont_fragment: s.of(2) == 1 },
            19 => Self::Channel { path: path(s), number: number(s), len: s.byte() % 9 },
            20..=22 => Self::FromPeer { relay: s.of(4), peer: peer(s), len: s.byte() % 9 },
            23 => Self::Icmp { relay: s.of(4), peer: peer(s) },
            24..=26 => {
                let seconds = s.pick(&[1, 2, 29, 30, 31, 60, 150, 299, 300, 300, 301, 599, 600, 601, 700]);
                Self::Wait { seconds, late: s.of(3) == 1 }
            }
            27 => match s.of(4) {
                0 => Self::Gone { path: path(s) },
                1 => Self::Slow { binds: s.of(2) == 1 },
                n => Self::Sockets { v4: n == 2, v6: s.of(2) == 1 },
            },
            28 => Self::Bound,
            29..=30 => Self::Connected { connection: s.of(3), reached: s.of(4) != 3 },
            _ => match s.of(4) {
                0..=2 => Self::Accept { relay: s.of(4), peer: peer(s) },
                _ => Self::PeerGone { connection: s.of(4) },
            },
        }
    }

    /// A request as it comes in practice: right, and from the path's usual user.
    fn usual(s: &mut Source<'_>) -> Self {
        let mut path: Path = s.pick(&[0, 0, 0, 1, 1, 2, 2, 2, 3, 5]);
        let both = Some(WireFamily::Is(Family::V6));
        let udp = Allocate {
            protocol: Some(17),
            lifetime: s.pick(&[None, Some(1800)]),
            even_port: None,
            token: None,
            requested: None,
            additional: None,
            dont_fragment: false,
            mobility: None,
        };
        let kind = match s.focus {
            Focus::Moves => s.pick(&[16, 16, 16, 17, 17, 17, 17, 7, 9, 11, 8]),
            Focus::OneCall => s.pick(&[0, 7, 9, 9, 11, 11]),
            Focus::Connections => s.pick(&[3, 3, 4, 7, 8, 11, 11, 13, 13, 15, 15]),
            _ => s.of(16),
        };
        if s.focus == Focus::OneCall {
            path = 0;
        }
        let what = match kind {
            0 | 1 => What::Allocate(udp),
            2 => What::Allocate(Allocate { additional: both, ..udp }),
            3 => What::Allocate(Allocate { protocol: Some(6), ..udp }),
            4 => What::Allocate(Allocate { protocol: Some(6), additional: both, ..udp }),
            5 => What::Allocate(Allocate { even_port: Some(true), ..udp }),
            6 => What::Allocate(Allocate { token: Some(s.of(2)), ..udp }),
            7 => What::Refresh { lifetime: s.pick(&[None, Some(0), Some(1800)]), family: None, ticket: None },
            8 => What::Refresh {
                lifetime: s.pick(&[Some(0), Some(0), None]),
                family: Some(family(s)),
                ticket: None,
            },
            16 => What::Allocate(Allocate { mobility: Some(true), additional: s.pick(&[None, both]), ..udp }),
            17 => What::Refresh {
                lifetime: s.pick(&[None, None, Some(0)]),
                family: None,
                ticket: Some(ticket(s)),
            },
            9 | 10 => What::ChannelBind { number: Some(number(s)), peer: Some(peer(s)) },
            11 | 12 => What::CreatePermission { peers: [Some(peer(s)), None, None] },
            13 | 14 => What::Connect { peer: Some(peer(s)) },
            _ => {
                // On a connection of its own.
                path = s.pick(&[4, 4, 4, 1]);
                What::ConnectionBind { connection: Some(s.of(3)) }
            }
        };
        let usual = if path.is_multiple_of(2) { Signer::Alice } else { Signer::Bob };
        // Whoever moves comes to paths that are usually another's.
        let signer =
            if s.focus == Focus::Moves { s.pick(&[Signer::Alice, Signer::Alice, usual]) } else { usual };
        Self::Request { path, signer, same_id: false, unknown: false, fingerprint: false, what }
    }

    /// Any request from anybody.
    fn request(s: &mut Source<'_>) -> Self {
        use Signer::{Alice, Bob, Nobody, WithoutNonce, WrongPassword};
        let path = path(s);
        let signer = match s.focus {
            Focus::Strangers => s.pick(&[Nobody, WrongPassword, Nobody, WithoutNonce]),
            _ => {
                s.pick(&[Alice, Bob, Alice, Alice, Bob, Bob, Alice, Bob, WrongPassword, Nobody, WithoutNonce])
            }
        };
        let flags = s.byte();
        let rare = |bits: u8| flags & bits == bits;
        let (fingerprint, same_id, unknown) = (rare(0x03), rare(0x1C), rare(0xE0));
        let what = match s.of(8) {
            0..=2 => What::Allocate(allocate(s)),
            3 => What::Refresh {
                lifetime: lifetime(s),
                family: rare(0x12).then(|| family(s)),
                ticket: s.pick(&[false, false, true]).then(|| ticket(s)),
            },
            4 => {
                let mut maybe = |often| (s.byte() < often).then(|| peer(s));
                What::CreatePermission { peers: [maybe(240), maybe(100), maybe(100)] }
            }
            5 => What::ChannelBind {
                number: (!rare(0x48)).then(|| number(s)),
                peer: (!rare(0x12)).then(|| peer(s)),
            },
            6 => match s.of(2) {
                0 => What::Connect { peer: (!rare(0x12)).then(|| peer(s)) },
                _ => What::ConnectionBind { connection: (!rare(0x12)).then(|| s.of(5)) },
            },
            _ => What::Binding,
        };
        Self::Request { path, signer, same_id, unknown, fingerprint, what }
    }
}

fn path(s: &mut Source<'_>) -> Path {
    match s.focus {
        Focus::OneCall => 0,
        Focus::Strangers => s.pick(&[0, 0, 5, 3]),
        _ => s.of(super::runner::PATHS.len()),
    }
}

fn peer(s: &mut Source<'_>) -> Peer {
    match s.of(if s.focus == Focus::Everything { 20 } else { 6 }) {
        n @ 0..=4 => Peer::V4(n as u8),
        5 => Peer::V6(s.of(2) as u8),
        6..=9 => Peer::Relay(s.of(4)),
        10 => Peer::Local(s.of(4)),
        11 => Peer::Service,
        12 => Peer::ServiceV6,
        13 => s.pick(&[Peer::Closed, Peer::ClosedV6]),
        14 => Peer::WithoutPort,
        15 => Peer::Malformed,
        _ => Peer::V4(0),
    }
}

fn number(s: &mut Source<'_>) -> u16 {
    s.pick(&[0x4000, 0x4000, 0x4000, 0x4000, 0x4001, 0x4FFF, 0x3FFF, 0x7FFF])
}

fn ticket(s: &mut Source<'_>) -> Ticket {
    use Ticket::{Forged, Given, Malformed};
    s.pick(&[
        Given(0),
        Given(0),
        Given(0),
        Given(0),
        Given(1),
        Given(1),
        Given(2),
        Given(3),
        Forged,
        Malformed,
    ])
}

fn lifetime(s: &mut Source<'_>) -> Option<u32> {
    s.pick(&[None, None, Some(0), Some(1), Some(600), Some(601), Some(1800), Some(3600), Some(u32::MAX)])
}

fn family(s: &mut Source<'_>) -> WireFamily {
    use WireFamily::{Is, Malformed, Unknown};
    let (v4, v6) = (Is(Family::V4), Is(Family::V6));
    s.pick(&[v4, v6, v4, v6, v4, v6, Unknown, Malformed])
}

/// The attributes of an Allocate request in all combinations, wrong ones too.
fn allocate(s: &mut Source<'_>) -> Allocate {
    Allocate {
        protocol: s.pick(&[
            Some(17),
            Some(17),
            Some(17),
            Some(17),
            Some(17),
            Some(6),
            Some(6),
            Some(132),
            None,
        ]),
        lifetime: lifetime(s),
        even_port: s.pick(&[None, None, None, Some(true), Some(true), Some(false)]),
        token: s.pick(&[None, None, None, None, None, Some(0), Some(1), Some(2)]),
        requested: s.pick(&[false, false, false, true]).then(|| family(s)),
        additional: s.pick(&[false, false, false, true]).then(|| family(s)),
        dont_fragment: s.of(4) == 1,
        mobility: s.pick(&[None, None, None, Some(true), Some(true), Some(false)]),
    }
}
