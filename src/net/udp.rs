//! Datagrams in batches: what is received and what is to be sent. The system calls are in `udp/linux.rs`, the one module
//! with unsafe code; other systems have the plain ones of `udp/plain.rs`.
//!
//! ```text
//! one recvmmsg ──► slot  |<- datagram, or a run of equal ones (UDP_GRO) ->|
//!                        |   ▲         ▲         ▲
//! one sendmmsg ◄── Piece: the same part of each datagram of a run, and a header that goes before each;
//!                  pieces of one length to one target leave as one run (UDP_SEGMENT)
//! ```
//! Nothing is copied: headers and parts are gathered by the system.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod plain;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use plain as system;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::BorrowedFd;

pub(super) use system::{ask, take_error};

use crate::turn::Framing;

/// The longest datagram, and with UDP_GRO the longest run of them.
const DATAGRAM: usize = 65_536;
/// Segments in one UDP_SEGMENT send: the kernel's limit.
const MAX_SEGMENTS: usize = 64;
/// Bytes in one UDP_SEGMENT send, headers included.
const MAX_RUN: usize = 65_000;
/// Messages in one system call.
pub(super) const BATCH: usize = 64;

/// What is known of a received slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub from: SocketAddr,
    /// The address it was sent to, where the socket was asked to tell.
    pub local: Option<IpAddr>,
    /// Bytes in the slot.
    pub len: usize,
    /// Bytes of each datagram of a run but the last, which may be shorter. `len` if there is just one.
    pub segment: usize,
}

/// Shows what can't be answered as what it is: from nowhere.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

/// Buffers of one shard, filled by [`receive`](Self::receive) and used again after [`reset`](Self::reset).
pub(super) struct Pool {
    bytes: Box<[u8]>,
    received: Vec<Received>,
    /// Slots behind these were filled by [`put`](Self::put) since the last receive.
    arrived: usize,
    slots: usize,
    receiver: system::Receiver,
}

impl Pool {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            bytes: vec![0; slots * DATAGRAM].into_boxed_slice(),
            received: Vec::with_capacity(slots),
            arrived: 0,
            slots,
            receiver: system::Receiver::new(),
        }
    }

    /// Slots that are not in use.
    pub(super) fn free(&self) -> usize {
        self.slots - self.received.len()
    }

    /// Gives all slots back.
    pub(super) fn reset(&mut self) {
        self.received.clear();
        self.arrived = 0;
    }

    /// Gives the slots back that were [`put`](Self::put) since the last receive.
    pub(super) fn reset_put(&mut self) {
        self.received.truncate(self.arrived);
    }

    /// Copies bytes into a free slot; `None` if there is none, or they are too long.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<usize> {
        let slot = self.received.len();
        if self.free() == 0 || bytes.len() > DATAGRAM {
            return None;
        }
        self.bytes[slot * DATAGRAM..][..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len();
        self.received.push(Received { from: NOWHERE, local: None, len, segment: len.max(1) });
        Some(slot)
    }

    pub(super) fn meta(&self, slot: usize) -> Received {
        self.received[slot]
    }

    /// The part of a slot.
    pub(super) fn part(&self, slot: usize, part: Range<usize>) -> &[u8] {
        &self.bytes[slot * DATAGRAM..][part]
    }

    /// Reads up to `max` datagrams, or runs of them, into free slots; which slots those are. Fewer than `max` means
    /// that the socket is empty.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, max: usize) -> io::Result<Range<usize>> {
        let first = self.received.len();
        let want = max.min(self.free()).min(BATCH);
        let room = &mut self.bytes[first * DATAGRAM..(first + want) * DATAGRAM];
        self.receiver.receive(socket, room, &mut self.received)?;
        self.arrived = self.received.len();
        Ok(first..self.arrived)
    }
}

/// Datagrams to be sent: parts of a slot, each with bytes before and behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub header: [u8; Framing::HEADROOM],
    /// The header is the last `header_len` bytes of `header`.
    pub header_len: usize,
    pub slot: usize,
    /// Where the first part begins in the slot.
    pub start: usize,
    /// Bytes of each part.
    pub len: usize,
    /// Zero bytes behind each.
    pub padding: usize,
    /// How many parts.
    pub count: usize,
    /// From the start of one part to the start of the next.
    pub stride: usize,
}

