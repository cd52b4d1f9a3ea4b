//! Relayed data byte for byte.

use proptest::prelude::*;
use ternd::stun::{
    Attribute, AttributeType, Builder, ChannelData, ChannelNumber, Class, Message, Method, TransactionId,
};
use ternd::turn::{Framing, Rates, Transport, Verdict};

use crate::world::{Client, World, addr, auth_settings, peer, settings, wrapped};

proptest! {
    //= 8656-12.5-2
    #[test]
    fn channel_data_is_four_bytes_and_the_payload(payload in prop::collection::vec(any::<u8>(), 0..2000)) {
        let framing = Framing::Channel(ChannelNumber(0x4ABC));
        let datagram = wrapped(framing, &payload, Transport::Udp);
        prop_assert_eq!(datagram.len(), 4 + payload.len(), "no padding on UDP");
        prop_assert_eq!(ChannelData::parse(&datagram), Some(ChannelData { number: ChannelNumber(0x4ABC), data: &payload }));

        let frame = wrapped(framing, &payload, Transport::Tcp);
        prop_assert_eq!(frame.len(), (4 + payload.len()).next_multiple_of(4));
        prop_assert!(frame[4 + payload.len()..].iter().all(|b| *b == 0));
        prop_assert_eq!(ternd::stun::frame(&frame), Ok(ternd::stun::Frame::Complete { message: 4 + payload.len(), consumed: frame.len() }));
    }

    //= 8656-11.3-1
    #[test]
    fn a_data_indication_is_what_the_builder_would_write(payload in prop::collection::vec(any::<u8>(), 0..2000), v6: bool, id: [u8; 12]) {
        let from = if v6 { "[2001:db8:2::9]:4321" } else { "192.0.2.9:4321" };
        let id = TransactionId(id);
        let expected = Builder::new(Class::Indication, Method::DATA, id)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(from))
            .raw(AttributeType::DATA, &payload)
            .finish();
        for transport in [Transport::Udp, Transport::Tls] {
            prop_assert_eq!(&wrapped(Framing::Data { peer: peer(from), id }, &payload, transport), &expected);
        }
    }
}

#[test]
fn the_longest_payload_still_fits_and_a_longer_one_is_dropped() {
    let payload = vec![7; Framing::MAX_PAYLOAD];
    let bytes = wrapped(
        Framing::Data { peer: peer("[2001:db8:2::9]:1"), id: TransactionId([1; 12]) },
        &payload,
        Transport::Tcp,
    );
    let message = Message::parse(&bytes).unwrap();
    let data = message.find(AttributeType::DATA).unwrap();
    assert_eq!(data.decode(message.transaction_id()), Ok(Attribute::Data(&payload)));

    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    assert!(matches!(
        world.peer_sends(&alice, "192.0.2.99:1", Framing::MAX_PAYLOAD),
        Verdict::ToClient { .. }
    ));
    assert_eq!(world.peer_sends(&alice, "192.0.2.99:1", Framing::MAX_PAYLOAD + 1), Verdict::Nothing);
}

//= 8656-14-2
#[test]
fn the_payload_is_the_part_that_was_sent() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");

    let part = |bytes: &[u8], verdict: Verdict| match verdict {
        Verdict::Relay { payload, dont_fragment, .. } => {
            (bytes[payload.start..payload.end].to_vec(), dont_fragment)
        }
        other => panic!("{other:?}"),
    };
    // Bytes behind the announced length of ChannelData are padding.
    let bytes = b"\x40\x00\x00\x05helloPAD";
    let verdict = world.server.handle_client(world.now, alice.flow, bytes);
    assert_eq!(part(bytes, verdict), (b"hello".to_vec(), false));

    let bytes = alice.send_indication("192.0.2.99:1", b"hello");
    let verdict = world.server.handle_client(world.now, alice.flow, &bytes);
    assert_eq!(part(&bytes, verdict), (b"hello".to_vec(), false));

    let bytes = Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]))
        .raw(AttributeType::DONT_FRAGMENT, b"")
        .raw(AttributeType::DATA, b"whole")
        .xor_address(AttributeType::XOR_PEER_ADDRESS, addr("192.0.2.99:1"))
        .finish();
    let verdict = world.server.handle_client(world.now, alice.flow, &bytes);
    assert_eq!(part(&bytes, verdict), (b"whole".to_vec(), true));
}

