//! The system calls of Linux: recvmmsg with UDP_GRO, sendmmsg with UDP_SEGMENT, and their control messages.
//!
//! What enters and leaves is safe. Pointers exist only while one function here runs.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and their control messages have no safe form")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{BATCH, DATAGRAM, IcmpError, NOWHERE, Piece, Pool, Received, Run, Wish};
use crate::turn::Framing;

/// Room for the control messages we read and write.
const CONTROL: usize = 128;

/// Receives batches.
pub(super) struct Receiver(Box<Scratch>);

impl Receiver {
    pub(super) fn new() -> Self {
        Self(Box::new(Scratch::new()))
    }

    /// Reads datagrams, or runs of them, into the slots of `room`, at most [`BATCH`], and tells about each.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        room: &mut [u8],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let scratch = &mut *self.0;
        let want = (room.len() / DATAGRAM).min(BATCH);
        for (i, slot) in room.chunks_exact_mut(DATAGRAM).take(want).enumerate() {
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
        // own slot of `room`, with their true lengths; all outlive the call.
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
            // A source that is no IP address can't be answered.
            let from = address(&scratch.names[i]).unwrap_or(NOWHERE);
            received.push(Received { from, local, len, segment: segment.max(1) });
        }
        Ok(())
    }
}

/// Sends batches.
pub(super) struct Transmitter {
    scratch: Box<Scratch>,
    iovs: Vec<libc::iovec>,
}

static ZEROES: [u8; 4] = [0; 4];

impl Transmitter {
    pub(super) fn new() -> Self {
        Self { scratch: Box::new(Scratch::new()), iovs: Vec::with_capacity(3 * BATCH) }
    }

    /// Sends runs, at most [`BATCH`]; how many got out, from the front. An error is about the first.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        batch: &[Run],
        pieces: &[Piece],
        pool: &Pool,
    ) -> io::Result<usize> {
        self.describe(batch, pieces, pool);
        // SAFETY: `describe` made `batch.len()` messages; what they point to lives in `self`, `pieces`, `pool` or a
        // static, none of which changes until the call has returned.
        let n = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.scratch.messages.as_mut_ptr(),
                batch.len() as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if n > 0 { Ok(n as usize) } else { Err(io::Error::last_os_error()) }
    }

    /// Writes the messages of a batch into the scratch space. What is empty gets no vector.
    fn describe(&mut self, batch: &[Run], pieces: &[Piece], pool: &Pool) {
        let Self { scratch, iovs } = self;
        iovs.clear();
        let mut add = |bytes: &[u8]| {
            if !bytes.is_empty() {
                iovs.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            }
            iovs.len()
        };
        // All vectors first: they must not move once a message points to them.
        for (run, header) in batch.iter().zip(&mut scratch.messages) {
            let first = add(&[]);
            for piece in &pieces[run.pieces.clone()] {
                for part in piece.into_parts() {
                    add(&piece.header[Framing::HEADROOM - piece.header_len..]);
                    add(pool.part(piece.slot, part));
                    add(&ZEROES[..piece.padding]);
                }
            }
            header.msg_hdr.msg_iovlen = add(&[]) - first;
        }
        let mut next = iovs.as_mut_ptr();
        for (i, run) in batch.iter().enumerate() {
            let name_len = write_address(run.target.to, &mut scratch.names[i]);
            let control = &mut scratch.controls[i];
            let mut used = 0;
            if let Some(from) = run.target.from {
                used += control.write_source(used, from);
            }
            if run.count > 1 {
                let segment = run.size as u16;
                used += control.write(used, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
            }
            let header = &mut scratch.messages[i].msg_hdr;
            header.msg_name = (&raw mut scratch.names[i]).cast();
            header.msg_namelen = name_len;
            header.msg_iov = next;
            header.msg_control = if used == 0 { std::ptr::null_mut() } else { control.0.as_mut_ptr().cast() };
            header.msg_controllen = used;
            header.msg_flags = 0;
            next = next.wrapping_add(header.msg_iovlen);
        }
    }
}

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
unsafe impl Send for Transmitter {}

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

/// Takes the next error that waits on a socket; `None` when there is none. Errors of this machine itself, which no
/// ICMP message brought, are `Some(None)`.
pub(in crate::net) fn take_error(socket: BorrowedFd<'_>) -> Option<Option<IcmpError>> {
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

/// Asks a socket for something. Where the system can't, all else works without.
pub(in crate::net) fn ask(socket: BorrowedFd<'_>, v6: bool, wish: Wish) -> io::Result<()> {
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
