//! Datagrams in batches: the one module with system calls that have no safe form.
//!
//! What enters and leaves is safe: a [`Pool`] of buffers that receives, and [`Message`]s that name parts of it to
//! be sent. Pointers exist only while one function here runs.
//!
//! ```text
//! one recvmmsg ──► slot  |<- HEADROOM ->|<- datagram, or a run of equal ones (UDP_GRO) ->|<- TAILROOM ->|
//!                        |              |
//! one sendmmsg ◄── Message: pieces, each a header (in the message) and a part of a slot;
//!                  several pieces of one length leave as one run (UDP_SEGMENT)
//! ```
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and their control messages")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::turn::Framing;

/// The longest datagram, and with UDP_GRO the longest run of them.
const DATAGRAM: usize = 65_536;
/// A slot holds padding behind its datagram, too.
const SLOT: usize = DATAGRAM + 16;
/// Segments in one UDP_SEGMENT send: the kernel's limit.
pub(super) const MAX_SEGMENTS: usize = 64;
/// Bytes in one UDP_SEGMENT send, headers included.
const MAX_RUN: usize = 65_000;
/// Room for the control messages we read and write.
const CONTROL: usize = 128;

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

/// Buffers of one shard, filled by [`receive`](Self::receive) and used again after [`reset`](Self::reset).
pub(super) struct Pool {
    bytes: Box<[u8]>,
    received: Vec<Received>,
    /// Slots behind these were filled by [`put`](Self::put) since the last receive.
    arrived: usize,
    slots: usize,
    scratch: Box<Scratch>,
}

impl Pool {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            bytes: vec![0; slots * SLOT].into_boxed_slice(),
            received: Vec::with_capacity(slots),
            arrived: 0,
            slots,
            scratch: Box::new(Scratch::new()),
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
        self.bytes[slot * SLOT..][..bytes.len()].copy_from_slice(bytes);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.received.push(Received {
            from: nowhere,
            local: None,
            len: bytes.len(),
            segment: bytes.len().max(1),
        });
        Some(slot)
    }

    pub(super) fn meta(&self, slot: usize) -> Received {
        self.received[slot]
    }

    /// The part of a slot.
    pub(super) fn part(&self, slot: usize, part: Range<usize>) -> &[u8] {
        &self.bytes[slot * SLOT..][part]
    }

    /// Reads up to `max` datagrams, or runs of them, into free slots; which slots those are. Fewer than `max` means
    /// that the socket is empty.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>, max: usize) -> io::Result<Range<usize>> {
        let first = self.received.len();
        let want = max.min(self.free()).min(BATCH);
        let scratch = &mut *self.scratch;
        let room = &mut self.bytes[first * SLOT..(first + want) * SLOT];
        for (i, slot) in room.chunks_exact_mut(SLOT).enumerate() {
            scratch.iovs[i] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: DATAGRAM };
            let header = &mut scratch.messages[i].msg_hdr;
            header.msg_name = (&raw mut scratch.names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            header.msg_iov = &raw mut scratch.iovs[i];
            header.msg_iovlen = 1;
            header.msg_control = scratch.controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL;
            header.msg_flags = 0;
        }
        // SAFETY: each of the `want` messages points to its own name, vector and control buffer in `scratch` and its
        // own slot of `self.bytes`, with their true lengths; all outlive the call.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                scratch.messages.as_mut_ptr(),
                want as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        for i in 0..n as usize {
            let message = &scratch.messages[i];
            let len = message.msg_len as usize;
            let (mut local, mut segment) = (None, len);
            for_each_control(&message.msg_hdr, |level, kind, data| match (level, kind) {
                (libc::SOL_UDP, libc::UDP_GRO) => segment = read::<i32>(data).map_or(len, |s| s as usize),
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    local = read::<libc::in_pktinfo>(data).map(|i| v4(i.ipi_addr).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    local =
                        read::<libc::in6_pktinfo>(data).map(|i| Ipv6Addr::from(i.ipi6_addr.s6_addr).into());
                }
                _ => {}
            });
            // A source that is no IP address can't be answered: shown as what it is, nowhere.
            let from = address(&scratch.names[i]).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            self.received.push(Received { from, local, len, segment: segment.max(1) });
        }
        self.arrived = self.received.len();
        Ok(first..self.arrived)
    }
}

