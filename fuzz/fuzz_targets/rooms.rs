//! WebSockets say anything to the rooms, time jumps, and they go. Nothing panics; each open connection gets JSON, its
//! events in order, and at most one reply to a request; nothing passes from one room to another; the bounds hold; when
//! all have gone, nothing is left.
//!
//! ```text
//! packets: a text of one of six connections, in which @0 to @5 stand for their members, %0 for sessions, $0 for secrets;
//!          or it is lost, or reads too slowly, or sends a binary frame, or one too large; or time passes
//! ```
#![no_main]

mod packets;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use serde_json::value::RawValue;
use ternd::signal::{Authority, ConnectionId, Output, Rooms, Settings};
use ternd::time::{Instant, Now};

const CLIENTS: usize = 6;

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    for (what, bytes) in packets::packets(input) {
        world.step(what, bytes);
    }
    world.finish();
});

struct World {
    now: Now,
    rooms: Rooms,
    clients: [Client; CLIENTS],
    connections: u64,
    /// Where each member is, or was: names are not used again.
    homes: HashMap<String, String>,
    /// The last member of each session.
    members: HashMap<String, String>,
}

#[derive(Default)]
struct Client {
    /// While it is open.
    connection: Option<ConnectionId>,
    session: String,
    secret: String,
    member: String,
    room: Option<String>,
    /// The number of the last event; `None` right after a session was resumed.
    seq: Option<u64>,
}

struct Ice {
    fails: bool,
}

impl Authority for Ice {
    fn issue(&mut self, _now: Now, _room: &str, _peer: &str) -> Result<Box<RawValue>, String> {
        if self.fails {
            return Err("There is no secret".into());
        }
        Ok(RawValue::from_string(r#"{"iceServers":[],"ttl":600}"#.into()).expect("JSON"))
    }
}

impl World {
    fn new() -> Self {
        // Small, so that six clients reach the bounds.
        let settings = Settings {
            connections: 5,
            connections_per_address: 3,
            rooms: 2,
            capacity: 3,
            max_bytes: 1024,
            candidates: 4,
            burst: 40,
            ..Settings::default()
        };
        Self {
            now: Now { instant: Instant::from_millis(0), unix: 1_795_347_122 },
            rooms: Rooms::new(settings, [7; 32]),
            clients: Default::default(),
            connections: 0,
            homes: HashMap::new(),
            members: HashMap::new(),
        }
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        let who = usize::from(what & 7) % CLIENTS;
        let mut ice = Ice { fails: what >> 7 == 1 };
        let connection = self.clients[who].connection.unwrap_or_else(|| self.open(who));
        let mut request = None;
        match what >> 3 & 15 {
            0..=8 => {
                let text = self.named(bytes);
                request = Some(who);
                self.rooms.received(self.now, connection, &text, &mut ice);
            }
            9 => self.rooms.received_binary(self.now, connection),
            10 => self.rooms.too_large(self.now, connection),
            11 => self.rooms.slow_consumer(self.now, connection),
            12 => {
                self.rooms.disconnected(self.now, connection);
                self.closed(who);
            }
            13 => {
                self.rooms.closed(self.now, connection);
                self.closed(who);
            }
            _ => {
                let ms = bytes.iter().take(3).fold(0, |n, byte| n << 8 | u64::from(*byte));
                self.wait(Duration::from_millis(ms));
            }
        }
        self.drain(request);
        assert!(self.rooms.connections() <= self.rooms.settings().connections);
        assert!(self.rooms.rooms() <= self.rooms.settings().rooms);
    }

    /// Also when it is refused at once: what is sent to it then goes nowhere.
    fn open(&mut self, who: usize) -> ConnectionId {
        let connection = ConnectionId(self.connections);
        self.connections += 1;
        let from = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)][who % 2];
        let before = std::mem::take(&mut self.clients[who]);
        // It remembers who it was, and may come back with that.
        self.clients[who] = Client { connection: Some(connection), room: None, seq: Some(0), ..before };
        self.rooms.connected(self.now, connection, from);
        self.drain(None);
        connection
    }