impl Piece {
    /// One datagram: a part of a slot as it is.
    pub(super) fn plain(slot: usize, start: usize, len: usize) -> Self {
        let header = [0; Framing::HEADROOM];
        Self { header, header_len: 0, slot, start, len, padding: 0, count: 1, stride: 0 }
    }

    /// One of its datagrams: this part of the slot, in the same wrapping.
    pub(super) fn single(mut self, part: Range<usize>) -> Self {
        (self.start, self.len, self.count) = (part.start, part.len(), 1);
        self
    }

    /// Bytes of each datagram.
    fn size(&self) -> usize {
        self.header_len + self.len + self.padding
    }

    /// Where the parts lie in the slot.
    pub(super) fn into_parts(self) -> impl Iterator<Item = Range<usize>> {
        let Self { start, len, count, stride, .. } = self;
        (0..count).map(move |n| start + n * stride).map(move |at| at..at + len)
    }
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub to: SocketAddr,
    /// The source address, where the socket has several.
    pub from: Option<IpAddr>,
}

/// What goes to one target in one go: one datagram, or several of one size, the last may be shorter.
#[derive(Clone, Debug)]
struct Run {
    target: Target,
    pieces: Range<usize>,
    /// Datagrams.
    count: usize,
    /// Bytes of each but the last.
    size: usize,
    /// The last one is full, so another may follow.
    open: bool,
}

/// Datagrams waiting to be sent from one socket. There is room for [`BATCH`] from the start; it grows with the largest
/// batch it sees.
pub(super) struct Outgoing {
    pieces: Vec<Piece>,
    runs: Vec<Run>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { pieces: Vec::with_capacity(BATCH), runs: Vec::with_capacity(BATCH) }
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds datagrams. Joins them to the last run if they go to the same place and fit.
    pub(super) fn push(&mut self, target: Target, mut piece: Piece, gso: bool) {
        let size = piece.size();
        let most = if gso && size > 0 { (MAX_RUN / size).clamp(1, MAX_SEGMENTS) } else { 1 };
        while piece.count > 0 {
            let last = self.runs.last_mut().filter(|r| gso && r.open && r.target == target && size > 0);
            let (taken, joined) = match last {
                Some(run) if run.size == size && run.count < most => {
                    let taken = piece.count.min(most - run.count);
                    run.count += taken;
                    (taken, Some(run))
                }
                Some(run)
                    if size < run.size
                        && run.count < MAX_SEGMENTS
                        && (run.count + 1) * run.size <= MAX_RUN =>
                {
                    run.count += 1;
                    run.open = false;
                    (1, Some(run))
                }
                _ => (piece.count.min(most), None),
            };
            self.pieces.push(Piece { count: taken, ..piece });
            let end = self.pieces.len();
            match joined {
                Some(run) => run.pieces.end = end,
                None => {
                    self.runs.push(Run { target, pieces: end - 1..end, count: taken, size, open: true });
                }
            }
            piece.count -= taken;
            piece.start += taken * piece.stride;
        }
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.runs.clear();
    }

    /// Makes a run of its own of each datagram of a run.
    fn take_apart(&mut self, at: usize) {
        let Run { target, pieces, .. } = self.runs[at].clone();
        let first = self.pieces.len();
        for index in pieces {
            let piece = self.pieces[index];
            self.pieces.extend(piece.into_parts().map(|part| piece.single(part)));
        }
        let single = |i: usize| (i..i + 1, self.pieces[i].size());
        let singles = (first..self.pieces.len()).map(single);
        let singles = singles.map(|(pieces, size)| Run { target, pieces, count: 1, size, open: false });
        self.runs.splice(at..=at, singles);
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Datagrams that did not get out: the socket's buffer was full, or the system refused them.
    pub dropped: u64,
    /// The system does not cut runs on this path: don't make any.
    pub no_gso: bool,
}

/// Sends what waits, of one shard.
pub(super) struct Sender(system::Transmitter);

impl Sender {
    pub(super) fn new() -> Self {
        Self(system::Transmitter::new())
    }

