//! One stream of a client: TCP, or TLS over it.
//!
//! ```text
//! socket ──► (rustls) ──► input ──► frames, by stun::frame, to the shard
//! socket ◄── (rustls) ◄── ready ◄── backlog ◄── frames, by push
//! ```
//! While a stream is read, its input is a large buffer that the shard lends; what stays with it is the start of a
//! frame.
//! One read brings many frames, and many TLS records; `ready` goes out with one write for many. When the client reads too slowly, frames wait in the backlog,
//! which is bounded: the oldest relayed data is dropped first and whole, answers are kept.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::stun::{Frame, frame};

/// Bytes handed to the socket or to TLS at once. More than that waits as whole frames.
const READY: usize = 64 * 1024;
/// A buffer larger than this is not kept by a stream that does without it for a while.
const KEEP: usize = 16 * 1024;
/// What a frame in the backlog takes besides its bytes.
const OVERHEAD: usize = 64;
/// The longest frame: a STUN header with the longest body.
const LONGEST: usize = 20 + 65_532;

/// Why a stream has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The client closed it, or it broke.
    Gone,
    /// What came is neither STUN nor ChannelData, or not TLS.
    Garbage,
    /// More answers wait than the queue holds.
    Stuck,
}

/// A stream and what waits in it.
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    input: Vec<u8>,
    /// How much of `input` has been taken.
    taken: usize,
    ready: Vec<u8>,
    /// How much of `ready` has been written.
    written: usize,
    backlog: VecDeque<(Vec<u8>, Kind)>,
    backlog_bytes: usize,
    limit: usize,
    ending: Ending,
    /// Something came or went since [`relax`](Self::relax).
    busy: bool,
}

/// How far the end of a stream has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    /// Once all is written.
    Wanted,
    /// TLS is to say so.
    Notified,
    Done,
}

/// What a frame is worth when there is not room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An answer or an indication of the server: never dropped.
    Control,
    /// Relayed data: as good as a datagram.
    Data,
}

impl Stream {
    /// `limit` bounds the backlog, in bytes; `early` is what was read already.
    pub(super) fn new(
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        early: Vec<u8>,
        limit: usize,
    ) -> Self {
        Self {
            socket,
            tls,
            input: early,
            taken: 0,
            ready: Vec::new(),
            written: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            limit,
            ending: Ending::No,
            busy: true,
        }
    }

