//! `join`, `ready` and leaving: who comes in, and what becomes of the room when somebody goes.

use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, BadToken};
use super::error::{ErrorCode, Refusal};
use super::frame::{Frame, Member, PeerEvent, Presence, Remembered, Roles};
use super::hello::refuse_token;
use super::room::Room;
use super::session::{Held, Place, SessionKey};
use super::wire::{Create, Join};
use super::{Authority, ConnectionId, Event, Output, Rooms, Session, Timer};
use crate::time::Now;

impl Rooms {
    pub(super) fn join(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        join: &Join<'_>,
        authority: &mut dyn Authority,
    ) -> Result<(), Refusal> {
        let Some((key, _)) = self.session_of(from) else { return Ok(()) };
        self.may_join(now, key, join)?;

        let created = !self.rooms.contains_key(&*join.room);
        let (name_of_room, peer) = (Arc::<str>::from(&*join.room), self.ids.peer());
        let room = self.rooms.entry(name_of_room.clone()).or_insert_with(|| {
            let capacity = join.capacity.unwrap_or(self.settings.capacity);
            let most = self.settings.max_capacity.max(self.settings.capacity);
            let history = join.history.unwrap_or(0).min(self.settings.history);
            Room::new(capacity.min(most), join.pin.as_deref(), history)
        });
        room.members.push(key);
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        let claimed = session.claims.as_ref().and_then(|claims| claims.name.as_deref());
        let name = claimed.or(join.name.as_deref()).filter(|name| !name.is_empty()).map(Arc::<str>::from);
        session.place = Some(Place {
            room: name_of_room.clone(),
            peer: peer.clone(),
            name: name.clone(),
            moderator: created || session.is_moderator_by_token(),
            held: (join.ready == Some(false)).then(Held::default),
            ice: None,
        });
        let moderates = session.is_moderator_by_token();

        let ice = self.issue(now, key, authority).ok();
        let joined = self.describe(now, id, key, &name_of_room, created, ice.as_deref());
        if let Some(joined) = joined {
            self.send_event(key, &joined);
        }
        let event = PeerEvent::Join { peer: &peer, name: name.as_deref(), you: Roles::EARLIER };
        self.tell_others(key, &Frame::Peer { seq: 0, event });
        if moderates && !created {
            self.tell_moderation(&name_of_room, None, Some(key));
        }
        self.counters.joins += 1;
        let members = self.rooms.get(&name_of_room).map_or(0, |room| room.members.len());
        self.outputs.push_back(Output::Event(Event::Joined {
            connection: from,
            room: name_of_room,
            peer,
            members,
        }));
        Ok(())
    }

    /// All that can be wrong with a join, in the order in which it is looked at.
    fn may_join(&mut self, now: Now, key: SessionKey, join: &Join<'_>) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get(&key) else { return Ok(()) };
        if let Some(place) = &session.place {
            let message = format!("You are in room '{}'; leave it first", place.room);
            return Err(Refusal::new(ErrorCode::AlreadyJoined, message));
        }
        let name = &*join.room;
        let claims = session.claims.as_deref();
        if let Some(over) = claims.and_then(|claims| now.unix.checked_sub(claims.exp)) {
            return Err(refuse_token(&BadToken::Expired(over)));
        }
        if claims.is_some_and(|claims| claims.room.is_some() && !claims.names(name)) {
            return Err(Refusal::forbidden(format!("Your token is not for room '{name}'")));
        }
        match self.settings.join {
            Access::Any => {}
            Access::Token if claims.is_some() => {}
            Access::Token => {
                return Err(Refusal::forbidden("To join, a token is needed; it goes into hello"));
            }
            Access::Never => return Err(Refusal::forbidden("The rooms of this server are closed")),
        }
        let (from, moderator) = (session.from, session.is_moderator_by_token());
        let rate = self.joins.take(from, now.instant);
        rate.map_err(|retry| too_many("joins", retry))?;

        let Some(room) = self.rooms.get(name) else {
            let may = claims.and_then(|claims| claims.may_create);
            let limit = self.settings.rooms;
            return match join.create {
                Some(Create::Never) => {
                    Err(Refusal::new(ErrorCode::RoomNotFound, format!("There is no room '{name}'")))
                }
                _ if !self.settings.create.allows(may) => {
                    let message = format!("There is no room '{name}', and you may not make one");
                    Err(Refusal::new(ErrorCode::CreateDenied, message))
                }
                _ if self.rooms.len() >= limit => {
                    let message = format!("Server has {limit} of {limit} rooms");
                    Err(Refusal::new(ErrorCode::CreateDenied, message))
                }
                _ => Ok(()),
            };
        };
        if let Some(until) = room.banned(session.subject().as_ref(), from, now.instant) {
            let message = format!("A moderator has banned you from room '{name}'");
            return Err(Refusal::forbidden(message).retry(until - now.instant));
        }
        if room.locked && !moderator {
            return Err(Refusal::new(ErrorCode::RoomLocked, format!("Room '{name}' is locked")));
        }
        if !claims.is_some_and(|claims| claims.names(name)) {
            // Before it is looked at: otherwise the answer to the right one would tell.
            let rate = self.wrong_pins.check(from, now.instant);
            rate.map_err(|retry| too_many("wrong PINs", retry))?;
            if !room.opens(join.pin.as_deref()) {
                let message = match (&room.pin, &join.pin) {
                    (None, _) => {
                        format!("Room '{name}' has no PIN; join without 'pin', or make another room")
                    }
                    (Some(_), None) => format!("Room '{name}' has a PIN"),
                    (Some(_), Some(_)) => format!("This is not the PIN of room '{name}'"),
                };
                if room.pin.is_some() && join.pin.is_some() {
                    self.counters.bad_pins += 1;
                    let _ = self.wrong_pins.take(from, now.instant);
                }
                return Err(Refusal::new(ErrorCode::BadPin, message));
            }
        }
        if room.members.len() >= room.capacity {
            let message =
                format!("Room '{name}' has {} of {} participants", room.members.len(), room.capacity);
            return Err(Refusal::new(ErrorCode::RoomFull, message));
        }
        Ok(())
    }

