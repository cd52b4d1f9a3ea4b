//! TCP allocations (RFC 6062), told as stories.

use ternd::stun::{Attribute, AttributeType as T, Class, Message, Method};
use ternd::turn::{ConnectionId, Output, Transport, Verdict};

use crate::world::{Answer, Client, World, addr};

/// A client on a connection, with a TCP allocation.
fn tcp_client(world: &mut World, from: &str) -> Client {
    let mut client = Client::alice(from);
    client.flow.transport = Transport::Tcp;
    let request = client.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    client.allocate_with(world, request);
    client
}

/// Sends a request that is answered later; what is to be done meanwhile.
fn ask_later(world: &mut World, client: &mut Client, peer: &str) -> (ConnectionId, String) {
    let request = client.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr(peer));
    assert_eq!(world.ask(client.flow, &client.sign(request)), None, "the answer waits for the peer");
    match world.streams.pop() {
        Some(Output::ConnectPeer { connection, to, .. }) => (connection, to.to_string()),
        other => panic!("{other:?}"),
    }
}

fn answer(world: &mut World, client: &Client) -> Answer {
    let [(flow, bytes)] = world.drive().try_into().expect("one answer");
    assert_eq!(flow, client.flow);
    let answer = Answer(bytes);
    assert!(answer.message().verify_integrity(client.key().as_bytes()));
    answer
}

fn connect(world: &mut World, client: &mut Client, peer: &str) -> ConnectionId {
    let (connection, to) = ask_later(world, client, peer);
    assert_eq!(to, peer);
    world.server.peer_connected(world.now, connection, true);
    let answer = answer(world, client);
    assert_eq!(answer.code(), 0);
    assert_eq!(answer.get(T::CONNECTION_ID), Some(Attribute::ConnectionId(connection.0)));
    connection
}

/// ConnectionBind on a new connection of the same user.
fn bind(world: &mut World, from: &str, connection: ConnectionId) -> (Client, u16) {
    let mut data = Client::alice(from);
    data.flow.transport = Transport::Tcp;
    let request = data.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
    let code = data.ask(world, request).code();
    (data, code)
}

//= 6062-5.2-3 6062-5.2-7 6062-5.4-2 6062-5.5-1
#[test]
fn a_client_connects_to_a_peer() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let connection = connect(&mut world, &mut alice, "192.0.2.99:80");
    let (data, code) = bind(&mut world, "192.0.2.7:4001", connection);
    assert_eq!(code, 0);
    assert_eq!(world.streams, [Output::Join { flow: data.flow, connection }]);
    world.streams.clear();

    let (_, code) = bind(&mut world, "192.0.2.7:4002", connection);
    assert_eq!(code, 400, "bound once");
    world.wait(31);
    assert_eq!(world.streams, [], "a bound connection does not time out");

    alice.refresh(&mut world, Some(0));
    assert_eq!(world.streams, [Output::ClosePeer { connection }], "and ends with its allocation");
    world.assert_empty();
}

//= 6062-5.3-1 6062-5.3-2
#[test]
fn a_peer_connects_to_a_client() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let relay = world.relay_of(&alice);
    assert_eq!(world.server.peer_accepted(world.now, relay, addr("192.0.2.99:555")), None, "no permission");
    alice.permit(&mut world, &["192.0.2.99:0"]);
    let connection = world.server.peer_accepted(world.now, relay, addr("192.0.2.99:555")).unwrap();
    let [(flow, bytes)] = world.drive().try_into().expect("one indication");
    assert_eq!(flow, alice.flow);
    let attempt = Message::parse(&bytes).unwrap();
    assert_eq!((attempt.class(), attempt.method()), (Class::Indication, Method::CONNECTION_ATTEMPT));
    let all: Vec<_> = attempt.attributes().map(|a| a.decode(attempt.transaction_id()).unwrap()).collect();
    assert_eq!(
        all,
        [Attribute::XorPeerAddress(addr("192.0.2.99:555")), Attribute::ConnectionId(connection.0)]
    );
    assert_eq!(bind(&mut world, "192.0.2.7:4001", connection).1, 0);
}

//= 6062-5.2-4 6062-5.2-5 6062-5.2-8
#[test]
fn what_is_not_reached_or_not_bound_in_30_seconds_is_given_up() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let unbound = connect(&mut world, &mut alice, "192.0.2.99:80");
    let (silent, _) = ask_later(&mut world, &mut alice, "192.0.2.98:80");
    world.now = world.now.after(std::time::Duration::from_secs(30));
    world.server.handle_timeout(world.now);
    assert_eq!(answer(&mut world, &alice).code(), 447);
    assert_eq!(
        world.streams,
        [Output::ClosePeer { connection: unbound }, Output::ClosePeer { connection: silent }]
    );
    assert_eq!(bind(&mut world, "192.0.2.7:4001", unbound).1, 400);
    // The peers are free to be tried again.
    connect(&mut world, &mut alice, "192.0.2.98:80");
}

