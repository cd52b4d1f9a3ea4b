//! Each way to be refused, with its code, and that it leaves nothing behind.

use ternd::stun::{Attribute, AttributeType as T, Builder, Class, Method, TransactionId};
use ternd::turn::{BindError, Event, Output, Verdict};

use crate::world::{Answer, Client, World, addr, auth_settings, settings};

/// What an Allocate with these attributes is answered with.
fn allocate(world: &mut World, change: impl FnOnce(Builder) -> Builder) -> u16 {
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.request(Method::ALLOCATE);
    let code = alice.ask(world, change(request)).code();
    if code != 0 {
        world.assert_empty();
    }
    code
}

const UDP: &[u8] = &[17, 0, 0, 0];

//= 8656-3.7-1 6062-5.1-1
#[test]
fn allocate_refuses_in_the_order_of_the_rfc() {
    let refused = |code, what: &str, change: &dyn Fn(Builder) -> Builder| {
        assert_eq!(allocate(&mut World::new(), change), code, "{what}");
    };
    let udp = |b: Builder| b.raw(T::REQUESTED_TRANSPORT, UDP);
    refused(400, "no REQUESTED-TRANSPORT", &|b| b);
    refused(400, "REQUESTED-TRANSPORT of 1 byte", &|b| b.raw(T::REQUESTED_TRANSPORT, &[17]));
    refused(442, "SCTP", &|b| b.raw(T::REQUESTED_TRANSPORT, &[132, 0, 0, 0]));
    refused(400, "TCP over UDP", &|b| b.raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]));
    refused(442, "442 comes before 440", &|b| {
        b.raw(T::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0]).raw(T::REQUESTED_TRANSPORT, &[1, 0, 0, 0])
    });
    refused(400, "token and EVEN-PORT", &|b| {
        udp(b).raw(T::RESERVATION_TOKEN, &[0; 8]).raw(T::EVEN_PORT, &[0])
    });
    refused(400, "token and a family", &|b| {
        udp(b).raw(T::RESERVATION_TOKEN, &[0; 8]).raw(T::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0])
    });
    refused(400, "token of 4 bytes", &|b| udp(b).raw(T::RESERVATION_TOKEN, &[0; 4]));
    refused(508, "unknown token", &|b| udp(b).raw(T::RESERVATION_TOKEN, &[0; 8]));
    refused(400, "both family attributes", &|b| {
        udp(b)
            .raw(T::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0])
            .raw(T::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
    });
    refused(440, "family 9", &|b| udp(b).raw(T::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0]));
    refused(400, "family of 1 byte", &|b| udp(b).raw(T::REQUESTED_ADDRESS_FAMILY, &[1]));
    refused(400, "EVEN-PORT with R and both families", &|b| {
        udp(b).raw(T::EVEN_PORT, &[0x80]).raw(T::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
    });
    refused(400, "ADDITIONAL-ADDRESS-FAMILY IPv4", &|b| {
        udp(b).raw(T::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0])
    });
    refused(400, "LIFETIME of 2 bytes", &|b| udp(b).raw(T::LIFETIME, &[0, 1]));
    refused(400, "DONT-FRAGMENT with a value", &|b| udp(b).raw(T::DONT_FRAGMENT, &[1]));
    refused(0, "IPv6 is relayed", &|b| udp(b).raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]));
    refused(420, "DONT-FRAGMENT from IPv4 to IPv6", &|b| {
        udp(b).raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]).raw(T::DONT_FRAGMENT, &[])
    });
    refused(0, "DONT-FRAGMENT is supported", &|b| udp(b).raw(T::DONT_FRAGMENT, &[]));
}

//= 8656-7.2-2 8656-7.2-3
#[test]
fn a_family_without_a_relay_address_is_440() {
    let mut only_v4 = settings();
    only_v4.relay_addresses.truncate(1);
    let mut world = World::with(only_v4, auth_settings());
    let v6 = |b: Builder| b.raw(T::REQUESTED_TRANSPORT, UDP).raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    assert_eq!(allocate(&mut world, v6), 440);

    let mut only_v6 = settings();
    only_v6.relay_addresses.remove(0);
    let mut world = World::with(only_v6, auth_settings());
    assert_eq!(allocate(&mut world, |b| b.raw(T::REQUESTED_TRANSPORT, UDP)), 440, "IPv4 is the default");
}

