//! The whole life of an allocation, and who else may do what in it.

use std::time::Duration;

use ternd::auth::Secret;
use ternd::stun::{Attribute, AttributeType, Builder, ChannelNumber, Class, Method, TransactionId};
use ternd::turn::{EndReason, Event, Framing, Output, Rejection, Traffic, Verdict};

use crate::world::{Client, World, addr, assert_relayed, assert_to_client, auth_settings, peer, settings};

//= 8489-9.2.4-2 8489-9.2.4-6 8489-9.2.4-16 8489-14.14-1 8656-7.2-4 8656-12.5-1
#[test]
fn a_call_from_the_first_packet_to_the_last() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");

    let challenge = alice.challenge(&mut world);
    assert_eq!(
        challenge.kinds(),
        [AttributeType::ERROR_CODE, AttributeType::REALM, AttributeType::NONCE],
        "nothing in it that an amplifier could use"
    );
    let question = alice.allocate_request().finish().len();
    assert!(challenge.0.len() <= 2 * question, "{} bytes for {question}", challenge.0.len());

    let allocated = alice.allocate(&mut world);
    assert_eq!(allocated.relayed(), [addr("198.51.100.1:50000")]);
    assert_eq!(allocated.lifetime(), Some(600));
    assert_eq!(
        allocated.get(AttributeType::XOR_MAPPED_ADDRESS),
        Some(Attribute::XorMappedAddress(addr("192.0.2.7:4000")))
    );
    assert!(
        matches!(allocated.get(AttributeType::SOFTWARE), Some(Attribute::Software(s)) if s.starts_with("ternd/"))
    );
    let relay = world.relay_of(&alice);

    // Nothing passes before a permission.
    assert_eq!(alice.send(&mut world, "192.0.2.99:9", b"early"), Verdict::Nothing);
    assert_eq!(world.peer_sends(&alice, "192.0.2.99:9", 5), Verdict::Nothing);
    assert_eq!(world.server.counters().no_permission, 2);

    // With a permission: any port of that address, wrapped in indications.
    assert_eq!(alice.permit(&mut world, &["192.0.2.99:0"]).code(), 0);
    assert_relayed(alice.send(&mut world, "192.0.2.99:9", b"hello"), relay, "192.0.2.99:9", 5);
    assert_relayed(alice.send(&mut world, "192.0.2.99:10", b""), relay, "192.0.2.99:10", 0);
    let verdict = world.peer_sends(&alice, "192.0.2.99:9", 5);
    let framing = assert_to_client(verdict, &alice);
    assert!(matches!(framing, Framing::Data { peer: p, .. } if p == peer("192.0.2.99:9")));

    // With a channel: four bytes around the data, for that port only.
    assert_eq!(alice.channel(&mut world, 0x4000, b"x"), Verdict::Nothing, "not bound yet");
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.99:9").code(), 0);
    assert_relayed(alice.channel(&mut world, 0x4000, b"hello"), relay, "192.0.2.99:9", 5);
    let verdict = world.peer_sends(&alice, "192.0.2.99:9", 100);
    assert_eq!(assert_to_client(verdict, &alice), Framing::Channel(ChannelNumber(0x4000)));
    let verdict = world.peer_sends(&alice, "192.0.2.99:10", 100);
    assert!(matches!(assert_to_client(verdict, &alice), Framing::Data { .. }));

    world.wait(100);
    assert_eq!(alice.refresh(&mut world, Some(0)).lifetime(), Some(0));
    assert_eq!(alice.refresh(&mut world, Some(0)).code(), 437, "deleted once more: for the client the same");
    world.assert_empty();

    let user: std::sync::Arc<str> = "alice".into();
    let traffic = Traffic { to_peers: 3, to_peers_bytes: 10, to_client: 3, to_client_bytes: 205 };
    assert_eq!(
        world.events[..2],
        [
            Event::AllocationCreated {
                flow: alice.flow,
                user: user.clone(),
                relay: ternd::turn::RelayAddr(addr("198.51.100.1:50000")),
                lifetime: Duration::from_secs(600),
            },
            Event::AllocationEnded {
                flow: alice.flow,
                user,
                relay: Some(ternd::turn::RelayAddr(addr("198.51.100.1:50000"))),
                lived: Duration::from_secs(100),
                traffic,
                reason: EndReason::Deleted,
            },
        ]
    );
}