//= 6062-5.2-1 6062-5.2-2
#[test]
fn connect_is_refused() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let mut code = |world: &mut World, peer: &str| {
        let request = alice.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr(peer));
        alice.ask(world, request).code()
    };
    assert_eq!(code(&mut world, "127.0.0.1:80"), 403);
    assert_eq!(code(&mut world, "192.0.2.99:0"), 400);
    assert_eq!(code(&mut world, "[2001:db8:2::1]:80"), 443);
    assert_eq!(code(&mut world, "198.51.100.1:22"), 403, "a port of the server itself");
    let request = alice.request(Method::CONNECT);
    assert_eq!(alice.ask(&mut world, request).code(), 400);

    let (connection, _) = ask_later(&mut world, &mut alice, "192.0.2.99:80");
    let request = alice.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:80"));
    assert_eq!(alice.ask(&mut world, request).code(), 446, "while it is being made");
    world.server.peer_connected(world.now, connection, false);
    assert_eq!(answer(&mut world, &alice).code(), 447);
    connect(&mut world, &mut alice, "192.0.2.99:80");
    let request = alice.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:80"));
    assert_eq!(alice.ask(&mut world, request).code(), 446, "while it exists");

    let mut udp = Client::alice("192.0.2.7:4009");
    udp.allocate(&mut world);
    let request = udp.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:80"));
    assert_eq!(udp.ask(&mut world, request).code(), 400, "a UDP allocation");
    // Nor are there channels to a peer of a TCP allocation.
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.99:80").code(), 400);
}

//= 6062-5.4-1 6062-5.4-2
#[test]
fn bind_is_refused_to_others_and_moves_to_the_right_shard() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let connection = connect(&mut world, &mut alice, "192.0.2.99:80");

    let mut bob = Client::bob("192.0.2.8:4001");
    bob.flow.transport = Transport::Tcp;
    let request = bob.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
    assert_eq!(bob.ask(&mut world, request).code(), 441);
    let request = bob.request(Method::CONNECTION_BIND);
    assert_eq!(bob.ask(&mut world, request).code(), 400);
    let mut udp = Client::alice("192.0.2.7:4003");
    let request = udp.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
    assert_eq!(udp.ask(&mut world, request).code(), 400);

    // A connection of shard 1, asked for at shard 0. Shard 2 does not exist.
    let request = bob.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, 1 << 24);
    let bytes = bob.sign(request);
    assert_eq!(world.ask(bob.flow, &bytes), None);
    assert_eq!(world.streams, [Output::Migrate { flow: bob.flow, shard: 1, bytes }]);
    let request = bob.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, 2 << 24);
    assert_eq!(bob.ask(&mut world, request).code(), 400);
}

#[test]
fn a_connection_is_bound_though_the_credential_has_expired_since() {
    let mut world = World::new();
    let credential = world.auth.issue("carol", std::time::Duration::from_secs(60), world.now).unwrap();
    let mut carol = Client::new("192.0.2.7:4000", &credential.username, &credential.password);
    carol.flow.transport = Transport::Tcp;
    let request = carol.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    carol.allocate_with(&mut world, request);
    world.wait(120);
    let connection = connect(&mut world, &mut carol, "192.0.2.99:80");

    let mut data = carol.clone();
    data.flow = Client::alice("192.0.2.7:4001").flow;
    data.flow.transport = Transport::Tcp;
    data.challenge(&mut world);
    let request = data.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
    assert_eq!(data.ask(&mut world, request).code(), 0, "a running call goes on");
    assert_eq!(world.streams, [Output::Join { flow: data.flow, connection }]);

    // What names no connection of carol's does not make her credential good again.
    data.flow = Client::alice("192.0.2.7:4002").flow;
    data.flow.transport = Transport::Tcp;
    data.challenge(&mut world);
    let request = data.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, 7);
    assert_eq!(data.ask(&mut world, request).code(), 401);
}

#[test]
fn the_shard_of_a_connection_says_who_may_bind_it() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4001");
    alice.flow.transport = Transport::Tcp;
    let bind = |alice: &mut Client| alice.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, 1 << 24);
    let bare = bind(&mut alice).finish();
    assert_eq!(world.ask(alice.flow, &bare).unwrap().code(), 401, "whoever has not signed stays here");
    alice.challenge(&mut world);
    alice.password = "guessed".into();
    let request = bind(&mut alice);
    let bytes = alice.sign(request);
    assert_eq!(world.ask(alice.flow, &bytes), None);
    assert_eq!(
        world.streams.pop(),
        Some(Output::Migrate { flow: alice.flow, shard: 1, bytes: bytes.clone() })
    );
    // That shard has no such connection, and looks at the password.
    world.server = ternd::turn::Server::new(
        world.settings.clone(),
        world.auth.clone(),
        world.shared.clone(),
        [1; 32],
        1,
    );
    assert_eq!(world.ask(alice.flow, &bytes).unwrap().code(), 401);

    // A stream with an allocation is bound to its shard.
    world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let request = bind(&mut alice);
    assert_eq!(alice.ask(&mut world, request).code(), 400);
}

