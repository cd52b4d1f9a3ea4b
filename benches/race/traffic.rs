//! Packets at a chosen rate, and what became of them.
//!
//! ```text
//! payload  | "race" | run: 4 bytes | when it was sent: 8 bytes | 7 7 7 ... 7 |
//! ```
//!
//! A packet counts if it comes out where it should, with this very payload, in the run it belongs to.

use std::time::{Duration, Instant};

use ternd::stun::{CHANNEL_DATA_HEADER, ChannelData, ChannelNumber};

use crate::fleet::{Arrival, CHANNEL, Fleet, PEER, address};
use crate::lab::Lab;
use crate::server::Kind;
use crate::sys::Wire;

/// Which way the packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Client to peer.
    Up,
    /// Peer to client.
    Down,
    /// Half and half.
    Both,
    /// From client to client, through two relays of the same server.
    Selves,
    /// Binding requests and their answers.
    Binding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One packet of 160 bytes at a time: audio.
    Single,
    /// Eight packets of 1,200 bytes at once: a video frame.
    Burst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub way: Way,
    pub shape: Shape,
}

impl Load {
    /// Payload bytes, and packets at once.
    fn shape(self) -> (usize, usize) {
        match (self.way, self.shape) {
            (Way::Binding, _) => (0, 1),
            (_, Shape::Single) => (160, 1),
            (_, Shape::Burst) => (1_200, 8),
        }
    }
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Packets per second that were to be offered.
    pub rate: f64,
    pub offered: u64,
    pub arrived: u64,
    /// Seconds.
    pub took: f64,
    /// Nanoseconds on the CPU: the server's threads, and the kernel's that receive for it.
    pub process: u64,
    pub napi: u64,
    /// The same for the server's busiest thread.
    pub busiest: u64,
    /// Nanoseconds, sorted.
    latencies: Vec<u32>,
    /// The load could not keep up: what was lost is not the server's fault.
    pub load_is_slow: bool,
}

impl Measured {
    pub fn delivered(&self) -> f64 {
        self.arrived as f64 / self.took
    }

    pub fn lost(&self) -> f64 {
        1.0 - self.arrived.min(self.offered) as f64 / self.offered.max(1) as f64
    }

    /// Nanoseconds per packet that came through.
    pub fn process_per_packet(&self) -> f64 {
        self.process as f64 / self.arrived.max(1) as f64
    }

    pub fn napi_per_packet(&self) -> f64 {
        self.napi as f64 / self.arrived.max(1) as f64
    }

    pub fn cpu_per_packet(&self) -> f64 {
        self.process_per_packet() + self.napi_per_packet()
    }

    /// Microseconds.
    pub fn latency(&self, quantile: f64) -> f64 {
        let Some(last) = self.latencies.len().checked_sub(1) else { return f64::NAN };
        f64::from(self.latencies[(last as f64 * quantile).round() as usize]) / 1e3
    }
}

/// What the packets of one run look like.
struct Mark {
    run: u32,
    size: usize,
    start: Instant,
}

const MAGIC: &[u8] = b"race";
/// Microseconds after which a packet is as good as lost. A thousand relay sockets hold a second of traffic: without this,
/// whoever only queues would look fast.
const STALE: f64 = 100_000.0;
const FILL: u8 = 7;

impl Mark {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn write(&self, out: &mut [u8], now: u64) {
        out[..4].copy_from_slice(MAGIC);
        out[4..8].copy_from_slice(&self.run.to_be_bytes());
        out[8..16].copy_from_slice(&now.to_be_bytes());
        out[16..].fill(FILL);
    }

    /// When it was sent, if it is ours and whole.
    fn read(&self, payload: &[u8]) -> Option<u64> {
        let (head, rest) = payload.split_at_checked(16)?;
        let is_ours =
            payload.len() == self.size && head[..4] == *MAGIC && head[4..8] == self.run.to_be_bytes();
        let is_whole = rest.first() == Some(&FILL) && rest.last() == Some(&FILL);
        (is_ours && is_whole).then(|| u64::from_be_bytes(head[8..].try_into().unwrap_or_default()))
    }
}

