//! What is measured: the rows, their goals, and how one row comes about.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::counting;
use crate::fleet::{Fleet, Transport};
use crate::lab::{self, Lab};
use crate::report::{Goal, Line};
use crate::server::{Files, Kind, Server};
use crate::sys::Wire;
use crate::traffic::{Load, Measured, Shape, Traffic, Way};
use crate::world::World;

use Goal::{AtLeast, AtMost, Below};
use Kind::{Coturn, Floor, Ternd, TwoShards};

#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    what: What,
    /// Part of the quick profile.
    pub quick: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// All there is to know about relayed packets.
    Packets {
        load: Load,
        clients: usize,
    },
    /// The CPU at this rate.
    At {
        load: Load,
        clients: usize,
        transport: Transport,
        rate: f64,
    },
    Bindings,
    Allocations,
    Memory,
    Shards,
    Verdict,
}

/// All rows, in the order they are measured in.
pub fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, what, quick| rows.push(Row { name, what, quick });
    for clients in [1_000, 100, 10_000] {
        for (shape, shape_name) in [(Shape::Single, "single"), (Shape::Burst, "burst")] {
            for (way, way_name) in [(Way::Up, "up"), (Way::Down, "down"), (Way::Both, "both")] {
                // A quick look: every way with one number of clients, and both ways with each number.
                let quick = clients == 1_000 || way == Way::Both && shape == Shape::Single;
                let what = What::Packets { load: Load { way, shape }, clients };
                add(format!("{way_name}-{shape_name}-{clients}"), what, quick);
            }
        }
    }
    let single = |way| Load { way, shape: Shape::Single };
    let at = |load, clients, transport, rate| What::At { load, clients, transport, rate };
    add("trickle".into(), at(single(Way::Both), 1_000, Transport::Udp, 10_000.0), true);
    for (shape, name) in [(Shape::Single, "single"), (Shape::Burst, "burst")] {
        let load = |way| Load { way, shape };
        add(format!("self-{name}"), at(load(Way::Selves), 1_000, Transport::Udp, 20_000.0), true);
        add(format!("tcp-{name}"), at(load(Way::Both), 100, Transport::Tcp, 20_000.0), true);
        add(format!("tls-{name}"), at(load(Way::Both), 100, Transport::Tls, 20_000.0), true);
    }
    add("bindings".into(), What::Bindings, true);
    add("allocations".into(), What::Allocations, true);
    add("memory".into(), What::Memory, true);
    add("shards".into(), What::Shards, true);
    add("verdict".into(), What::Verdict, true);
    rows
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub name: &'static str,
    /// Measurements of each server, in turn.
    pub rounds: usize,
    /// Of one step in the search for a maximum.
    pub probe: Duration,
    /// Of a measurement at a given rate.
    pub time: Duration,
    /// Allocations that are made to be counted.
    pub allocations: usize,
}

pub const QUICK: Profile = Profile {
    name: "quick",
    rounds: 2,
    probe: Duration::from_millis(200),
    time: Duration::from_millis(500),
    allocations: 3_000,
};
pub const FULL: Profile = Profile {
    name: "full",
    rounds: 3,
    probe: Duration::from_millis(700),
    time: Duration::from_secs(2),
    allocations: 10_000,
};
/// Does everything once, and proves nothing but that it can be done.
pub const SMOKE: Profile = Profile {
    name: "smoke",
    rounds: 1,
    probe: Duration::from_millis(50),
    time: Duration::from_millis(100),
    allocations: 200,
};

pub struct Race {
    pub lab: Lab,
    pub wire: Wire,
    pub files: Files,
    pub profile: Profile,
    pub servers: Vec<Kind>,
    /// Measure at this rate instead of looking for the highest.
    pub rate: Option<f64>,
    /// Where the search for a maximum begins: what was found last.
    guesses: HashMap<(Kind, bool), f64>,
}

