//! A small world to tell stories in: clients with names, a clock moved by hand, and nothing left unread.
//!
//! A story is text, one step a line. `docs/signaling-protocol.md` is written in it, too.
//!
//! ```text
//! alice opens                        a connection is made (`alice opens from 192.0.2.1`)
//! alice -> {"type":"hello"}          alice sends this text
//! alice <- {"type":"welcome",...}    the next thing alice receives; the value "*" stands for any
//! alice is closed with 4000          the next thing that happens to alice
//! alice drops                        the connection is lost
//! alice closes                       the client closes it, as when a page is left
//! alice enters demo                  opens, says hello, joins; welcome and joined are taken as read
//! 5000 ms pass                       and what is due happens
//! ```
//!
//! Ids are known by whose they are: `p_bob` is bob's first membership, `p_bob2` the second; `s_bob`, `r_bob` the
//! session and the secret.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::schema::{is_of_the_server, is_valid};
use crate::signal::{Authority, BadToken, Claims, ConnectionId, Event, Output, Rooms, Settings};
use crate::time::{Instant, Now};

pub(super) struct World {
    pub(super) rooms: Rooms,
    pub(super) now: Now,
    pub(super) ice: Issuer,
    pub(super) events: Vec<Event>,
    /// Peers whose credentials were to be revoked, as stories call them, and when these would have ended.
    pub(super) revoked: Vec<(String, u64)>,
    clients: BTreeMap<String, Client>,
    /// Real ids, and what stories call them.
    ids: Vec<(String, String)>,
    opened: u64,
}

#[derive(Default)]
struct Client {
    connection: Option<ConnectionId>,
    /// Frames, and close codes as numbers.
    inbox: VecDeque<Value>,
    seq: u64,
    /// What it asked to go on after.
    resumes: Option<u64>,
    welcomes: u32,
    joins: u32,
}

/// Issues the name of the member as user name, or refuses.
#[derive(Default)]
pub(super) struct Issuer {
    pub(super) refuses: Option<&'static str>,
}

/// Besides, it takes JSON claims for tokens.
impl Authority for Issuer {
    fn verify(&mut self, _now: Now, token: &str) -> Result<Claims, BadToken> {
        serde_json::from_str(token).map_err(|_| BadToken::Invalid("Forged".into()))
    }

