//! The rooms of the classic WebRTC tutorials, as values: who is where, and who is told what.
//!
//! ```text
//! first    create or join foo ──►  created foo
//! second   create or join foo ──►  joined foo      first:  join foo      both: ready
//! third    create or join foo ──►  full foo
//! any      message ───────────►                    the others of the room: message
//! ```
//!
//! Whoever was `created` makes the offer. In those clients that is the end of it when a page is reloaded: the one who
//! stays forgets that it offers, the one who comes back is only `joined`, and both wait for ever. So the one who stays
//! gets `message "bye"` when the other drops, and `created` when the next one has its camera.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use serde_json::Value;

/// What one client is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Created(String),
    Join(String),
    Joined(String),
    Full(String),
    Ready,
    Message(Arc<Value>),
    Log(Vec<String>),
}

/// What follows from an event, in this order.
pub(super) type Words<Id> = Vec<(Id, Word)>;

/// Bounds: members of a room, rooms, characters of a room's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) capacity: usize,
    pub(super) rooms: usize,
    pub(super) room_chars: usize,
}

#[derive(Debug)]
pub(super) struct Rooms<Id> {
    bounds: Bounds,
    /// In the order they came. No room is empty.
    rooms: HashMap<String, Vec<Member<Id>>>,
    places: HashMap<Id, String>,
}

#[derive(Debug)]
struct Member<Id> {
    id: Id,
    /// It has said that it has its camera.
    announced: bool,
    /// It has said goodbye, and nothing since.
    said_bye: bool,
    /// Another one went, and nobody who announced itself came since.
    left_behind: bool,
}

/// What the tutorials' clients say when they have camera and microphone.
const HAS_MEDIA: &str = "got user media";
const BYE: &str = "bye";

impl<Id: Copy + Eq + Hash> Rooms<Id> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, rooms: HashMap::new(), places: HashMap::new() }
    }

    /// Other bounds; nobody has to leave for them.
    pub(super) fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    pub(super) fn create_or_join(&mut self, id: Id, room: &Value) -> Words<Id> {
        let log = |text: String| (id, Word::Log(vec!["Message from server:".into(), text]));
        let Some(room) = room.as_str().filter(|room| is_name(room, self.bounds.room_chars)) else {
            let most = self.bounds.room_chars;
            return vec![log(format!("A room's name is text of 1 to {most} characters on one line"))];
        };
        if self.places.get(&id).is_some_and(|place| place == room) {
            return vec![log(format!("You are in room {room} already"))];
        }
        let mut words = self.leave(id);
        let members = self.rooms.get(room).map_or(0, Vec::len);
        words.push(log(format!("Room {room} has {members} client(s)")));
        if members >= self.bounds.capacity || (members == 0 && self.rooms.len() >= self.bounds.rooms) {
            words.push((id, Word::Full(room.into())));
            return words;
        }
        let everyone = self.rooms.entry(room.into()).or_default();
        words.extend(everyone.iter().map(|other| (other.id, Word::Join(room.into()))));
        everyone.push(Member { id, announced: false, said_bye: false, left_behind: false });
        self.places.insert(id, room.into());
        if members == 0 {
            words.push((id, Word::Created(room.into())));
        } else {
            words.push((id, Word::Joined(room.into())));
            words.extend(everyone.iter().map(|member| (member.id, Word::Ready)));
        }
        words
    }

    pub(super) fn message(&mut self, id: Id, data: Value) -> Words<Id> {
        let Some(room) = self.places.get(&id) else {
            let hint = "You are in no room: emit 'create or join' first".into();
            return vec![(id, Word::Log(vec!["Message from server:".into(), hint]))];
        };
        let Some(members) = self.rooms.get_mut(room) else { return Vec::new() };
        let Some(me) = members.iter_mut().find(|member| member.id == id) else { return Vec::new() };
        me.said_bye = data == BYE;
        let first_media = data == HAS_MEDIA && !std::mem::replace(&mut me.announced, true);

        let mut words = Vec::new();
        if first_media && let Some(stayed) = members.iter_mut().find(|m| m.left_behind && m.id != id) {
            stayed.left_behind = false;
            words.push((stayed.id, Word::Created(room.clone())));
        }
        let data = Arc::new(data);
        let others = members.iter().filter(|member| member.id != id);
        words.extend(others.map(|other| (other.id, Word::Message(data.clone()))));
        words
    }

    /// The client is gone, or goes elsewhere.
    pub(super) fn leave(&mut self, id: Id) -> Words<Id> {
        let Some(room) = self.places.remove(&id) else { return Vec::new() };
        let Some(members) = self.rooms.get_mut(&room) else { return Vec::new() };
        let said_bye = members.iter().any(|member| member.id == id && member.said_bye);
        members.retain(|member| member.id != id);
        if members.is_empty() {
            self.rooms.remove(&room);
            return Vec::new();
        }
        let bye = Arc::new(Value::from(BYE));
        let mut words = Vec::new();
        for other in members {
            other.left_behind = true;
            if !said_bye {
                words.push((other.id, Word::Message(bye.clone())));
            }
        }
        words
    }
}

