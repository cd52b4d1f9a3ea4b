//! What an operator does to a running relay: other settings, a drain, a look, an end.

use std::sync::Arc;

use ternd::auth::{self, Authenticator, Secret};
use ternd::stun::{Attribute, AttributeType as T};
use ternd::turn::{EndReason, Event, Settings, Transport, Verdict};

use crate::world::{Client, World, addr, assert_relayed, auth_settings, settings};

const PUBLIC: &str = "192.0.2.200:4000";
const OTHER: &str = "192.0.2.201:4000";

fn reconfigure(world: &mut World, settings: &Settings, auth: auth::Settings) {
    // The key of the nonces is that of the world.
    world.server.reconfigure(world.now, settings, Arc::new(Authenticator::new(auth, [7; 32])));
    world.drive();
}

#[test]
fn other_settings_hold_for_what_comes_and_end_nothing() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:1");
    alice.allocate(&mut world);
    alice.permit(&mut world, &[PUBLIC, OTHER]);
    alice.bind(&mut world, 0x4000, PUBLIC);
    alice.bind(&mut world, 0x4001, OTHER);

    let mut stricter = settings();
    stricter.deny_peers = vec!["192.0.2.201/32".parse().unwrap()];
    stricter.limits.allocations_per_user = 1;
    let other_secret =
        auth::Settings { secrets: vec![Secret::new("new", "another secret")], ..auth_settings() };
    reconfigure(&mut world, &stricter, auth::Settings { users: Vec::new(), ..other_secret });

    let relay = world.relay_of(&alice);
    assert_relayed(alice.channel(&mut world, 0x4000, b"goes on"), relay, PUBLIC, 7);
    assert_eq!(alice.channel(&mut world, 0x4001, b"closed"), Verdict::Nothing);
    assert_eq!(alice.send(&mut world, OTHER, b"closed"), Verdict::Nothing);
    assert_eq!(world.peer_sends(&alice, OTHER, 5), Verdict::Nothing, "nor does anything come from there");
    assert_eq!(
        alice.refresh(&mut world, None).code(),
        0,
        "her key is good on her allocation, whatever became of it"
    );
    assert_eq!(alice.permit(&mut world, &[OTHER]).code(), 403);
    let mut again = Client::alice("192.0.2.7:2");
    again.challenge(&mut world);
    let request = again.allocate_request();
    assert_eq!(again.ask(&mut world, request).code(), 401, "she is a user no more");

    // And back: nothing has to be done to be let in again.
    reconfigure(&mut world, &settings(), auth_settings());
    alice.permit(&mut world, &[OTHER]);
    assert_relayed(alice.send(&mut world, OTHER, b"open"), relay, OTHER, 4);
    alice.refresh(&mut world, Some(0));
    world.assert_empty();
}

#[test]
fn a_draining_server_takes_no_new_allocations_and_keeps_those_it_has() {
    let mut world = World::with(
        Settings { alternate_servers: vec![addr("203.0.113.20:3478")], ..settings() },
        auth_settings(),
    );
    let mut alice = Client::alice("192.0.2.7:1");
    alice.allocate(&mut world);
    world.server.drain(true);
    let mut ask = |transport| {
        let mut bob = Client::bob("192.0.2.8:1");
        bob.flow.transport = transport;
        bob.challenge(&mut world);
        let request = bob.allocate_request();
        let answer = bob.ask(&mut world, request);
        (
            answer.code(),
            answer
                .get(T::ALTERNATE_SERVER)
                .map(|a| a == Attribute::AlternateServer(addr("203.0.113.20:3478"))),
        )
    };
    assert_eq!(ask(Transport::Udp), (300, Some(true)));
    assert_eq!(ask(Transport::Tls), (508, None), "who came over TLS would knock in vain there");
    assert_eq!(alice.refresh(&mut world, None).code(), 0);
    alice.permit(&mut world, &[PUBLIC]);
    let relay = world.relay_of(&alice);
    assert_relayed(alice.send(&mut world, PUBLIC, b"goes on"), relay, PUBLIC, 7);

    world.server.drain(false);
    let mut bob = Client::bob("192.0.2.8:1");
    assert_eq!(bob.allocate(&mut world).code(), 0);
}

#[test]
fn an_operator_sees_allocations_and_ends_them() {
    let mut world = World::new();
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:1"), Client::bob("192.0.2.8:1"));
    alice.allocate(&mut world);
    bob.allocate(&mut world);
    alice.permit(&mut world, &[PUBLIC]);
    alice.send(&mut world, PUBLIC, b"four");
    world.wait(60);

    let list = world.server.list(world.now);
    let hers = list.iter().find(|listed| listed.flow == alice.flow).unwrap();
    assert_eq!((hers.lived.as_secs(), hers.left.as_secs(), hers.permissions), (60, 540, 1));
    assert_eq!((hers.traffic.to_peers, hers.traffic.to_peers_bytes), (1, 4));
    let census: u64 = world.server.census().named().map(|(_, _, n)| n).sum();
    assert_eq!(census, 2);

    let user = hers.user.clone();
    assert_eq!(world.server.kick(world.now, |listed| listed.user == user), 1);
    world.drive();
    assert!(matches!(world.events.last(), Some(Event::AllocationEnded { reason: EndReason::Operator, .. })));
    assert_eq!(alice.permit(&mut world, &[PUBLIC]).code(), 437);
    assert_eq!(world.server.list(world.now).len(), 1);
    bob.refresh(&mut world, Some(0));
    world.assert_empty();
}

#[test]
fn requests_are_counted_by_method_and_outcome() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:1");
    alice.allocate(&mut world);
    alice.permit(&mut world, &["10.0.0.1:1"]);
    let mut forger = Client::new("192.0.2.9:1", "alice", "a wrong password");
    forger.challenge(&mut world);
    let request = forger.allocate_request();
    forger.ask(&mut world, request);
    let tallies = world.server.counters().tallies;
    let of = |method, code| tallies.requests().find(|(m, c, _)| (*m, *c) == (method, code)).unwrap().2;
    assert_eq!((of("allocate", 0), of("allocate", 401), of("create_permission", 403)), (1, 3, 1));
    let cause = |name| tallies.causes().find(|(cause, _)| *cause == name).unwrap().1;
    assert_eq!((cause("wrong_password"), cause("expired")), (1, 0));
}
