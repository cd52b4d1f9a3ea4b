//! Two clients who have authenticated send any messages, signed as they must be; peers send too. Nothing panics, data
//! goes only where the policy lets it, every request has one answer, and at the end nothing is left.
#![no_main]
#![allow(dead_code)] // the stories' harness can do more than is needed here

mod packets;
#[path = "../../tests/relay/world.rs"]
mod world;

use std::collections::HashMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ternd::stun::{AttributeType as T, Builder, Class, Message, Method};
use ternd::turn::{ConnectionId, Limits, Output, PeerPolicy, Settings, Transport, Verdict};
use world::{Answer, Client, World, addr, auth_settings, settings};

fuzz_target!(|input: &[u8]| {
    let mut session = Session::new();
    for (what, bytes) in packets::packets(input) {
        session.step(what, bytes);
    }
    session.finish();
});

struct Session {
    world: World,
    clients: [Client; 3],
    policy: PeerPolicy,
    /// Connect requests that wait, by connection.
    connecting: HashMap<ConnectionId, usize>,
    /// Requests without an answer so far.
    waiting: [usize; 3],
}

impl Session {
    fn new() -> Self {
        // With all that is off by default.
        let settings = Settings {
            rfc5766_channels: true,
            alternate_servers: vec![addr("203.0.113.5:3478")],
            limits: Limits { allocations: 2, ..Limits::default() },
            ..settings()
        };
        let mut world = World::with(settings, auth_settings());
        let mut clients = [
            Client::alice("192.0.2.7:4000"),
            Client::bob("[2001:db8:7::1]:4000"),
            Client::alice("192.0.2.7:4001"),
        ];
        for (client, transport) in clients.iter_mut().zip([Transport::Udp, Transport::Tcp, Transport::Tls]) {
            client.flow.transport = transport;
            client.challenge(&mut world);
        }
        let policy = PeerPolicy::new(&world.settings);
        Self { world, clients, policy, connecting: HashMap::new(), waiting: [0; 3] }
    }

    fn step(&mut self, what: u8, bytes: &[u8]) {
        let who = usize::from(what & 3).min(2);
        match what >> 2 & 15 {
            // The usual: a message, signed if it is a request.
            0..=8 => {
                let bytes = self.signed(who, bytes).unwrap_or_else(|| bytes.to_vec());
                self.send(who, &bytes);
            }
            9 => self.send(who, bytes),
            10 => {
                let seconds = bytes.first().map_or(1, |n| u64::from(*n) * 10);
                self.world.now = self.world.now.after(Duration::from_secs(seconds));
                self.world.server.handle_timeout(self.world.now);
            }
            11 => {
                self.world.server.client_gone(self.world.now, self.clients[who].flow);
                self.waiting[who] = 0;
            }
            12 => {
                for connection in std::mem::take(&mut self.connecting).into_keys() {
                    self.world.server.peer_connected(self.world.now, connection, bytes.is_empty());
                }
            }
            13 => self.world.bind_error = (!bytes.is_empty()).then_some(ternd::turn::BindError::NoPort),
            n => self.peers_send(n == 14, bytes),
        }
        self.drive();
    }

    /// The attributes of a request with the client's credential behind them.
    fn signed(&self, who: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(bytes).ok().filter(|m| m.class() == Class::Request)?;
        let credential = [T::USERNAME, T::USERHASH, T::REALM, T::NONCE, T::PASSWORD_ALGORITHM];
        let seal =
            [T::PASSWORD_ALGORITHMS, T::MESSAGE_INTEGRITY, T::MESSAGE_INTEGRITY_SHA256, T::FINGERPRINT];
        let empty = Builder::new(Class::Request, message.method(), message.transaction_id());
        let kept = message.attributes().filter(|a| !credential.contains(&a.kind) && !seal.contains(&a.kind));
        let builder = kept.fold(empty, |b, a| b.raw(a.kind, a.value));
        Some(self.clients[who].sign(builder))
    }

    fn send(&mut self, who: usize, bytes: &[u8]) {
        if let Ok(message) = Message::parse(bytes)
            && message.class() == Class::Request
        {
            self.waiting[who] += 1;
        }
        let verdict = self.world.server.handle_client(self.world.now, self.clients[who].flow, bytes);
        match verdict {
            Verdict::Nothing => {}
            Verdict::Relay { relay, to, payload, .. } => {
                assert!(self.world.sockets.contains_key(&relay));
                assert!(payload.start <= payload.end && payload.end <= bytes.len());
                assert!(self.policy.check(to.ip()).is_ok(), "{to} is closed");
                let own = self.world.settings.relay_addresses.iter().any(|r| r.local == to.ip());
                assert!(!own, "{to} relays nothing, or needs no socket");
            }
            // Its peer is a relay of this server.
            Verdict::ToClient { flow, payload, .. } => {
                assert!(payload.start <= payload.end && payload.end <= bytes.len());
                assert!(self.clients.iter().any(|c| c.flow == flow));
            }
            Verdict::Apart | Verdict::ToShard { .. } => panic!("{verdict:?}"),
        }
    }

    fn peers_send(&mut self, connect: bool, bytes: &[u8]) {
        let relays: Vec<_> = self.world.sockets.iter().map(|(id, local)| (*id, *local)).collect();
        let others = ["192.0.2.99:1", "192.0.2.98:1", "[2001:db8:2::99]:1", "10.0.0.1:1"].map(addr);
        for (relay, _) in &relays {
            for from in others.iter().chain(relays.iter().map(|(_, local)| local)) {
                if connect {
                    self.world.server.peer_accepted(self.world.now, *relay, *from);
                }
                match self.world.server.handle_peer(self.world.now, *relay, *from, bytes.len()) {
                    Verdict::Nothing => {}
                    Verdict::ToClient { flow, .. } => {
                        assert!(self.policy.check(from.ip()).is_ok(), "{from} is closed");
                        assert!(self.clients.iter().any(|c| c.flow == flow));
                    }
                    other => panic!("{other:?}"),
                }
                self.world.server.handle_peer_error(self.world.now, *relay, *from, (3, 3), 0);
            }
        }
    }

    fn drive(&mut self) {
        for (flow, bytes) in self.world.drive() {
            let who = self.clients.iter().position(|c| c.flow == flow).expect("a client of ours");
            let answer = Answer(bytes);
            let message = answer.message();
            if message.class() == Class::Indication {
                assert!(matches!(message.method(), Method::DATA | Method::CONNECTION_ATTEMPT));
                continue;
            }
            assert!(self.waiting[who] > 0, "an answer without a question");
            self.waiting[who] -= 1;
            let code = answer.code();
            assert!(
                matches!(code, 0 | 300 | 400 | 401 | 403 | 420 | 437..=443 | 446 | 447 | 486 | 508),
                "{code}"
            );
            if let Some(ternd::stun::Attribute::Nonce(nonce)) = answer.get(T::NONCE) {
                self.clients[who].nonce = nonce.to_vec();
            }
        }
        for output in std::mem::take(&mut self.world.streams) {
            match output {
                Output::ConnectPeer { connection, to, .. } => {
                    assert!(self.policy.check(to.ip()).is_ok(), "{to} is closed");
                    self.connecting.insert(connection, 0);
                }
                Output::ClosePeer { connection } => drop(self.connecting.remove(&connection)),
                Output::Join { .. } | Output::Migrate { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..3 {
            self.world.now = self.world.now.after(Duration::from_secs(3_600));
            self.world.server.handle_timeout(self.world.now);
            self.drive();
        }
        self.world.assert_empty();
        assert_eq!(self.world.server.poll_timeout(), None);
    }
}