//= 8489-5-4 8489-12-1 8489-12-4 8489-14.7-1
#[test]
fn binding_tells_anybody_their_address() {
    let mut world = World::new();
    for from in ["192.0.2.7:4000", "[2001:db8:7::1]:4000"] {
        let flow = Client::alice(from).flow;
        let request = Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12]));
        let answer = world.ask(flow, &request.clone().finish()).unwrap();
        assert_eq!(answer.kinds(), [AttributeType::XOR_MAPPED_ADDRESS]);
        assert_eq!(
            answer.get(AttributeType::XOR_MAPPED_ADDRESS),
            Some(Attribute::XorMappedAddress(addr(from)))
        );
        assert_eq!(answer.message().transaction_id(), TransactionId([1; 12]));

        let answer = world.ask(flow, &request.fingerprint().finish()).unwrap();
        assert_eq!(
            answer.message().verify_fingerprint(),
            Some(true),
            "FINGERPRINT is answered with FINGERPRINT"
        );
    }
    world.assert_empty();
}

#[test]
fn no_answer_to_a_stranger_is_over_twice_its_question() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let key = alice.key();
    for (code, request) in [
        (0, alice.request(Method::BINDING)),
        (420, alice.request(Method::BINDING).raw(AttributeType(0x7FFF), b"")),
        (401, alice.allocate_request()),
        (400, alice.request(Method::REFRESH).message_integrity(key.as_bytes())),
    ] {
        let question = request.finish();
        let answer = world.ask(alice.flow, &question).unwrap();
        assert_eq!(answer.code(), code);
        assert!(answer.0.len() <= 2 * question.len(), "{code}: {} for {}", answer.0.len(), question.len());
    }
}

#[test]
fn a_time_limited_credential_works_with_each_secret() {
    for secret in ["north", "south"] {
        let mut world = World::new();
        let issuer = ternd::auth::Authenticator::new(
            ternd::auth::Settings { secrets: vec![Secret::new("x", secret)], ..Default::default() },
            [0; 32],
        );
        let credential = issuer.issue("carol", Duration::from_secs(60), world.now).unwrap();
        let mut carol = Client::new("192.0.2.7:4000", &credential.username, &credential.password);
        carol.allocate(&mut world);

        // Running calls go on after the credential has ended; new ones don't start.
        world.wait(61);
        assert_eq!(carol.refresh(&mut world, None).code(), 0);
        let mut again = Client::new("192.0.2.7:4001", &credential.username, &credential.password);
        let request = again.allocate_request();
        assert_eq!(again.ask(&mut world, request).code(), 401);
        assert!(matches!(
            world.events.last(),
            Some(Event::Refused { rejection: Rejection::Denied(d), .. }) if d.to_string().contains("expired 1 s ago")
        ));
    }
}

#[test]
fn strict_expiry_ends_running_calls() {
    let mut world = World::with(settings(), ternd::auth::Settings { strict_expiry: true, ..auth_settings() });
    let credential = world.auth.issue("carol", Duration::from_secs(60), world.now).unwrap();
    let mut carol = Client::new("192.0.2.7:4000", &credential.username, &credential.password);
    carol.allocate(&mut world);
    world.wait(60);
    assert_eq!(carol.refresh(&mut world, None).code(), 0, "good through the second it names");
    world.wait(1);
    assert_eq!(carol.refresh(&mut world, None).code(), 401);
}

//= 8489-6.3.1-1 8489-6.3.1-2
#[test]
fn a_retransmitted_request_gets_the_same_answer() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let request = alice.allocate_request();
    let bytes = alice.sign(request);
    let first = world.ask(alice.flow, &bytes).unwrap();
    assert_eq!(first.code(), 0);
    assert_eq!(world.ask(alice.flow, &bytes).unwrap(), first);
    assert_eq!(world.sockets.len(), 1, "no second allocation");
    alice.relayed = first.relayed().first().copied();

    for _ in 0..2 {
        assert_eq!(alice.permit(&mut world, &["192.0.2.99:1"]).code(), 0);
        assert_eq!(alice.bind(&mut world, 0x4001, "192.0.2.99:1").code(), 0);
    }
    // Another Allocate on the same path is not a retransmission.
    let request = alice.allocate_request();
    assert_eq!(alice.ask(&mut world, request).code(), 437);
}

