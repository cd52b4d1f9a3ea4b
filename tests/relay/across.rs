//! Runs of datagrams, and datagrams between two allocations of one server.

use std::net::SocketAddr;

use ternd::stun::{ChannelData, ChannelNumber};
use ternd::turn::{Framing, PayloadRange, Rates, RelayAddress, Server, Settings, Verdict};

use crate::world::{Client, World, addr, auth_settings, ip, peer, settings};

fn channel(number: u16, len: usize) -> Vec<u8> {
    [&ChannelData::header(ChannelNumber(number), len)[..], &vec![7; len]].concat()
}

/// The counters that tell how much was relayed: to peers and to clients, packets and bytes.
fn relayed(world: &World) -> [u64; 4] {
    let t = world.server.counters().traffic;
    [t.to_peers, t.to_peers_bytes, t.to_client, t.to_client_bytes]
}

#[test]
fn a_run_of_one_channel_is_one_verdict_and_counts_for_all() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let relay = world.relay_of(&alice);
    let run = [channel(0x4000, 100).repeat(5), channel(0x4000, 30)].concat();
    let verdict = world.server.handle_client_run(world.now, alice.flow, &run, 104);
    let payload = PayloadRange { start: 4, end: 104 };
    let to = addr("192.0.2.99:1");
    assert_eq!(verdict, Verdict::Relay { relay, to, payload, dont_fragment: false });
    assert_eq!(relayed(&world), [6, 530, 0, 0]);

    let verdict = world.server.handle_peer_run(world.now, relay, to, 100, 530);
    let (framing, payload) = (Framing::Channel(ChannelNumber(0x4000)), PayloadRange::all(100));
    assert_eq!(verdict, Verdict::ToClient { flow: alice.flow, framing, payload });
    assert_eq!(relayed(&world), [6, 530, 6, 530]);
}

#[test]
fn what_is_not_all_alike_is_taken_datagram_by_datagram() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    alice.bind(&mut world, 0x4001, "192.0.2.99:2");
    alice.permit(&mut world, &["192.0.2.98:1"]);
    let relay = world.relay_of(&alice);
    let before = world.server.counters();
    let padded = [&channel(0x4000, 99)[..], b"\0"].concat();
    let indication = alice.send_indication("192.0.2.99:1", &[7; 60]);
    for (other, size) in [
        (channel(0x4001, 100), 104),
        (padded, 104),
        (vec![0x40; 104], 104),
        (vec![0x40, 0, 0, 96], 104),
        (vec![0x40], 104),
        (indication.clone(), indication.len()),
    ] {
        let first = channel(0x4000, size - 4);
        let run = [&first[..], &first, &other].concat();
        assert_eq!(
            world.server.handle_client_run(world.now, alice.flow, &run, size),
            Verdict::Apart,
            "{other:?}"
        );
        let run = [other.clone(), first].concat();
        if other.len() == size {
            assert_eq!(
                world.server.handle_client_run(world.now, alice.flow, &run, size),
                Verdict::Apart,
                "{other:?}"
            );
        }
    }
    // A Data indication has a transaction id of its own.
    assert_eq!(
        world.server.handle_peer_run(world.now, relay, addr("192.0.2.98:1"), 100, 300),
        Verdict::Apart
    );
    assert_eq!(world.server.counters(), before, "what is handed in again is counted once");
}

#[test]
fn a_run_passes_only_where_each_of_its_datagrams_would() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let relay = world.relay_of(&alice);
    let run = |number| channel(number, 100).repeat(8);
    let nothing = Verdict::Nothing;
    let stranger = Client::alice("192.0.2.8:4000").flow;
    assert_eq!(world.server.handle_client_run(world.now, stranger, &run(0x4000), 104), nothing);
    assert_eq!(world.server.handle_client_run(world.now, alice.flow, &run(0x4001), 104), nothing);
    assert_eq!(world.server.handle_peer_run(world.now, relay, addr("192.0.2.98:1"), 100, 800), nothing);
    let counters = world.server.counters();
    assert_eq!((counters.no_allocation, counters.no_channel, counters.no_permission), (8, 8, 8));

    // The permission ends after 300 seconds, the channel after 600.
    world.wait(299);
    assert_ne!(world.server.handle_client_run(world.now, alice.flow, &run(0x4000), 104), nothing);
    assert_ne!(world.server.handle_peer_run(world.now, relay, addr("192.0.2.99:1"), 100, 800), nothing);
    world.wait(1);
    assert_eq!(world.server.handle_client_run(world.now, alice.flow, &run(0x4000), 104), nothing);
    assert_eq!(world.server.handle_peer_run(world.now, relay, addr("192.0.2.99:1"), 100, 800), nothing);
    assert_eq!(world.server.counters().no_permission, 24);
}