#[test]
fn no_free_port_is_508_and_gives_the_quota_back() {
    let mut world = World::new();
    world.bind_error = Some(BindError::NoPort);
    assert_eq!(allocate(&mut world, |b| b.raw(T::REQUESTED_TRANSPORT, UDP)), 508);
    world.bind_error = None;
    assert_eq!(allocate(&mut world, |b| b.raw(T::REQUESTED_TRANSPORT, UDP)), 0);
}

#[test]
fn both_families_asked_for_and_none_to_be_had_is_508() {
    let mut only_v4 = settings();
    only_v4.relay_addresses.truncate(1);
    let mut world = World::with(only_v4, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let request = alice.allocate_request().raw(T::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let bytes = alice.sign(request);
    // IPv4 is full and IPv6 is not there: RFC 8656 section 7.2, step 9.
    assert_eq!(world.server.handle_client(world.now, alice.flow, &bytes), Verdict::Nothing);
    for error in [BindError::NoPort, BindError::FamilyNotSupported] {
        match world.server.poll_output() {
            Some(Output::BindRelay { relay, .. }) => world.server.relay_bound(world.now, relay, Err(error)),
            other => panic!("{other:?}"),
        }
    }
    let [(_, bytes)] = world.drive().try_into().expect("one answer");
    assert_eq!(Answer(bytes).code(), 508);
    world.assert_empty();
}

//= 8489-6.3-1 8489-6.3.1.1-3 8489-6.3.1.1-4
#[test]
fn unknown_attributes_are_listed_and_signed() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let request =
        alice.allocate_request().raw(T(0x7FF0), b"").raw(T(0x7FEE), b"abc").raw(T(0xFFFF), b"optional");
    let answer = alice.ask(&mut world, request);
    assert_eq!(answer.code(), 420);
    assert_eq!(
        answer.get(T::UNKNOWN_ATTRIBUTES),
        Some(Attribute::UnknownAttributes(&[0x7F, 0xEE, 0x7F, 0xF0]))
    );
    assert!(answer.message().verify_integrity(alice.key().as_bytes()));

    let request =
        Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12])).raw(T(0x0003), &[0, 0, 0, 6]);
    let answer = world.ask(alice.flow, &request.finish()).unwrap();
    assert_eq!(answer.code(), 420, "CHANGE-REQUEST asks for what is not there");
}

//= 8489-9.2.4-1 8489-9.2.4-7 8656-5-1 8656-7.2-1
#[test]
fn authentication_comes_first_and_in_order() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let mut ask = |builder: Builder| world.ask(alice.flow, &builder.finish()).unwrap().code();
    let start = || Builder::new(Class::Request, Method::ALLOCATE, TransactionId([3; 12]));
    let key = alice.key();

    assert_eq!(ask(start().raw(T(0x7FFF), b"")), 401, "a challenge before anything else");
    assert_eq!(ask(start().message_integrity(key.as_bytes())), 400, "nothing to verify with");
    let named = || start().raw(T::USERNAME, b"alice").raw(T::REALM, b"ternd");
    assert_eq!(ask(named().message_integrity(key.as_bytes())), 400, "no NONCE");
    let full = || named().raw(T::NONCE, &alice.nonce);
    assert_eq!(ask(full().message_integrity(b"wrong key")), 401);
    assert_eq!(
        ask(named().raw(T::NONCE, b"stale").message_integrity(b"wrong key")),
        401,
        "the key before the nonce"
    );
    assert_eq!(ask(named().raw(T::NONCE, b"stale").message_integrity(key.as_bytes())), 438);
    assert_eq!(
        ask(full().message_integrity(key.as_bytes())),
        400,
        "authentic: now REQUESTED-TRANSPORT is missed"
    );
    let sha256 = full().raw(T::REQUESTED_TRANSPORT, UDP).message_integrity_sha256(key.as_bytes());
    assert_eq!(ask(sha256), 0);
}

