//! What the operator may do in any room: look, lock, put out, close, invite.

use std::time::Duration;

use super::access::{Claims, invite};
use super::session::SessionKey;
use super::{RoomListing, Rooms};
use crate::time::Now;

impl Rooms {
    /// Puts a member out of its room. `false`: there is none of this id.
    pub fn kick_out(&mut self, now: Now, room: &str, peer: &str, ban: Duration) -> bool {
        let is_meant = |key: &SessionKey| {
            let place = self.sessions.get(key).and_then(|session| session.place.as_ref());
            place.is_some_and(|place| &*place.peer == peer)
        };
        let Some(key) = self.rooms.get(room).and_then(|room| room.members.iter().copied().find(is_meant))
        else {
            return false;
        };
        self.put_out(now, key, None, ban);
        true
    }

    /// Locks a room, or unlocks it; its moderators may do the opposite. `false`: there is no such room.
    pub fn lock_room(&mut self, room: &str, locked: bool) -> bool {
        self.set_locked(room, locked, None)
    }

    /// Puts everybody out of a room, which ends with that; how many these were.
    pub fn close_room(&mut self, now: Now, room: &str) -> usize {
        let members = self.rooms.get(room).map(|room| room.members.clone()).unwrap_or_default();
        for member in &members {
            self.put_out(now, *member, None, Duration::ZERO);
        }
        members.len()
    }

    /// One room, if there is one of this name.
    pub fn room(&self, name: &str) -> Option<RoomListing> {
        self.rooms.get_key_value(name).map(|(name, room)| self.listing(name, room))
    }

    /// An invite that says this.
    pub fn sign_invite(&self, claims: &Claims) -> String {
        invite(&self.invite_secret.bytes, claims)
    }
}
