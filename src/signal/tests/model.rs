//! Connections break at random, with what was under way on them, and clients come back, or don't. Whatever happens:
//!
//! - no message is lost or doubled across a resume, and `resumed` is what the model says;
//! - who is here knows exactly who else is a member, and of each pair one is polite and offers, the other is neither;
//! - a request that came is not sent again, and one that did not is: by `last_id`;
//! - when all are gone, nothing is left.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::World;
use crate::signal::Settings;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROOMS: [&str; 2] = ["red", "blue"];
const REPLAY: usize = 12;
const RESUME_MS: u64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Join(usize, usize),
    Leave(usize),
    Close(usize),
    /// Lost, and with it the last so many frames.
    Drop(usize, usize),
    /// Comes back, or asks to be resumed by a second connection.
    Resume(usize),
    Shout(usize),
    /// A message that the connection takes with it: true if it arrived.
    ShoutAndDrop(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..NAMES.len();
    prop_oneof![
        4 => (who.clone(), 0..ROOMS.len()).prop_map(|(who, room)| Step::Join(who, room)),
        1 => who.clone().prop_map(Step::Leave),
        1 => who.clone().prop_map(Step::Close),
        4 => (who.clone(), 0..6_usize).prop_map(|(who, lost)| Step::Drop(who, lost)),
        4 => who.clone().prop_map(Step::Resume),
        6 => who.clone().prop_map(Step::Shout),
        2 => (who, any::<bool>()).prop_map(|(who, arrived)| Step::ShoutAndDrop(who, arrived)),
        1 => prop_oneof![Just(20_000_u64), Just(59_000), Just(RESUME_MS)].prop_map(Step::Pass),
    ]
}

#[derive(Default)]
struct Client {
    /// Session and secret of the last welcome.
    ticket: Option<(String, String)>,
    me: Option<String>,
    peers: BTreeMap<String, (bool, bool)>,
    /// The number of the last event it saw.
    seq: u64,
    /// What it heard, and what it should.
    heard: Vec<u64>,
    due: Vec<u64>,
    /// When its connection was lost.
    away: Option<u64>,
    next_id: u64,
    /// Requests without an answer: id, message.
    unanswered: Vec<(u64, u64)>,
}

struct Model {
    world: World,
    clients: [Client; NAMES.len()],
    rooms: [Vec<usize>; 2],
    now: u64,
    messages: u64,
}

impl Model {
    fn new() -> Self {
        let settings = Settings {
            capacity: NAMES.len(),
            replay_messages: REPLAY,
            burst: 100_000,
            joins_per_minute: 0,
            connections_per_address: 1000,
            ..Settings::default()
        };
        let world = World::new(settings);
        Self { world, clients: Default::default(), rooms: Default::default(), now: 0, messages: 0 }
    }

    fn is_here(&self, who: usize) -> bool {
        self.world.is_connected(NAMES[who])
    }

    fn room_of(&self, who: usize) -> Option<usize> {
        self.rooms.iter().position(|room| room.contains(&who))
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Join(who, room) => {
                self.connect(who);
                self.world.send(NAMES[who], &json!({"type": "join", "room": ROOMS[room]}).to_string());
                if self.room_of(who).is_none() {
                    self.rooms[room].push(who);
                }
            }
            Step::Leave(who) if self.is_here(who) => {
                self.world.send(NAMES[who], r#"{"type":"leave"}"#);
                self.read(who, 0);
                self.gone(who);
            }
            Step::Close(who) if self.is_here(who) => {
                self.world.close(NAMES[who]);
                self.clear(who);
                self.gone(who);
                self.clients[who].ticket = None;
            }
            Step::Drop(who, lost) if self.is_here(who) => self.lose(who, lost),
            Step::Resume(who) => self.resume(who),
            Step::Shout(who) if self.is_here(who) => {
                let id = self.next_message(who);
                self.shout(who, id);
            }
            Step::ShoutAndDrop(who, arrived) if self.is_here(who) => {
                let message = self.next_message(who);
                if arrived {
                    self.shout(who, message);
                }
                // The answer is what is lost.
                self.lose(who, 1);
            }
            Step::Pass(ms) => {
                self.now += ms;
                for who in 0..NAMES.len() {
                    if self.clients[who].away.is_some_and(|since| since + RESUME_MS <= self.now) {
                        self.gone(who);
                    }
                }
                self.world.pass(ms);
            }
            _ => {}
        }
    }

    fn next_message(&mut self, who: usize) -> (u64, u64) {
        self.messages += 1;
        self.clients[who].next_id += 1;
        let message = (self.clients[who].next_id, self.messages);
        self.clients[who].unanswered.push(message);
        message
    }

    fn shout(&mut self, who: usize, (id, data): (u64, u64)) {
        self.world.send(NAMES[who], &json!({"type": "message", "id": id, "data": data}).to_string());
        if let Some(room) = self.room_of(who) {
            for other in self.rooms[room].clone() {
                if other != who {
                    self.clients[other].due.push(data);
                }
            }
        }
    }

