//! What std does not offer: namespaces, frames on the wire, batches of datagrams.
//!
//! [`Wire`] sends and receives whole Ethernet frames, past the kernel's UDP: a million packets per second cost the
//! load's core less than the server's, so the load is not what is measured.
#![expect(unsafe_code, reason = "system calls without a safe form")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// This thread, and what it starts, gets a network of its own.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sets a socket option to a plain value.
fn set<T: Copy>(fd: &impl AsRawFd, level: i32, name: i32, value: T) -> io::Result<()> {
    // SAFETY: the value outlives the call and is passed with its true length.
    let result = unsafe {
        let len = size_of::<T>() as u32;
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len)
    };
    check(result).map(drop)
}

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
/// `virtio_net_hdr`: says that the checksum is left to the device, as the kernel's own packets on a veth do.
const VNET: usize = 10;
const HEADERS: usize = VNET + ETHERNET + IP + UDP;
const SLOT: usize = 1_536;
/// Frames in one sendmmsg.
const BATCH: usize = 64;

const RING_FRAME: usize = 2_048;
const RING_BLOCK: usize = 1 << 20;
const RING_BLOCKS: usize = 64;
const RING_FRAMES: usize = RING_BLOCK / RING_FRAME * RING_BLOCKS;
/// Frames that one call of [`Wire::poll`] takes at most: what is to be sent must not wait for long.
const POLL: usize = 64;

/// Both ends of frames: those to send, and a ring that the kernel fills with those that come.
pub struct Wire {
    socket: OwnedFd,
    to: [u8; 6],
    slots: Box<[[u8; SLOT]]>,
    lens: Vec<usize>,
    receiver: OwnedFd,
    ring: *mut u8,
    next: usize,
}

/// A UDP datagram that came.
pub struct Datagram<'a> {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub payload: &'a [u8],
}

