//! What each request of a member does, one function each. (`hello`, `join` and what moderators may have files of
//! their own.)

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{ErrorCode, Refusal, close};
use super::frame::Frame;
use super::join::too_many;
use super::room::Past;
use super::session::{Credential, Place, SessionKey};
use super::text::excerpt;
use super::wire::{Message, Request, Set, Signal};
use super::{Authority, ConnectionId, Event, Output, Phase, Report, Rooms, Timer};
use crate::time::Now;

impl Rooms {
    /// Does what was asked. A request with an id gets one reply: its own (`welcome`, `joined`, `ice`, `invite`, `bye`)
    /// or `ok`.
    pub(super) fn handle(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        request: Request<'_>,
        authority: &mut dyn Authority,
    ) -> Result<(), Refusal> {
        let greeted = self.links.get(&from).is_some_and(|link| matches!(link.phase, Phase::Greeted(_)));
        match request {
            Request::Hello(hello) if !greeted => return self.hello(now, from, id, &hello, authority),
            Request::Hello(_) => return Err(Refusal::bad("Hello was said already")),
            _ if !greeted => return Err(Refusal::bad("The first message must be hello")),
            Request::Join(join) => return self.join(now, from, id, &join, authority),
            Request::Ice => return self.ice(now, from, id, authority),
            Request::Invite(invite) => return self.invite(now, from, id, &invite),
            Request::Bye => {
                self.send(from, &Frame::Bye { id });
                self.close(now, from, close::NORMAL, "bye");
                return Ok(());
            }
            Request::Ready => {
                let (key, _) = self.member(from)?;
                self.ready(key);
            }
            Request::Signal(signal) => self.signal(from, &signal)?,
            Request::Message(message) => self.message(now, from, &message)?,
            Request::Set(set) => self.set(from, &set)?,
            Request::Report(report) => self.report(from, report)?,
            Request::Lock { locked } => self.lock(from, locked)?,
            Request::Kick(kick) => self.kick(now, from, &kick)?,
            Request::Leave => {
                let (key, _) = self.member(from)?;
                self.leave(now, key, None);
            }
        }
        if let Some(id) = id {
            self.send(from, &Frame::Ok { id });
        }
        Ok(())
    }

    fn ice(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        authority: &mut dyn Authority,
    ) -> Result<(), Refusal> {
        let (key, _) = self.member(from)?;
        if let Some(session) = self.sessions.get(&key) {
            let rate = self.credentials.take(session.from, now.instant);
            rate.map_err(|retry| too_many("requests for ice", retry))?;
        }
        let ice = self.issue(now, key, authority).map_err(Refusal::forbidden)?;
        self.send(from, &Frame::Ice { id, seq: None, ice: &ice });
        Ok(())
    }

    /// A credential for a member, and the timer for the next one.
    pub(super) fn issue(
        &mut self,
        now: Now,
        key: SessionKey,
        authority: &mut dyn Authority,
    ) -> Result<Box<RawValue>, String> {
        #[derive(Deserialize)]
        struct Term {
            ttl: Option<u64>,
        }
        let none = || "There is no member to issue it to".to_owned();
        let session = self.sessions.get_mut(&key).ok_or_else(none)?;
        let claim = session.claims.as_ref().and_then(|claims| claims.may_relay);
        if !self.settings.ice.allows(claim) {
            return Err("You may not use the relay of this server".into());
        }
        let place = session.place.as_mut().ok_or_else(none)?;
        let (room, peer) = (place.room.clone(), place.peer.clone());
        let issued = authority.issue(now, &room, &peer).inspect_err(|why| {
            self.outputs.push_back(Output::Event(Event::IceRefused { room, peer, why: why.clone() }));
        })?;
        self.counters.credentials += 1;
        if let Some(old) = place.ice {
            self.timers.remove(&(old.refresh, Timer::Ice(key)));
        }
        let term = serde_json::from_str::<Term>(issued.get()).ok().and_then(|term| term.ttl);
        // A ttl of no length would ask for the next one at once, for ever.
        if let Some(ttl) = term.filter(|ttl| *ttl > 0) {
            let refresh = now.instant + Duration::from_millis(ttl.saturating_mul(800));
            let expires = now.unix.saturating_add(ttl);
            let before = place.ice.map_or(0, |old| old.expires);
            place.ice = Some(Credential { refresh, expires: expires.max(before) });
            self.timers.insert((refresh, Timer::Ice(key)));
        }
        Ok(issued)
    }