    /// A first connection, without a resume.
    fn connect(&mut self, who: usize) {
        if self.is_here(who) {
            return;
        }
        // What it had before, it has given up; the server may keep it for a while. Better to end it.
        if self.clients[who].away.is_some() {
            self.resume(who);
        }
        if !self.is_here(who) {
            self.world.open(NAMES[who], Ipv4Addr::LOCALHOST.into());
            self.world.send(NAMES[who], r#"{"type":"hello"}"#);
            self.clients[who].seq = 0;
        }
    }

    fn resume(&mut self, who: usize) {
        let Some((session, secret)) = self.clients[who].ticket.clone() else { return };
        if self.is_here(who) {
            return;
        }
        let seq = self.clients[who].seq;
        let missed = {
            let (rooms, session) = (&self.world.rooms, self.world.real(&session));
            let sessions = rooms.sessions.values();
            sessions.filter(|s| *s.id == *session).map(|s| s.sent.seq - seq).next()
        };
        let kept = self.clients[who].away.is_some() && self.room_of(who).is_some();
        assert_eq!(missed.is_some(), kept, "who is away and in time is kept");
        self.world.open(NAMES[who], Ipv4Addr::LOCALHOST.into());
        let resume = json!({"session": session, "secret": secret, "seq": seq});
        self.world.send(NAMES[who], &json!({"type": "hello", "resume": resume}).to_string());
        let welcome = self.world.hear(NAMES[who]).unwrap();
        let can = missed.is_some_and(|missed| missed <= REPLAY as u64);
        assert_eq!(welcome["resumed"], can);
        self.clients[who].away = None;
        if !can {
            self.gone(who);
            self.clients[who].seq = 0;
            return self.learn(who, &welcome);
        }
        self.read(who, 0);
        let last = welcome["last_id"].as_u64().unwrap_or(0);
        let mut again = std::mem::take(&mut self.clients[who].unanswered);
        again.retain(|(id, _)| *id > last);
        for message in again {
            self.clients[who].unanswered.push(message);
            self.shout(who, message);
        }
    }

    fn lose(&mut self, who: usize, lost: usize) {
        self.read(who, lost);
        self.world.drop(NAMES[who]);
        self.clear(who);
        if self.room_of(who).is_some() {
            self.clients[who].away = Some(self.now);
        } else {
            self.gone(who);
        }
    }

    /// Out of its room.
    fn gone(&mut self, who: usize) {
        self.rooms.iter_mut().for_each(|room| room.retain(|member| *member != who));
        let client = &mut self.clients[who];
        (client.me, client.peers, client.away) = Default::default();
        client.heard.clear();
        client.due.clear();
        client.unanswered.clear();
    }

    fn clear(&mut self, who: usize) {
        while self.world.hear(NAMES[who]).is_some() {}
    }

    /// Reads all but the last few frames.
    fn read(&mut self, who: usize, but: usize) {
        let mut frames = Vec::new();
        while let Some(frame) = self.world.hear(NAMES[who]) {
            frames.push(frame);
        }
        frames.truncate(frames.len() - but.min(frames.len()));
        for frame in frames {
            self.learn(who, &frame);
        }
    }

    fn learn(&mut self, who: usize, frame: &Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let roles = |you: &Value| (you["polite"] == true, you["offerer"] == true);
        let client = &mut self.clients[who];
        if let Some(seq) = frame["seq"].as_u64() {
            assert_eq!(seq, client.seq + 1, "{who}: {frame}");
            client.seq = seq;
        }
        match frame["type"].as_str().unwrap() {
            "welcome" => {
                client.ticket = Some((text(&frame["session"]), text(&frame["secret"])));
                client.next_id = 0;
            }
            "joined" => {
                client.me = Some(text(&frame["self"]));
                let peers = frame["peers"].as_array().unwrap();
                client.peers = peers.iter().map(|p| (text(&p["peer"]), roles(&p["you"]))).collect();
            }
            "peer" => match frame["event"].as_str().unwrap() {
                "join" => drop(client.peers.insert(text(&frame["peer"]), roles(&frame["you"]))),
                "leave" => assert!(client.peers.remove(&text(&frame["peer"])).is_some()),
                _ => assert!(client.peers.contains_key(&text(&frame["peer"]))),
            },
            "message" => client.heard.push(frame["data"].as_u64().unwrap()),
            "ok" | "error" => {
                let id = frame["id"].as_u64();
                client.unanswered.retain(|(waiting, _)| Some(*waiting) != id);
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        for who in 0..NAMES.len() {
            if self.is_here(who) {
                self.read(who, 0);
            }
        }
        let occupied = self.rooms.iter().filter(|room| !room.is_empty()).count();
        assert_eq!(self.world.rooms.rooms(), occupied);
        for who in (0..NAMES.len()).filter(|who| self.is_here(*who)) {
            let client = &self.clients[who];
            let room = self.room_of(who);
            assert_eq!(client.me.is_some(), room.is_some());
            let Some(room) = room else { continue };
            assert_eq!(client.heard, client.due, "{who}: each message once, in order");
            let me = self.rooms[room].iter().position(|member| *member == who).unwrap();
            assert_eq!(client.peers.len(), self.rooms[room].len() - 1);
            for (at, other) in self.rooms[room].iter().enumerate() {
                // Who has lost the answer to its join does not know its name yet.
                if let Some(id) = self.clients[*other].me.as_ref().filter(|_| *other != who) {
                    assert_eq!(client.peers[id], (at < me, at < me));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_when_connections_break(steps in vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
            model.check();
        }
        for who in 0..NAMES.len() {
            model.clear(who);
        }
        model.world.pass(0);
        let names: Vec<_> = NAMES.iter().filter(|name| model.world.is_connected(name)).collect();
        for name in names {
            model.world.drop(name);
            (0..NAMES.len()).for_each(|who| model.clear(who));
        }
        model.world.end();
    }
}