//= 8656-13.1-1 8656-13.2-3 8656-13.3-2 8656-15-1
#[test]
fn the_df_bit_is_set_between_ipv4_and_ipv4_and_for_connections() {
    let (v4, v6) = ("192.0.2.99:1", "[2001:db8:2::99]:1");
    let (from_v4, from_v6) = ("192.0.2.7:4000", "[2001:db8:7::1]:4000");
    for (from, transport, peer, expected) in [
        (from_v4, Transport::Udp, v4, true),
        (from_v4, Transport::Udp, v6, false),
        (from_v6, Transport::Udp, v4, false),
        (from_v6, Transport::Udp, v6, false),
        (from_v6, Transport::Tcp, v4, true),
        (from_v4, Transport::Tls, v6, true),
    ] {
        let mut world = World::new();
        let mut alice = Client::alice(from);
        alice.flow.transport = transport;
        let both = alice.allocate_request().raw(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        alice.allocate_with(&mut world, both);
        alice.permit(&mut world, &[peer]);
        let bytes = Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]))
            .raw(AttributeType::DONT_FRAGMENT, b"")
            .xor_address(AttributeType::XOR_PEER_ADDRESS, addr(peer))
            .raw(AttributeType::DATA, b"x")
            .finish();
        match world.server.handle_client(world.now, alice.flow, &bytes) {
            Verdict::Relay { dont_fragment, .. } => {
                assert_eq!(dont_fragment, expected, "{from} {transport:?} {peer}");
            }
            other => panic!("{other:?}"),
        }
    }
}

//= 8656-11.2-1
#[test]
fn a_send_indication_that_lacks_something_is_dropped() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    let start = || Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]));
    let peer = |b: Builder| b.xor_address(AttributeType::XOR_PEER_ADDRESS, addr("192.0.2.99:1"));
    for (what, bytes) in [
        ("no peer", start().raw(AttributeType::DATA, b"x")),
        ("no data", peer(start())),
        (
            "a broken peer",
            start().raw(AttributeType::XOR_PEER_ADDRESS, &[0, 1]).raw(AttributeType::DATA, b"x"),
        ),
        (
            "an unknown attribute",
            peer(start()).raw(AttributeType::DATA, b"x").raw(AttributeType(0x7FFF), b""),
        ),
    ] {
        assert_eq!(world.ask(alice.flow, &bytes.finish()), None, "{what}");
    }
    assert_eq!(world.server.counters().malformed, 4);
    assert_eq!(world.server.counters().traffic.to_peers, 0);
}

//= 8656-11.5-1 8656-11.5-2 8656-18.13-1
#[test]
fn icmp_errors_are_told_to_the_client() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let relay = world.relay_of(&alice);
    let mut told = |to: &str, icmp, mtu| {
        world.server.handle_peer_error(world.now, relay, addr(to), icmp, mtu);
        world.drive()
    };
    // Fragmentation needed. Even with a channel it is an indication (RFC 8656 section 12.5).
    let sent = told("192.0.2.99:1", (3, 4), 1280);
    let [(flow, bytes)] = sent.try_into().expect("one indication");
    assert_eq!(flow, alice.flow);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    let all: Vec<_> = message.attributes().map(|a| a.decode(message.transaction_id()).unwrap()).collect();
    assert_eq!(
        all,
        [Attribute::XorPeerAddress(addr("192.0.2.99:1")), Attribute::Icmp { kind: 3, code: 4, data: 1280 }]
    );
    assert_eq!(told("192.0.2.99:1", (8, 0), 0), [], "an echo request is no error");
    assert_eq!(told("192.0.2.98:1", (3, 3), 0), [], "no permission");
}