//= 8489-6.3-2 8489-12-2
#[test]
fn attributes_of_other_messages_are_ignored() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let strange = |b: Builder| {
        b.raw(T::CHANNEL_NUMBER, &[1]).raw(T::XOR_MAPPED_ADDRESS, b"").raw(T::ERROR_CODE, &[0, 0, 9, 200])
    };
    let request = strange(alice.allocate_request());
    alice.allocate_with(&mut world, request);
    let request = strange(alice.request(Method::BINDING)).message_integrity(b"whatever");
    assert_eq!(world.ask(alice.flow, &request.finish()).unwrap().code(), 0, "Binding asks for no credential");
}

//= 8489-6.3.1.1-1 8489-6.3.1.1-2 8489-9.2.4-8 8489-9.2.4-10 8489-9.2.4-11 8489-9.2.4-12 8489-9.2.4-13
//= 8489-9.2.4-14 8489-9.2.4-15 8489-9.2.4-17 8489-14.8-1
#[test]
fn what_is_in_an_answer_and_what_is_not() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let (key, nonce) = (alice.key(), alice.nonce.clone());
    let request = |alice: &mut Client, user: &str| {
        alice
            .allocate_request()
            .raw(T::USERNAME, user.as_bytes())
            .raw(T::REALM, b"ternd")
            .raw(T::NONCE, if user == "alice" { b"stale" } else { &nonce })
    };
    let incomplete = alice.allocate_request().message_integrity(key.as_bytes());
    assert_eq!(world.ask(alice.flow, &incomplete.finish()).unwrap().kinds(), [T::ERROR_CODE]);

    let challenge = [T::ERROR_CODE, T::REALM, T::NONCE, T::PASSWORD_ALGORITHMS];
    for (code, user, key) in
        [(401, "mallory", key.as_bytes()), (401, "bob", key.as_bytes()), (438, "alice", key.as_bytes())]
    {
        let bytes = request(&mut alice, user).message_integrity(key).finish();
        let answer = world.ask(alice.flow, &bytes).unwrap();
        assert_eq!(answer.code(), code, "{user}");
        assert_eq!(answer.kinds(), challenge, "{user}");
        if let (438, Some(Attribute::Nonce(nonce))) = (code, answer.get(T::NONCE)) {
            alice.nonce = nonce.to_vec();
        }
    }
    // The nonce of a 438 is a good one; answers to who is known are signed, and repeat nothing.
    alice.allocate(&mut world);
    assert_eq!(alice.permit(&mut world, &["192.0.2.99:1"]).kinds(), [T::MESSAGE_INTEGRITY]);
    let forbidden = alice.permit(&mut world, &["10.0.0.1:1"]);
    assert_eq!(forbidden.kinds(), [T::ERROR_CODE, T::MESSAGE_INTEGRITY]);
    assert_eq!(forbidden.get(T::ERROR_CODE), Some(Attribute::ErrorCode { code: 403, reason: "Forbidden" }));
}

#[test]
fn whoever_is_refused_all_the_time_does_not_fill_the_log() {
    let mut world = World::new();
    let mut stranger = Client::new("192.0.2.7:4000", "alice", "guessed");
    stranger.flow.transport = ternd::turn::Transport::Tcp;
    stranger.challenge(&mut world);
    let mut ask = |world: &mut World| {
        let request = stranger.allocate_request();
        assert_eq!(stranger.ask(world, request).code(), 401);
        stranger.transactions = 0;
    };
    (0..1_000).for_each(|_| ask(&mut world));
    assert_eq!(world.events.len(), 100);
    assert!(world.events.iter().all(|e| matches!(e, Event::Refused { .. })));
    assert_eq!(
        (world.server.counters().authentication_failures, world.server.counters().unreported),
        (1_000, 900),
        "all are counted"
    );
    world.wait(1);
    (0..100).for_each(|_| ask(&mut world));
    assert_eq!(world.events.len(), 106);
    assert_eq!(world.events[100], Event::RefusalsWithheld { count: 900 });
    world.wait(1_000);
    (0..200).for_each(|_| ask(&mut world));
    assert_eq!(world.events[106], Event::RefusalsWithheld { count: 95 });
    assert_eq!(world.events.len(), 207);
}