//= 8489-6.2.2-3
#[test]
fn the_allocation_ends_with_its_connection() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.flow.transport = ternd::turn::Transport::Tcp;
    alice.allocate(&mut world);
    world.server.client_gone(world.now, alice.flow);
    assert_eq!(world.drive(), []);
    world.assert_empty();
    assert!(matches!(
        world.events.last(),
        Some(Event::AllocationEnded { reason: EndReason::ClientGone, .. })
    ));
}

#[test]
fn a_client_that_goes_while_its_sockets_are_bound_leaves_nothing_behind() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.flow.transport = ternd::turn::Transport::Tcp;
    alice.challenge(&mut world);
    let both = alice.allocate_request().raw(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let bytes = alice.sign(both);
    assert_eq!(world.server.handle_client(world.now, alice.flow, &bytes), Verdict::Nothing);
    let (Some(Output::BindRelay { relay: v4, .. }), Some(Output::BindRelay { relay: v6, .. })) =
        (world.server.poll_output(), world.server.poll_output())
    else {
        panic!("both families are bound")
    };
    world.server.relay_bound(world.now, v4, Ok(addr("198.51.100.1:50000")));
    world.server.client_gone(world.now, alice.flow);
    assert_eq!(world.server.poll_output(), Some(Output::CloseRelay { relay: v4 }));

    // It comes back before the second socket is bound: that one's id is still taken.
    let again = alice.allocate_request();
    let bytes = alice.sign(again);
    assert_eq!(world.server.handle_client(world.now, alice.flow, &bytes), Verdict::Nothing);
    let Some(Output::BindRelay { relay, .. }) = world.server.poll_output() else { panic!("bound anew") };
    assert!(relay != v4 && relay != v6);
    world.server.relay_bound(world.now, v6, Ok(addr("[2001:db8::1]:50000")));
    assert_eq!(world.server.poll_output(), Some(Output::CloseRelay { relay: v6 }));
    world.server.relay_bound(world.now, relay, Ok(addr("198.51.100.1:50000")));
    world.sockets.insert(relay, addr("198.51.100.1:50000"));
    assert_eq!(world.drive().len(), 1, "the answer");
    assert_eq!(alice.refresh(&mut world, Some(0)).code(), 0);
    world.assert_empty();
}

#[test]
fn one_path_per_transport() {
    let mut world = World::new();
    let mut udp = Client::alice("192.0.2.7:4000");
    udp.allocate(&mut world);
    let mut tcp = Client::alice("192.0.2.7:4000");
    tcp.flow.transport = ternd::turn::Transport::Tcp;
    tcp.allocate(&mut world);
    assert_ne!(udp.relayed, tcp.relayed);
    assert_eq!(world.server.allocations(), 2);
}

#[test]
fn an_even_port_and_the_one_after_it() {
    let mut world = World::new();
    world.next_port = 50_001;
    let mut rtp = Client::alice("192.0.2.7:4000");
    let request = rtp.allocate_request().raw(AttributeType::EVEN_PORT, &[0x80]);
    let answer = rtp.allocate_with(&mut world, request);
    assert_eq!(answer.relayed(), [addr("198.51.100.1:50002")]);
    let Some(Attribute::ReservationToken(token)) = answer.get(AttributeType::RESERVATION_TOKEN) else {
        panic!("no token: {answer:?}")
    };
    assert!(world.shared.is_reserved(addr("198.51.100.1:50003"), world.now.instant));

    let mut rtcp = Client::alice("192.0.2.7:4001");
    let request = rtcp.allocate_request().raw(AttributeType::RESERVATION_TOKEN, token);
    assert_eq!(rtcp.allocate_with(&mut world, request).relayed(), [addr("198.51.100.1:50003")]);

    let mut third = Client::alice("192.0.2.7:4002");
    let request = third.allocate_request().raw(AttributeType::RESERVATION_TOKEN, token);
    assert_eq!(third.ask(&mut world, request).code(), 508, "a token is good once");
}