#[test]
fn of_a_run_over_a_cap_as_much_passes_as_of_single_datagrams() {
    for rates in [Rates { bytes: 0, packets: 50 }, Rates { bytes: 5_000, packets: 0 }] {
        for of_user in [false, true] {
            let mut limited = settings();
            let limits = &mut limited.limits;
            *(if of_user { &mut limits.user_rates } else { &mut limits.allocation_rates }) = rates;
            let mut world = World::with(limited, auth_settings());
            let mut alice = Client::alice("192.0.2.7:4000");
            alice.allocate(&mut world);
            alice.bind(&mut world, 0x4000, "192.0.2.99:1");
            let relay = world.relay_of(&alice);
            let run = channel(0x4000, 100).repeat(20);
            let mut whole =
                || world.server.handle_client_run(world.now, alice.flow, &run, 104) != Verdict::Apart;
            assert_eq!([whole(), whole(), whole()], [true, true, false]);
            let single = channel(0x4000, 100);
            let passed = |world: &mut World| {
                (0..20)
                    .filter(|_| {
                        world.server.handle_client(world.now, alice.flow, &single) != Verdict::Nothing
                    })
                    .count()
            };
            assert_eq!(passed(&mut world), 10);
            assert_eq!(
                world.server.handle_peer_run(world.now, relay, addr("192.0.2.99:1"), 100, 200),
                Verdict::Apart
            );
            assert_eq!(world.server.counters().over_rate, 10);
        }
    }
}

/// Alice and Bob, each with a channel to the other's relayed address.
fn two(world: &mut World) -> (Client, Client) {
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    alice.allocate(world);
    bob.allocate(world);
    let (at_alice, at_bob) = (alice.relayed.unwrap().to_string(), bob.relayed.unwrap().to_string());
    assert_eq!(alice.bind(world, 0x4000, &at_bob).code(), 0);
    assert_eq!(bob.bind(world, 0x4ABC, &at_alice).code(), 0);
    (alice, bob)
}

