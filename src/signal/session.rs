//! Sessions: what begins with hello, and outlives a lost connection for a while.
//!
//! ```text
//!  hello ──► here ◄────────── hello with resume ──────────┐
//!             │ connection lost, while in a room          │
//!             ├──────────────────────────────────────► away ── resume time is over ──┐
//!             │ bye, a clean close, a fault, kicked                                  ▼
//!             └────────────────────────────────────────────────────────────────────► end
//! ```
//!
//! Each event is kept after it was sent: nobody knows what a connection that breaks has delivered.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::access::{Claims, Role};
use super::bucket::Bucket;
use super::error::{ErrorCode, Refusal, close};
use super::frame::{Frame, Numbered, PeerEvent, Text};
use super::wire::Resume;
use super::{ConnectionId, Event, Output, Phase, Rooms, Settings, Timer};
use crate::time::{Instant, Now};

/// Names a session within this process. Never reused; sessions are in the order of their hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey(pub(super) u64);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Arc<str>,
    pub(super) secret: String,
    /// The address it was seen at last; of an IPv6 address the /64.
    pub(super) from: IpAddr,
    /// What its token says.
    pub(super) claims: Option<Arc<Claims>>,
    pub(super) place: Option<Place>,
    /// The largest id of a request.
    pub(super) last_id: Option<u64>,
    pub(super) presence: Presence,
    /// The others think that it is away.
    pub(super) was_away: bool,
    pub(super) sent: Sent,
}

#[derive(Debug)]
pub(super) enum Presence {
    Here(ConnectionId),
    /// Until then. A new connection is no way to get another burst.
    Away {
        until: Instant,
        buckets: Buckets,
    },
}

/// What the rates of a connection are measured with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    pub(super) messages: Bucket,
    pub(super) bytes: Bucket,
}

/// Where a session is a member.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) room: Arc<str>,
    pub(super) peer: Arc<str>,
    pub(super) name: Option<Arc<str>>,
    pub(super) moderator: bool,
    /// What waits until the member is ready.
    pub(super) held: Option<Held>,
    /// Its last credential.
    pub(super) ice: Option<Credential>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) signals: Vec<(Arc<str>, Numbered)>,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Credential {
    /// When to send a fresh one.
    pub(super) refresh: Instant,
    /// When it ends, in seconds since the Unix epoch.
    pub(super) expires: u64,
}

/// The last events.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The number of the last one.
    pub(super) seq: u64,
    events: VecDeque<Text>,
    bytes: usize,
}

impl Session {
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self.presence {
            Presence::Here(connection) => Some(connection),
            Presence::Away { .. } => None,
        }
    }

    pub(super) fn subject(&self) -> Option<Arc<str>> {
        self.claims.as_ref().and_then(|claims| claims.sub.as_deref()).map(Arc::from)
    }

    pub(super) fn is_moderator_by_token(&self) -> bool {
        self.claims.as_ref().is_some_and(|claims| claims.role == Some(Role::Moderator))
    }
}

impl Rooms {
    pub(super) fn session_of(&mut self, connection: ConnectionId) -> Option<(SessionKey, &mut Session)> {
        let Phase::Greeted(key) = self.links.get(&connection)?.phase else { return None };
        Some((key, self.sessions.get_mut(&key)?))
    }

    /// A new session for a connection that has said hello.
    pub(super) fn begin(&mut self, connection: ConnectionId, claims: Option<Claims>) -> Option<SessionKey> {
        let link = self.links.get_mut(&connection)?;
        self.last_session += 1;
        let key = SessionKey(self.last_session);
        if let Phase::Waiting(deadline) = std::mem::replace(&mut link.phase, Phase::Greeted(key)) {
            self.timers.remove(&(deadline, Timer::Hello(connection)));
        }
        let id = Arc::<str>::from(self.ids.session());
        let session = Session {
            id: id.clone(),
            secret: self.ids.secret(),
            from: link.from,
            claims: claims.map(Arc::new),
            place: None,
            last_id: None,
            presence: Presence::Here(connection),
            was_away: false,
            sent: Sent::default(),
        };
        self.by_id.insert(id, key);
        self.sessions.insert(key, session);
        Some(key)
    }

    /// Gives a connection the session that it asks for, if it can have all that it missed; how much that is.
    ///
    /// Whoever knows the secret and can't, begins anew: the old session ends.
    pub(super) fn resume(
        &mut self,
        now: Now,
        connection: ConnectionId,
        resume: &Resume<'_>,
    ) -> Option<(SessionKey, usize)> {
        let key = *self.by_id.get(&*resume.session)?;
        let session = self.sessions.get(&key)?;
        if !bool::from(session.secret.as_bytes().ct_eq(resume.secret.as_bytes())) {
            return None;
        }
        let missed = session.sent.seq.checked_sub(resume.seq).and_then(|missed| usize::try_from(missed).ok());
        let all_there = |missed: &usize| *missed <= session.sent.events.len();
        let missed = missed.filter(|missed| session.place.is_some() && all_there(missed));
        let old = session.connection();
        let mut buckets = old.and_then(|old| self.replace(old));
        let Some(missed) = missed else {
            self.counters.resumes_failed += 1;
            self.end(now, key, None);
            return None;
        };
        if let Some(Presence::Away { until, buckets: kept }) = self.sessions.get(&key).map(|s| &s.presence) {
            buckets = Some(*kept);
            self.timers.remove(&(*until, Timer::Away(key)));
            self.one_less_away(key);
        }
        let link = self.links.get_mut(&connection)?;
        if let Phase::Waiting(deadline) = std::mem::replace(&mut link.phase, Phase::Greeted(key)) {
            self.timers.remove(&(deadline, Timer::Hello(connection)));
        }
        link.buckets = buckets.unwrap_or(link.buckets);
        let from = link.from;
        let session = self.sessions.get_mut(&key)?;
        session.from = from;
        session.presence = Presence::Here(connection);
        self.counters.resumes += 1;
        Some((key, missed))
    }