#[test]
fn another_servers_realm_is_refused() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let request = alice
        .allocate_request()
        .raw(T::USERNAME, b"alice")
        .raw(T::REALM, b"elsewhere")
        .raw(T::NONCE, &alice.nonce)
        .message_integrity(alice.key().as_bytes());
    assert_eq!(world.ask(alice.flow, &request.finish()).unwrap().code(), 401);
    assert!(matches!(
        world.events.last(),
        Some(Event::Refused { rejection, .. }) if rejection.to_string() == "signed for another realm"
    ));
}

//= 8489-6.3.1.1-5 8656-5-6
#[test]
fn refused_allocate_and_refresh_requests_name_the_software() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let software = |answer: &crate::world::Answer| answer.kinds().contains(&T::SOFTWARE);
    assert!(!software(&alice.challenge(&mut world)), "strangers get short answers");
    for (method, named) in [(Method::ALLOCATE, true), (Method::REFRESH, true), (Method::CHANNEL_BIND, false)]
    {
        let request = alice.request(method);
        let answer = alice.ask(&mut world, request);
        assert_ne!(answer.code(), 0);
        assert_eq!(software(&answer), named, "{method:?}");
    }
}

//= 8489-16.1.2-1
#[test]
fn software_may_be_left_out() {
    let mut world = World::with(ternd::turn::Settings { software: None, ..settings() }, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    assert!(!alice.allocate(&mut world).kinds().contains(&T::SOFTWARE));
}

//= 8489-9.2.4-3
#[test]
fn a_nonce_belongs_to_one_client_address() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    let mut thief = Client::alice("192.0.2.7:4001");
    thief.nonce = alice.nonce.clone();
    let request = thief.allocate_request();
    assert_eq!(thief.ask(&mut world, request).code(), 438);
}

//= 8489-9-1
#[test]
fn what_follows_the_signature_does_not_count() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    // A REQUESTED-TRANSPORT and an unknown attribute slipped in behind MESSAGE-INTEGRITY.
    let signed = alice.request(Method::ALLOCATE);
    let forged = signed
        .raw(T::USERNAME, b"alice")
        .raw(T::REALM, b"ternd")
        .raw(T::NONCE, &alice.nonce)
        .message_integrity(alice.key().as_bytes())
        .raw(T::REQUESTED_TRANSPORT, UDP)
        .raw(T(0x7FFF), b"")
        .finish();
    assert_eq!(world.ask(alice.flow, &forged).unwrap().code(), 400);
}

//= 8656-5-5
#[test]
fn requests_without_an_allocation_are_437_once_authentic() {
    let mut world = World::new();
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let mut alice = Client::alice("192.0.2.7:4000");
        let bare = alice.request(method).finish();
        assert_eq!(world.ask(alice.flow, &bare).unwrap().code(), 401);
        let request = alice.request(method);
        assert_eq!(alice.ask(&mut world, request).code(), 437, "{method:?}");
    }
}

//= 8656-5-4
#[test]
fn nobody_touches_anothers_allocation() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);

    let mut bob = Client::bob("192.0.2.7:4000");
    bob.nonce = alice.nonce.clone();
    assert_eq!(bob.refresh(&mut world, Some(0)).code(), 441);
    assert_eq!(bob.permit(&mut world, &["192.0.2.99:1"]).code(), 441);
    assert_eq!(bob.bind(&mut world, 0x4000, "192.0.2.99:1").code(), 441);
    let request = bob.allocate_request();
    assert_eq!(bob.ask(&mut world, request).code(), 437);
    bob.transactions = 0;
    let replayed = bob.allocate_request();
    assert_eq!(
        bob.ask(&mut world, replayed).code(),
        437,
        "alice's transaction id makes it no retransmission"
    );

    let mut stranger = Client::new("192.0.2.7:4000", "alice", "guessed");
    stranger.nonce = alice.nonce.clone();
    assert_eq!(stranger.refresh(&mut world, Some(0)).code(), 401);
    assert_eq!(alice.refresh(&mut world, None).code(), 0, "alice has noticed nothing");
}

