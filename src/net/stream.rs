//! One stream of a client: TCP, or TLS over it.
//!
//! ```text
//! socket ──► (rustls) ──► input ──► frames, by stun::frame, to the shard
//! socket ◄── (rustls) ◄── ready ◄── backlog ◄── frames, by push
//! ```
//! `ready` goes out with one write for many frames. When the client reads too slowly, frames wait in the backlog,
//! which is bounded: the oldest relayed data is dropped first and whole, answers are kept.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::stun::{Frame, frame};

/// Bytes handed to the socket or to TLS at once. More than that waits as whole frames.
const READY: usize = 64 * 1024;
/// A buffer larger than this is not kept by a connection that needs it no more.
const KEEP: usize = 16 * 1024;
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
    finishing: bool,
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
            finishing: false,
        }
    }

    /// TLS has something to say by itself.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Bytes that wait to be written.
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
        self.taken += len;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
            if self.input.capacity() > KEEP {
                self.input = Vec::new();
            }
        }
    }

    /// All of the input, taken.
    pub(super) fn take_input(&mut self) -> Vec<u8> {
        let taken = std::mem::take(&mut self.taken);
        let mut input = std::mem::take(&mut self.input);
        input.drain(..taken);
        input
    }

    /// The stream taken apart, to be handed to somebody else.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Box<ServerConnection>>, Vec<u8>) {
        (self.socket, self.tls, self.input[self.taken..].to_vec())
    }

    /// Reads once into the input, through `scratch`. `false`: nothing more to read now.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<bool, Over> {
        self.input.drain(..std::mem::take(&mut self.taken));
        if self.input.len() > LONGEST {
            // Frames are taken as they become whole, so this much can't be the start of one.
            return Err(Over::Garbage);
        }
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(scratch) {
                Ok(0) => Err(Over::Gone),
                Ok(n) => {
                    self.input.extend_from_slice(&scratch[..n]);
                    Ok(true)
                }
                Err(error) => try_later(&error),
            };
        };
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
        match tls.read_tls(&mut self.socket) {
            Ok(0) => Err(Over::Gone),
            Ok(_) => tls.process_new_packets().map(|_| true).map_err(|_| Over::Garbage),
            Err(error) => try_later(&error),
        }
    }

    /// Queues a whole frame; `false` if relayed data had to be dropped for it, or instead of it.
    pub(super) fn push(&mut self, parts: &[&[u8]], kind: Kind) -> Result<bool, Over> {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if self.backlog.is_empty() && self.ready.len() + len <= READY {
            parts.iter().for_each(|part| self.ready.extend_from_slice(part));
            return Ok(true);
        }
        let mut dropped = false;
        while self.backlog_bytes + len > self.limit {
            let Some(oldest) = self.backlog.iter().position(|(_, kind)| *kind == Kind::Data) else {
                return if kind == Kind::Data { Ok(false) } else { Err(Over::Stuck) };
            };
            if let Some((frame, _)) = self.backlog.remove(oldest) {
                self.backlog_bytes -= frame.len();
            }
            dropped = true;
        }
        self.backlog_bytes += len;
        self.backlog.push_back((parts.concat(), kind));
        Ok(!dropped)
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Over> {
        loop {
            self.fill();
            let rest = &self.ready[self.written..];
            let progress = match &mut self.tls {
                None if rest.is_empty() => return self.finish(),
                None => match self.socket.write(rest) {
                    Ok(0) => return Err(Over::Gone),
                    other => other,
                },
                Some(tls) => {
                    // rustls bounds what it keeps; what it does not take stays here.
                    match encrypt(tls, rest) {
                        Ok(0) if !tls.wants_write() => return self.finish(),
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
        self.finishing = true;
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
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
                self.backlog_bytes -= frame.len();
                self.backlog.pop_front();
            }
        }
        if self.ready.is_empty() && self.ready.capacity() > KEEP {
            self.ready = Vec::new();
        }
    }

    fn finish(&mut self) -> Result<(), Over> {
        if self.finishing {
            self.finishing = false;
            let _ = self.socket.shutdown(std::net::Shutdown::Write);
        }
        Ok(())
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

fn try_later(error: &io::Error) -> Result<bool, Over> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        io::ErrorKind::Interrupted => Ok(true),
        _ => Err(Over::Gone),
    }
}
