//! Strangers send any bytes, and peers too: nobody gets an allocation, data goes nowhere, and an answer over UDP is at
//! most twice as long as its question.
#![no_main]
#![allow(dead_code)] // the stories' harness can do more than is needed here

mod packets;
#[path = "../../tests/relay/world.rs"]
mod world;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ternd::auth::Secret;
use ternd::turn::{Event, Output, RelayId, Transport, Verdict};
use world::{Answer, Client, World, addr, auth_settings, settings};
use zeroize::Zeroizing;

/// A challenge to a request without any attribute: no shorter one has the REALM and NONCE that it must have.
const SHORTEST: usize = 56;

fuzz_target!(|input: &[u8]| {
    // The inputs were signed with another password: whatever they are turned into, nobody has the right one.
    let mut users = auth_settings();
    users.users.iter_mut().for_each(|user| user.password = Zeroizing::new("a secret".into()));
    users.secrets = vec![Secret::new("first", "another secret")];
    let mut world = World::with(settings(), users);
    for (what, bytes) in packets::packets(input) {
        let mut flow =
            Client::alice(if what & 1 == 0 { "192.0.2.7:4000" } else { "[2001:db8:7::1]:4000" }).flow;
        flow.transport = [Transport::Udp, Transport::Tcp][usize::from(what >> 1 & 1)];
        let verdict = match what >> 2 & 7 {
            0 => {
                world.now = world.now.after(Duration::from_secs(bytes.len() as u64));
                world.server.handle_timeout(world.now);
                Verdict::Nothing
            }
            1 => {
                let relay = RelayId(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
                world.server.handle_peer_error(world.now, relay, addr("192.0.2.99:1"), (3, 4), 0);
                assert_eq!(world.server.peer_accepted(world.now, relay, addr("192.0.2.99:1")), None);
                world.server.handle_peer(world.now, relay, addr("192.0.2.99:1"), bytes.len())
            }
            2 => {
                world.server.client_gone(world.now, flow);
                Verdict::Nothing
            }
            _ => world.server.handle_client(world.now, flow, bytes),
        };
        assert_eq!(verdict, Verdict::Nothing);
        let mut answers = 0;
        while let Some(output) = world.server.poll_output() {
            match output {
                Output::Send { flow: to, bytes: answer } => {
                    answers += 1;
                    assert_eq!(to, flow);
                    let answer = Answer(answer);
                    assert!(matches!(answer.code(), 0 | 400 | 401 | 420), "{answer:?}");
                    assert!(
                        flow.transport == Transport::Tcp || answer.0.len() <= (2 * bytes.len()).max(SHORTEST)
                    );
                }
                // What names another shard's connection or allocation goes there unread: it is that shard's to refuse.
                Output::Migrate { flow: to, shard: 1, bytes: passed } => {
                    answers += 1;
                    assert_eq!(to, flow);
                    assert!(bytes.starts_with(&passed));
                }
                Output::Event(Event::Refused { user: None, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(answers <= 1);
        assert_eq!(world.server.allocations(), 0);
    }
    world.assert_empty();
});