//= 8656-10.2-1 8656-10.2-2
#[test]
fn permissions_all_or_none() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    assert_eq!(alice.permit(&mut world, &[]).code(), 400);
    assert_eq!(alice.permit(&mut world, &["192.0.2.99:1", "[2001:db8:2::1]:1"]).code(), 443);
    assert_eq!(alice.permit(&mut world, &["192.0.2.99:1", "10.0.0.1:1"]).code(), 403);
    assert_eq!(alice.permit(&mut world, &["10.0.0.1:1", "[2001:db8:2::1]:1"]).code(), 443, "443 before 403");
    let request = alice
        .request(Method::CREATE_PERMISSION)
        .xor_address(T::XOR_PEER_ADDRESS, addr("10.0.0.1:1"))
        .raw(T::XOR_PEER_ADDRESS, &[0, 1]);
    assert_eq!(alice.ask(&mut world, request).code(), 400, "400 before both");
    let request = alice
        .request(Method::CREATE_PERMISSION)
        .xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:1"))
        .raw(T::XOR_PEER_ADDRESS, &[0, 1]);
    assert_eq!(alice.ask(&mut world, request).code(), 400);
    assert_eq!(
        alice.send(&mut world, "192.0.2.99:1", b"x"),
        Verdict::Nothing,
        "none of these installed anything"
    );
    assert_eq!(alice.permit(&mut world, &["192.0.2.98:1", "192.0.2.99:1"]).code(), 0);
    let relay = world.relay_of(&alice);
    crate::world::assert_relayed(alice.send(&mut world, "192.0.2.99:1", b"x"), relay, "192.0.2.99:1", 1);
    crate::world::assert_relayed(alice.send(&mut world, "192.0.2.98:1", b"x"), relay, "192.0.2.98:1", 1);
}

//= 8656-12.2-1
#[test]
fn channels_bind_one_number_to_one_peer() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    for (number, peer, code) in [
        (0x3FFF, "192.0.2.99:1", 400),
        (0x5000, "192.0.2.99:1", 400),
        (0xFFFF, "192.0.2.99:1", 400),
        (0x4000, "192.0.2.99:0", 400),
        (0x4000, "[2001:db8:2::1]:1", 443),
        (0x4000, "127.0.0.1:1", 403),
        (0x4000, "192.0.2.99:1", 0),
        (0x4000, "192.0.2.99:1", 0),
        (0x4000, "192.0.2.99:2", 400),
        (0x4001, "192.0.2.99:1", 400),
        (0x4FFF, "192.0.2.99:2", 0),
    ] {
        assert_eq!(alice.bind(&mut world, number, peer).code(), code, "{number:#x} {peer}");
    }
    let request = alice.request(Method::CHANNEL_BIND).raw(T::CHANNEL_NUMBER, &[0x40, 9, 0, 0]);
    assert_eq!(alice.ask(&mut world, request).code(), 400, "no peer");
    let request = alice.request(Method::CHANNEL_BIND).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:7"));
    assert_eq!(alice.ask(&mut world, request).code(), 400, "no number");
}

