//! A full server sends its clients to another one (RFC 8489 section 10).

use ternd::stun::{Attribute, AttributeType as T};
use ternd::turn::{Event, Rejection, Settings, Transport};

use crate::world::{Answer, Client, World, addr, auth_settings, settings};

/// Room for one allocation, and this is where others are sent.
fn full(alternates: &[&str]) -> World {
    let alternate_servers = alternates.iter().map(|a| addr(a)).collect();
    let mut settings = Settings { alternate_servers, ..settings() };
    settings.limits.allocations = 1;
    let mut world = World::with(settings, auth_settings());
    Client::alice("192.0.2.7:1").allocate(&mut world);
    world
}

fn allocate(world: &mut World, mut client: Client) -> Answer {
    let request = client.allocate_request();
    client.ask(world, request)
}

//= 8489-10-1 8489-10-2 8489-14.8-3
#[test]
fn a_full_server_names_another_one_of_the_clients_family_and_signs_it() {
    let mut world = full(&["203.0.113.20:3478", "[2001:db8::20]:3479"]);
    let (v4, v6) = ("203.0.113.20:3478", "[2001:db8::20]:3479");
    for (from, to, or) in [("192.0.2.8:1", v4, v6), ("[2001:db8:7::1]:1", v6, v4)] {
        let bob = Client::bob(from);
        let key = bob.key();
        let answer = allocate(&mut world, bob);
        assert_eq!(answer.code(), 300, "{from}");
        let named = [to, or].map(|server| Attribute::AlternateServer(addr(server)));
        assert_eq!(answer.all(T::ALTERNATE_SERVER), named, "the other family's comes second");
        assert!(answer.message().verify_integrity(key.as_bytes()));
    }
    assert!(matches!(
        world.events.last(),
        Some(Event::Refused { rejection: Rejection::TryAlternate { why, .. }, .. })
            if *why == "limits.allocations is reached"
    ));
    assert_eq!(world.server.allocations(), 1);
}

#[test]
fn nobody_is_sent_where_it_can_not_go() {
    let mut world = full(&["[2001:db8::20]:3478"]);
    let answer = allocate(&mut world, Client::bob("192.0.2.8:1"));
    assert_eq!((answer.code(), answer.get(T::ALTERNATE_SERVER)), (486, None), "another family");

    let mut world = full(&["203.0.113.20:3478"]);
    for (transport, code) in [(Transport::Udp, 300), (Transport::Tcp, 300), (Transport::Tls, 486)] {
        let mut bob = Client::bob("192.0.2.8:1");
        bob.flow.transport = transport;
        assert_eq!(allocate(&mut world, bob).code(), code, "{transport:?}");
    }
    assert_eq!(allocate(&mut full(&[]), Client::bob("192.0.2.8:1")).code(), 486);
}

//= 8489-14.8-3
#[test]
fn strangers_and_those_over_their_own_quota_are_not_sent() {
    let mut world = full(&["203.0.113.20:3478"]);
    let challenge = Client::bob("192.0.2.8:1").challenge(&mut world);
    assert_eq!(challenge.get(T::ALTERNATE_SERVER), None);

    let alternate_servers = vec![addr("203.0.113.20:3478")];
    let mut settings = Settings { alternate_servers, ..settings() };
    settings.limits.allocations_per_user = 1;
    let mut world = World::with(settings, auth_settings());
    Client::alice("192.0.2.7:1").allocate(&mut world);
    assert_eq!(allocate(&mut world, Client::alice("192.0.2.7:2")).code(), 486);
}

#[test]
fn clients_are_spread_and_a_retransmission_gets_the_same_answer() {
    let mut world = full(&["203.0.113.20:3478", "203.0.113.21:3478", "[2001:db8::20]:3478"]);
    let mut bob = Client::bob("192.0.2.8:1");
    bob.challenge(&mut world);
    let mut seen = Vec::new();
    for last in 0..4 {
        let mut request = bob.allocate_request().finish();
        request[19] = last;
        let request = ternd::stun::Builder::new(
            ternd::stun::Class::Request,
            ternd::stun::Method::ALLOCATE,
            ternd::stun::Message::parse(&request).unwrap().transaction_id(),
        )
        .raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let bytes = bob.sign(request);
        let answer = world.ask(bob.flow, &bytes).unwrap();
        assert_eq!(world.ask(bob.flow, &bytes).unwrap(), answer);
        match answer.get(T::ALTERNATE_SERVER) {
            Some(Attribute::AlternateServer(to)) => seen.push(to.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["203.0.113.20:3478", "203.0.113.21:3478", "203.0.113.20:3478", "203.0.113.21:3478"]);
}