impl Race {
    pub fn new(profile: Profile, servers: Vec<Kind>, rate: Option<f64>, ternd: String) -> Self {
        let lab = Lab::new();
        let wire = Wire::new(&lab.load_device, lab::SERVER_MAC).expect("packet sockets");
        let files = Files::new(ternd);
        Self { lab, wire, files, profile, servers, rate, guesses: HashMap::new() }
    }

    pub fn measure(&mut self, row: &Row) -> Vec<Line> {
        let name = &row.name;
        match row.what {
            What::Packets { load, clients } => self.packets(name, load, clients),
            What::At { load, clients, transport, rate } => self.at(name, load, clients, transport, rate),
            What::Bindings => self.bindings(name),
            What::Allocations => self.allocations(name),
            What::Memory => self.memory(name),
            What::Shards => self.shards(name),
            What::Verdict => verdict(name),
        }
    }

    fn start(&mut self, kind: Kind, transport: Transport, clients: usize) -> Fleet {
        let server = Server::start(kind, &self.lab, &self.files);
        Fleet::new(server, transport, clients, &self.files, &mut self.wire)
    }

    /// Servers with clients that have all they need, and have been warmed up.
    fn fleets(&mut self, kinds: &[Kind], load: Load, transport: Transport, clients: usize) -> Vec<Fleet> {
        let mut fleets = Vec::new();
        for kind in kinds {
            let mut fleet = self.start(*kind, transport, clients);
            if load.way != Way::Binding {
                fleet.allocate(&mut self.wire);
                if load.way == Way::Selves {
                    fleet.pair();
                }
                fleet.bind(&mut self.wire);
            }
            self.run(&mut fleet, load, 5_000.0, Duration::from_millis(200));
            fleets.push(fleet);
        }
        fleets
    }

    fn chosen(&self, kinds: &[Kind]) -> Vec<Kind> {
        kinds.iter().copied().filter(|kind| self.servers.contains(kind)).collect()
    }

    fn traffic<'a>(&'a mut self, fleet: &'a mut Fleet) -> Traffic<'a> {
        Traffic { fleet, wire: &mut self.wire, lab: &self.lab, shares_core: false }
    }

    fn run(&mut self, fleet: &mut Fleet, load: Load, rate: f64, time: Duration) -> Measured {
        self.traffic(fleet).run(load, rate, time)
    }

    /// Rounds of the search for each server's maximum, in turn.
    fn highest(&mut self, fleets: &mut [Fleet], load: Load, line: &mut Line) -> Vec<(Kind, Measured)> {
        let mut all = Vec::new();
        for _ in 0..self.profile.rounds {
            for fleet in &mut *fleets {
                // Permissions last five minutes.
                if load.way != Way::Binding {
                    fleet.bind(&mut self.wire);
                }
                let kind = fleet.server.kind;
                let key = (kind, load.shape == Shape::Single);
                let guess = *self.guesses.get(&key).unwrap_or(&50_000.0);
                let probe = self.profile.probe;
                let measured = self.traffic(fleet).highest_without_loss(load, guess, probe);
                if measured.load_is_slow {
                    eprintln!("{}: {} outruns the load at {:.0}/s", line.row, kind.name(), measured.rate);
                }
                self.guesses.insert(key, measured.rate.max(2_000.0));
                line.push(kind, measured.delivered());
                all.push((kind, measured));
            }
        }
        all
    }