    fn signal(&mut self, from: ConnectionId, signal: &Signal<'_>) -> Result<(), Refusal> {
        let (key, sender) = self.member(from)?;
        let (room, sender) = (sender.room.clone(), sender.peer.clone());
        let to = self.find(key, &room, &signal.to)?;
        let event = Frame::Signal {
            seq: 0,
            from: &sender,
            to: &signal.to,
            pc: signal.pc(),
            generation: signal.generation,
            description: signal.description,
            candidates: signal.candidates,
        }
        .event();
        let (max_bytes, max_messages) = (self.settings.held_bytes, self.settings.replay_messages);
        let Some(held) = self.held(to) else {
            self.send_event(to, &event);
            return Ok(());
        };
        if held.bytes + event.len() > max_bytes || held.signals.len() >= max_messages {
            let message = format!("'{}' is not ready, and no more is held for it", signal.to);
            return Err(Refusal::new(ErrorCode::RateLimited, message).retry(HELD_RETRY));
        }
        held.bytes += event.len();
        held.signals.push((sender, event));
        Ok(())
    }

    fn message(&mut self, now: Now, from: ConnectionId, message: &Message<'_>) -> Result<(), Refusal> {
        let (key, sender) = self.member(from)?;
        let (room, sender, name) = (sender.room.clone(), sender.peer.clone(), sender.name.clone());
        let to = message.to.as_deref().map(|peer| self.find(key, &room, peer)).transpose()?;
        let frame = Frame::Message {
            seq: 0,
            from: &sender,
            to: message.to.as_ref().map(Cow::as_ref),
            data: message.data,
        };
        if let Some(to) = to {
            self.send_event(to, &frame.event());
            return Ok(());
        }
        self.tell_others(key, &frame);
        if let Some(room) = self.rooms.get_mut(&room).filter(|room| room.history.limit > 0) {
            let data = message.data.to_owned();
            let past = Past { from: sender, name, data, at: now.instant };
            room.history.push(past, self.settings.history_bytes);
        }
        Ok(())
    }

    fn set(&mut self, from: ConnectionId, set: &Set<'_>) -> Result<(), Refusal> {
        let (key, sender) = self.member(from)?;
        let (room, sender) = (sender.room.clone(), sender.peer.clone());
        let max = self.settings.state_bytes;
        if let Some(room) = self.rooms.get_mut(&room) {
            room.values.set(&set.key, set.value, max).map_err(|_| {
                let message = format!("The state of a room has at most {max} bytes; remove something first");
                Refusal::new(ErrorCode::TooLarge, message)
            })?;
        }
        let frame = Frame::State { seq: 0, from: &sender, key: &set.key, value: set.value };
        self.send_event(key, &frame.event());
        self.tell_others(key, &frame);
        Ok(())
    }

    fn report(&mut self, from: ConnectionId, report: Report) -> Result<(), Refusal> {
        let (_, place) = self.member(from)?;
        let (room, peer) = (place.room.clone(), place.peer.clone());
        self.reports.count(&report);
        self.outputs.push_back(Output::Event(Event::Report { room, from: peer, report }));
        Ok(())
    }

    /// The session of a connection, and its place in a room.
    pub(super) fn member(&mut self, connection: ConnectionId) -> Result<(SessionKey, &Place), Refusal> {
        self.session_of(connection)
            .and_then(|(key, session)| Some((key, session.place.as_ref()?)))
            .ok_or_else(|| Refusal::new(ErrorCode::NotInRoom, "You are in no room; join one first"))
    }

    /// Sends an event to all members of a room but one.
    pub(super) fn tell_others(&mut self, key: SessionKey, frame: &Frame<'_>) {
        let place = self.sessions.get(&key).and_then(|session| session.place.as_ref());
        let Some(room) = place.and_then(|place| self.rooms.get(&place.room)) else { return };
        if room.members.len() < 2 {
            return;
        }
        let event = frame.event();
        for member in room.members.clone() {
            if member != key {
                self.send_event(member, &event);
            }
        }
    }

    /// Who is called `peer` in the sender's room. Nobody outside of it exists, as far as the sender can tell.
    pub(super) fn find(&self, sender: SessionKey, room: &str, peer: &str) -> Result<SessionKey, Refusal> {
        let is_called = |member: &SessionKey| {
            let there = self.sessions.get(member).and_then(|session| session.place.as_ref());
            there.is_some_and(|place| &*place.peer == peer)
        };
        let members: &[SessionKey] = self.rooms.get(room).map_or(&[], |room| &room.members);
        members.iter().copied().find(|member| *member != sender && is_called(member)).ok_or_else(|| {
            let message = format!("There is no other '{}' in room '{room}'", excerpt(peer));
            Refusal::new(ErrorCode::PeerNotFound, message)
        })
    }
}

/// When to try again with somebody who is not ready.
const HELD_RETRY: Duration = Duration::from_secs(1);
