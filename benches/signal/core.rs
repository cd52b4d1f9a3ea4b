//! The rooms without sockets, tasks or locks: what one message costs in the state machine.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use ternd::signal::{Authority, ConnectionId, Output, Rooms, Settings};
use ternd::time::{self, Now};

use crate::counting;
use crate::dialect;
use crate::report::Line;
use crate::server::Kind;

const ROOMS: usize = 500;

struct NoIce;

impl Authority for NoIce {
    fn issue(&mut self, _: Now, _: &str, _: &str) -> Result<Box<RawValue>, String> {
        Err("none here".into())
    }
}

/// For each size of message: time, heap allocations, and how many a second one lock would let through.
pub fn measure(row: &str, time: Duration) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, payload) in [("candidate", dialect::candidate()), ("offer", dialect::offer())] {
        let mut world = World::new();
        let frames: Vec<(ConnectionId, String)> = world
            .names
            .iter()
            .enumerate()
            .map(|(to, name)| {
                let from = ConnectionId(to as u64 ^ 1);
                (from, dialect::parts(Kind::Ternd, &payload, name).concat())
            })
            .collect();
        // Until the events kept for each session are as many as they can be.
        for _ in 0..300 {
            frames.iter().for_each(|(from, text)| world.relay(*from, text));
        }
        let calls = counting::calls(|| frames.iter().for_each(|(from, text)| world.relay(*from, text)));
        let mut each = Vec::new();
        let start = Instant::now();
        while start.elapsed() < time {
            let turn = Instant::now();
            frames.iter().for_each(|(from, text)| world.relay(*from, text));
            each.push(turn.elapsed().as_nanos() as f64 / frames.len() as f64);
        }
        each.sort_by(f64::total_cmp);
        let median = each[each.len() / 2];
        let mut line = |measure: String, value: f64| {
            let mut line = Line::new(row, measure, &[]);
            line.push(Kind::Ternd, value);
            lines.push(line);
        };
        line(format!("ns/{name} in the state machine"), median);
        line("  heap allocations".into(), calls as f64 / frames.len() as f64);
        line("  a second, through one lock".into(), 1e9 / median);
    }
    lines
}

struct World {
    rooms: Rooms,
    now: Now,
    /// What each connection is called by its peer.
    names: Vec<String>,
}

impl World {
    fn new() -> Self {
        let unlimited = u32::MAX / 4;
        let settings = Settings {
            connections_per_address: 2 * ROOMS,
            joins_per_minute: 0,
            messages_per_second: unlimited,
            burst: unlimited,
            bytes_per_second: unlimited,
            burst_bytes: unlimited,
            ..Settings::default()
        };
        let now = Now { instant: time::Instant::from_millis(1), unix: 1_795_000_000 };
        let mut world = Self { rooms: Rooms::new(settings, [7; 32]), now, names: Vec::new() };
        for member in 0..2 * ROOMS {
            let id = ConnectionId(member as u64);
            world.rooms.connected(world.now, id, IpAddr::V4(Ipv4Addr::LOCALHOST));
            world.rooms.received(world.now, id, r#"{"type":"hello"}"#, &mut NoIce);
            let join = format!(r#"{{"type":"join","room":"r{}"}}"#, member / 2);
            world.rooms.received(world.now, id, &join, &mut NoIce);
            while let Some(output) = world.rooms.poll_output() {
                if let Output::Send { to, text } = output
                    && let Some((_, rest)) = text.to_string().split_once(r#""self":""#)
                {
                    assert_eq!(to, id);
                    world.names.push(rest.split('"').next().unwrap().into());
                }
            }
        }
        world
    }

    fn relay(&mut self, from: ConnectionId, text: &str) {
        // No bucket runs dry.
        self.now.instant = self.now.instant + Duration::from_millis(1);
        self.rooms.received(self.now, from, text, &mut NoIce);
        let mut sent = 0;
        while let Some(output) = self.rooms.poll_output() {
            if let Output::Send { to, text } = black_box(output) {
                assert!(to != from, "{text}");
                sent += 1;
            }
        }
        assert_eq!(sent, 1);
    }
}