#[test]
fn old_clients_may_bind_more_channels_where_the_operator_says_so() {
    let mut world =
        World::with(ternd::turn::Settings { rfc5766_channels: true, ..settings() }, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    let relay = world.relay_of(&alice);
    for (number, code) in [(0x3FFF, 400), (0x5000, 0), (0x7FFF, 0), (0x8000, 400)] {
        let peer = format!("192.0.2.99:{number}");
        assert_eq!(alice.bind(&mut world, number, &peer).code(), code, "{number:#x}");
        if code == 0 {
            crate::world::assert_relayed(alice.channel(&mut world, number, b"x"), relay, &peer, 1);
        }
    }
}

//= 8656-8.2-1
#[test]
fn refresh_of_another_family_is_443() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    for (family, code) in [(1, 0), (2, 443), (7, 443)] {
        let request = alice.request(Method::REFRESH).raw(T::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        assert_eq!(alice.ask(&mut world, request).code(), code, "family {family}");
    }
}

//= 8656-5-8
#[test]
fn quotas_per_user_per_address_and_in_total() {
    let mut limited = settings();
    limited.limits.allocations = 4;
    limited.limits.allocations_per_user = 2;
    limited.limits.allocations_per_address = 3;
    let mut world = World::with(limited, auth_settings());
    let mut code = |client: &mut Client| {
        let request = client.allocate_request();
        client.ask(&mut world, request).code()
    };
    let mut first = Client::alice("192.0.2.7:1");
    assert_eq!(code(&mut first), 0);
    assert_eq!(code(&mut Client::alice("192.0.2.7:2")), 0);
    assert_eq!(code(&mut Client::alice("192.0.2.8:3")), 486, "two per user");
    assert_eq!(code(&mut Client::bob("192.0.2.7:4")), 0);
    assert_eq!(code(&mut Client::bob("192.0.2.7:5")), 486, "three per address");
    assert_eq!(code(&mut Client::bob("192.0.2.8:6")), 0);
    let credential = world.auth.issue("carol", std::time::Duration::from_secs(60), world.now).unwrap();
    let mut carol = Client::new("192.0.2.9:7", &credential.username, &credential.password);
    let request = carol.allocate_request();
    assert_eq!(carol.ask(&mut world, request).code(), 486, "four in total");
    assert_eq!(first.refresh(&mut world, Some(0)).code(), 0);
    let request = carol.allocate_request();
    assert_eq!(carol.ask(&mut world, request).code(), 0, "a place has become free");
}

#[test]
fn a_user_cannot_take_all_ports_by_reservations() {
    let mut limited = settings();
    limited.limits.allocations_per_user = 2;
    let mut world = World::with(limited, auth_settings());
    let code = |world: &mut World, even_port: &[u8]| {
        let mut alice = Client::alice("192.0.2.7:4000");
        let request = alice.allocate_request().raw(T::EVEN_PORT, even_port);
        let code = alice.ask(world, request).code();
        alice.refresh(world, Some(0));
        code
    };
    assert_eq!(code(&mut world, &[0x80]), 0);
    assert_eq!(code(&mut world, &[0x80]), 0);
    assert_eq!(code(&mut world, &[0x80]), 486, "two ports are kept for it already");
    assert_eq!(code(&mut world, &[0]), 0, "without the R bit");
    world.wait(30);
    assert_eq!(code(&mut world, &[0x80]), 0, "they have become free");
}

//= 8656-7.2-5
#[test]
fn a_user_is_one_user_whatever_the_time_stamp() {
    let mut limited = settings();
    limited.limits.allocations_per_user = 1;
    let mut world = World::with(limited, auth_settings());
    for (ttl, code) in [(60, 0), (61, 486)] {
        let credential = world.auth.issue("carol", std::time::Duration::from_secs(ttl), world.now).unwrap();
        let mut carol = Client::new(&format!("192.0.2.9:{ttl}"), &credential.username, &credential.password);
        let request = carol.allocate_request();
        assert_eq!(carol.ask(&mut world, request).code(), code);
    }
}

#[test]
fn an_ipv6_client_address_is_its_64() {
    let mut limited = settings();
    limited.limits.allocations_per_address = 1;
    let mut world = World::with(limited, auth_settings());
    for (from, code) in [("[2001:db8:7::1]:1", 0), ("[2001:db8:7::2]:1", 486), ("[2001:db8:8::1]:1", 0)] {
        let mut client = Client::alice(from);
        let request = client.allocate_request();
        assert_eq!(client.ask(&mut world, request).code(), code, "{from}");
    }
}

#[test]
fn permissions_and_channels_are_capped() {
    let mut limited = settings();
    limited.limits.permissions = 2;
    limited.limits.channels = 1;
    let mut world = World::with(limited, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    assert_eq!(alice.permit(&mut world, &["192.0.2.1:0", "192.0.2.2:0", "192.0.2.3:0"]).code(), 508);
    assert_eq!(alice.permit(&mut world, &["192.0.2.1:0", "192.0.2.2:0", "192.0.2.1:0"]).code(), 0);
    assert_eq!(alice.permit(&mut world, &["192.0.2.3:0"]).code(), 508);
    assert_eq!(
        alice.permit(&mut world, &["192.0.2.1:0", "192.0.2.2:0"]).code(),
        0,
        "a refresh is always possible"
    );
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.3:1").code(), 508, "it would need a permission");
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.1:1").code(), 0);
    assert_eq!(alice.bind(&mut world, 0x4001, "192.0.2.1:2").code(), 508);
    assert_eq!(alice.bind(&mut world, 0x4000, "192.0.2.1:1").code(), 0);
    world.wait(300);
    assert_eq!(alice.permit(&mut world, &["192.0.2.3:0", "192.0.2.4:0"]).code(), 0, "the old ones are over");
}

//= 8656-5-5 8656-12-1
#[test]
fn noise_is_dropped_and_counted_without_an_answer() {
    let mut world = World::new();
    let flow = Client::alice("192.0.2.7:4000").flow;
    let binding = || Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12]));
    let mut bad_fingerprint = binding().fingerprint().finish();
    *bad_fingerprint.last_mut().unwrap() ^= 1;
    let response = Builder::new(Class::Success, Method::BINDING, TransactionId([1; 12])).finish();
    let strange = Builder::new(Class::Request, Method(0x123), TransactionId([1; 12])).finish();
    let keepalive = Builder::new(Class::Indication, Method::BINDING, TransactionId([1; 12])).finish();
    let allocate_indication =
        Builder::new(Class::Indication, Method::ALLOCATE, TransactionId([1; 12])).finish();
    let truncated = &binding().u32(T::LIFETIME, 1).finish()[..24];
    for noise in [
        &b""[..],
        b"\x00",
        b"\x40",
        b"\x40\x00\x00\x09short",
        b"\x50\x00\x00\x00",
        b"\xFFrandom",
        b"GET / HTTP/1.1\r\n\r\n",
        truncated,
        &bad_fingerprint,
        &response,
        &strange,
        &keepalive,
        &allocate_indication,
    ] {
        assert_eq!(world.ask(flow, noise), None, "{noise:02x?}");
    }
    let counters = world.server.counters();
    assert_eq!((counters.not_stun, counters.malformed, counters.unsupported), (4, 4, 3));
    assert_eq!(counters.no_allocation, 1, "ChannelData without an allocation");
    world.assert_empty();
}