    /// TLS has something to say by itself.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// About how many bytes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() - self.written + self.backlog_bytes
    }

    /// What came in and was not taken yet.
    pub(super) fn input(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// The length of the next whole message in the input and what to consume for it.
    pub(super) fn next_frame(&self) -> Result<Option<(usize, usize)>, Over> {
        match frame(self.input()) {
            Ok(Frame::Complete { message, consumed }) => Ok(Some((message, consumed))),
            Ok(Frame::Incomplete { .. }) => Ok(None),
            Err(_) => Err(Over::Garbage),
        }
    }

    /// Takes bytes off the front of the input.
    pub(super) fn consume(&mut self, len: usize) {
        self.busy = true;
        self.taken += len;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
    }

    /// Throws the input away.
    pub(super) fn discard_input(&mut self) {
        self.input.clear();
        self.taken = 0;
    }

    /// Exchanges the input's buffer for a large one that is empty; its bytes go along.
    pub(super) fn borrow(&mut self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.input());
        self.input.clear();
        self.taken = 0;
        std::mem::swap(&mut self.input, buffer);
    }

    /// Gives the buffer back, empty, and keeps what was not taken.
    pub(super) fn give_back(&mut self, buffer: &mut Vec<u8>) {
        std::mem::swap(&mut self.input, buffer);
        self.input.clear();
        self.input.extend_from_slice(&buffer[std::mem::take(&mut self.taken)..]);
        buffer.clear();
    }

    /// Called now and then: frees what a busy time has left behind, once it is over.
    pub(super) fn relax(&mut self) {
        if std::mem::take(&mut self.busy) {
            return;
        }
        if self.input.len() <= KEEP {
            self.input.shrink_to(KEEP);
        }
        if self.ready.is_empty() && self.ready.capacity() > KEEP {
            self.ready = Vec::new();
        }
        self.backlog.shrink_to(2 * self.backlog.len());
    }

    /// The stream taken apart, to be handed to somebody else. What waits in it must have been written.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>, Vec<u8>) {
        (self.socket, self.tls, self.input[self.taken..].to_vec())
    }

    /// Reads once into the input, through `scratch`. `false`: nothing more to read now. A read that does not fill
    /// `scratch` has emptied the socket; unless the stream may have ended behind it, which is `thorough`.
    pub(super) fn read(&mut self, scratch: &mut [u8], thorough: bool) -> Result<bool, Over> {
        self.input.drain(..std::mem::take(&mut self.taken));
        if self.input.len() > LONGEST {
            // Frames are taken as they become whole, so this much can't be the start of one.
            return Err(Over::Garbage);
        }
        if let Some(tls) = &mut self.tls {
            // Plaintext first: a connection that was handed over may have some in store.
            match tls.reader().read(scratch) {
                Ok(0) => return Err(Over::Gone),
                Ok(n) => {
                    self.input.extend_from_slice(&scratch[..n]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Over::Gone),
            }
        }
        let n = match self.socket.read(scratch) {
            Ok(0) => return Err(Over::Gone),
            Ok(n) => n,
            Err(error) => return try_later(&error),
        };
        let mut goodbye = false;
        match &mut self.tls {
            None => self.input.extend_from_slice(&scratch[..n]),
            Some(tls) => goodbye = decrypt(tls, &scratch[..n], &mut self.input)?,
        }
        // Behind TLS's goodbye the socket may stay open, and silent: the next read takes it for the end.
        Ok(thorough || goodbye || n == scratch.len())
    }

    /// Queues a whole frame; `false` if relayed data had to be dropped for it, or instead of it.
    pub(super) fn push(&mut self, parts: &[&[u8]], kind: Kind) -> Result<bool, Over> {
        self.busy = true;
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if self.backlog.is_empty() && self.ready.len() + len <= READY {
            parts.iter().for_each(|part| self.ready.extend_from_slice(part));
            return Ok(true);
        }
        let mut dropped = false;
        let cost = len + OVERHEAD;
        while self.backlog_bytes + cost > self.limit {
            let Some(oldest) = self.backlog.iter().position(|(_, kind)| *kind == Kind::Data) else {
                return if kind == Kind::Data { Ok(false) } else { Err(Over::Stuck) };
            };
            if let Some((frame, _)) = self.backlog.remove(oldest) {
                self.backlog_bytes -= frame.len() + OVERHEAD;
            }
            dropped = true;
        }
        self.backlog_bytes += cost;
        self.backlog.push_back((parts.concat(), kind));
        Ok(!dropped)
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Over> {
        loop {
            self.fill();
            let rest = &self.ready[self.written..];
            let progress = match &mut self.tls {
                None if rest.is_empty() => {
                    self.finish();
                    return Ok(());
                }
                None => match self.socket.write(rest) {
                    Ok(0) => return Err(Over::Gone),
                    other => other,
                },
                Some(tls) => {
                    // rustls bounds what it keeps; what it does not take stays here.
                    match encrypt(tls, rest) {
                        Ok(0) if !tls.wants_write() => {
                            if self.finish() {
                                continue;
                            }
                            return Ok(());
                        }
                        Ok(n) => {
                            self.written += n;
                            if tls.wants_write() { tls.write_tls(&mut self.socket).map(|_| 0) } else { Ok(0) }
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            match progress {
                Ok(n) => self.written += n,
                Err(error) => return try_later(&error).map(|_| ()),
            }
        }
    }

    /// Says that nothing more will be sent; the stream ends when all is written.
    pub(super) fn end(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Wanted;
        }
    }

    fn fill(&mut self) {
        if self.written == self.ready.len() {
            self.ready.clear();
            self.written = 0;
            while let Some((frame, _)) = self.backlog.front() {
                if !self.ready.is_empty() && self.ready.len() + frame.len() > READY {
                    break;
                }
                self.ready.extend_from_slice(frame);
                self.backlog_bytes -= frame.len() + OVERHEAD;
                self.backlog.pop_front();
            }
        }
    }

    /// All is written. `true`: TLS has its own last word to write.
    fn finish(&mut self) -> bool {
        match (self.ending, &mut self.tls) {
            (Ending::No | Ending::Done, _) => false,
            (Ending::Wanted, Some(tls)) => {
                tls.send_close_notify();
                self.ending = Ending::Notified;
                true
            }
            (Ending::Wanted | Ending::Notified, _) => {
                self.ending = Ending::Done;
                let _ = self.socket.shutdown(std::net::Shutdown::Write);
                false
            }
        }
    }
}

/// Makes a TLS record of each frame, and says how many bytes that took. Some clients, coturn's turnutils_uclient
/// among them, take what one read gives them for one message, and would lose the others of a record.
fn encrypt(tls: &mut ServerConnection, ready: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while let Some(rest) = ready.get(taken..).filter(|rest| !rest.is_empty()) {
        let record = match frame(rest) {
            Ok(Frame::Complete { consumed, .. }) => rest.get(..consumed).unwrap_or(rest),
            // The rest of a frame that was too large for what room there was.
            _ => rest,
        };
        match tls.writer().write(record)? {
            0 => break,
            n => taken += n,
        }
    }
    Ok(taken)
}

/// Takes all records that one read has brought. `true`: the client has said goodbye (close_notify).
fn decrypt(tls: &mut ServerConnection, mut records: &[u8], input: &mut Vec<u8>) -> Result<bool, Over> {
    let mut goodbye = false;
    while !records.is_empty() {
        match tls.read_tls(&mut records) {
            // After its goodbye nothing counts; the next read tells.
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Err(Over::Garbage),
        }
        goodbye |= tls.process_new_packets().map_err(|_| Over::Garbage)?.peer_has_closed();
        // It ends with an error where there is no more for the moment; what was there is in the input.
        let _ = tls.reader().read_to_end(input);
    }
    Ok(goodbye)
}

fn try_later(error: &io::Error) -> Result<bool, Over> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(Over::Gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream as StdStream};

    fn pair(limit: usize) -> (Stream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        (Stream::new(TcpStream::from_std(near), None, Vec::new(), limit), far)
    }

    #[test]
    fn tiny_frames_count_for_what_they_take() {
        let (mut stream, _far) = pair(100 * OVERHEAD);
        let full = [0; READY];
        assert_eq!(stream.push(&[&full], Kind::Data), Ok(true), "the room of what is written next");
        let kept = (0..1_000).take_while(|_| stream.push(&[&[0; 4]], Kind::Data) == Ok(true)).count();
        assert!((80..100).contains(&kept), "{kept} frames of 4 bytes in {} bytes", 100 * OVERHEAD);
    }

    #[test]
    fn data_goes_before_answers_do_and_answers_are_bounded_too() {
        let (mut stream, mut far) = pair(10 * (100 + OVERHEAD));
        let frame = |n: u8| [n; 100];
        stream.push(&[&[0; READY]], Kind::Data).unwrap();
        for n in 0..10 {
            let kind = if n % 2 == 0 { Kind::Data } else { Kind::Control };
            assert_eq!(stream.push(&[&frame(n)], kind), Ok(true));
        }
        // Five answers push out the five frames of data; a sixth has no place.
        for n in 10..15 {
            assert_eq!(stream.push(&[&frame(n)], Kind::Control), Ok(false));
        }
        assert_eq!(stream.push(&[&frame(15)], Kind::Data), Ok(false), "dropped itself");
        assert_eq!(stream.push(&[&frame(16)], Kind::Control), Err(Over::Stuck));

        let mut all = vec![0; READY + 10 * 100];
        far.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let reader = std::thread::spawn(move || {
            far.read_exact(&mut all).unwrap();
            all
        });
        while stream.waiting() > 0 {
            stream.flush().unwrap();
            std::thread::yield_now();
        }
        let expected: Vec<u8> = [1, 3, 5, 7, 9, 10, 11, 12, 13, 14].into_iter().flat_map(frame).collect();
        assert_eq!(reader.join().unwrap()[READY..], expected);
    }

    #[test]
    fn a_lent_buffer_comes_back_empty_and_the_start_of_a_frame_stays() {
        let (mut stream, mut far) = pair(1_000);
        let (mut lent, mut scratch) = (Vec::with_capacity(100_000), [0; 64]);
        for (sent, taken, left) in [(&b"abcdef"[..], 4, &b"ef"[..]), (b"gh", 0, b"efgh"), (b"i", 5, b"")] {
            far.write_all(sent).unwrap();
            stream.borrow(&mut lent);
            while stream.read(&mut scratch, true) != Ok(true) {}
            stream.consume(taken);
            stream.give_back(&mut lent);
            assert_eq!(stream.input(), left);
            assert!(lent.is_empty() && lent.capacity() >= 100_000 && stream.input.capacity() < 1_000);
        }
    }
}
