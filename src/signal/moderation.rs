//! `lock`, `kick` and `invite`: what moderators may do. (What the operator may is in `operator.rs`.)

use std::sync::Arc;
use std::time::Duration;

use super::access::{Claims, Role};
use super::error::{ErrorCode, Refusal, close};
use super::frame::Frame;
use super::room::Banned;
use super::session::{Place, SessionKey};
use super::wire::{Invite, Kick};
use super::{ConnectionId, Event, Output, Rooms, Session};
use crate::time::Now;

/// Seconds that an invite is good for if nobody says otherwise: a day.
const INVITE_SECONDS: u64 = 86_400;

impl Rooms {
    /// The session of a connection, and its place, if it may do what moderators may.
    fn moderator(&mut self, from: ConnectionId) -> Result<(SessionKey, Place), Refusal> {
        let (key, place) = self.member(from)?;
        if place.moderator {
            return Ok((key, place.clone()));
        }
        Err(Refusal::forbidden("Only moderators may do this"))
    }

    pub(super) fn lock(&mut self, from: ConnectionId, locked: bool) -> Result<(), Refusal> {
        let (_, place) = self.moderator(from)?;
        self.set_locked(&place.room, locked, Some(&place.peer));
        Ok(())
    }

    /// `by`: nobody but the operator. `false`: there is no such room.
    pub(super) fn set_locked(&mut self, name: &str, locked: bool, by: Option<&str>) -> bool {
        let Some(room) = self.rooms.get_mut(name) else { return false };
        room.locked = locked;
        self.tell_moderation(name, by, None);
        true
    }

    pub(super) fn kick(&mut self, now: Now, from: ConnectionId, kick: &Kick<'_>) -> Result<(), Refusal> {
        let (key, place) = self.moderator(from)?;
        let whom = self.find(key, &place.room, &kick.peer)?;
        self.put_out(now, whom, Some(&place), Duration::from_secs(kick.ban_s.unwrap_or(0)));
        Ok(())
    }

    /// `by`: nobody but the operator.
    pub(super) fn put_out(&mut self, now: Now, key: SessionKey, by: Option<&Place>, ban: Duration) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some(Place { room, peer, .. }) = session.place.clone() else { return };
        let (subject, from, connection) = (session.subject(), session.from, session.connection());
        if let (false, Some(room)) = (ban.is_zero(), self.rooms.get_mut(&room)) {
            let who = subject.map_or(Banned::Address(from), Banned::Subject);
            room.ban(who, now.instant + ban);
        }
        self.counters.kicked += 1;
        let by_peer = by.map(|place| place.peer.clone());
        self.outputs.push_back(Output::Event(Event::Kicked { room: room.clone(), peer, by: by_peer }));
        // First of all it is out: nothing of what follows is for it.
        self.end(now, key, Some("kicked"));
        if let Some(connection) = connection {
            let who = if by.is_some() { "A moderator" } else { "The operator" };
            let message = format!("{who} has put you out of room '{room}'");
            self.tell_error(connection, None, ErrorCode::Kicked, message, None, true);
            self.close(now, connection, close::KICKED, "kicked");
        }
    }

    pub(super) fn invite(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        request: &Invite<'_>,
    ) -> Result<(), Refusal> {
        let (key, place) = self.moderator(from)?;
        let own = self.sessions.get(&key).and_then(|session| session.claims.clone());
        let expires = now.unix.saturating_add(request.ttl_s.unwrap_or(INVITE_SECONDS));
        let claims = Claims {
            name: request.name.as_deref().filter(|name| !name.is_empty()).map(str::to_owned),
            role: request.role.filter(|role| *role == Role::Moderator),
            may_create: own.as_ref().and_then(|claims| claims.may_create),
            may_relay: own.as_ref().and_then(|claims| claims.may_relay),
            ..Claims::for_room(&place.room, expires)
        };
        let token = self.sign_invite(&claims);
        self.send(from, &Frame::Invite { id, token: &token, expires });
        Ok(())
    }

    /// Tells a room, all but one, whether it is locked and who its moderators are.
    pub(super) fn tell_moderation(&mut self, name: &str, by: Option<&str>, except: Option<SessionKey>) {
        let Some(room) = self.rooms.get(name) else { return };
        let members = room.members.clone();
        let moderators: Vec<Arc<str>> = members
            .iter()
            .filter_map(|member| self.sessions.get(member).filter(|session| session.moderates()))
            .filter_map(|session: &Session| session.place.as_ref().map(|place| place.peer.clone()))
            .collect();
        let moderators: Vec<&str> = moderators.iter().map(AsRef::as_ref).collect();
        let event = Frame::Room { seq: 0, locked: room.locked, moderators: &moderators, by }.event();
        for member in members.into_iter().filter(|member| Some(*member) != except) {
            self.send_event(member, &event);
        }
    }
}
