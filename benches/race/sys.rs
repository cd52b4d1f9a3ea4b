//! What std does not offer: pinning, large socket buffers, batches of datagrams.
#![expect(unsafe_code, reason = "system calls without a safe form")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

/// Puts this thread, and what it starts, on one core.
pub fn pin_to(cpu: usize) {
    // SAFETY: the set is a plain value that outlives the call.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

pub fn raise_file_limit() {
    let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
    // SAFETY: the limit is a plain value that outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// Socket buffers of `bytes`, past the system's limit if we may.
pub fn set_buffers(socket: &UdpSocket, bytes: i32) {
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        // SAFETY: the value is an int that outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of::<i32>() as u32,
            )
        };
    }
}

fn raw(addr: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: addr.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Sends `segments` copies of `packet` to `to` as one UDP_SEGMENT send; what was sent before is one packet each.
pub fn send_burst(socket: &UdpSocket, packets: &[u8], segment: usize, to: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
    let mut name = raw(to);
    let mut control = [0u64; 4];
    // SAFETY: all pointers in the message are to locals that outlive the call, with their true lengths; the control
    // buffer is aligned and large enough for one u16.
    let sent = unsafe {
        let mut iov = libc::iovec { iov_base: packets.as_ptr().cast_mut().cast(), iov_len: packets.len() };
        let mut message: libc::msghdr = zeroed();
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        if segment < packets.len() {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(2) as usize;
            let c = libc::CMSG_FIRSTHDR(&raw const message);
            (*c).cmsg_level = libc::SOL_UDP;
            (*c).cmsg_type = libc::UDP_SEGMENT;
            (*c).cmsg_len = libc::CMSG_LEN(2) as usize;
            libc::CMSG_DATA(c).cast::<u16>().write_unaligned(segment as u16);
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads and throws away all that waits; returns how many datagrams. No payload is copied out.
pub fn drain(socket: &UdpSocket) -> u64 {
    const BATCH: usize = 64;
    let mut total = 0;
    loop {
        // SAFETY: each message points to its own vector, each vector to one shared scratch byte; MSG_TRUNC lets the
        // kernel cut the datagram to it. All outlive the call.
        let n = unsafe {
            let mut scratch = [0u8; 1];
            let mut iovs: [libc::iovec; BATCH] = zeroed();
            let mut messages: [libc::mmsghdr; BATCH] = zeroed();
            for (message, iov) in messages.iter_mut().zip(&mut iovs) {
                iov.iov_base = scratch.as_mut_ptr().cast();
                iov.iov_len = 1;
                message.msg_hdr.msg_iov = iov;
                message.msg_hdr.msg_iovlen = 1;
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                flags,
                std::ptr::null_mut(),
            )
        };
        if n <= 0 {
            return total;
        }
        total += n as u64;
        if (n as usize) < BATCH {
            return total;
        }
    }
}
