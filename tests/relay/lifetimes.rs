//! Everything ends, at the second the RFC says.

use ternd::stun::{AttributeType, Method};
use ternd::turn::{EndReason, Event, Framing, Verdict};

use crate::world::{Client, World, assert_relayed, assert_to_client};

#[test]
fn an_allocation_ends_when_its_lifetime_is_over() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    world.wait(599);
    assert_eq!(world.sockets.len(), 1);
    world.wait(1);
    world.assert_empty();
    assert_eq!(world.server.poll_timeout(), None);
    assert!(matches!(world.events.last(), Some(Event::AllocationEnded { reason: EndReason::Expired, .. })));
    assert_eq!(alice.refresh(&mut world, None).code(), 437);
}

#[test]
fn a_refresh_starts_the_lifetime_anew() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    world.wait(500);
    assert_eq!(alice.refresh(&mut world, None).lifetime(), Some(600));
    world.wait(599);
    assert_eq!(world.sockets.len(), 1);
    world.wait(1);
    world.assert_empty();
}

//= 8656-7.2-10
#[test]
fn the_lifetime_is_clamped_both_ways() {
    let mut world = World::new();
    for (port, asked, granted) in [(1, 60, 600), (2, 600, 600), (3, 1800, 1800), (4, u32::MAX, 3600)] {
        let mut client = Client::alice(&format!("192.0.2.7:{port}"));
        let request = client.allocate_request().u32(AttributeType::LIFETIME, asked);
        assert_eq!(client.allocate_with(&mut world, request).lifetime(), Some(granted), "asked for {asked}");
        assert_eq!(client.refresh(&mut world, Some(asked)).lifetime(), Some(granted), "asked for {asked}");
    }
    // RFC 8656 section 7.2: zero has no special meaning in an Allocate.
    let mut client = Client::alice("192.0.2.7:5");
    let request = client.allocate_request().u32(AttributeType::LIFETIME, 0);
    assert_eq!(client.allocate_with(&mut world, request).lifetime(), Some(600));
}

//= 8656-9-1
#[test]
fn a_permission_lasts_300_seconds_and_data_does_not_refresh_it() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    let relay = world.relay_of(&alice);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    world.wait(299);
    assert_relayed(alice.send(&mut world, "192.0.2.99:1", b"x"), relay, "192.0.2.99:1", 1);
    let verdict = world.peer_sends(&alice, "192.0.2.99:1", 1);
    assert_to_client(verdict, &alice);
    world.wait(1);
    assert_eq!(alice.send(&mut world, "192.0.2.99:1", b"x"), Verdict::Nothing);
    assert_eq!(world.peer_sends(&alice, "192.0.2.99:1", 1), Verdict::Nothing);
}

#[test]
fn permissions_are_refreshed_by_either_request() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    let relay = world.relay_of(&alice);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    world.wait(200);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    world.wait(200);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    world.wait(199);
    assert_relayed(alice.send(&mut world, "192.0.2.99:1", b"x"), relay, "192.0.2.99:1", 1);
}

//= 8656-12.6-1
#[test]
fn a_channel_lasts_600_seconds_but_needs_its_permission() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().u32(AttributeType::LIFETIME, 3600);
    alice.allocate_with(&mut world, request);
    let relay = world.relay_of(&alice);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");

    world.wait(299);
    assert_relayed(alice.channel(&mut world, 0x4000, b"x"), relay, "192.0.2.99:1", 1);
    world.wait(1);
    assert_eq!(alice.channel(&mut world, 0x4000, b"x"), Verdict::Nothing, "the permission is over");
    alice.permit(&mut world, &["192.0.2.99:1"]);
    assert_relayed(alice.channel(&mut world, 0x4000, b"x"), relay, "192.0.2.99:1", 1);

    world.wait(299);
    let verdict = world.peer_sends(&alice, "192.0.2.99:1", 1);
    assert!(matches!(assert_to_client(verdict, &alice), Framing::Channel(_)));
    alice.permit(&mut world, &["192.0.2.99:1"]);
    world.wait(1);
    assert_eq!(alice.channel(&mut world, 0x4000, b"x"), Verdict::Nothing, "the channel is over");
    let verdict = world.peer_sends(&alice, "192.0.2.99:1", 1);
    assert!(matches!(assert_to_client(verdict, &alice), Framing::Data { .. }));

    // Both sides of the binding are free again.
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.99:2").code(), 0);
    assert_eq!(alice.bind(&mut world, 0x4001, "192.0.2.99:1").code(), 0);
}

//= 8489-9.2.4-14 8656-5-3
#[test]
fn a_nonce_ends_after_its_lifetime() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().u32(AttributeType::LIFETIME, 3600);
    alice.allocate_with(&mut world, request);
    world.wait(3599);
    assert_eq!(alice.refresh(&mut world, Some(3600)).code(), 0);
    world.wait(2);
    let stale = alice.refresh(&mut world, None);
    assert_eq!(stale.code(), 438);
    assert_eq!(stale.kinds()[..3], [AttributeType::ERROR_CODE, AttributeType::REALM, AttributeType::NONCE]);
    if let Some(ternd::stun::Attribute::Nonce(nonce)) = stale.get(AttributeType::NONCE) {
        alice.nonce = nonce.to_vec();
    }
    assert_eq!(alice.refresh(&mut world, None).code(), 0, "with the new nonce it goes on");
}

#[test]
fn a_wave_of_expiries_is_taken_in_bounded_steps() {
    let mut settings = crate::world::settings();
    settings.limits.allocations_per_user = 10_000;
    settings.limits.allocations_per_address = 10_000;
    let mut world = World::with(settings, crate::world::auth_settings());
    for port in 1..=1_000 {
        Client::alice(&format!("192.0.2.7:{port}")).allocate(&mut world);
    }
    world.now = world.now.after(std::time::Duration::from_secs(600));
    let mut calls = 0;
    while world.server.poll_timeout().is_some_and(|at| at <= world.now.instant) {
        world.server.handle_timeout(world.now);
        calls += 1;
    }
    assert!((10..=40).contains(&calls), "{calls}");
    world.drive();
    world.assert_empty();
}

#[test]
fn a_method_on_an_expired_allocation_is_a_mismatch() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    world.wait(600);
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let request = alice.request(method);
        assert_eq!(alice.ask(&mut world, request).code(), 437, "{method:?}");
    }
}

#[test]
fn a_request_that_overtakes_the_timer_finds_nothing_that_is_over() {
    let mut world = World::new();
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    alice.allocate(&mut world);
    bob.allocate(&mut world);
    world.now = world.now.after(std::time::Duration::from_secs(600));
    assert_eq!(alice.refresh(&mut world, None).code(), 437, "no life after death");
    // The path is free for another allocation, in the same moment.
    bob.allocate(&mut world);
    assert_eq!(world.server.allocations(), 1);
}