    /// Sends all that waits, and empties the queue. A datagram that the system refuses is dropped, as UDP may; a run
    /// that it refuses, most often because its datagrams are larger than the path takes in one piece, is taken apart.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, outgoing: &mut Outgoing, pool: &Pool) -> Sent {
        let mut sent = Sent::default();
        let mut at = 0;
        let mut retried = false;
        while at < outgoing.runs.len() {
            let batch = &outgoing.runs[at..outgoing.runs.len().min(at + BATCH)];
            let error = match self.0.send(socket, batch, &outgoing.pieces, pool) {
                Ok(n) => {
                    (at, retried) = (at + n, false);
                    continue;
                }
                Err(error) => error.raw_os_error(),
            };
            match error {
                Some(libc::EINTR) => {}
                // The socket's buffer is full, so it is for what comes next.
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    sent.dropped += outgoing.runs[at..].iter().map(|run| run.count as u64).sum::<u64>();
                    break;
                }
                // An ICMP error that waited on the socket is reported once, in place of whatever comes next.
                _ if !retried => retried = true,
                error if batch[0].count > 1 => {
                    sent.no_gso |= error == Some(libc::EIO);
                    outgoing.take_apart(at);
                    retried = false;
                }
                _ => {
                    sent.dropped += 1;
                    (at, retried) = (at + 1, false);
                }
            }
        }
        outgoing.clear();
        sent
    }
}

/// An ICMP error about a datagram that was sent from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    /// Where the datagram was to go.
    pub to: SocketAddr,
    pub kind: u8,
    pub code: u8,
    /// For "too big" errors.
    pub mtu: u32,
}