    fn packets(&mut self, row: &str, load: Load, clients: usize) -> Vec<Line> {
        // The goals are set for 1,000 allocations; the others are there to be looked at.
        let goals = |goals: &[Goal]| if clients == 1_000 { goals.to_vec() } else { Vec::new() };
        let (more, less) = if load.shape == Shape::Single { (1.6, 0.65) } else { (3.0, 0.35) };
        let kinds = self.chosen(&[Coturn, Ternd, Floor]);
        let mut fleets = self.fleets(&kinds, load, Transport::Udp, clients);

        let mut most = Line::new(row, "packets/s, loss < 0.1 %", &goals(&[AtLeast(more, Coturn)]));
        let mut cpu_at_most = Line::new(row, "CPU ns/packet at that rate", &[]);
        if self.rate.is_none() {
            for (kind, measured) in self.highest(&mut fleets, load, &mut most) {
                cpu_at_most.push(kind, measured.cpu_per_packet());
            }
        }

        let found = || most.median(Coturn).or_else(|| most.median(*kinds.first()?)).unwrap_or(10_000.0);
        let rate = self.rate.unwrap_or_else(found);
        let at = self.rate.map_or("coturn's max".into(), |rate| format!("{rate:.0}/s"));
        let names = [
            format!("CPU ns/packet at {at}"),
            "  of it the process".into(),
            "  of it receiving (NAPI)".into(),
        ];
        let mut cpu = names.map(|name| Line::new(row, name, &[]));
        cpu[0].goals = goals(&[AtMost(less, Coturn), AtMost(1.25, Floor)]);
        let mut latency =
            ["p50", "p99", "max"].map(|name| Line::new(row, format!("{name} us at half of it"), &[]));
        latency[1].goals = goals(&[AtMost(1.0, Coturn)]);
        for _ in 0..self.profile.rounds {
            for fleet in &mut fleets {
                let (kind, time) = (fleet.server.kind, self.profile.time);
                let at_rate = self.run(fleet, load, rate, time);
                cpu[0].push(kind, at_rate.cpu_per_packet());
                cpu[1].push(kind, at_rate.process_per_packet());
                cpu[2].push(kind, at_rate.napi_per_packet());
                let at_half = self.run(fleet, load, rate / 2.0, time);
                for (line, quantile) in latency.iter_mut().zip([0.5, 0.99, 1.0]) {
                    line.push(kind, at_half.latency(quantile));
                }
            }
        }
        let searched = if self.rate.is_some() { Vec::new() } else { vec![most, cpu_at_most] };
        searched.into_iter().chain(cpu).chain(latency).collect()
    }

    /// The CPU at a given rate.
    fn at(&mut self, row: &str, load: Load, clients: usize, transport: Transport, rate: f64) -> Vec<Line> {
        let has_floor = transport == Transport::Udp && load.way != Way::Selves;
        let goals: &[Goal] = match (load.way, transport) {
            (Way::Selves, _) => &[AtMost(0.5, Coturn)],
            (_, Transport::Udp) => &[AtMost(1.25, Floor)],
            _ => &[AtMost(0.6, Coturn)],
        };
        let kinds = self.chosen(if has_floor { &[Coturn, Ternd, Floor] } else { &[Coturn, Ternd] });
        let mut fleets = self.fleets(&kinds, load, transport, clients);
        let mut cpu = Line::new(row, format!("CPU ns/packet at {rate:.0}/s"), goals);
        let mut process = Line::new(row, "  of it the process", &[]);
        let mut p99 = Line::new(row, "p99 us", &[]);
        let mut lost = Line::new(row, "lost, per mille", &[]);
        for _ in 0..self.profile.rounds {
            for fleet in &mut fleets {
                let kind = fleet.server.kind;
                let measured = self.run(fleet, load, rate, self.profile.time);
                cpu.push(kind, measured.cpu_per_packet());
                process.push(kind, measured.process_per_packet());
                p99.push(kind, measured.latency(0.99));
                lost.push(kind, measured.lost() * 1e3);
            }
        }
        vec![cpu, process, p99, lost]
    }

    fn bindings(&mut self, row: &str) -> Vec<Line> {
        let load = Load { way: Way::Binding, shape: Shape::Single };
        let kinds = self.chosen(&[Coturn, Ternd, Floor]);
        let mut fleets = self.fleets(&kinds, load, Transport::Udp, 1_000);
        let mut most = Line::new(row, "requests/s, loss < 0.1 %", &[AtLeast(3.0, Coturn)]);
        let mut cpu = Line::new(row, "CPU ns/request at that rate", &[]);
        for (kind, measured) in self.highest(&mut fleets, load, &mut most) {
            cpu.push(kind, measured.cpu_per_packet());
        }
        vec![most, cpu]
    }