fn is_name(room: &str, most: usize) -> bool {
    !room.is_empty() && room.chars().nth(most).is_none() && !room.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOO: &str = "foo";

    fn rooms(capacity: usize) -> Rooms<u8> {
        Rooms::new(Bounds { capacity, rooms: 2, room_chars: 8 })
    }

    /// Without the words that are for people.
    fn events(words: Words<u8>) -> Vec<(u8, Word)> {
        words.into_iter().filter(|(_, word)| !matches!(word, Word::Log(_))).collect()
    }

    fn enter(rooms: &mut Rooms<u8>, id: u8, room: &str) -> Vec<(u8, Word)> {
        events(rooms.create_or_join(id, &room.into()))
    }

    fn said(to: u8, text: &str) -> (u8, Word) {
        (to, Word::Message(Arc::new(text.into())))
    }

    fn created(to: u8) -> (u8, Word) {
        (to, Word::Created(FOO.into()))
    }

    #[test]
    fn the_first_creates_the_second_joins_the_third_finds_it_full() {
        let mut rooms = rooms(2);
        assert_eq!(enter(&mut rooms, 1, FOO), [created(1)]);
        let joined =
            [(1, Word::Join(FOO.into())), (2, Word::Joined(FOO.into())), (1, Word::Ready), (2, Word::Ready)];
        assert_eq!(enter(&mut rooms, 2, FOO), joined);
        assert_eq!(enter(&mut rooms, 3, FOO), [(3, Word::Full(FOO.into()))]);
        assert_eq!(events(rooms.message(3, "knock".into())), [], "who was refused says nothing to the room");
        assert_eq!(rooms.message(2, "hi".into()), [said(1, "hi")]);
    }

    #[test]
    fn rooms_do_not_hear_each_other_and_are_bounded() {
        let mut rooms = rooms(2);
        for (id, room) in [(1, FOO), (2, FOO), (3, "bar"), (4, "bar")] {
            enter(&mut rooms, id, room);
        }
        assert_eq!(rooms.message(3, "hi".into()), [said(4, "hi")]);
        assert_eq!(enter(&mut rooms, 5, "third"), [(5, Word::Full("third".into()))]);
        for bad in [Value::Null, 7.into(), "".into(), "a\nb".into(), "ninechars".into()] {
            assert_eq!(events(rooms.create_or_join(5, &bad)), [], "{bad}");
        }
        for id in 1..=5 {
            rooms.leave(id);
        }
        assert!(rooms.rooms.is_empty() && rooms.places.is_empty());
    }

    #[test]
    fn who_stays_offers_to_who_comes_back_whoever_reloads() {
        for (reloads, stays) in [(1, 2), (2, 1)] {
            let mut rooms = rooms(2);
            enter(&mut rooms, 1, FOO);
            enter(&mut rooms, 2, FOO);
            for id in [1, 2] {
                assert_eq!(
                    rooms.message(id, HAS_MEDIA.into()),
                    [said(3 - id, HAS_MEDIA)],
                    "no cure where none is needed"
                );
            }
            for again in [3, 4] {
                let gone = if again == 3 { reloads } else { 3 };
                assert_eq!(rooms.leave(gone), [said(stays, BYE)]);
                enter(&mut rooms, again, FOO);
                assert_eq!(rooms.message(again, HAS_MEDIA.into()), [created(stays), said(stays, HAS_MEDIA)]);
                assert_eq!(rooms.message(again, HAS_MEDIA.into()), [said(stays, HAS_MEDIA)], "once");
            }
        }
    }

    #[test]
    fn a_bye_of_the_client_is_not_said_twice() {
        let mut rooms = rooms(2);
        enter(&mut rooms, 1, FOO);
        enter(&mut rooms, 2, FOO);
        assert_eq!(rooms.message(1, BYE.into()), [said(2, BYE)]);
        assert_eq!(rooms.leave(1), []);
        enter(&mut rooms, 3, FOO);
        assert_eq!(rooms.message(3, HAS_MEDIA.into())[0], created(2));
    }

    #[test]
    fn going_to_another_room_leaves_the_first() {
        let mut rooms = rooms(2);
        enter(&mut rooms, 1, FOO);
        enter(&mut rooms, 2, FOO);
        assert_eq!(enter(&mut rooms, 2, FOO), [], "it is there already");
        assert_eq!(enter(&mut rooms, 2, "bar"), [said(1, BYE), (2, Word::Created("bar".into()))]);
        assert_eq!(rooms.message(2, "hi".into()), []);
    }

    #[test]
    fn more_than_two_where_the_configuration_says_so() {
        let mut rooms = rooms(3);
        for id in 1..=3 {
            enter(&mut rooms, id, FOO);
        }
        assert_eq!(rooms.message(1, "hi".into()), [said(2, "hi"), said(3, "hi")]);
        assert_eq!(rooms.leave(2), [said(1, BYE), said(3, BYE)]);
        enter(&mut rooms, 4, FOO);
        let words = rooms.message(4, HAS_MEDIA.into());
        assert_eq!(words, [created(1), said(1, HAS_MEDIA), said(3, HAS_MEDIA)], "one of them offers");
    }
}