impl Wire {
    /// Frames on this device; those sent go to the MAC address `to`.
    pub fn new(device: &str, to: [u8; 6]) -> io::Result<Self> {
        let packet = |protocol: u16| -> io::Result<OwnedFd> {
            // SAFETY: plain values; the descriptor is new and owned from here on.
            unsafe {
                let fd = check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
                let fd = OwnedFd::from_raw_fd(fd);
                let name = std::ffi::CString::new(device)?;
                let mut addr: libc::sockaddr_ll = zeroed();
                addr.sll_family = libc::AF_PACKET as u16;
                addr.sll_protocol = protocol.to_be();
                addr.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
                // The ring has to be there before the first frame comes: the protocol is only set below.
                if protocol != 0 {
                    set(&fd, libc::SOL_PACKET, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2)?;
                    let ring = libc::tpacket_req {
                        tp_block_size: RING_BLOCK as u32,
                        tp_block_nr: RING_BLOCKS as u32,
                        tp_frame_size: RING_FRAME as u32,
                        tp_frame_nr: RING_FRAMES as u32,
                    };
                    set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, ring)?;
                }
                let len = size_of::<libc::sockaddr_ll>() as u32;
                check(libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len))?;
                Ok(fd)
            }
        };
        let socket = packet(0)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1_i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1_i32)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16_i32 << 20)?;
        // Only ETH_P_IP, not ETH_P_ALL: the latter would see what we send, too.
        let receiver = packet(libc::ETH_P_IP as u16)?;
        // SAFETY: a new mapping of the ring with its true length; it is given back in `drop`.
        let ring = unsafe {
            libc::mmap(
                ptr::null_mut(),
                RING_BLOCK * RING_BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                receiver.as_raw_fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let slots = vec![[0; SLOT]; BATCH].into_boxed_slice();
        Ok(Self { socket, to, slots, lens: Vec::new(), receiver, ring: ring.cast(), next: 0 })
    }

    /// Adds a datagram, whose payload `write` puts down and whose length it returns. Leaves when the batch is full
    /// or with [`flush`](Self::flush).
    pub fn push(&mut self, from: SocketAddrV4, to: SocketAddrV4, write: impl FnOnce(&mut [u8]) -> usize) {
        if self.lens.len() == BATCH {
            self.flush();
        }
        let slot = &mut self.slots[self.lens.len()];
        let len = write(&mut slot[HEADERS..]);
        let (ip, udp) = ((IP + UDP + len) as u16, (UDP + len) as u16);
        // virtio_net_hdr: NEEDS_CSUM, no GSO, where the checksum begins and where in that it goes.
        slot[..VNET].copy_from_slice(&[1, 0, 0, 0, 0, 0, (ETHERNET + IP) as u8, 0, 6, 0]);
        let (ethernet, rest) = slot[VNET..].split_at_mut(ETHERNET);
        ethernet[..6].copy_from_slice(&self.to);
        ethernet[6..12].copy_from_slice(&crate::lab::CLIENTS_MAC);
        ethernet[12..].copy_from_slice(&[8, 0]);
        let (head, rest) = rest.split_at_mut(IP);
        head[..4].copy_from_slice(&[0x45, 0, (ip >> 8) as u8, ip as u8]);
        head[4..12].copy_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]); // don't fragment, 64 hops, UDP
        head[12..16].copy_from_slice(&from.ip().octets());
        head[16..20].copy_from_slice(&to.ip().octets());
        let sum = !fold(sum(head));
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        // The checksum field holds the sum of the pseudo header.
        let pseudo = fold(sum_of_pseudo(&head[12..20], udp));
        rest[..2].copy_from_slice(&from.port().to_be_bytes());
        rest[2..4].copy_from_slice(&to.port().to_be_bytes());
        rest[4..6].copy_from_slice(&udp.to_be_bytes());
        rest[6..8].copy_from_slice(&pseudo.to_be_bytes());
        self.lens.push(HEADERS + len);
    }

    /// Sends what waits. What the server's side of the cable has no room for is lost, as on a network card.
    pub fn flush(&mut self) {
        let mut done = 0;
        while done < self.lens.len() {
            // SAFETY: each message points to its own vector, each vector to its own slot with the length that was
            // written; all outlive the call.
            let n = unsafe {
                let mut iovs: [libc::iovec; BATCH] = zeroed();
                let mut messages: [libc::mmsghdr; BATCH] = zeroed();
                for (i, len) in self.lens[done..].iter().enumerate() {
                    iovs[i] =
                        libc::iovec { iov_base: self.slots[done + i].as_mut_ptr().cast(), iov_len: *len };
                    messages[i].msg_hdr.msg_iov = &raw mut iovs[i];
                    messages[i].msg_hdr.msg_iovlen = 1;
                }
                let left = (self.lens.len() - done) as u32;
                libc::sendmmsg(self.socket.as_raw_fd(), messages.as_mut_ptr(), left, libc::MSG_DONTWAIT)
            };
            done += n.max(1) as usize;
        }
        self.lens.clear();
    }

    /// Hands over the UDP datagrams that came, at most [`POLL`] frames at a time; how many frames there were.
    pub fn poll(&mut self, mut each: impl FnMut(Datagram<'_>)) -> usize {
        for n in 0..POLL {
            // SAFETY: the ring has RING_FRAMES frames of RING_FRAME bytes, and `next` is below that. The first word
            // of a frame is shared with the kernel, which sets it last; the rest is ours until we clear that word.
            unsafe {
                let frame = self.ring.add(self.next * RING_FRAME);
                let status = AtomicU32::from_ptr(frame.cast());
                if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                    return n;
                }
                let header = &*frame.cast::<libc::tpacket2_hdr>();
                let start = frame.add(usize::from(header.tp_mac));
                let bytes = std::slice::from_raw_parts(start, header.tp_snaplen as usize);
                if let Some(datagram) = parse(bytes) {
                    each(datagram);
                }
                status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            }
            self.next = (self.next + 1) % RING_FRAMES;
        }
        POLL
    }

    /// Frames that came and found no room here, since the last call: then the load was too slow.
    pub fn dropped(&self) -> u64 {
        // SAFETY: the structure and its length outlive the call.
        unsafe {
            let mut stats: libc::tpacket_stats = zeroed();
            let mut len = size_of::<libc::tpacket_stats>() as u32;
            libc::getsockopt(
                self.receiver.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            );
            stats.tp_drops.into()
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, with its length.
        unsafe { libc::munmap(self.ring.cast(), RING_BLOCK * RING_BLOCKS) };
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum()
}

fn sum_of_pseudo(addresses: &[u8], udp: u16) -> u32 {
    sum(addresses) + 17 + u32::from(udp)
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}

fn parse(frame: &[u8]) -> Option<Datagram<'_>> {
    let ip = frame.get(ETHERNET..).filter(|ip| ip.len() >= IP + UDP && ip[0] == 0x45 && ip[9] == 17)?;
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    Some(Datagram {
        from: SocketAddrV4::new(address(12), word(20)),
        to: SocketAddrV4::new(address(16), word(22)),
        payload: ip.get(IP + UDP..IP + usize::from(word(24)))?,
    })
}

/// The longest run of datagrams.
const RUN: usize = 65_536;
/// Buffers of a [`Batch`].
pub const RUNS: usize = 64;

/// Runs of datagrams as UDP_GRO hands them over, for the forwarder.
pub struct Batch {
    bytes: Box<[u8]>,
    /// For each slot in use: who sent it, its bytes, the bytes of each datagram but the last.
    pub slots: Vec<(SocketAddrV4, usize, usize)>,
}