#[test]
fn a_datagram_for_a_relay_of_the_same_server_goes_straight_to_its_client() {
    let mut world = World::new();
    let (alice, bob) = two(&mut world);
    let payload = PayloadRange { start: 4, end: 104 };
    let to_bob =
        Verdict::ToClient { flow: bob.flow, framing: Framing::Channel(ChannelNumber(0x4ABC)), payload };
    assert_eq!(alice.channel(&mut world, 0x4000, &[7; 100]), to_bob);
    assert_eq!(relayed(&world), [1, 100, 1, 100]);
    let run = channel(0x4000, 100).repeat(5);
    assert_eq!(world.server.handle_client_run(world.now, alice.flow, &run, 104), to_bob);
    assert_eq!(relayed(&world), [6, 600, 6, 600]);
    // A Send indication takes the same way.
    match alice.send(&mut world, &bob.relayed.unwrap().to_string(), b"hello") {
        Verdict::ToClient { flow, payload, .. } => {
            assert_eq!((flow, payload.end - payload.start), (bob.flow, 5));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_must_allow_it() {
    let mut world = World::new();
    let (alice, mut bob) = two(&mut world);
    let mut carol = Client::alice("192.0.2.9:4000");
    carol.allocate(&mut world);
    // Bob's permission is for the address, so Carol's port is good as well; as an indication, since it has no channel.
    carol.bind(&mut world, 0x4000, &bob.relayed.unwrap().to_string());
    match carol.channel(&mut world, 0x4000, b"hello") {
        Verdict::ToClient { flow, framing: Framing::Data { peer: from, .. }, .. } => {
            assert_eq!((flow, from), (bob.flow, peer(&carol.relayed.unwrap().to_string())));
        }
        other => panic!("{other:?}"),
    }
    let run = channel(0x4000, 100).repeat(5);
    let before = relayed(&world);
    assert_eq!(world.server.handle_client_run(world.now, carol.flow, &run, 104), Verdict::Apart);
    assert_eq!(relayed(&world), before, "nothing is counted of what must be handed in one by one");

    // Dave permits nobody.
    let mut dave = Client::bob("192.0.2.10:4000");
    dave.allocate(&mut world);
    let at_dave = dave.relayed.unwrap().to_string();
    carol.bind(&mut world, 0x4001, &at_dave);
    assert_eq!(carol.channel(&mut world, 0x4001, b"hello"), Verdict::Nothing);
    assert_eq!(world.server.counters().no_permission, 1);
    // And who has no permission for Dave does not get that far.
    assert_eq!(Client::alice("192.0.2.7:4000").channel(&mut world, 0x4001, b"x"), Verdict::Nothing);

    // An allocation that has ended is no way, and no relay of the server.
    bob.refresh(&mut world, Some(0));
    let before = world.server.counters().no_permission;
    assert_eq!(alice.channel(&mut world, 0x4000, b"hello"), Verdict::Nothing);
    assert_eq!(world.server.counters().no_permission, before + 1);
}

#[test]
fn who_names_its_own_relay_hears_itself_once() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    let itself = alice.relayed.unwrap().to_string();
    alice.bind(&mut world, 0x4000, &itself);
    assert_eq!(
        alice.channel(&mut world, 0x4000, b"hello"),
        Verdict::ToClient {
            flow: alice.flow,
            framing: Framing::Channel(ChannelNumber(0x4000)),
            payload: PayloadRange { start: 4, end: 9 },
        }
    );
    assert_eq!(relayed(&world), [1, 5, 1, 5]);
}

#[test]
fn caps_hold_on_both_sides() {
    let mut limited = settings();
    limited.limits.allocation_rates = Rates { bytes: 0, packets: 50 };
    let mut world = World::with(limited, auth_settings());
    let (alice, bob) = two(&mut world);
    let relay = world.relay_of(&bob);
    // Bob has got 30 already.
    for _ in 0..30 {
        assert_ne!(world.server.handle_peer(world.now, relay, alice.relayed.unwrap(), 9), Verdict::Nothing);
    }
    let run = channel(0x4000, 100).repeat(40);
    assert_eq!(world.server.handle_client_run(world.now, alice.flow, &run, 104), Verdict::Apart);
    let passed = (0..40).filter(|_| alice.channel(&mut world, 0x4000, &[7; 100]) != Verdict::Nothing).count();
    assert_eq!(passed, 20);
    assert_eq!(world.server.counters().over_rate, 20);
}

/// Behind 1:1 NAT clients know relays by the announced address.
fn behind_nat() -> Settings {
    let relay = RelayAddress { local: ip("10.0.0.5"), announced: ip("198.51.100.1") };
    Settings { relay_addresses: vec![relay], ..settings() }
}

#[test]
fn behind_nat_the_peer_has_its_announced_address() {
    let mut world = World::with(behind_nat(), auth_settings());
    let (alice, bob) = two(&mut world);
    assert_eq!(bob.relayed.unwrap().ip(), ip("198.51.100.1"));
    assert!(matches!(alice.channel(&mut world, 0x4000, b"x"),
        Verdict::ToClient { flow, framing: Framing::Channel(ChannelNumber(0x4ABC)), .. } if flow == bob.flow));
    let mut carol = Client::alice("192.0.2.9:4000");
    carol.allocate(&mut world);
    carol.bind(&mut world, 0x4000, &bob.relayed.unwrap().to_string());
    match carol.channel(&mut world, 0x4000, b"hello") {
        Verdict::ToClient { framing: Framing::Data { peer: from, .. }, .. } => {
            assert_eq!(from, peer(&carol.relayed.unwrap().to_string()), "announced, not local");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn to_another_shard_it_goes_with_local_addresses_and_is_checked_there() {
    let mut world = World::with(behind_nat(), auth_settings());
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    alice.allocate(&mut world);
    // The other shard: what it shares is shared.
    let server = Server::new(world.settings.clone(), world.auth.clone(), world.shared.clone(), [8; 32], 1);
    let first = std::mem::replace(&mut world.server, server);
    let sockets = std::mem::take(&mut world.sockets);
    bob.allocate(&mut world);
    let (at_alice, at_bob) = (alice.relayed.unwrap(), bob.relayed.unwrap());
    bob.bind(&mut world, 0x4ABC, &at_alice.to_string());
    let mut second = std::mem::replace(&mut world.server, first);
    world.sockets = sockets;
    alice.bind(&mut world, 0x4000, &at_bob.to_string());

    let local = |a: SocketAddr| SocketAddr::new(ip("10.0.0.5"), a.port());
    let (from, to) = (local(at_alice), local(at_bob));
    let run = [channel(0x4000, 100).repeat(3), channel(0x4000, 10)].concat();
    let payload = PayloadRange { start: 4, end: 104 };
    let across = Verdict::ToShard { shard: 1, from, to, payload };
    assert_eq!(world.server.handle_client_run(world.now, alice.flow, &run, 104), across);
    assert_eq!(relayed(&world), [4, 310, 0, 0]);

    let framing = Framing::Channel(ChannelNumber(0x4ABC));
    let to_bob = |len| Verdict::ToClient { flow: bob.flow, framing, payload: PayloadRange::all(len) };
    assert_eq!(second.handle_relayed(world.now, from, to, 100, 310), to_bob(100));
    assert_eq!(second.handle_relayed(world.now, from, to, 5, 5), to_bob(5));
    assert_eq!(second.handle_relayed(world.now, from, to, 0, 0), to_bob(0), "empty datagrams, too");
    assert_eq!(second.counters().traffic.to_client, 6);
    // Another relay of that shard, of this one, or none.
    let nothing = Verdict::Nothing;
    for elsewhere in [local(at_alice), addr("10.0.0.5:1"), addr("192.0.2.1:1")] {
        assert_eq!(second.handle_relayed(world.now, from, elsewhere, 100, 310), nothing);
    }
    assert_eq!(second.counters().no_allocation, 12);
    // A port that relays nothing may not send.
    assert_eq!(second.handle_relayed(world.now, addr("10.0.0.5:1"), to, 5, 5), nothing);
    assert_eq!(second.counters().no_permission, 1);
}