    fn closed(&mut self, who: usize) {
        self.clients[who].connection = None;
        self.clients[who].room = None;
    }

    /// The text with names in place of their marks.
    fn named(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        for (n, client) in self.clients.iter().enumerate() {
            for (mark, name) in [('@', &client.member), ('%', &client.session), ('$', &client.secret)] {
                text = text.replace(&format!("{mark}{n}"), name);
            }
        }
        text
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.rooms.handle_timeout(self.now);
        assert!(self.rooms.poll_timeout().is_none_or(|next| next > self.now.instant));
    }

    fn drain(&mut self, request: Option<usize>) {
        let mut replies = 0;
        let mut replay = false;
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { to, text } => {
                    let who = self.who(to).expect("it goes to an open connection");
                    let frame: Value = serde_json::from_str(&text.to_string()).expect("JSON");
                    replay |= frame["resumed"] == true;
                    // What is sent once more answers an earlier request.
                    if frame.get("id").is_some() && !(replay && frame.get("seq").is_some()) {
                        assert_eq!(Some(who), request, "an answer goes to who asked: {text}");
                        replies += 1;
                    }
                    self.take(who, &frame);
                }
                Output::Close { connection, code, reason } => {
                    let who = self.who(connection).expect("it is closed once");
                    assert!(
                        matches!(code, 1000 | 1009 | 4000..=4008) && reason.len() < 124,
                        "{code} {reason}"
                    );
                    self.closed(who);
                }
                Output::RefreshIce { connection } => {
                    self.rooms.refresh_ice(self.now, connection, &mut Ice { fails: false });
                }
                // For the log.
                other => assert!(format!("{other:?}").len() < 8 * 1024),
            }
        }
        assert!(replies <= 1, "one request, one answer");
    }

    fn who(&self, connection: ConnectionId) -> Option<usize> {
        self.clients.iter().position(|client| client.connection == Some(connection))
    }

    fn take(&mut self, who: usize, frame: &Value) {
        let text = |name: &str| frame[name].as_str().map(String::from);
        let kind = text("type").expect("each frame has a type");
        let client = &mut self.clients[who];
        if let Some(seq) = frame.get("seq") {
            let seq = seq.as_u64().expect("a number");
            assert!(client.seq.is_none_or(|last| seq == last + 1), "{seq} after {:?}", client.seq);
            client.seq = Some(seq);
        }
        match kind.as_str() {
            "welcome" => {
                client.session = text("session").expect("a session");
                client.secret = text("secret").expect("a secret");
                client.seq = (frame["resumed"] == false).then_some(0);
                if frame["resumed"] == true {
                    client.member = self.members[&client.session].clone();
                    client.room = self.homes.get(&client.member).cloned();
                }
            }
            "joined" => {
                let room = text("room").expect("a room");
                client.member = text("self").expect("a name");
                client.room = Some(room.clone());
                let others = frame["peers"].as_array().expect("a list");
                for other in others.iter().map(|other| other["peer"].as_str().expect("a name")) {
                    assert_eq!(self.homes.get(other), Some(&room));
                }
                assert!((others.len() as u64) < frame["capacity"].as_u64().expect("a number"));
                self.members.insert(client.session.clone(), client.member.clone());
                self.homes.insert(client.member.clone(), room);
            }
            "signal" | "message" => {
                let from = text("from").expect("a name");
                assert!(client.room.is_some(), "who is in no room hears nothing");
                assert_eq!(self.homes.get(&from), client.room.as_ref(), "it stays in its room");
            }
            "error" => {
                let message = text("message").expect("text");
                assert!(message.chars().count() <= 256, "{message:?}");
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        for who in 0..CLIENTS {
            if let Some(connection) = self.clients[who].connection {
                self.rooms.disconnected(self.now, connection);
                self.closed(who);
            }
            self.drain(None);
        }
        for _ in 0..3 {
            self.wait(Duration::from_secs(3_600));
            self.drain(None);
        }
        assert!(self.rooms.is_empty());
        assert_eq!(self.rooms.poll_timeout(), None);
    }
}