/// The fleet of one server on the wire that all share.
pub struct Traffic<'a> {
    pub fleet: &'a mut Fleet,
    pub wire: &'a mut Wire,
    pub lab: &'a Lab,
    /// The server wants the load's core, too.
    pub shares_core: bool,
}

impl Traffic<'_> {
    /// Offers `rate` packets per second for `time`.
    pub fn run(&mut self, load: Load, rate: f64, time: Duration) -> Measured {
        let (size, burst) = load.shape();
        let mark = Mark { run: next_run(), size, start: Instant::now() };
        let mut latencies = Vec::with_capacity((rate * time.as_secs_f64() * 1.05) as usize);
        let (threads, napi) = (self.fleet.server.process.threads(), self.lab.napi_cpu());
        self.wire.dropped();

        let (mut offered, mut turn) = (0, 0_usize);
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if elapsed >= time {
                break;
            }
            let due = (elapsed.as_secs_f64() * rate) as u64;
            let before = (offered, latencies.len());
            // A share at a time, so that what arrives is read meanwhile.
            while offered < due && offered - before.0 < 64 {
                self.send(load, &mark, turn, burst);
                (offered, turn) = (offered + burst as u64, turn + 1);
            }
            self.fleet.flush(self.wire);
            // More at a time than is sent, or whatever once waited would wait for ever.
            for _ in 0..8 {
                let before = latencies.len();
                self.read(load, &mark, &mut latencies);
                if latencies.len() < before + 32 {
                    break;
                }
            }
            if before == (offered, latencies.len()) {
                if self.shares_core {
                    std::thread::sleep(Duration::from_micros(100));
                } else {
                    std::hint::spin_loop();
                }
            }
        }
        let took = start.elapsed().as_secs_f64();
        // What is still on its way.
        let (end, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < Duration::from_millis(20) && end.elapsed() < Duration::from_secs(2) {
            let before = latencies.len();
            self.fleet.flush(self.wire);
            self.read(load, &mark, &mut latencies);
            if latencies.len() > before {
                last = Instant::now();
            }
        }
        let after = self.fleet.server.process.threads();
        let spent = |(thread, cpu): (&String, &u64)| cpu - threads.get(thread).unwrap_or(&0);
        let threads: Vec<u64> = after.iter().map(spent).collect();
        latencies.sort_unstable();
        Measured {
            rate,
            offered,
            arrived: latencies.len() as u64,
            took,
            process: threads.iter().sum(),
            napi: self.lab.napi_cpu() - napi,
            busiest: threads.iter().copied().max().unwrap_or(0),
            latencies,
            load_is_slow: (offered as f64) < 0.98 * rate * took || self.wire.dropped() > 0,
        }
    }

    fn send(&mut self, load: Load, mark: &Mark, turn: usize, burst: usize) {
        let clients = self.fleet.clients.len();
        let server = self.fleet.server.udp;
        let now = mark.now();
        if load.way == Way::Binding {
            return self.wire.push(address(turn % clients), server, |slot| binding(slot, mark.run, now));
        }
        // In both directions each client in turn: first all send, then all are sent to.
        let (client, up) = match load.way {
            Way::Both => (turn % clients, (turn / clients).is_multiple_of(2)),
            way => (turn % clients, way != Way::Down),
        };
        if !up {
            let to = self.fleet.clients[client].relayed;
            for _ in 0..burst {
                self.wire.push(PEER, to, |slot| {
                    mark.write(&mut slot[..mark.size], now);
                    mark.size
                });
            }
            return;
        }
        let header = ChannelData::header(ChannelNumber(CHANNEL), mark.size);
        let skipped = if self.fleet.server.kind == Kind::Floor { 0 } else { CHANNEL_DATA_HEADER };
        let len = skipped + mark.size;
        let write = |slot: &mut [u8]| {
            slot[..skipped].copy_from_slice(&header[..skipped]);
            mark.write(&mut slot[skipped..len], now);
            len
        };
        match &mut self.fleet.streams {
            None => {
                for _ in 0..burst {
                    self.wire.push(address(client), server, write);
                }
            }
            Some(streams) => {
                let mut frames = vec![0; len * burst];
                for frame in frames.chunks_exact_mut(len) {
                    write(frame);
                }
                streams.send(client, &frames);
            }
        }
    }

    /// Notes how long each packet took that came where it should.
    fn read(&mut self, load: Load, mark: &Mark, latencies: &mut Vec<u32>) {
        let header = ChannelData::header(ChannelNumber(CHANNEL), mark.size);
        let header: &[u8] = if self.fleet.server.kind == Kind::Floor { &[] } else { &header };
        let by_relay_port = std::mem::take(&mut self.fleet.by_relay_port);
        let now = mark.now();
        self.fleet.poll(self.wire, |arrival| {
            let sent = match (load.way, arrival) {
                (Way::Binding, Arrival::AtClient(_, answer)) => read_binding(answer, mark.run),
                (Way::Up | Way::Both, Arrival::AtPeer(port, payload))
                    if by_relay_port[usize::from(port)] > 0 =>
                {
                    mark.read(payload)
                }
                (Way::Down | Way::Both | Way::Selves, Arrival::AtClient(_, bytes)) => {
                    bytes.strip_prefix(header).and_then(|payload| mark.read(payload))
                }
                _ => None,
            };
            if let Some(sent) = sent {
                latencies.push(now.saturating_sub(sent).min(u32::MAX.into()) as u32);
            }
        });
        self.fleet.by_relay_port = by_relay_port;
    }

    /// The highest rate at which at most one packet in a thousand is lost and 99 % are in time, to 4 %. A rate has failed
    /// when it fails twice: what else goes on in the machine is not the server's fault.
    pub fn highest_without_loss(&mut self, load: Load, guess: f64, time: Duration) -> Measured {
        let (mut best, mut low, mut high): (Option<Measured>, _, _) = (None, 0.0, f64::INFINITY);
        let (mut rate, mut step) = (guess, 1.2);
        for _ in 0..16 {
            let good = |m: &Measured| m.lost() <= 0.001 && m.latency(0.99) <= STALE && !m.load_is_slow;
            let mut measured = self.run(load, rate, time);
            if !good(&measured) {
                measured = self.run(load, rate, time);
            }
            if good(&measured) {
                (low, best) = (rate, Some(measured));
            } else {
                high = rate;
                best.get_or_insert(measured);
            }
            if high / low < 1.04 {
                break;
            }
            rate = match (low == 0.0, high.is_infinite()) {
                (false, false) => (low * high).sqrt(),
                (true, _) => rate / step,
                (_, true) => rate * step,
            };
            step = f64::min(step * 1.25, 2.5);
        }
        best.expect("at least one run")
    }
}

/// A number for each run, so that stragglers don't count for the next.
fn next_run() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static RUN: AtomicU32 = AtomicU32::new(1);
    RUN.fetch_add(1, Ordering::Relaxed)
}

/// A Binding request whose transaction id is the mark.
fn binding(slot: &mut [u8], run: u32, now: u64) -> usize {
    slot[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
    slot[8..12].copy_from_slice(&run.to_be_bytes());
    slot[12..20].copy_from_slice(&now.to_be_bytes());
    20
}

fn read_binding(answer: &[u8], run: u32) -> Option<u64> {
    let success = answer.len() > 20 && answer[..2] == [1, 1] && answer[8..12] == run.to_be_bytes();
    success.then(|| u64::from_be_bytes(answer[12..20].try_into().unwrap_or_default()))
}
