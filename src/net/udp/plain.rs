//! The plain system calls that every Unix has: one datagram each, no runs, no ICMP errors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use super::{BATCH, DATAGRAM, IcmpError, NOWHERE, Piece, Pool, Received, Run, Wish};
use crate::turn::Framing;

/// Receives datagrams.
pub(super) struct Receiver;

impl Receiver {
    pub(super) fn new() -> Self {
        Self
    }

    /// Reads datagrams into the slots of `room`, at most [`BATCH`], and tells about each.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        room: &mut [u8],
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        for (n, slot) in room.chunks_exact_mut(DATAGRAM).take(BATCH).enumerate() {
            match recvfrom(socket, slot, RecvFlags::DONTWAIT) {
                Ok((_, len, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok()).unwrap_or(NOWHERE);
                    received.push(Received { from, local: None, len, segment: len.max(1) });
                }
                Err(error) if n == 0 => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// Sends datagrams.
pub(super) struct Transmitter(Vec<u8>);

impl Transmitter {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Sends the first datagram. Runs are refused as a Linux refuses them that can't cut them.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        batch: &[Run],
        pieces: &[Piece],
        pool: &Pool,
    ) -> io::Result<usize> {
        let Some(run) = batch.first() else { return Ok(0) };
        if run.count > 1 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.clear();
        for piece in &pieces[run.pieces.clone()] {
            for part in piece.into_parts() {
                self.0.extend_from_slice(&piece.header[Framing::HEADROOM - piece.header_len..]);
                self.0.extend_from_slice(pool.part(piece.slot, part));
                self.0.resize(self.0.len() + piece.padding, 0);
            }
        }
        sendto(socket, &self.0, SendFlags::DONTWAIT, &run.target.to)?;
        Ok(1)
    }
}

/// No system but Linux keeps them.
#[cfg_attr(test, expect(dead_code, reason = "the tests run on Linux"))]
pub(in crate::net) fn take_error(_: BorrowedFd<'_>) -> Option<Option<IcmpError>> {
    None
}

/// Nothing of this can be had.
#[cfg_attr(test, expect(dead_code, reason = "the tests run on Linux"))]
pub(in crate::net) fn ask(_: BorrowedFd<'_>, _v6: bool, _: Wish) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::udp::{Outgoing, Target};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn datagrams_pass_one_by_one_and_runs_are_refused() {
        let [alice, relay, bob] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut bytes = vec![0; 4 * DATAGRAM];
        let mut received = Vec::new();
        relay.set_nonblocking(true).unwrap();
        let empty = Receiver::new().receive(relay.as_fd(), &mut bytes, &mut received);
        assert_eq!(empty.map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
        for data in [&b"one"[..], b"", b"three"] {
            alice.send_to(data, relay.local_addr().unwrap()).unwrap();
        }
        Receiver::new().receive(relay.as_fd(), &mut bytes, &mut received).unwrap();
        assert_eq!(received.iter().map(|r| r.len).collect::<Vec<_>>(), [3, 0, 5]);
        assert!(received.iter().all(|r| r.from == alice.local_addr().unwrap() && r.segment >= r.len));
        assert_eq!((&bytes[..3], &bytes[2 * DATAGRAM..][..5]), (&b"one"[..], &b"three"[..]));

        let mut pool = Pool::new(1);
        let slot = pool.put(b"payload").unwrap();
        let mut header = [0; Framing::HEADROOM];
        header[Framing::HEADROOM - 1] = b'>';
        let piece = Piece { header, header_len: 1, padding: 2, count: 2, ..Piece::plain(slot, 0, 7) };
        let mut outgoing = Outgoing::default();
        outgoing.push(Target { to: bob.local_addr().unwrap(), from: None }, piece, true);
        let mut transmitter = Transmitter::new();
        let mut send = |o: &Outgoing| transmitter.send(relay.as_fd(), &o.runs, &o.pieces, &pool);
        assert_eq!(send(&outgoing).map_err(|e| e.raw_os_error()), Err(Some(libc::EIO)));
        outgoing.take_apart(0);
        assert_eq!((send(&outgoing).unwrap(), outgoing.runs.len()), (1, 2));
        let mut buf = [0; 16];
        let len = bob.recv(&mut buf).unwrap();
        assert_eq!(&buf[..len], b">payload\0\0");
    }
}
