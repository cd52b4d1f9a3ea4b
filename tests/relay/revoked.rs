//! A user whose credentials are taken back before their time.

use ternd::turn::{EndReason, Event};

use crate::world::{Client, START, World};

#[test]
fn its_allocations_end_and_it_makes_no_new_ones_until_its_credentials_are_over() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let mut again = Client::alice("192.0.2.7:4001");
    alice.allocate(&mut world);
    again.allocate(&mut world);
    world.server.revoke(world.now, "alice", START + 60);
    world.drive();
    world.assert_empty();
    assert!(matches!(world.events.last(), Some(Event::AllocationEnded { reason: EndReason::Revoked, .. })));

    let request = alice.allocate_request();
    assert_eq!(alice.ask(&mut world, request).code(), 401);
    world.wait(60);
    let request = alice.allocate_request();
    assert_eq!(alice.ask(&mut world, request).code(), 0, "another credential may be good");
    world.server.revoke(world.now, "bob", START + 1000);
    world.drive();
    assert_eq!(world.server.allocations(), 1);
}