/// What a datagram socket is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Tell the address a datagram was sent to.
    PacketInfo,
    /// Hand over runs of datagrams at once.
    Gro,
    /// Keep ICMP errors for [`take_error`].
    Errors,
    /// Set the DF bit on what is sent, or let routers cut it.
    DontFragment(bool),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn socket(addr: &str) -> UdpSocket {
        let socket = UdpSocket::bind(addr).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn piece(slot: usize, start: usize, len: usize, header: &[u8], padding: usize) -> Piece {
        let mut room = [0; Framing::HEADROOM];
        room[Framing::HEADROOM - header.len()..].copy_from_slice(header);
        Piece { header: room, header_len: header.len(), padding, ..Piece::plain(slot, start, len) }
    }

    fn receive_all(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buf = vec![0; 65_536];
        for _ in 0..10_000 {
            match socket.recv(&mut buf) {
                Ok(len) => all.push(buf[..len].to_vec()),
                Err(_) if all.len() >= count => break,
                Err(_) => std::thread::yield_now(),
            }
        }
        all
    }

    #[test]
    fn what_is_received_is_sent_on_with_headers_and_padding() {
        for (a, b) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let (alice, relay, bob) = (socket(a), socket(a), socket(b));
            let v6 = a.starts_with('[');
            ask(relay.as_fd(), v6, Wish::PacketInfo).unwrap();
            for data in [&b"one"[..], b"two", b"", b"four!"] {
                alice.send_to(data, relay.local_addr().unwrap()).unwrap();
            }
            let mut pool = Pool::new(8);
            let slots = pool.receive(relay.as_fd(), 8).unwrap();
            assert_eq!(slots, 0..4);
            assert_eq!(pool.free(), 4);
            let target =
                Target { to: bob.local_addr().unwrap(), from: Some(relay.local_addr().unwrap().ip()) };
            let mut outgoing = Outgoing::default();
            for slot in slots {
                let meta = pool.meta(slot);
                assert_eq!(meta.from, alice.local_addr().unwrap());
                assert_eq!(meta.local, Some(relay.local_addr().unwrap().ip()));
                outgoing.push(target, piece(slot, 0, meta.len, b"<>", 1), true);
            }
            let sent = Sender::new().send(relay.as_fd(), &mut outgoing, &pool);
            assert_eq!(sent.dropped, 0);
            assert!(outgoing.is_empty());
            assert_eq!(receive_all(&bob, 4), [&b"<>one\0"[..], b"<>two\0", b"<>\0", b"<>four!\0"]);
            pool.reset();
            assert_eq!(pool.free(), 8);
        }
    }

    #[test]
    fn equal_datagrams_leave_as_one_run_and_arrive_as_single_ones() {
        let (relay, bob) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let mut pool = Pool::new(1);
        bob.send_to(&(0..=255).collect::<Vec<u8>>(), relay.local_addr().unwrap()).unwrap();
        pool.receive(relay.as_fd(), 1).unwrap();
        let target = Target { to: bob.local_addr().unwrap(), from: None };
        let mut outgoing = Outgoing::default();
        let mut expected = Vec::new();
        for (start, len) in [(0, 100), (100, 100), (50, 56), (0, 100), (3, 100), (4, 0)] {
            outgoing.push(target, piece(0, start, len, b"h", 0), true);
            expected
                .push(std::iter::once(b'h').chain((start as u8)..((start + len) as u8)).collect::<Vec<u8>>());
        }
        assert_eq!(outgoing.runs.len(), 2, "a shorter one ends a run");
        Sender::new().send(relay.as_fd(), &mut outgoing, &pool);
        assert_eq!(receive_all(&bob, 6), expected);
    }

    #[test]
    fn a_run_is_received_as_one_slot() {
        let (alice, bob) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        if ask(bob.as_fd(), false, Wish::Gro).is_err() {
            return; // a kernel without it
        }
        let mut pool = Pool::new(4);
        bob.send_to(&[9; 64], alice.local_addr().unwrap()).unwrap();
        pool.receive(alice.as_fd(), 1).unwrap();
        let mut outgoing = Outgoing::default();
        let target = Target { to: bob.local_addr().unwrap(), from: None };
        (0..5).for_each(|n| outgoing.push(target, piece(0, 0, if n == 4 { 20 } else { 64 }, b"", 0), true));
        Sender::new().send(alice.as_fd(), &mut outgoing, &pool);
        pool.reset();
        let slots = pool.receive(bob.as_fd(), 4).unwrap();
        let meta = pool.meta(slots.start);
        assert_eq!((slots.len(), meta.len, meta.segment), (1, 4 * 64 + 20, 64));
    }

    fn sent_as_a_run(size: usize, count: usize) -> Vec<usize> {
        let (relay, bob) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        ask(relay.as_fd(), false, Wish::DontFragment(false)).unwrap();
        let mut pool = Pool::new(1);
        pool.put(&vec![7; size]).unwrap();
        let target = Target { to: bob.local_addr().unwrap(), from: None };
        let mut outgoing = Outgoing::default();
        (0..count).for_each(|_| outgoing.push(target, piece(0, 0, size, b"", 0), true));
        assert_eq!(outgoing.runs.len(), 1);
        assert_eq!(Sender::new().send(relay.as_fd(), &mut outgoing, &pool), Sent::default());
        receive_all(&bob, count).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_run_too_large_for_the_path_leaves_as_fragments() {
        let shell = "ip link set lo up mtu 1500 && exec \"$@\"";
        crate::net::tests::in_its_own_process(
            &["unshare", "--net", "sh", "-c", shell, "-"],
            "net::udp::tests::a_run_larger_than_1500_bytes_per_packet",
        );
    }

    #[test]
    #[ignore = "runs in a network namespace with an MTU of 1500"]
    fn a_run_larger_than_1500_bytes_per_packet() {
        assert_eq!(sent_as_a_run(1_480, 4), [1_480; 4]);
        assert_eq!(sent_as_a_run(4_000, 3), [4_000; 3]);
    }

    #[test]
    fn nobody_can_switch_runs_off() {
        let relay = socket("127.0.0.1:0");
        let mut pool = Pool::new(1);
        pool.put(&[7; 20]).unwrap();
        // Anybody can send from port 0, where no answer can go.
        let target = Target { to: "127.0.0.1:0".parse().unwrap(), from: None };
        let mut outgoing = Outgoing::default();
        (0..2).for_each(|_| outgoing.push(target, piece(0, 0, 20, b"", 0), true));
        let sent = Sender::new().send(relay.as_fd(), &mut outgoing, &pool);
        assert_eq!(sent, Sent { dropped: 2, no_gso: false });
    }

    #[test]
    fn an_error_about_one_datagram_costs_no_other() {
        let (relay, bob) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        ask(relay.as_fd(), false, Wish::Errors).unwrap();
        let gone = socket("127.0.0.1:0").local_addr().unwrap(); // closed at once
        let mut pool = Pool::new(1);
        pool.put(&[7; 20]).unwrap();
        for run in [1, 3] {
            relay.send_to(b"x", gone).unwrap();
            let target = Target { to: bob.local_addr().unwrap(), from: None };
            let mut outgoing = Outgoing::default();
            (0..run).for_each(|_| outgoing.push(target, piece(0, 0, 20, b"", 0), true));
            assert_eq!(Sender::new().send(relay.as_fd(), &mut outgoing, &pool), Sent::default());
            assert_eq!(receive_all(&bob, run).len(), run);
        }
    }

    //= 8656-18.13-2
    #[test]
    fn icmp_errors_name_where_the_datagram_was_to_go() {
        let relay = socket("127.0.0.1:0");
        ask(relay.as_fd(), false, Wish::Errors).unwrap();
        let gone = socket("127.0.0.1:0").local_addr().unwrap(); // closed at once
        relay.send_to(b"x", gone).unwrap();
        let error = (0..10_000).find_map(|_| {
            std::thread::yield_now();
            take_error(relay.as_fd())
        });
        assert_eq!(error, Some(Some(IcmpError { to: gone, kind: 3, code: 3, mtu: 0 })));
        assert_eq!(take_error(relay.as_fd()), None);
    }

    #[test]
    fn a_run_goes_on_as_a_run_with_a_header_before_each() {
        let (relay, bob) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let mut pool = Pool::new(1);
        let bytes: Vec<u8> = (0..70 * 104).map(|n| (n / 104) as u8).collect();
        pool.put(&bytes).unwrap();
        let target = Target { to: bob.local_addr().unwrap(), from: None };
        for (header, padding) in [(&b""[..], 0), (b"head", 0), (b"0123456789", 3)] {
            let mut outgoing = Outgoing::default();
            // Of each 104 bytes the last 100; more than fit one run, and then a shorter one.
            let run = Piece { count: 69, stride: 104, ..piece(0, 4, 100, header, padding) };
            outgoing.push(target, run, true);
            outgoing.push(target, piece(0, 69 * 104, 50, header, padding), true);
            assert_eq!(outgoing.runs.iter().map(|r| r.count).collect::<Vec<_>>(), [64, 6]);
            assert_eq!((outgoing.pieces.len(), outgoing.runs[1].open), (3, false));
            assert_eq!(Sender::new().send(relay.as_fd(), &mut outgoing, &pool), Sent::default());
            let datagrams = receive_all(&bob, 70);
            assert_eq!(datagrams.len(), 70);
            for (n, datagram) in datagrams.iter().enumerate() {
                let data = vec![n as u8; if n == 69 { 50 } else { 100 }];
                assert_eq!(*datagram, [header, &data, &[0; 3][..padding]].concat());
            }
        }
    }

    #[test]
    fn a_run_can_be_taken_apart() {
        let target = Target { to: "127.0.0.1:9".parse().unwrap(), from: None };
        let mut outgoing = Outgoing::default();
        outgoing.push(target, piece(0, 0, 7, b"", 0), true);
        outgoing.push(target, Piece { count: 3, stride: 10, ..piece(0, 100, 7, b"", 0) }, true);
        outgoing.push(target, piece(0, 200, 5, b"", 0), true);
        outgoing.push(target, piece(0, 300, 9, b"", 0), true);
        outgoing.take_apart(0);
        let starts: Vec<_> = outgoing.runs.iter().map(|r| outgoing.pieces[r.pieces.start].start).collect();
        assert_eq!(starts, [0, 100, 110, 120, 200, 300]);
        assert!(outgoing.runs[..5].iter().all(|r| r.count == 1 && r.pieces.len() == 1));
    }

    #[test]
    fn without_runs_each_datagram_goes_alone() {
        let target = Target { to: "127.0.0.1:9".parse().unwrap(), from: None };
        let mut outgoing = Outgoing::default();
        outgoing.push(target, Piece { count: 3, stride: 10, ..piece(0, 0, 7, b"", 0) }, false);
        assert_eq!(outgoing.runs.iter().map(|r| r.count).collect::<Vec<_>>(), [1, 1, 1]);
    }
}