#[test]
fn a_token_is_not_used_up_by_an_allocate_that_is_refused() {
    let mut limited = settings();
    limited.limits.allocations_per_user = 1;
    let mut world = World::with(limited, auth_settings());
    let mut rtp = Client::alice("192.0.2.7:4000");
    let request = rtp.allocate_request().raw(AttributeType::EVEN_PORT, &[0x80]);
    let answer = rtp.allocate_with(&mut world, request);
    let Some(Attribute::ReservationToken(token)) = answer.get(AttributeType::RESERVATION_TOKEN) else {
        panic!("no token")
    };
    let mut rtcp = Client::alice("192.0.2.7:4001");
    let request = rtcp.allocate_request().raw(AttributeType::RESERVATION_TOKEN, token);
    assert_eq!(rtcp.ask(&mut world, request).code(), 486);
    rtp.refresh(&mut world, Some(0));
    let request = rtcp.allocate_request().raw(AttributeType::RESERVATION_TOKEN, token);
    assert_eq!(rtcp.allocate_with(&mut world, request).relayed(), [addr("198.51.100.1:50001")]);
}

//= 8656-7.2-6
#[test]
fn a_reservation_lasts_30_seconds() {
    let mut world = World::new();
    let mut rtp = Client::alice("192.0.2.7:4000");
    let request = rtp.allocate_request().raw(AttributeType::EVEN_PORT, &[0x80]);
    let answer = rtp.allocate_with(&mut world, request);
    let Some(Attribute::ReservationToken(token)) = answer.get(AttributeType::RESERVATION_TOKEN) else {
        panic!("no token")
    };
    let token = *token;
    let next = addr("198.51.100.1:50001");
    world.wait(29);
    assert!(world.shared.is_reserved(next, world.now.instant));
    world.wait(1);
    assert!(!world.shared.is_reserved(next, world.now.instant));
    let mut late = Client::alice("192.0.2.7:4001");
    let request = late.allocate_request().raw(AttributeType::RESERVATION_TOKEN, &token);
    assert_eq!(late.ask(&mut world, request).code(), 508);
}

//= 8656-8.1-1
#[test]
fn one_allocation_for_both_families() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().raw(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let answer = alice.allocate_with(&mut world, request);
    assert_eq!(answer.relayed(), [addr("198.51.100.1:50000"), addr("[2001:db8::1]:50001")]);

    assert_eq!(alice.permit(&mut world, &["192.0.2.99:1", "[2001:db8:2::99]:1"]).code(), 0);
    let sockets: Vec<_> = world.sockets.keys().copied().collect();
    assert_relayed(alice.send(&mut world, "192.0.2.99:1", b"4"), sockets[0], "192.0.2.99:1", 1);
    assert_relayed(alice.send(&mut world, "[2001:db8:2::99]:1", b"6"), sockets[1], "[2001:db8:2::99]:1", 1);

    // One family is given up, the other stays (RFC 8656 section 8.1).
    let request = alice
        .request(Method::REFRESH)
        .u32(AttributeType::LIFETIME, 0)
        .raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    assert_eq!(alice.ask(&mut world, request).code(), 0);
    assert_eq!(world.sockets.len(), 1);
    assert_eq!(alice.send(&mut world, "192.0.2.99:1", b"4"), Verdict::Nothing);
    assert_relayed(alice.send(&mut world, "[2001:db8:2::99]:1", b"6"), sockets[1], "[2001:db8:2::99]:1", 1);

    assert_eq!(alice.refresh(&mut world, Some(0)).code(), 0);
    world.assert_empty();
}

//= 8656-18.12-1
#[test]
fn half_of_a_dual_allocation_is_better_than_none() {
    let mut only_v4 = settings();
    only_v4.relay_addresses.truncate(1);
    let mut world = World::with(only_v4, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().raw(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    alice.challenge(&mut world);
    let bytes = alice.sign(request);
    let answer = world.ask(alice.flow, &bytes).unwrap();
    assert_eq!(answer.relayed(), [addr("198.51.100.1:50000")]);
    assert!(matches!(
        answer.get(AttributeType::ADDRESS_ERROR_CODE),
        Some(Attribute::AddressErrorCode { family: Some(ternd::stun::Family::V6), code: 440, reason: "" })
    ));
    assert_eq!(world.ask(alice.flow, &bytes), Some(answer), "a retransmission is told the same");
}
