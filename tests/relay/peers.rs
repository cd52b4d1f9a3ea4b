//! Which peers data may reach and come from: the policy on all of its paths.

use ternd::stun::AttributeType;
use ternd::turn::{Framing, Rejection, RelayAddress, Verdict};

use crate::world::{
    Client, World, addr, assert_relayed, assert_to_client, auth_settings, ip, peer, settings,
};

#[test]
fn closed_peers_are_refused_with_the_rule_that_closes_them() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    for closed in
        ["127.0.0.1:22", "10.0.0.1:80", "169.254.169.254:80", "224.0.0.1:5353", "0.0.0.0:1", "203.0.113.9:1"]
    {
        assert_eq!(alice.permit(&mut world, &[closed]).code(), 403, "{closed}");
        assert_eq!(alice.bind(&mut world, 0x4000, closed).code(), 403, "{closed}");
        assert_eq!(alice.send(&mut world, closed, b"x"), Verdict::Nothing, "{closed}");
        assert_eq!(world.peer_sends(&alice, closed, 1), Verdict::Nothing, "{closed}");
    }
    let reason = world.events.iter().find_map(|e| match e {
        ternd::turn::Event::Refused { rejection: r @ Rejection::Forbidden { .. }, .. } => Some(r.to_string()),
        _ => None,
    });
    assert_eq!(
        reason.as_deref(),
        Some(
            "peer 127.0.0.1:22 is refused: the loopback range 127.0.0.0/8 is closed by default; peers.allow could open it"
        )
    );
}

#[test]
fn two_clients_of_one_server_reach_each_other_and_nothing_else_of_it() {
    let mut world = World::new();
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    alice.allocate(&mut world);
    bob.allocate(&mut world);
    let (at_alice, at_bob) = (alice.relayed.unwrap().to_string(), bob.relayed.unwrap().to_string());

    assert_eq!(alice.permit(&mut world, &[&at_bob]).code(), 0);
    assert_eq!(bob.bind(&mut world, 0x4000, &at_alice).code(), 0);
    let channel = Framing::Channel(ternd::stun::ChannelNumber(0x4000));
    assert_eq!(assert_to_client(alice.send(&mut world, &at_bob, b"hi"), &bob), channel);
    let verdict = world.peer_sends(&bob, &at_alice, 2);
    assert_eq!(assert_to_client(verdict, &bob), channel);

    // The same address, but no live relay port: the server's own listener, or a service beside it.
    for port in ["3478", "22", "50002"] {
        let other = format!("198.51.100.1:{port}");
        assert_eq!(alice.send(&mut world, &other, b"x"), Verdict::Nothing, "{other}");
        assert_eq!(alice.bind(&mut world, 0x4001, &other).code(), 403, "{other}");
        assert_eq!(world.peer_sends(&alice, &other, 1), Verdict::Nothing, "{other}");
        // Who asks for that only is refused like any other who looks for a way into this machine.
        let mut carol = Client::alice("192.0.2.9:4000");
        carol.allocate(&mut world);
        assert_eq!(carol.permit(&mut world, &[&other]).code(), 403, "{other}");
        assert_eq!(carol.permit(&mut world, &[&at_bob]).code(), 0);
        assert_eq!(carol.permit(&mut world, &[&other]).code(), 0, "a refresh, by the address alone");
        carol.refresh(&mut world, Some(0));
    }
    // When bob's allocation ends, its port is closed to alice at once.
    bob.refresh(&mut world, Some(0));
    assert_eq!(alice.send(&mut world, &at_bob, b"hi"), Verdict::Nothing);
}

#[test]
fn behind_one_to_one_nat_the_world_sees_the_external_address() {
    let mut behind = settings();
    behind.relay_addresses = vec![RelayAddress { local: ip("10.0.0.5"), announced: ip("198.51.100.77") }];
    let mut world = World::with(behind, auth_settings());
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    assert_eq!(alice.allocate(&mut world).relayed(), [addr("198.51.100.77:50000")]);
    assert_eq!(bob.allocate(&mut world).relayed(), [addr("198.51.100.77:50001")]);
    let sockets: Vec<_> = world.sockets.iter().map(|(id, local)| (*id, local.to_string())).collect();
    assert_eq!(sockets[0].1, "10.0.0.5:50000");

    // To each other they use external addresses; packets stay inside, and are shown as coming from outside.
    alice.permit(&mut world, &["198.51.100.77:50001"]);
    bob.permit(&mut world, &["198.51.100.77:50000"]);
    let straight = alice.send(&mut world, "198.51.100.77:50001", b"hi");
    let by_socket = world.server.handle_peer(world.now, sockets[1].0, addr("10.0.0.5:50000"), 2);
    for verdict in [straight, by_socket] {
        assert!(matches!(
            assert_to_client(verdict, &bob),
            Framing::Data { peer: p, .. } if p == peer("198.51.100.77:50000")
        ));
    }
    // The internal address itself stays closed but for live relay ports.
    assert_eq!(alice.send(&mut world, "10.0.0.5:22", b"x"), Verdict::Nothing);
}

#[test]
fn other_addresses_of_the_server_are_closed() {
    let mut own = settings();
    own.own_addresses = vec![ip("8.8.8.8"), ip("2a00::8")];
    let mut world = World::with(own, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    assert_eq!(alice.permit(&mut world, &["8.8.8.8:1"]).code(), 403);
    assert_eq!(alice.permit(&mut world, &["8.8.4.4:1"]).code(), 0);
}

#[test]
fn permissions_of_one_allocation_mean_nothing_to_another() {
    let mut world = World::new();
    let (mut alice, mut bob) = (Client::alice("192.0.2.7:4000"), Client::bob("192.0.2.8:4000"));
    alice.allocate(&mut world);
    bob.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    assert_eq!(bob.send(&mut world, "192.0.2.99:1", b"x"), Verdict::Nothing);
    assert_eq!(bob.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
    assert_eq!(world.peer_sends(&bob, "192.0.2.99:1", 1), Verdict::Nothing);
    // The same number stands for another peer there.
    assert_eq!(bob.bind(&mut world, 0x4000, "192.0.2.98:1").code(), 0);
    let relay = world.relay_of(&bob);
    assert_relayed(bob.channel(&mut world, 0x4000, b"x"), relay, "192.0.2.98:1", 1);
}

//= 8656-21.4-1 8656-21.4-2
#[test]
fn tunnels_lead_nowhere() {
    let mut world = World::new();
    let mut alice = Client::alice("[2001:db8:7::1]:4000");
    let request = alice.allocate_request().raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    alice.allocate_with(&mut world, request);
    for tunnel in ["[2002:808:808::1]:1", "[2001:0:1::f7f7:f7f7]:1"] {
        assert_eq!(alice.permit(&mut world, &[tunnel]).code(), 403, "{tunnel}");
        assert_eq!(alice.bind(&mut world, 0x4000, tunnel).code(), 403, "{tunnel}");
        // Nor do they lead here: the far end of such a client's tunnel might be its peer.
        let mut client = Client::alice(tunnel);
        let request = client.allocate_request();
        assert_eq!(client.ask(&mut world, request).code(), 403, "{tunnel}");
    }
    alice.refresh(&mut world, Some(0));
    world.assert_empty();
}
