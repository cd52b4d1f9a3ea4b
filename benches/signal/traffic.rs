//! Messages in rooms, at a given rate or as fast as they come through, and what they cost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::dialect::Payload;
use crate::fleet::Fleet;
use crate::process::threads_of;

/// What is thrown away at the beginning of a measurement.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long what was sent may take to arrive, after the last of it.
const LATE: Duration = Duration::from_secs(2);

pub struct Measured {
    /// Messages per second that came whole: one that goes to seven members counts seven times.
    pub rate: f64,
    /// Nanoseconds of the server's process for each of them.
    pub cpu: f64,
    /// How busy the server's core and the load's were, in per cent.
    pub server_busy: f64,
    pub load_busy: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    /// Of what was sent, per mille.
    pub lost: f64,
}

/// In each room one message at a time, the next as soon as it has come to all: as fast as the server can.
pub fn flood(fleet: &mut Fleet<'_>, payload: &Payload, time: Duration) -> Measured {
    let (rooms, members) = (fleet.rooms(), fleet.members());
    // For each room: who sends next, since when the last one is under way, how many have not got it.
    let mut states = vec![(0, Instant::now(), members - 1); rooms];
    for room in 0..rooms {
        fleet.send(room, 0, payload);
    }
    let mut meter = Meter::default();
    let (start, mut done) = (Instant::now(), Vec::new());
    while !meter.has_run(time) {
        if !meter.runs() && start.elapsed() >= WARM_UP {
            meter.start(fleet);
        }
        fleet.turn(Duration::from_millis(5), payload, &mut |client| {
            let (_, since, left) = &mut states[client / members];
            meter.got(since.elapsed());
            *left -= 1;
            if *left == 0 {
                done.push(client / members);
            }
        });
        for room in done.drain(..) {
            let (sender, since, left) = &mut states[room];
            *sender = (*sender + 1) % members;
            (*since, *left) = (Instant::now(), members - 1);
            fleet.send(room, *sender, payload);
        }
    }
    let measured = meter.stop(fleet);
    // What is still under way must not be taken for part of what comes next.
    let mut left: usize = states.iter().map(|(.., left)| left).sum();
    let end = Instant::now() + LATE;
    while left > 0 && Instant::now() < end {
        fleet.turn(Duration::from_millis(5), payload, &mut |_| left -= 1);
    }
    assert_eq!((left, fleet.damaged), (0, 0), "{}: lost, damaged", fleet.server.kind.name());
    measured
}

/// So many messages per second come to their receivers, evenly, in one room after the other.
pub fn pace(fleet: &mut Fleet<'_>, payload: &Payload, rate: f64, time: Duration) -> Measured {
    let (rooms, members) = (fleet.rooms(), fleet.members());
    let receivers = members - 1;
    let every = Duration::from_secs_f64(receivers as f64 / rate);
    let mut under_way: Vec<VecDeque<Instant>> = vec![VecDeque::new(); rooms * members];
    let mut meter = Meter::default();
    let (start, mut sent) = (Instant::now(), 0_u32);
    let (mut room, mut sender) = (0, 0);
    while !meter.has_run(time) {
        let now = start.elapsed();
        if !meter.runs() && now >= WARM_UP {
            meter.start(fleet);
        }
        // What is late is sent at once, and counts from when it was due.
        while every * sent <= now {
            let due = start + every * sent;
            let others = (0..members).filter(|member| *member != sender);
            others.for_each(|member| under_way[room * members + member].push_back(due));
            fleet.send(room, sender, payload);
            sent += 1;
            room = (room + 1) % rooms;
            sender = if room == 0 { (sender + 1) % members } else { sender };
        }
        fleet.turn(Duration::ZERO, payload, &mut |client| {
            let since = under_way[client].pop_front().expect("no more than was sent");
            meter.got(since.elapsed());
        });
    }
    let measured = meter.stop(fleet);
    let end = Instant::now() + LATE;
    while under_way.iter().any(|queue| !queue.is_empty()) && Instant::now() < end {
        fleet.turn(Duration::from_millis(5), payload, &mut |client| {
            under_way[client].pop_front();
        });
    }
    let lost: usize = under_way.iter().map(VecDeque::len).sum();
    assert_eq!(fleet.damaged, 0, "{}: damaged", fleet.server.kind.name());
    Measured { lost: lost as f64 / f64::from(sent * receivers as u32) * 1e3, ..measured }
}

#[derive(Default)]
struct Meter {
    start: Option<(Instant, u64, u64)>,
    latencies: Vec<Duration>,
}

impl Meter {
    fn runs(&self) -> bool {
        self.start.is_some()
    }

    fn has_run(&self, time: Duration) -> bool {
        self.start.is_some_and(|(start, ..)| start.elapsed() >= time)
    }

    fn start(&mut self, fleet: &Fleet<'_>) {
        self.start = Some((Instant::now(), fleet.server.process.cpu(), own_cpu()));
    }

    fn got(&mut self, after: Duration) {
        if self.runs() {
            self.latencies.push(after);
        }
    }

    fn stop(mut self, fleet: &Fleet<'_>) -> Measured {
        let (start, server, load) = self.start.expect("it was started");
        let seconds = start.elapsed().as_secs_f64();
        let server = (fleet.server.process.cpu() - server) as f64;
        let load = (own_cpu() - load) as f64;
        self.latencies.sort_unstable();
        let messages = self.latencies.len().max(1);
        let at = |share: f64| self.latencies[((messages - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
        assert!(!self.latencies.is_empty(), "{}: nothing came", fleet.server.kind.name());
        Measured {
            rate: messages as f64 / seconds,
            cpu: server / messages as f64,
            server_busy: server / seconds / 1e7,
            load_busy: load / seconds / 1e7,
            p50: at(0.5),
            p99: at(0.99),
            lost: 0.0,
        }
    }
}

fn own_cpu() -> u64 {
    threads_of("self").values().sum()
}
