//! A connection: may it send so much, what it is told when something is wrong, and its end.

use std::net::IpAddr;
use std::time::Duration;

use super::bucket::Verdict;
use super::error::{ErrorCode, Refusal, close};
use super::frame::{Frame, Text};
use super::session::{Buckets, SessionKey};
use super::{ConnectionId, Event, Output, Rooms, Settings, Timer};
use crate::time::{Instant, Now};

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) from: IpAddr,
    pub(super) buckets: Buckets,
    /// Frames that were not even a JSON object with a type.
    pub(super) malformed: u32,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Hello is due by then.
    Waiting(Instant),
    Greeted(SessionKey),
    /// Its session has ended; it is about to be closed.
    Over,
}

impl Rooms {
    /// Counts a frame, and says whether its sender keeps to the rates. `None`: the connection is closed.
    pub(super) fn admit(
        &mut self,
        now: Now,
        connection: ConnectionId,
        len: usize,
    ) -> Option<Result<(), Refusal>> {
        let link = self.links.get_mut(&connection)?;
        self.counters.received += 1;
        let Settings { messages_per_second, burst, bytes_per_second, burst_bytes, .. } = self.settings;
        let messages = link.buckets.messages.take(now.instant, 1, messages_per_second, burst);
        let bytes = link.buckets.bytes.take(now.instant, len, bytes_per_second, burst_bytes);
        let (verdict, rate, of) = match (messages, bytes) {
            (Verdict::Pass, bytes) => (bytes, bytes_per_second, "bytes"),
            (messages, _) => (messages, messages_per_second, "messages"),
        };
        let refusal = || Refusal::new(ErrorCode::RateLimited, format!("More than {rate} {of} per second"));
        Some(match verdict {
            Verdict::Pass => Ok(()),
            Verdict::Refused { retry } => Err(refusal().retry(retry)),
            Verdict::Exhausted => Err(refusal().fatal(close::RATE, "too many messages, and it went on")),
        })
    }

    pub(super) fn refuse_size(&mut self, now: Now, connection: ConnectionId) {
        let message = format!("A message has at most {} bytes", self.settings.max_bytes);
        let refusal = Refusal::new(ErrorCode::TooLarge, message).fatal(close::TOO_BIG, "message too big");
        self.refuse(now, connection, None, refusal);
    }

    /// Answers with an error, and closes if that is fatal.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        connection: ConnectionId,
        id: Option<u64>,
        mut refusal: Refusal,
    ) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.malformed += u32::from(refusal.malformed);
            if link.malformed >= self.settings.malformed {
                refusal = refusal.fatal(close::PROTOCOL, "not speaking ternd.v1");
            } else if !matches!(link.phase, Phase::Greeted(_)) {
                refusal = refusal.fatal(close::PROTOCOL, "no valid hello");
            }
        }
        let Refusal { code, message, retry, fatal, .. } = refusal;
        self.counters.rate_limited += u64::from(code == ErrorCode::RateLimited);
        self.tell_error(connection, id, code, message, retry, fatal.is_some());
        if let Some((code, reason)) = fatal {
            self.close(now, connection, code, reason);
        }
    }

    pub(super) fn tell_error(
        &mut self,
        connection: ConnectionId,
        id: Option<u64>,
        code: ErrorCode,
        message: String,
        retry: Option<Duration>,
        fatal: bool,
    ) {
        self.counters.errors += 1;
        self.counters.refuse(code);
        let retry_ms = retry.map(|d| d.as_millis() as u64);
        self.send(connection, &Frame::Error { id, code, message: &message, retry_ms, fatal });
        self.outputs.push_back(Output::Event(Event::Refused { connection, code }));
    }

    /// Closes a connection, and ends its session.
    pub(super) fn close(&mut self, now: Now, connection: ConnectionId, code: u16, reason: &'static str) {
        self.outputs.push_back(Output::Close { connection, code, reason });
        self.forget(now, connection);
    }

    pub(super) fn forget(&mut self, now: Now, connection: ConnectionId) {
        if let Some((key, _)) = self.unlink(connection) {
            self.end(now, key, None);
        }
    }

    /// Forgets a connection; the session that it had.
    pub(super) fn unlink(&mut self, connection: ConnectionId) -> Option<(SessionKey, Buckets)> {
        let gone = self.links.remove(&connection)?;
        match self.addresses.get_mut(&gone.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.addresses.remove(&gone.from)),
        }
        match gone.phase {
            Phase::Waiting(deadline) => {
                self.timers.remove(&(deadline, Timer::Hello(connection)));
                None
            }
            Phase::Greeted(key) => Some((key, gone.buckets)),
            Phase::Over => None,
        }
    }

    pub(super) fn send(&mut self, to: ConnectionId, frame: &Frame<'_>) {
        self.send_text(to, frame.encode());
    }

    pub(super) fn send_text(&mut self, to: ConnectionId, text: Text) {
        self.counters.sent += 1;
        self.outputs.push_back(Output::Send { to, text });
    }
}