impl Batch {
    pub fn new() -> Self {
        Self { bytes: vec![0; RUN * RUNS].into_boxed_slice(), slots: Vec::new() }
    }

    pub fn bytes(&self, slot: usize) -> &[u8] {
        &self.bytes[slot * RUN..][..self.slots[slot].1]
    }

    /// Writes one datagram over what is in the slot.
    pub fn rewrite(&mut self, slot: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let len = write(&mut self.bytes[slot * RUN..][..RUN]);
        (self.slots[slot].1, self.slots[slot].2) = (len, len);
    }

    /// Fills free slots from the socket, which were not in use before; how many.
    pub fn receive(&mut self, socket: &UdpSocket, max: usize) -> usize {
        let first = self.slots.len();
        let max = max.min(RUNS - first);
        // SAFETY: each message points to its own name, vector and control buffer and each vector to its own slot,
        // with their true lengths; all outlive the call. Control messages are walked with the system's own macros.
        unsafe {
            let mut names: [libc::sockaddr_in; RUNS] = zeroed();
            let mut iovs: [libc::iovec; RUNS] = zeroed();
            let mut controls: [[u64; 8]; RUNS] = zeroed();
            let mut messages: [libc::mmsghdr; RUNS] = zeroed();
            for i in 0..max {
                let start = self.bytes.as_mut_ptr().add((first + i) * RUN);
                iovs[i] = libc::iovec { iov_base: start.cast(), iov_len: RUN };
                let header = &mut messages[i].msg_hdr;
                header.msg_name = (&raw mut names[i]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                header.msg_iov = &raw mut iovs[i];
                header.msg_iovlen = 1;
                header.msg_control = controls[i].as_mut_ptr().cast();
                header.msg_controllen = size_of::<[u64; 8]>();
            }
            let n = libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                max as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            );
            for i in 0..n.max(0) as usize {
                let len = messages[i].msg_len as usize;
                let control = libc::CMSG_FIRSTHDR(&raw const messages[i].msg_hdr);
                let is_gro = !control.is_null()
                    && (*control).cmsg_level == libc::SOL_UDP
                    && (*control).cmsg_type == libc::UDP_GRO;
                let segment = if is_gro {
                    libc::CMSG_DATA(control).cast::<i32>().read_unaligned() as usize
                } else {
                    len
                };
                let ip = Ipv4Addr::from(u32::from_be(names[i].sin_addr.s_addr));
                self.slots.push((SocketAddrV4::new(ip, u16::from_be(names[i].sin_port)), len, segment));
            }
            n.max(0) as usize
        }
    }

    /// Sends slots, each to its address and as a run if it came as one.
    pub fn send(&self, socket: &UdpSocket, slots: &[(usize, SocketAddrV4)]) {
        let mut done = 0;
        while done < slots.len() {
            // SAFETY: as in `receive`; the control buffers are aligned and large enough for one u16.
            let n = unsafe {
                let mut names: [libc::sockaddr_in; RUNS] = zeroed();
                let mut iovs: [libc::iovec; RUNS] = zeroed();
                let mut controls: [[u64; 4]; RUNS] = zeroed();
                let mut messages: [libc::mmsghdr; RUNS] = zeroed();
                for (i, (slot, to)) in slots[done..].iter().enumerate() {
                    let (_, len, segment) = self.slots[*slot];
                    names[i].sin_family = libc::AF_INET as u16;
                    names[i].sin_port = to.port().to_be();
                    names[i].sin_addr.s_addr = u32::from(*to.ip()).to_be();
                    let start = self.bytes.as_ptr().add(slot * RUN).cast_mut();
                    iovs[i] = libc::iovec { iov_base: start.cast(), iov_len: len };
                    let header = &mut messages[i].msg_hdr;
                    header.msg_name = (&raw mut names[i]).cast();
                    header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                    header.msg_iov = &raw mut iovs[i];
                    header.msg_iovlen = 1;
                    if segment < len {
                        header.msg_control = controls[i].as_mut_ptr().cast();
                        header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                        let control = libc::CMSG_FIRSTHDR(header);
                        (*control).cmsg_level = libc::SOL_UDP;
                        (*control).cmsg_type = libc::UDP_SEGMENT;
                        (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
                        libc::CMSG_DATA(control).cast::<u16>().write_unaligned(segment as u16);
                    }
                }
                let left = (slots.len() - done) as u32;
                libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), left, libc::MSG_DONTWAIT)
            };
            done += n.max(1) as usize; // what can't be sent is dropped
        }
    }
}

/// Lets the socket hand over runs of datagrams, and gives it room for bursts.
pub fn prepare(socket: &UdpSocket, buffer: i32) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, 1_i32)?;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer)?;
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, buffer)
}
