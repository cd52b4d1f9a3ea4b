//! Packets at a chosen rate, and what became of them.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ternd::stun::{CHANNEL_DATA_HEADER, ChannelData, ChannelNumber};

use crate::client::{CHANNEL, Client};
use crate::server::Server;
use crate::sys;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Client to peer, one packet of 160 bytes at a time: audio.
    UpSingle,
    DownSingle,
    /// Eight packets of 1,200 bytes at once: a video frame.
    UpBurst,
    DownBurst,
}

impl Load {
    pub const ALL: [Self; 4] = [Self::UpSingle, Self::DownSingle, Self::UpBurst, Self::DownBurst];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.name() == text)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::UpSingle => "up-single",
            Self::DownSingle => "down-single",
            Self::UpBurst => "up-burst",
            Self::DownBurst => "down-burst",
        }
    }

    fn is_up(self) -> bool {
        matches!(self, Self::UpSingle | Self::UpBurst)
    }

    /// Payload bytes, and packets at once.
    fn shape(self) -> (usize, usize) {
        match self {
            Self::UpSingle | Self::DownSingle => (160, 1),
            Self::UpBurst | Self::DownBurst => (1_200, 8),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Measured {
    offered: u64,
    arrived: u64,
    cpu: u64,
    took: f64,
}

impl Measured {
    pub fn delivered(&self) -> f64 {
        self.arrived as f64 / self.took
    }

    pub fn lost(&self) -> f64 {
        1.0 - self.arrived.min(self.offered) as f64 / self.offered as f64
    }

    pub fn cpu(&self) -> f64 {
        self.cpu as f64 / self.arrived.max(1) as f64
    }
}

pub struct Traffic<'a> {
    server: &'a Server,
    peer: UdpSocket,
    clients: Vec<Client>,
    next: usize,
}

impl<'a> Traffic<'a> {
    pub fn new(server: &'a Server, clients: usize) -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        sys::set_buffers(&peer, 16 << 20);
        let to = peer.local_addr().unwrap();
        let clients = (0..clients).map(|n| Client::new(server.addr, to, n)).collect();
        Self { server, peer, clients, next: 0 }
    }

    /// Offers `rate` packets per second for `time`.
    pub fn run(&mut self, load: Load, rate: u64, time: Duration) -> Measured {
        let (size, burst) = load.shape();
        let packet: Vec<u8> = if load.is_up() {
            let header = ChannelData::header(ChannelNumber(CHANNEL), size);
            header.into_iter().chain(std::iter::repeat_n(7, size)).collect()
        } else {
            vec![7; size]
        };
        let segment = packet.len();
        debug_assert!(!load.is_up() || segment == size + CHANNEL_DATA_HEADER);
        let packets = packet.repeat(burst);

        let (cpu, start) = (self.server.cpu(), Instant::now());
        let (mut offered, mut arrived) = (0, 0);
        while start.elapsed() < time {
            let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
            // A share at a time, so that what arrives is read meanwhile.
            for _ in 0..32 {
                if offered >= due {
                    break;
                }
                if self.send(load, &packets, segment) {
                    offered += burst as u64;
                }
            }
            arrived += self.read(load, false);
            if offered >= due {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        let took = start.elapsed().as_secs_f64();
        // What is still on its way.
        let end = Instant::now();
        while end.elapsed() < Duration::from_millis(100) {
            arrived += self.read(load, true);
            std::thread::sleep(Duration::from_millis(5));
        }
        Measured { offered, arrived, cpu: self.server.cpu() - cpu, took }
    }

    fn send(&mut self, load: Load, packets: &[u8], segment: usize) -> bool {
        self.next = (self.next + 1) % self.clients.len();
        let client = &self.clients[self.next];
        let (socket, to): (&UdpSocket, SocketAddr) =
            if load.is_up() { (&client.socket, self.server.addr) } else { (&self.peer, client.relayed) };
        sys::send_burst(socket, packets, segment, to).is_ok()
    }

    /// Up: the peer's socket. Down: the clients that were sent to last, or all.
    fn read(&self, load: Load, all: bool) -> u64 {
        if load.is_up() {
            return sys::drain(&self.peer);
        }
        let recent = if all { self.clients.len() } else { self.clients.len().min(64) };
        (0..recent)
            .map(|n| {
                sys::drain(&self.clients[(self.next + self.clients.len() - n) % self.clients.len()].socket)
            })
            .sum()
    }

    /// The highest rate of which at most one packet in a thousand is lost, by bisection.
    pub fn highest_without_loss(&mut self, load: Load, time: Duration) -> Measured {
        let step = time.min(Duration::from_secs(1));
        let (mut low, mut high) = (5_000, 3_000_000);
        let mut best = self.run(load, low, step);
        for _ in 0..9 {
            let rate = ((low * high) as f64).sqrt() as u64;
            let measured = self.run(load, rate, step);
            let kept_up = measured.offered as f64 >= 0.98 * rate as f64 * measured.took;
            if measured.lost() <= 0.001 && kept_up {
                (low, best) = (rate, measured);
            } else {
                high = rate;
            }
        }
        best
    }
}