#[test]
fn an_address_that_has_proved_nothing_gets_so_many_answers() {
    let mut limited = settings();
    limited.limits.unauthenticated_answers = 10;
    let mut world = World::with(limited, auth_settings());
    let binding = Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12])).finish();
    let answered = |world: &mut World, from: &str, n: usize| {
        let flow = Client::alice(from).flow;
        (0..n).filter(|_| world.ask(flow, &binding).is_some()).count()
    };
    assert_eq!(answered(&mut world, "192.0.2.7:1", 100), 50, "five seconds' worth at once");
    assert_eq!(answered(&mut world, "192.0.2.7:2", 100), 0, "another port is no other address");
    assert_eq!(answered(&mut world, "192.0.2.8:1", 1), 1, "another address is");
    assert_eq!(answered(&mut world, "[2001:db8:7::1]:1", 100), 50);
    assert_eq!(answered(&mut world, "[2001:db8:7::2]:1", 100), 0, "a /64 is one address");
    world.wait(1);
    assert_eq!(answered(&mut world, "192.0.2.7:1", 100), 10);
    assert_eq!(world.server.counters().unanswered, 50 + 100 + 50 + 100 + 90);

    // Whoever has a credential is answered; so is a connection.
    let mut tcp = Client::alice("192.0.2.7:3");
    tcp.flow.transport = ternd::turn::Transport::Tcp;
    tcp.allocate(&mut world);
    assert_eq!(tcp.refresh(&mut world, None).code(), 0);
}