/// A part of a slot to be sent, with bytes before and behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub header: [u8; Framing::HEADROOM],
    /// The header is the last `header_len` bytes of `header`.
    pub header_len: usize,
    pub slot: usize,
    /// Part of the slot.
    pub start: usize,
    pub len: usize,
    /// Zero bytes behind it.
    pub padding: usize,
}

impl Piece {
    pub(super) fn size(&self) -> usize {
        self.header_len + self.len + self.padding
    }
}

/// What goes to one address in one go: one datagram, or a run of equal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub to: SocketAddr,
    /// The source address, where the socket has several.
    pub from: Option<IpAddr>,
}

/// Datagrams waiting to be sent from one socket. Holds no memory once it has seen its largest batch.
#[derive(Default)]
pub(super) struct Outgoing {
    pieces: Vec<Piece>,
    /// Each target with the range of its pieces.
    runs: Vec<(Target, Range<usize>)>,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds a datagram. Joins it to the last run if it goes to the same place and fits: all of a run but its last
    /// are of one size.
    pub(super) fn push(&mut self, target: Target, piece: Piece, gso: bool) {
        let end = self.pieces.len();
        if let Some((last, range)) = self.runs.last_mut().filter(|(last, _)| gso && *last == target) {
            let size = self.pieces[range.start].size();
            let last_is_full = self.pieces[end - 1].size() == size;
            let fits = range.len() < MAX_SEGMENTS && (range.len() + 1) * size <= MAX_RUN;
            if last_is_full && fits && piece.size() <= size && piece.size() > 0 {
                debug_assert_eq!(*last, target);
                range.end += 1;
                self.pieces.push(piece);
                return;
            }
        }
        self.pieces.push(piece);
        self.runs.push((target, end..end + 1));
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.runs.clear();
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

/// Sends messages of one shard.
pub(super) struct Sender {
    scratch: Box<Scratch>,
    iovs: Vec<libc::iovec>,
}

static ZEROES: [u8; 4] = [0; 4];

impl Sender {
    pub(super) fn new() -> Self {
        Self { scratch: Box::new(Scratch::new()), iovs: Vec::with_capacity(3 * BATCH) }
    }

    /// Sends all that waits, and empties the queue. A datagram that the system refuses is dropped, as UDP may; a run
    /// that it refuses, most often because its datagrams are larger than the path takes in one piece, is taken apart.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>, outgoing: &mut Outgoing, pool: &Pool) -> Sent {
        let mut sent = Sent::default();
        let mut at = 0;
        let mut retried = false;
        while at < outgoing.runs.len() {
            let batch = &outgoing.runs[at..outgoing.runs.len().min(at + BATCH)];
            self.describe(batch, &outgoing.pieces, pool);
            // SAFETY: `describe` made `batch.len()` messages; what they point to lives in `self`, `outgoing`, `pool`
            // or a static, none of which changes until the call has returned.
            let n = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.scratch.messages.as_mut_ptr(),
                    batch.len() as u32,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            if n > 0 {
                (at, retried) = (at + n as usize, false);
                continue;
            }
            let error = io::Error::last_os_error().raw_os_error();
            let (target, pieces) = batch[0].clone();
            match error {
                Some(libc::EINTR) => {}
                // The socket's buffer is full, so it is for what comes next.
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    sent.dropped +=
                        outgoing.runs[at..].iter().map(|(_, pieces)| pieces.len() as u64).sum::<u64>();
                    break;
                }
                // An ICMP error that waited on the socket is reported once, in place of whatever comes next.
                _ if !retried => retried = true,
                error if pieces.len() > 1 => {
                    sent.no_gso |= error == Some(libc::EIO);
                    outgoing.runs.splice(at..=at, pieces.map(|piece| (target, piece..piece + 1)));
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

    /// Writes the messages of a batch into the scratch space.
    fn describe(&mut self, batch: &[(Target, Range<usize>)], pieces: &[Piece], pool: &Pool) {
        let iov =
            |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.iovs.clear();
        debug_assert!(batch.len() <= BATCH);
        // All vectors first: they must not move once a message points to them.
        for (_, range) in batch {
            for piece in &pieces[range.clone()] {
                self.iovs.push(iov(&piece.header[Framing::HEADROOM - piece.header_len..]));
                self.iovs.push(iov(pool.part(piece.slot, piece.start..piece.start + piece.len)));
                self.iovs.push(iov(&ZEROES[..piece.padding]));
            }
        }
        let mut next = 0;
        for (i, (target, range)) in batch.iter().enumerate() {
            let scratch = &mut *self.scratch;
            let name_len = write_address(target.to, &mut scratch.names[i]);
            let control = &mut scratch.controls[i];
            let mut used = 0;
            if let Some(from) = target.from {
                used += control.write_source(used, from);
            }
            if range.len() > 1 {
                let segment = pieces[range.start].size() as u16;
                used += control.write(used, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
            }
            let header = &mut scratch.messages[i].msg_hdr;
            header.msg_name = (&raw mut scratch.names[i]).cast();
            header.msg_namelen = name_len;
            header.msg_iov = &raw mut self.iovs[next];
            header.msg_iovlen = 3 * range.len();
            header.msg_control = if used == 0 { std::ptr::null_mut() } else { control.0.as_mut_ptr().cast() };
            header.msg_controllen = used;
            header.msg_flags = 0;
            next += 3 * range.len();
        }
    }
}

/// Messages in one system call.
pub(super) const BATCH: usize = 64;

/// What the kernel reads and writes besides payloads. Plain memory, made once.
struct Scratch {
    messages: [libc::mmsghdr; BATCH],
    names: [libc::sockaddr_storage; BATCH],
    iovs: [libc::iovec; BATCH],
    controls: [Control; BATCH],
}

impl Scratch {
    fn new() -> Self {
        // SAFETY: all fields are plain old data for which zero bytes are valid.
        unsafe { zeroed() }
    }
}

// SAFETY: the pointers inside are written anew before each system call and never read after it; between calls they
// are dead values.
unsafe impl Send for Scratch {}
// SAFETY: as for `Scratch`: the vectors are written anew before each system call.
unsafe impl Send for Sender {}

/// A buffer for control messages, aligned as they must be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

impl Control {
    /// Appends a control message at `at`; returns the bytes it takes.
    fn write(&mut self, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        // SAFETY: both are arithmetic on their argument.
        let (space, len) = unsafe {
            (libc::CMSG_SPACE(data.len() as u32) as usize, libc::CMSG_LEN(data.len() as u32) as usize)
        };
        // Header: cmsg_len (usize), cmsg_level, cmsg_type, then the data, as libc::cmsghdr lays them out on Linux.
        let out = &mut self.0[at..at + space];
        out.fill(0);
        out[..8].copy_from_slice(&len.to_ne_bytes());
        out[8..12].copy_from_slice(&level.to_ne_bytes());
        out[12..16].copy_from_slice(&kind.to_ne_bytes());
        out[16..16 + data.len()].copy_from_slice(data);
        space
    }

    fn write_source(&mut self, at: usize, from: IpAddr) -> usize {
        match from {
            IpAddr::V4(ip) => {
                // in_pktinfo: interface index, the source address, an address that is ignored.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.write(at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
            }
            IpAddr::V6(ip) => {
                // in6_pktinfo: the source address, interface index.
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                self.write(at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
            }
        }
    }
}

fn for_each_control(header: &libc::msghdr, mut f: impl FnMut(i32, i32, &[u8])) {
    // SAFETY: the kernel has filled `msg_controllen` bytes at `msg_control`, which still is a live buffer; the macros
    // walk inside these bounds.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            let c = &*control;
            let len = c.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            f(c.cmsg_level, c.cmsg_type, std::slice::from_raw_parts(libc::CMSG_DATA(control), len));
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
}

/// Types for which any bytes are a value.
///
/// # Safety
/// No padding matters, no bit pattern is invalid, nothing is a reference.
unsafe trait Plain: Copy {}
// SAFETY: integers, and C structs of integers.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: as above.
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: as above.
unsafe impl Plain for libc::sock_extended_err {}

/// A plain C value at the start of `bytes`.
fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: there are enough bytes, and any bytes are a T.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn v4(addr: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from_be(addr.s_addr))
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: the storage is larger than both and aligned for both; the family says which one the kernel wrote.
    unsafe {
        match i32::from(name.ss_family) {
            libc::AF_INET => {
                let a = &*(&raw const *name).cast::<libc::sockaddr_in>();
                Some(SocketAddrV4::new(v4(a.sin_addr), u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                let a = &*(&raw const *name).cast::<libc::sockaddr_in6>();
                let (ip, port) = (Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port));
                Some(SocketAddrV6::new(ip, port, 0, a.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn write_address(addr: SocketAddr, name: &mut libc::sockaddr_storage) -> u32 {
    // SAFETY: the storage is larger than both and aligned for both.
    unsafe {
        match addr {
            SocketAddr::V4(a) => {
                let out = &mut *(&raw mut *name).cast::<libc::sockaddr_in>();
                *out = zeroed();
                out.sin_family = libc::AF_INET as u16;
                out.sin_port = a.port().to_be();
                out.sin_addr.s_addr = u32::from(*a.ip()).to_be();
                size_of::<libc::sockaddr_in>() as u32
            }
            SocketAddr::V6(a) => {
                let out = &mut *(&raw mut *name).cast::<libc::sockaddr_in6>();
                *out = zeroed();
                out.sin6_family = libc::AF_INET6 as u16;
                out.sin6_port = a.port().to_be();
                out.sin6_addr.s6_addr = a.ip().octets();
                out.sin6_scope_id = a.scope_id();
                size_of::<libc::sockaddr_in6>() as u32
            }
        }
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

/// Takes the next error that waits on a socket; `None` when there is none. Errors of this machine itself, which no
/// ICMP message brought, are `Some(None)`.
pub(super) fn take_error(socket: BorrowedFd<'_>) -> Option<Option<IcmpError>> {
    let mut control = Control([0; CONTROL]);
    // SAFETY: all zero is a valid sockaddr_storage and msghdr; the message points to locals that outlive the call.
    let (name, header, n) = unsafe {
        let mut name: libc::sockaddr_storage = zeroed();
        let mut header: libc::msghdr = zeroed();
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL;
        let n = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT);
        (name, header, n)
    };
    if n < 0 {
        return None;
    }
    let mut error = None;
    for_each_control(&header, |level, kind, data| {
        let ip = (level == libc::IPPROTO_IP && kind == libc::IP_RECVERR)
            || (level == libc::IPPROTO_IPV6 && kind == libc::IPV6_RECVERR);
        if let Some(e) = read::<libc::sock_extended_err>(data).filter(|_| ip) {
            let icmp = e.ee_origin == libc::SO_EE_ORIGIN_ICMP || e.ee_origin == libc::SO_EE_ORIGIN_ICMP6;
            //= 8656-18.13-2
            let too_big = e.ee_errno == libc::EMSGSIZE as u32;
            let mtu = if too_big { e.ee_info } else { 0 };
            error = address(&name).filter(|_| icmp).map(|to| IcmpError {
                to,
                kind: e.ee_type,
                code: e.ee_code,
                mtu,
            });
        }
    });
    Some(error)
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

/// Asks a socket for something. Where the system can't, all else works without.
pub(super) fn ask(socket: BorrowedFd<'_>, v6: bool, wish: Wish) -> io::Result<()> {
    let (level, option, value) = match (wish, v6) {
        (Wish::PacketInfo, false) => (libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        (Wish::PacketInfo, true) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        (Wish::Gro, _) => (libc::SOL_UDP, libc::UDP_GRO, 1),
        (Wish::Errors, false) => (libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        (Wish::Errors, true) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
        (Wish::DontFragment(true), false) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (Wish::DontFragment(false), false) => {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
        }
        (Wish::DontFragment(true), true) => {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
        }
        (Wish::DontFragment(false), true) => {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
        }
    };
    // SAFETY: the value is an int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as u32,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
        Piece { header: room, header_len: header.len(), slot, start, len, padding }
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
}