//= 8489-5-3
#[test]
fn the_transaction_ids_of_indications_tell_nothing() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.permit(&mut world, &["192.0.2.99:1"]);
    let mut next = || match world.peer_sends(&alice, "192.0.2.99:1", 1) {
        Verdict::ToClient { framing: Framing::Data { id, .. }, .. } => {
            id.0.iter().fold(0u128, |n, byte| n << 8 | u128::from(*byte))
        }
        other => panic!("{other:?}"),
    };
    let ids: Vec<u128> = (0..1_000).map(|_| next()).collect();
    // Each bit is set about half of the time, and changes so from one to the next.
    let even = |count: usize| (350..650).contains(&count);
    for bit in 0..96 {
        assert!(even(ids.iter().filter(|id| **id >> bit & 1 == 1).count()), "bit {bit}");
        assert!(even(ids.windows(2).filter(|w| (w[0] ^ w[1]) >> bit & 1 == 1).count()), "bit {bit}");
    }
}

#[test]
fn icmp_errors_count_against_the_caps() {
    let mut limited = settings();
    limited.limits.allocation_rates = Rates { packets: 10, bytes: 0 };
    let mut world = World::with(limited, auth_settings());
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let relay = world.relay_of(&alice);
    let told = |world: &mut World| {
        world.server.handle_peer_error(world.now, relay, "192.0.2.99:1".parse().unwrap(), (3, 3), 0);
        world.drive().len()
    };
    assert_eq!((0..50).map(|_| told(&mut world)).sum::<usize>(), 10);
    assert_eq!(alice.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
    assert_eq!((world.server.counters().icmp_errors, world.server.counters().over_rate), (10, 41));
}

//= 8656-5-8
#[test]
fn an_allocation_and_a_user_have_their_caps() {
    let caps = |allocation: Rates, user: Rates| {
        let mut limited = settings();
        limited.limits.allocation_rates = allocation;
        limited.limits.user_rates = user;
        World::with(limited, auth_settings())
    };
    let none = Rates::default();
    let (packets, bytes) = (Rates { packets: 10, ..none }, Rates { bytes: 1_000, ..none });
    // What passes at once, and after a second more: of one client, then of both clients of the same user.
    for (allocation, user, len, one, both) in [
        (none, none, 100, 50, 100),
        (packets, none, 100, 10, 20),
        (bytes, none, 100, 10, 20),
        (bytes, none, 1_000, 1, 2),
        (none, packets, 100, 10, 10),
        (none, bytes, 250, 4, 4),
    ] {
        let mut world = caps(allocation, user);
        let mut clients = [Client::alice("192.0.2.7:1"), Client::alice("192.0.2.7:2")];
        for client in &mut clients {
            client.allocate(&mut world);
            client.bind(&mut world, 0x4000, "192.0.2.99:1");
        }
        let passed = |world: &mut World, n: usize| -> usize {
            let data = vec![7; len];
            let both_ways = |world: &mut World, client: &Client| {
                let out = client.channel(world, 0x4000, &data) != Verdict::Nothing;
                let back = world.peer_sends(client, "192.0.2.99:1", len) != Verdict::Nothing;
                usize::from(out) + usize::from(back)
            };
            clients[..n].iter().map(|c| (0..25).map(|_| both_ways(world, c)).sum::<usize>()).sum()
        };
        assert_eq!(passed(&mut world, 1), one, "{allocation:?} {user:?} {len}");
        world.wait(1);
        assert_eq!(passed(&mut world, 2), both, "{allocation:?} {user:?} {len}");
        assert_eq!(world.server.counters().over_rate as usize, 50 + 100 - one - both);
    }
}