    fn issue(&mut self, now: Now, _room: &str, peer: &str) -> Result<Box<RawValue>, String> {
        if let Some(why) = self.refuses {
            return Err(why.into());
        }
        let expires = now.unix + 600;
        let json = format!(
            r#"{{"iceServers":[{{"urls":["turn:turn.example.org:3478"],"username":"{expires}:{peer}","credential":"..."}}],"ttl":600}}"#
        );
        Ok(RawValue::from_string(json).unwrap())
    }
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            rooms: Rooms::new(settings, [42; 32]),
            now: Now { instant: Instant::from_millis(1_000), unix: 1_795_347_122 },
            ice: Issuer::default(),
            events: Vec::new(),
            revoked: Vec::new(),
            clients: BTreeMap::new(),
            ids: Vec::new(),
            opened: 0,
        }
    }

    /// Tells a story.
    pub(super) fn play(&mut self, story: &str) {
        for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.step(line);
        }
    }

    fn step(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [name, "->", ..] => self.send(name, line.split_once("-> ").unwrap().1),
            [name, "<-", ..] => {
                let wanted = line.split_once("<- ").unwrap().1;
                let wanted = serde_json::from_str(wanted).unwrap_or_else(|e| panic!("{e} in: {line}"));
                let heard = self.hear(name).unwrap_or_else(|| panic!("{name} heard nothing, not: {line}"));
                assert!(matches(&wanted, &heard), "\n  wanted  {line}\n  heard   {name} <- {heard}");
            }
            [name, "is", "closed", "with", code] => {
                assert_eq!(self.hear(name), Some(code.parse::<u16>().unwrap().into()), "{line}");
            }
            [name, "opens"] => self.open(name, Ipv4Addr::LOCALHOST.into()),
            [name, "opens", "from", ip] => self.open(name, ip.parse().unwrap()),
            [name, "drops"] => self.drop(name),
            [name, "closes"] => self.close(name),
            [name, "enters", room] => self.enter(name, room),
            [ms, "ms", "pass"] => self.pass(ms.parse().unwrap()),
            _ => panic!("not a step of a story: {line}"),
        }
    }

    pub(super) fn open(&mut self, name: &str, from: IpAddr) {
        self.opened += 1;
        let connection = ConnectionId(self.opened);
        let client = self.clients.entry(name.into()).or_default();
        assert_eq!(client.connection, None, "{name} is connected already");
        client.connection = Some(connection);
        client.seq = 0;
        self.rooms.connected(self.now, connection, from);
        self.settle();
    }

    /// A second connection of a client, under another name; its frames are told with the names of the first.
    pub(super) fn open_beside(&mut self, name: &str, newer: &str) {
        self.open(newer, Ipv4Addr::LOCALHOST.into());
        assert!(self.is_connected(name));
    }

    pub(super) fn send(&mut self, name: &str, text: &str) {
        let connection = self.clients[name].connection.unwrap_or_else(|| panic!("{name} is not connected"));
        let text = self.ids.iter().fold(text.to_owned(), |text, (id, alias)| {
            text.replace(&format!("\"{alias}\""), &format!("\"{id}\""))
        });
        let message = serde_json::from_str::<Value>(&text);
        let before = self.rooms.counters();
        if let Ok(Value::Object(message)) = &message
            && message.get("type").is_some_and(|kind| kind == "hello")
        {
            let seq = message.get("resume").and_then(|resume| resume.get("seq")).and_then(Value::as_u64);
            self.clients.get_mut(name).unwrap().resumes = Some(seq.unwrap_or(0));
        }
        self.rooms.received(self.now, connection, &text, &mut self.ice);
        // What the server takes, the schema knows. (It can't say all that the server refuses.)
        let after = self.rooms.counters();
        if after.received > before.received && after.errors == before.errors {
            assert!(is_valid("request", message.as_ref().unwrap()), "not in the schema: {text}");
        }
        self.settle();
    }

    /// The next frame, or a close code as a number.
    pub(super) fn hear(&mut self, name: &str) -> Option<Value> {
        self.clients.get_mut(name)?.inbox.pop_front()
    }

    /// The id that stories call so.
    pub(super) fn real(&self, alias: &str) -> String {
        self.ids.iter().find(|(_, known)| known == alias).map(|(id, _)| id.clone()).unwrap()
    }

    pub(super) fn drop(&mut self, name: &str) {
        let connection = self.clients.get_mut(name).and_then(|c| c.connection.take());
        self.rooms.disconnected(self.now, connection.unwrap_or_else(|| panic!("{name} is not connected")));
        self.settle();
    }

    pub(super) fn close(&mut self, name: &str) {
        let connection = self.clients.get_mut(name).and_then(|c| c.connection.take());
        self.rooms.closed(self.now, connection.unwrap_or_else(|| panic!("{name} is not connected")));
        self.settle();
    }

    pub(super) fn enter(&mut self, name: &str, room: &str) {
        self.open(name, Ipv4Addr::LOCALHOST.into());
        self.send(name, r#"{"type":"hello"}"#);
        self.send(name, &format!(r#"{{"type":"join","room":"{room}"}}"#));
        assert_eq!(self.hear(name).unwrap()["type"], "welcome");
        assert_eq!(self.hear(name).unwrap()["type"], "joined");
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now.after(Duration::from_millis(ms));
        while let Some(at) = self.rooms.poll_timeout().filter(|at| *at <= until.instant) {
            self.now = self.now.after(at - self.now.instant);
            self.rooms.handle_timeout(self.now);
            assert!(self.rooms.poll_timeout().is_none_or(|next| next > at), "a timeout that does not end");
            self.settle();
        }
        self.now = until;
    }

    pub(super) fn is_connected(&self, name: &str) -> bool {
        self.clients.get(name).is_some_and(|client| client.connection.is_some())
    }

    pub(super) fn connection(&self, name: &str) -> ConnectionId {
        self.clients[name].connection.unwrap()
    }

    /// Delivers what the rooms want done, and holds it against what is true of every story.
    pub(super) fn settle(&mut self) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { to, text } => self.deliver(to, &text.to_string()),
                Output::Close { connection, code, .. } => {
                    let (_, client) = self.client(connection);
                    client.inbox.push_back(code.into());
                    client.connection = None;
                }
                Output::RefreshIce { connection } => {
                    self.rooms.refresh_ice(self.now, connection, &mut self.ice);
                }
                Output::Revoke { peer, expires } => {
                    let peer =
                        self.ids.iter().fold(peer.to_string(), |peer, (id, alias)| peer.replace(id, alias));
                    self.revoked.push((peer, expires));
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn deliver(&mut self, to: ConnectionId, text: &str) {
        let frame: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in frame: {text}"));
        assert!(is_of_the_server(&frame), "not in the schema: {text}");
        let (name, client) = self.client(to);
        if frame["type"] == "welcome" && frame["resumed"] == true {
            client.seq = client.resumes.unwrap();
        } else if let Some(seq) = frame.get("seq") {
            client.seq += 1;
            assert_eq!(*seq, client.seq, "events of {name} are numbered without a gap");
        }
        let mut learn = Vec::new();
        let numbered = |n: &u32| if *n > 1 { n.to_string() } else { String::new() };
        if frame["type"] == "welcome" && frame["resumed"] == false {
            client.welcomes += 1;
            let n = numbered(&client.welcomes);
            learn = vec![("session", format!("s_{name}{n}")), ("secret", format!("r_{name}{n}"))];
        } else if frame["type"] == "joined" {
            client.joins += 1;
            learn = vec![("self", format!("p_{name}{}", numbered(&client.joins)))];
        }
        for (key, alias) in learn {
            self.ids.push((frame[key].as_str().unwrap().into(), alias));
        }
        let told = self.ids.iter().fold(text.to_owned(), |text, (id, alias)| text.replace(id, alias));
        self.client(to).1.inbox.push_back(serde_json::from_str(&told).unwrap());
    }

    fn client(&mut self, connection: ConnectionId) -> (String, &mut Client) {
        self.clients
            .iter_mut()
            .find(|(_, client)| client.connection == Some(connection))
            .map(|(name, client)| (name.clone(), client))
            .unwrap_or_else(|| panic!("something was done to {connection:?}, which is closed"))
    }

    /// All was read. Everybody goes, and nothing is left behind.
    pub(super) fn end(&mut self) {
        for (name, client) in &self.clients {
            assert!(client.inbox.is_empty(), "{name} also received {:#?}", client.inbox);
        }
        let connected: Vec<_> = self.clients.keys().filter(|name| self.is_connected(name)).cloned().collect();
        for name in connected {
            self.drop(&name);
        }
        self.pass(self.rooms.settings().resume.as_millis() as u64);
        assert!(self.rooms.is_empty(), "something is left: {:?}", self.rooms);
        assert_eq!(self.rooms.poll_timeout(), None);
    }
}

fn matches(wanted: &Value, heard: &Value) -> bool {
    match (wanted, heard) {
        (Value::String(any), _) if any == "*" => true,
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| matches(a, b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| matches(a, b))
        }
        _ => wanted == heard,
    }
}

/// A whole story in a world with the default settings.
pub(super) fn story(text: &str) {
    story_with(Settings::default(), text);
}

pub(super) fn story_with(settings: Settings, text: &str) {
    let mut world = World::new(settings);
    world.play(text);
    world.end();
}