    /// Closes the connection that a session had until now; the rates it had reached.
    fn replace(&mut self, old: ConnectionId) -> Option<Buckets> {
        let message = "A newer connection has this session";
        self.tell_error(old, None, ErrorCode::SessionReplaced, message.into(), None, true);
        self.outputs.push_back(Output::Close { connection: old, code: close::REPLACED, reason: message });
        self.counters.replaced += 1;
        self.unlink(old).map(|(_, buckets)| buckets)
    }

    /// Sends the last events once more, and a credential that fell due meanwhile.
    pub(super) fn replay(&mut self, now: Now, key: SessionKey, missed: usize) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some(connection) = session.connection() else { return };
        let skip = session.sent.events.len().saturating_sub(missed);
        let events: Vec<_> = session.sent.events.iter().skip(skip).cloned().collect();
        let due =
            session.place.as_ref().and_then(|place| place.ice).is_some_and(|c| c.refresh <= now.instant);
        for text in events {
            self.send_text(connection, text);
        }
        if due {
            self.outputs.push_back(Output::RefreshIce { connection });
        }
    }

    /// The connection of a session is gone, and its client may come back.
    pub(super) fn lose(&mut self, now: Now, connection: ConnectionId) {
        let Some((key, buckets)) = self.unlink(connection) else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Settings { resume, connections, connections_per_address, .. } = self.settings;
        let here = self.away_by_address.get(&session.from).copied().unwrap_or(0);
        let crowded = self.away >= connections || here >= connections_per_address;
        let (false, false, Some(place)) = (resume.is_zero(), crowded, session.place.clone()) else {
            return self.end(now, key, None);
        };
        let until = now.instant + resume;
        session.presence = Presence::Away { until, buckets };
        session.was_away = true;
        self.away += 1;
        self.away_by_address.insert(session.from, here + 1);
        self.timers.insert((until, Timer::Away(key)));
        self.tell_others(key, &Frame::Peer { seq: 0, event: PeerEvent::Away { peer: &place.peer } });
        self.outputs.push_back(Output::Event(Event::Away { room: place.room, peer: place.peer }));
    }

    /// Ends a session: it leaves its room, and nothing is kept of it.
    pub(super) fn end(&mut self, now: Now, key: SessionKey, reason: Option<&str>) {
        self.leave(now, key, reason);
        if let Some(Presence::Away { until, .. }) = self.sessions.get(&key).map(|session| &session.presence) {
            self.timers.remove(&(*until, Timer::Away(key)));
            self.one_less_away(key);
        }
        if let Some(session) = self.sessions.remove(&key) {
            self.by_id.remove(&session.id);
            self.replay_bytes -= session.sent.bytes;
            if let Some(link) = session.connection().and_then(|connection| self.links.get_mut(&connection)) {
                link.phase = Phase::Over;
            }
        }
    }

    fn one_less_away(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        self.away -= 1;
        match self.away_by_address.get_mut(&session.from) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.away_by_address.remove(&session.from)),
        }
    }

    /// Sends an event to a member, now or when it comes back.
    pub(super) fn send_event(&mut self, to: SessionKey, event: &Numbered) {
        let Some(session) = self.sessions.get_mut(&to) else { return };
        let sent = &mut session.sent;
        sent.seq += 1;
        let text = event.with(sent.seq);
        if self.settings.resume.is_zero() {
            // A reload may bring resumes back: what is kept has no gap.
            self.replay_bytes -= sent.bytes;
            (sent.events, sent.bytes) = (VecDeque::new(), 0);
        } else {
            sent.bytes += text.size();
            self.replay_bytes += text.size();
            sent.events.push_back(text.clone());
            while sent.events.len() > self.settings.replay_messages
                || sent.bytes > self.settings.replay_bytes
                || self.replay_bytes > self.settings.replay_bytes_total
            {
                let Some(oldest) = sent.events.pop_front() else { break };
                sent.bytes -= oldest.size();
                self.replay_bytes -= oldest.size();
            }
        }
        if let Some(connection) = session.connection() {
            self.send_text(connection, text);
        }
    }

    pub(super) fn remember_id(
        &mut self,
        connection: ConnectionId,
        id: Option<u64>,
        result: &Result<(), Refusal>,
    ) {
        let took = !matches!(result, Err(refusal) if refusal.code == ErrorCode::RateLimited);
        if let (Some(id), true, Some((_, session))) = (id, took, self.session_of(connection)) {
            session.last_id = session.last_id.max(Some(id));
        }
    }
}
