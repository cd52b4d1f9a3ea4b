//! Random comings and goings against a model: rooms as lists of names.
//!
//! Each client keeps, from the frames it receives alone, what it knows of its room. That must always be what the
//! model says, and of each pair exactly one is polite and exactly one offers, with both sides of one mind.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::world::World;
use crate::signal::Settings;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ROOMS: [&str; 2] = ["red", "blue"];
const CAPACITY: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Join(usize, usize),
    Leave(usize),
    Bye(usize),
    Drop(usize),
    Signal(usize, usize),
    Shout(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, whom, room) = (0..NAMES.len(), 0..NAMES.len(), 0..ROOMS.len());
    prop_oneof![
        5 => (who.clone(), room).prop_map(|(who, room)| Step::Join(who, room)),
        1 => who.clone().prop_map(Step::Leave),
        1 => who.clone().prop_map(Step::Bye),
        1 => who.clone().prop_map(Step::Drop),
        3 => (who.clone(), whom).prop_map(|(who, whom)| Step::Signal(who, whom)),
        1 => who.prop_map(Step::Shout),
    ]
}

/// What a client knows of its room.
#[derive(Default)]
struct Known {
    me: Option<String>,
    /// The last id it had, for others to write to in vain.
    last: Option<String>,
    /// Peer: am I (polite, offerer)?
    peers: BTreeMap<String, (bool, bool)>,
    /// Senders of what it heard in this step.
    heard: Vec<String>,
    error: Option<String>,
}

struct Model {
    world: World,
    known: Vec<Known>,
    /// Clients in the order they came.
    rooms: [Vec<usize>; 2],
}

impl Model {
    fn new() -> Self {
        let world = World::new(Settings { capacity: CAPACITY, burst: 10_000, ..Settings::default() });
        Self { world, known: NAMES.iter().map(|_| Known::default()).collect(), rooms: Default::default() }
    }

    fn apply(&mut self, step: &Step) {
        let (Step::Join(who, _)
        | Step::Leave(who)
        | Step::Bye(who)
        | Step::Drop(who)
        | Step::Signal(who, _)
        | Step::Shout(who)) = *step;
        if !self.world.is_connected(NAMES[who]) {
            self.world.open(NAMES[who], Ipv4Addr::LOCALHOST.into());
            self.world.send(NAMES[who], r#"{"type":"hello"}"#);
        }
        let here = self.rooms.iter().position(|room| room.contains(&who));
        match *step {
            Step::Join(_, room) => {
                self.world.send(NAMES[who], &format!(r#"{{"type":"join","room":"{}"}}"#, ROOMS[room]));
                let refused = if here.is_some() {
                    Some("already_joined")
                } else if self.rooms[room].len() == CAPACITY {
                    Some("room_full")
                } else {
                    self.rooms[room].push(who);
                    None
                };
                self.listen();
                assert_eq!(self.known[who].error.as_deref(), refused);
            }
            Step::Leave(_) => {
                self.world.send(NAMES[who], r#"{"type":"leave"}"#);
                self.gone(who);
                self.listen();
                assert_eq!(self.known[who].error.is_some(), here.is_none());
            }
            Step::Bye(_) => {
                self.world.send(NAMES[who], r#"{"type":"bye"}"#);
                self.gone(who);
                self.listen();
            }
            Step::Drop(_) => {
                self.world.close(NAMES[who]);
                self.gone(who);
                self.listen();
            }
            Step::Signal(_, whom) => {
                let to = self.known[whom].last.clone().unwrap_or_else(|| "p_nobody".into());
                self.world
                    .send(NAMES[who], &format!(r#"{{"type":"signal","to":"{to}","candidates":[null]}}"#));
                self.listen();
                let together = here.is_some_and(|room| self.rooms[room].contains(&whom)) && who != whom;
                self.only_these_heard(who, |other| together && other == whom);
                assert_eq!(self.known[who].error.is_none(), together);
            }
            Step::Shout(_) => {
                self.world.send(NAMES[who], r#"{"type":"message","data":0}"#);
                self.listen();
                let room = here.map(|room| self.rooms[room].clone()).unwrap_or_default();
                self.only_these_heard(who, |other| other != who && room.contains(&other));
            }
        }
    }

    fn gone(&mut self, who: usize) {
        self.rooms.iter_mut().for_each(|room| room.retain(|member| *member != who));
        (self.known[who].me, self.known[who].peers) = Default::default();
    }

    fn only_these_heard(&self, speaker: usize, expected: impl Fn(usize) -> bool) {
        for (other, known) in self.known.iter().enumerate() {
            let from = if expected(other) { vec![self.known[speaker].me.clone().unwrap()] } else { vec![] };
            assert_eq!(known.heard, from, "{} heard wrongly", NAMES[other]);
        }
    }

    /// Every client reads all it got.
    fn listen(&mut self) {
        for (name, known) in NAMES.iter().zip(&mut self.known) {
            known.heard.clear();
            known.error = None;
            while let Some(frame) = self.world.hear(name) {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let roles =
                    |you: &Value| (you["polite"].as_bool().unwrap(), you["offerer"].as_bool().unwrap());
                match frame["type"].as_str() {
                    Some("joined") => {
                        known.me = Some(text(&frame["self"]));
                        known.last = known.me.clone();
                        let peers = frame["peers"].as_array().unwrap();
                        known.peers = peers.iter().map(|p| (text(&p["peer"]), roles(&p["you"]))).collect();
                    }
                    Some("peer") if frame["event"] == "join" => {
                        let old = known.peers.insert(text(&frame["peer"]), roles(&frame["you"]));
                        assert_eq!(old, None);
                    }
                    Some("peer") => assert!(known.peers.remove(&text(&frame["peer"])).is_some()),
                    Some("signal" | "message") => known.heard.push(text(&frame["from"])),
                    Some("error") => known.error = Some(text(&frame["code"])),
                    _ => {}
                }
            }
        }
    }

    fn check(&self) {
        let occupied = self.rooms.iter().filter(|room| !room.is_empty()).count();
        assert_eq!(self.world.rooms.rooms(), occupied);
        for (who, known) in self.known.iter().enumerate() {
            let here = self.rooms.iter().find(|room| room.contains(&who));
            assert_eq!(known.me.is_some(), here.is_some());
            let others = here.into_iter().flatten().filter(|other| **other != who);
            let mut ids: Vec<_> = others.map(|other| self.known[*other].me.clone().unwrap()).collect();
            ids.sort();
            assert_eq!(known.peers.keys().cloned().collect::<Vec<_>>(), ids);
        }
        for room in &self.rooms {
            for (n, earlier) in room.iter().enumerate() {
                for later in &room[n + 1..] {
                    let (a, b) = (&self.known[*earlier], &self.known[*later]);
                    assert_eq!(a.peers[b.me.as_ref().unwrap()], (false, false));
                    assert_eq!(b.peers[a.me.as_ref().unwrap()], (true, true));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn roles_and_rooms_agree_with_the_model_whoever_comes_and_goes(steps in vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
            model.check();
        }
        model.world.end();
    }
}