#[test]
fn data_of_datagrams_has_no_way_through_a_tcp_allocation() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    alice.permit(&mut world, &["192.0.2.99:1"]);
    assert_eq!(alice.send(&mut world, "192.0.2.99:1", b"x"), Verdict::Nothing);
}

#[test]
fn nobody_connects_to_a_relay_that_is_over() {
    let mut world = World::new();
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let relay = world.relay_of(&alice);
    world.wait(599);
    alice.permit(&mut world, &["192.0.2.99:0"]);
    // The timer has not been looked at.
    world.now = world.now.after(std::time::Duration::from_secs(1));
    assert_eq!(world.server.peer_accepted(world.now, relay, addr("192.0.2.99:555")), None);
    world.server.handle_peer_error(world.now, relay, addr("192.0.2.99:555"), (3, 3), 0);
    assert_eq!(world.drive(), []);
}

#[test]
fn connections_end_with_the_relay_of_their_family() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.flow.transport = Transport::Tcp;
    let request = alice.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    alice.allocate_with(&mut world, request.raw(T::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]));
    let v4 = connect(&mut world, &mut alice, "192.0.2.99:80");
    let v6 = connect(&mut world, &mut alice, "[2001:db8:2::99]:80");
    let half = alice.request(Method::REFRESH).u32(T::LIFETIME, 0);
    let answer = alice.ask(&mut world, half.raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]));
    assert_eq!(answer.code(), 0);
    assert_eq!(world.streams, [Output::ClosePeer { connection: v6 }]);
    assert_eq!(bind(&mut world, "192.0.2.7:4001", v6).1, 400);
    assert_eq!(bind(&mut world, "192.0.2.7:4001", v4).1, 0);
}

#[test]
fn a_udp_port_and_the_tcp_port_of_the_same_number_are_two() {
    let mut world = World::new();
    let mut tcp = tcp_client(&mut world, "192.0.2.7:4000");
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4001"), Client::bob("192.0.2.8:4000"));
    alice.allocate(&mut world);
    let at_tcp = tcp.relayed.unwrap().to_string();
    assert_eq!(alice.bind(&mut world, 0x4000, &at_tcp).code(), 403, "nothing relays UDP there");

    // The driver finds the same number free for UDP.
    world.next_port = tcp.relayed.unwrap().port();
    bob.allocate(&mut world);
    assert_eq!(bob.relayed, tcp.relayed);
    assert_eq!(alice.bind(&mut world, 0x4000, &at_tcp).code(), 0);
    bob.permit(&mut world, &[&alice.relayed.unwrap().to_string()]);
    tcp.refresh(&mut world, Some(0));
    assert!(
        matches!(alice.channel(&mut world, 0x4000, b"x"), Verdict::ToClient { flow, .. } if flow == bob.flow),
        "bob's port stays open"
    );
    bob.refresh(&mut world, Some(0));
    assert_eq!(alice.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
}

#[test]
fn peer_connections_are_capped_and_gone_ones_forgotten() {
    let mut settings = crate::world::settings();
    settings.limits.peer_connections = 2;
    let mut world = World::with(settings, crate::world::auth_settings());
    let mut alice = tcp_client(&mut world, "192.0.2.7:4000");
    let first = connect(&mut world, &mut alice, "192.0.2.99:1");
    connect(&mut world, &mut alice, "192.0.2.99:2");
    let request = alice.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:3"));
    assert_eq!(alice.ask(&mut world, request).code(), 508);
    world.server.peer_gone(first);
    connect(&mut world, &mut alice, "192.0.2.99:3");
    world.server.client_gone(world.now, alice.flow);
    world.drive();
    world.assert_empty();
}

//= 6062-5.1-2
#[test]
fn what_is_for_datagrams_is_refused() {
    let mut world = World::new();
    for (kind, value) in [(T::EVEN_PORT, &[0][..]), (T::DONT_FRAGMENT, &[]), (T::RESERVATION_TOKEN, &[0; 8])]
    {
        let mut client = Client::alice("192.0.2.7:4000");
        client.flow.transport = Transport::Tcp;
        let request = client.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
        assert_eq!(client.ask(&mut world, request.raw(kind, value)).code(), 400, "{kind:?}");
    }
    world.assert_empty();
}