    /// What a newcomer finds.
    fn describe(
        &self,
        now: Now,
        id: Option<u64>,
        key: SessionKey,
        name: &str,
        created: bool,
        ice: Option<&serde_json::value::RawValue>,
    ) -> Option<super::frame::Numbered> {
        let room = self.rooms.get(name)?;
        let members = || {
            room.members.iter().filter_map(|member| {
                let session = self.sessions.get(member)?;
                Some((*member, session, session.place.as_ref()?))
            })
        };
        let me = self.sessions.get(&key)?.place.as_ref()?;
        let peers: Vec<_> = members()
            .filter(|(member, ..)| *member != key)
            .map(|(_, session, place)| Member {
                peer: &place.peer,
                name: place.name.as_deref(),
                state: if session.connection().is_some() { Presence::Here } else { Presence::Away },
                you: Roles::LATER,
            })
            .collect();
        let history: Vec<_> = room
            .history
            .iter()
            .map(|past| Remembered {
                from: &past.from,
                name: past.name.as_deref(),
                data: &past.data,
                ago_ms: (now.instant - past.at).as_millis() as u64,
            })
            .collect();
        let moderators: Vec<_> =
            members().filter(|(.., place)| place.moderator).map(|(.., place)| &*place.peer).collect();
        let frame = Frame::Joined {
            id,
            seq: 0,
            room: name,
            me: &me.peer,
            created,
            capacity: room.capacity,
            pin: room.pin.is_some(),
            locked: room.locked,
            moderators: &moderators,
            peers: &peers,
            state: &room.values,
            history: &history,
            ice,
        };
        Some(frame.event())
    }

    /// Takes a session out of its room, if it is in one, and tells the others.
    pub(super) fn leave(&mut self, now: Now, key: SessionKey, reason: Option<&str>) {
        let Some(place) = self.sessions.get_mut(&key).and_then(|session| session.place.take()) else {
            return;
        };
        let Place { room: name, peer, ice, moderator, .. } = place;
        if let Some(credential) = ice {
            self.timers.remove(&(credential.refresh, Timer::Ice(key)));
            if credential.expires > now.unix {
                self.outputs.push_back(Output::Revoke { peer: peer.clone(), expires: credential.expires });
            }
        }
        let Some(room) = self.rooms.get_mut(&name) else { return };
        room.members.retain(|member| *member != key);
        let left = room.members.clone();
        if left.is_empty() {
            self.rooms.remove(&name);
        }
        let event = Frame::Peer { seq: 0, event: PeerEvent::Leave { peer: &peer, reason } }.event();
        for member in &left {
            // What it still had to hear from the one who left makes no sense any more.
            if let Some(held) = self.held(*member) {
                held.signals.retain(|(sender, _)| *sender != peer);
                held.bytes = held.signals.iter().map(|(_, signal)| signal.len()).sum();
            }
            self.send_event(*member, &event);
        }
        if moderator {
            self.find_heir(&left);
            if !left.is_empty() {
                self.tell_moderation(&name, None, None);
            }
        }
        let members = left.len();
        self.outputs.push_back(Output::Event(Event::Left { room: name, peer, members }));
    }

    /// The one who has been there longest becomes moderator, if there is none and anybody may be one.
    fn find_heir(&mut self, members: &[SessionKey]) {
        let moderates =
            |member: &SessionKey| self.sessions.get(member).is_some_and(|session| session.moderates());
        if self.settings.create == Access::Any
            && !members.iter().any(moderates)
            && let Some(place) = members
                .first()
                .and_then(|eldest| self.sessions.get_mut(eldest))
                .and_then(|session| session.place.as_mut())
        {
            place.moderator = true;
        }
    }

    /// Ends what `"ready": false` began.
    pub(super) fn ready(&mut self, key: SessionKey) {
        let place = self.sessions.get_mut(&key).and_then(|session| session.place.as_mut());
        let held = place.and_then(|place| place.held.take()).unwrap_or_default();
        for (_, signal) in held.signals {
            self.send_event(key, &signal);
        }
    }

    pub(super) fn held(&mut self, key: SessionKey) -> Option<&mut Held> {
        self.sessions.get_mut(&key)?.place.as_mut()?.held.as_mut()
    }
}

impl Session {
    pub(super) fn moderates(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.moderator)
    }
}

pub(super) fn too_many(what: &str, retry: Duration) -> Refusal {
    Refusal::new(ErrorCode::RateLimited, format!("Too many {what} from your address")).retry(retry)
}