    fn allocations(&mut self, row: &str) -> Vec<Line> {
        let mut rate = Line::new(row, "allocations/s", &[AtLeast(3.0, Coturn)]);
        let mut cpu = Line::new(row, "CPU us/allocation", &[]);
        for _ in 0..self.profile.rounds {
            for kind in self.chosen(&[Coturn, Ternd]) {
                let count = self.profile.allocations;
                let mut fleet = self.start(kind, Transport::Udp, count);
                let before = fleet.server.process.cpu() + self.lab.napi_cpu();
                let took = fleet.allocate(&mut self.wire);
                let spent = fleet.server.process.cpu() + self.lab.napi_cpu() - before;
                rate.push(kind, count as f64 / took.as_secs_f64());
                cpu.push(kind, spent as f64 / 1e3 / count as f64);
            }
        }
        vec![rate, cpu]
    }

    /// What an allocation with two permissions and a channel adds to the server's own memory.
    fn memory(&mut self, row: &str) -> Vec<Line> {
        let mut bytes = Line::new(row, "bytes/allocation", &[Below(2_048.0), AtMost(0.125, Coturn)]);
        for _ in 0..self.profile.rounds.min(2) {
            for kind in self.chosen(&[Coturn, Ternd]) {
                let count = self.profile.allocations;
                let mut fleet = self.start(kind, Transport::Udp, count);
                let before = fleet.server.process.memory();
                fleet.allocate(&mut self.wire);
                fleet.permit(&mut self.wire, SocketAddrV4::new(lab::SECOND_PEER, 9_000));
                fleet.bind(&mut self.wire);
                let grown = fleet.server.process.memory().saturating_sub(before);
                bytes.push(kind, grown as f64 / count as f64);
            }
        }
        vec![bytes]
    }

    /// One shard and two, at a rate that both keep up with. The second shard runs beside the load, so there is no
    /// maximum to be had here; but if a packet costs the same and each does half, two cores carry twice as much.
    fn shards(&mut self, row: &str) -> Vec<Line> {
        let load = Load { way: Way::Both, shape: Shape::Single };
        let kinds = [Ternd, TwoShards];
        if self.chosen(&[Ternd]).is_empty() {
            return Vec::new();
        }
        let mut process = [
            Line::new(row, "process ns/packet, 1 shard", &[]),
            Line::new(row, "process ns/packet, 2 shards", &[]),
            Line::new(row, "2 shards against 1", &[Below(1.25)]),
            Line::new(row, "% of it in the busier of 2", &[Below(60.0)]),
        ];
        let mut fleets = self.fleets(&kinds, load, Transport::Udp, 1_000);
        for _ in 0..self.profile.rounds {
            let mut found = [0.0; 2];
            for (fleet, found) in fleets.iter_mut().zip(&mut found) {
                let time = self.profile.time;
                let mut traffic = self.traffic(fleet);
                traffic.shares_core = true;
                let measured = traffic.run(load, 20_000.0, time);
                *found = measured.process_per_packet();
                if fleet.server.kind == TwoShards {
                    process[3].push(Ternd, 100.0 * measured.busiest as f64 / measured.process.max(1) as f64);
                }
            }
            process[0].push(Ternd, found[0]);
            process[1].push(Ternd, found[1]);
            process[2].push(Ternd, found[1] / found[0]);
        }
        process.into()
    }
}

/// The core alone: no server, no sockets. `cargo bench --bench core` has more of this.
fn verdict(row: &str) -> Vec<Line> {
    const CLIENTS: usize = 1_000;
    const TIMES: usize = 1_000;
    let mut ns = Line::new(row, "ns/ChannelData verdict", &[Below(60.0)]);
    let mut calls = Line::new(row, "heap allocations in a million", &[Below(0.0)]);
    let mut world = World::new(CLIENTS, 160);
    for _ in 0..5 {
        let start = Instant::now();
        let count = counting::calls(|| {
            for n in 0..TIMES * CLIENTS {
                black_box(world.channel_data(n % CLIENTS));
            }
        });
        ns.push(Ternd, start.elapsed().as_nanos() as f64 / (TIMES * CLIENTS) as f64);
        calls.push(Ternd, count as f64);
    }
    vec![ns, calls]
}
