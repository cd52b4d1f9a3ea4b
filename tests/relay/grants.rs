//! What a path beside the relay would have to know: what may pass, until when, and what may no more.

use std::time::Duration;

use ternd::stun::{AttributeType as T, ChannelNumber};
use ternd::turn::{Grant, Output};

use crate::world::{Client, World, auth_settings, ip, settings};

const CHANNEL: Grant = Grant::Channel { number: ChannelNumber(0x4000), peer: peer_99() };

const fn peer_99() -> ternd::turn::PeerAddr {
    let ip = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 99));
    ternd::turn::PeerAddr(std::net::SocketAddr::new(ip, 1))
}

#[test]
fn permissions_and_channels_are_told_when_they_begin_and_when_they_end() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    assert_eq!(world.grants, []);
    let (relay, flow, start) = (world.relay_of(&alice), alice.flow, world.now.instant);
    let granted = |grant, at: u64, lasts: u64| {
        let until = start + Duration::from_secs(at + lasts);
        Output::Granted { relay, flow, grant, until }
    };
    let permission = |text| Grant::Permission(ip(text));

    alice.permit(&mut world, &["192.0.2.98:1", "192.0.2.97:5"]);
    let both = [granted(permission("192.0.2.97"), 0, 300), granted(permission("192.0.2.98"), 0, 300)];
    assert_eq!(std::mem::take(&mut world.grants), both);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let both = [granted(permission("192.0.2.99"), 0, 300), granted(CHANNEL, 0, 600)];
    assert_eq!(std::mem::take(&mut world.grants), both);

    // What is refused is not granted.
    assert_eq!(alice.permit(&mut world, &["192.0.2.96:1", "10.0.0.1:1"]).code(), 403);
    assert_eq!(alice.bind(&mut world, 0x4001, "192.0.2.99:1").code(), 400);
    assert_eq!(world.grants, []);

    // Refreshed once, then left alone.
    world.wait(200);
    alice.permit(&mut world, &["192.0.2.98:1"]);
    assert_eq!(std::mem::take(&mut world.grants), [granted(permission("192.0.2.98"), 200, 300)]);
    let revoked = |grant| Output::Revoked { relay, grant };
    world.wait(105);
    let two = [revoked(permission("192.0.2.97")), revoked(permission("192.0.2.99"))];
    assert_eq!(std::mem::take(&mut world.grants), two);
    world.wait(200);
    assert_eq!(std::mem::take(&mut world.grants), [revoked(permission("192.0.2.98"))]);
    alice.refresh(&mut world, Some(3_000));
    world.wait(100);
    assert_eq!(std::mem::take(&mut world.grants), [revoked(CHANNEL)]);

    // With its relay all ends.
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    world.grants.clear();
    alice.refresh(&mut world, Some(0));
    assert_eq!((world.grants.len(), world.sockets.len()), (0, 0));
}

#[test]
fn who_moves_has_its_grants_anew() {
    let mut mobile = settings();
    mobile.mobility = true;
    let mut world = World::with(mobile, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let answer = alice.allocate_with(&mut world, request);
    let ticket = answer.message().find(T::MOBILITY_TICKET).unwrap().value.to_vec();
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let before = std::mem::take(&mut world.grants);
    let old = alice.flow;
    alice.flow = Client::alice("192.0.2.50:4000").flow;
    // A nonce belongs to an address.
    alice.nonce.clear();
    let request = alice.request(ternd::stun::Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    assert_eq!(alice.ask(&mut world, request).code(), 0);
    assert_eq!(world.grants, [], "until it has sent something over the new path");
    alice.channel(&mut world, 0x4000, b"here I am");
    let with_flow = |output: Output| match output {
        Output::Granted { relay, flow, grant, until } if flow == old => {
            Output::Granted { relay, flow: alice.flow, grant, until }
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(world.grants, before.into_iter().map(with_flow).collect::<Vec<_>>());
}
