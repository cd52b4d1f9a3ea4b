//! What is measured: the rows, their goals, and how one row comes about.

use std::time::{Duration, Instant};

use Goal::{AtLeast, AtMost, Below};
use Kind::{Floor, Node, Ternd};

use crate::dialect::{self, Payload};
use crate::fleet::Fleet;
use crate::report::{Goal, Line};
use crate::server::{Files, Kind, Server};
use crate::traffic::{self, Measured};
use crate::{core, flow};

#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Messages to the others in a room.
    Messages {
        payload: fn() -> Payload,
        rooms: usize,
        members: usize,
    },
    Idle,
    Core,
    Flow,
}

/// All rows, in the order they are measured in.
pub const ALL: [Row; 6] = [
    Row { name: "candidates", what: What::Messages { payload: dialect::candidate, rooms: 500, members: 2 } },
    Row { name: "offers", what: What::Messages { payload: dialect::offer, rooms: 500, members: 2 } },
    Row { name: "chat-8", what: What::Messages { payload: dialect::chat, rooms: 100, members: 8 } },
    Row { name: "idle", what: What::Idle },
    Row { name: "core", what: What::Core },
    Row { name: "flow", what: What::Flow },
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub name: &'static str,
    /// Measurements of each server, in turn.
    pub rounds: usize,
    /// Of one measurement.
    pub time: Duration,
    /// Idle connections.
    pub idle: usize,
    /// Rooms of two in which a call is made.
    pub calls: usize,
}

pub const QUICK: Profile =
    Profile { name: "quick", rounds: 3, time: Duration::from_millis(1_000), idle: 2_000, calls: 2_000 };
pub const FULL: Profile =
    Profile { name: "full", rounds: 5, time: Duration::from_secs(2), idle: 10_000, calls: 2_000 };
/// Does everything once, and proves nothing but that it can be done.
pub const SMOKE: Profile =
    Profile { name: "smoke", rounds: 1, time: Duration::from_millis(100), idle: 200, calls: 50 };

pub struct Race {
    pub files: Files,
    pub profile: Profile,
    pub servers: Vec<Kind>,
    /// Measure at this rate instead of half of the rival's highest.
    pub rate: Option<f64>,
}

impl Race {
    pub fn measure(&self, row: &Row) -> Vec<Line> {
        match row.what {
            What::Messages { payload, rooms, members } => self.messages(row.name, &payload(), rooms, members),
            What::Idle => self.idle(row.name),
            What::Core => core::measure(row.name, self.profile.time),
            What::Flow => self.flow(row.name),
        }
    }

    /// The servers in turn, each fresh in each round.
    fn rounds(&self, mut each: impl FnMut(&mut Server)) {
        for _ in 0..self.profile.rounds {
            for kind in &self.servers {
                each(&mut Server::start(*kind, &self.files));
            }
        }
    }

    fn messages(&self, row: &str, payload: &Payload, rooms: usize, members: usize) -> Vec<Line> {
        let mut most = Line::new(row, "messages/s at most", &[AtLeast(3.0, Node)]);
        let mut busy = Line::new(row, "  its core, % busy", &[]);
        let mut load = Line::new(row, "  the load's core, % busy", &[Below(90.0)]);
        let mut cpu_then = Line::new(row, "CPU ns/message at that rate", &[]);
        self.rounds(|server| {
            let kind = server.kind;
            let Measured { rate, cpu, server_busy, load_busy, .. } =
                with_rooms(server, rooms, members, |fleet| traffic::flood(fleet, payload, self.profile.time));
            most.push(kind, rate);
            busy.push(kind, server_busy);
            load.push(kind, load_busy);
            cpu_then.push(kind, cpu);
        });

        let slowest = self.servers.iter().filter_map(|kind| most.median(*kind)).min_by(f64::total_cmp);
        let half = most.median(Node).or(slowest).unwrap_or_default() / 2.0;
        let rate = self.rate.unwrap_or(half);
        let of =
            if self.rate.is_some() { format!("{rate:.0}/s") } else { format!("{rate:.0}/s, half of it") };
        let goals = [AtMost(1.0 / 3.0, Node), AtMost(1.25, Floor)];
        let mut cpu = Line::new(row, format!("CPU ns/message at {of}"), &goals);
        let mut p50 = Line::new(row, "  p50 us", &[]);
        let mut p99 = Line::new(row, "  p99 us", &[AtMost(1.0, Node)]);
        let mut lost = Line::new(row, "  lost, per mille", &[Below(0.0)]);
        self.rounds(|server| {
            let kind = server.kind;
            let measured = with_rooms(server, rooms, members, |fleet| {
                traffic::pace(fleet, payload, rate, self.profile.time)
            });
            cpu.push(kind, measured.cpu);
            p50.push(kind, measured.p50);
            p99.push(kind, measured.p99);
            lost.push(kind, measured.lost);
        });
        vec![most, busy, load, cpu_then, cpu, p50, p99, lost]
    }

    /// Rooms of two in which nothing happens.
    fn idle(&self, row: &str) -> Vec<Line> {
        let count = self.profile.idle;
        let mut memory = Line::new(row, format!("bytes/connection, of {count}"), &[AtMost(0.25, Node)]);
        let mut rate = Line::new(row, "connections/s, until joined", &[AtLeast(1.0, Node)]);
        let mut cpu = Line::new(row, "CPU us/connection", &[AtMost(1.0, Node)]);
        self.rounds(|server| {
            let kind = server.kind;
            let mut fleet = Fleet::new(server, 2);
            // What a first connection brings along is not counted.
            fleet.open(100);
            let before = fleet.server.settled_memory();
            let (start, spent) = (Instant::now(), fleet.server.process.cpu());
            fleet.open(count);
            rate.push(kind, count as f64 / start.elapsed().as_secs_f64());
            cpu.push(kind, (fleet.server.process.cpu() - spent) as f64 / 1e3 / count as f64);
            let grown = fleet.server.settled_memory().saturating_sub(before);
            memory.push(kind, grown as f64 / count as f64);
        });
        vec![memory, rate, cpu]
    }

    /// Many calls at the same time, each as two browsers make it. Only ternd speaks `ternd.v1`.
    fn flow(&self, row: &str) -> Vec<Line> {
        let count = self.profile.calls;
        let mut calls = Line::new(row, format!("calls/s, of {count} at a time"), &[]);
        let mut cpu = Line::new(row, "CPU us/call, connecting and leaving included", &[]);
        let mut last = Line::new(row, "p99 ms, first to last message", &[]);
        if self.servers.contains(&Ternd) {
            for _ in 0..self.profile.rounds {
                let server = Server::start(Ternd, &self.files);
                let spent = server.process.cpu();
                let (all, most) = flow::calls(server.at, count);
                calls.push(Ternd, count as f64 / all.as_secs_f64());
                cpu.push(Ternd, (server.process.cpu() - spent) as f64 / 1e3 / count as f64);
                last.push(Ternd, most.as_secs_f64() * 1e3);
            }
        }
        vec![calls, cpu, last]
    }
}

fn with_rooms<T>(
    server: &mut Server,
    rooms: usize,
    members: usize,
    measure: impl FnOnce(&mut Fleet<'_>) -> T,
) -> T {
    let mut fleet = Fleet::new(server, members);
    fleet.open(rooms * members);
    measure(&mut fleet)
}
