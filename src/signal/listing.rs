//! The rooms as plain values, for whoever operates the server.

use std::net::IpAddr;
use std::sync::Arc;

use super::room::Room;
use super::session::SessionKey;
use super::{Counters, Reports, Rooms, Settings};

/// A room, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomListing {
    /// Its name.
    pub name: Arc<str>,
    /// How many members it may have.
    pub capacity: usize,
    /// Has it a PIN?
    pub pin: bool,
    /// Is it locked?
    pub locked: bool,
    /// In the order they came.
    pub members: Vec<MemberListing>,
}

/// A member of a room, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberListing {
    /// Its id.
    pub peer: Arc<str>,
    /// What it calls itself.
    pub name: Option<Arc<str>>,
    /// Its address; of an IPv6 address the /64.
    pub from: IpAddr,
    /// Has it a connection?
    pub here: bool,
    /// May it lock, kick and invite?
    pub moderator: bool,
}

impl Rooms {
    /// Bounds and habits.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What clients reported since the start.
    pub fn reports(&self) -> Reports {
        self.reports
    }

    /// How many connections there are, greeted or not.
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// How many sessions wait to be resumed.
    pub fn away(&self) -> usize {
        self.away
    }

    /// How many members they have, here or away.
    pub fn members(&self) -> usize {
        self.rooms.values().map(|room| room.members.len()).sum()
    }

    /// How many rooms there are. Each has members.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// The first `max` rooms after the one of this name, in the order of their names.
    pub fn list(&self, after: Option<&str>, max: usize) -> Vec<RoomListing> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rooms = self.rooms.range::<str, _>((start, Bound::Unbounded)).take(max);
        rooms.map(|(name, room)| self.listing(name, room)).collect()
    }

    pub(super) fn listing(&self, name: &Arc<str>, room: &Room) -> RoomListing {
        let member = |member: &SessionKey| {
            let session = self.sessions.get(member)?;
            let place = session.place.as_ref()?;
            Some(MemberListing {
                peer: place.peer.clone(),
                name: place.name.clone(),
                from: session.from,
                here: session.connection().is_some(),
                moderator: place.moderator,
            })
        };
        RoomListing {
            name: name.clone(),
            capacity: room.capacity,
            pin: room.pin.is_some(),
            locked: room.locked,
            members: room.members.iter().filter_map(member).collect(),
        }
    }
}
