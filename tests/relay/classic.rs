//! Clients of RFC 3489: messages without the magic cookie.

use ternd::stun::{Attribute, AttributeType as T, Class, MAGIC_COOKIE, Message, Method};
use ternd::turn::{FiveTuple, NatDiscovery, Settings, Transport, Verdict};

use crate::world::{Client, World, addr, auth_settings, ip, settings};

const FROM: &str = "192.0.2.7:4000";
const ID: [u8; 16] = *b"classic STUN id!";

fn world(settings: Settings) -> World {
    World::with(Settings { rfc3489_clients: true, ..settings }, auth_settings())
}

fn message(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&ID);
    bytes.extend_from_slice(attributes);
    bytes
}

fn ask(world: &mut World, flow: FiveTuple, bytes: &[u8]) -> Option<(FiveTuple, Vec<u8>)> {
    assert_eq!(world.server.handle_client(world.now, flow, bytes), Verdict::Nothing);
    let mut sent = world.drive();
    assert!(sent.len() <= 1);
    sent.pop()
}

/// Class and attributes of an answer, whose transaction id must be the request's.
fn read(bytes: &[u8]) -> (Class, Vec<(u16, Vec<u8>)>) {
    assert_eq!(bytes[4..20], ID);
    let message = Message::parse_classic(bytes).unwrap();
    assert_eq!(message.method(), Method::BINDING);
    (message.class(), message.attributes().map(|a| (a.kind.0, a.value.to_vec())).collect())
}

fn address(text: &str) -> Vec<u8> {
    let mut out = [0; 20];
    let len = ternd::stun::encode_address(addr(text), &mut out);
    out[..len].to_vec()
}

//= 8489-12-5
#[test]
fn a_classic_client_is_told_its_address_in_the_clear() {
    let mut world = world(settings());
    for from in [FROM, "[2001:db8:7::1]:4000"] {
        let flow = Client::alice(from).flow;
        // USERNAME and MESSAGE-INTEGRITY ask for nothing.
        for attributes in [&b""[..], &[0, 6, 0, 4, b'a', b'n', b'n', b'a']] {
            let (to, bytes) = ask(&mut world, flow, &message(1, attributes)).expect("an answer");
            assert_eq!(to, flow);
            assert_eq!(read(&bytes), (Class::Success, vec![(T::MAPPED_ADDRESS.0, address(from))]));
        }
    }
    assert_eq!(world.server.counters().bindings, 4);
    assert_eq!(world.server.counters().not_stun, 0);
}

#[test]
fn what_only_rfc_3489_had_is_an_unknown_attribute() {
    let mut world = world(settings());
    let flow = Client::alice(FROM).flow;
    let change = [0, 3, 0, 4, 0, 0, 0, 6];
    let response_address = [&[0, 2, 0, 8][..], &address("198.51.100.66:9")].concat();
    for (attributes, unknown) in [
        (change.to_vec(), vec![0, 3, 0, 3]),
        (response_address.clone(), vec![0, 2, 0, 2]),
        ([&response_address[..], &change].concat(), vec![0, 2, 0, 3]),
    ] {
        let (to, bytes) = ask(&mut world, flow, &message(1, &attributes)).expect("an answer");
        assert_eq!(to, flow, "and never goes elsewhere");
        let (class, said) = read(&bytes);
        assert_eq!(class, Class::Error);
        assert_eq!(said, [(T::ERROR_CODE.0, vec![0, 0, 4, 20]), (T::UNKNOWN_ATTRIBUTES.0, unknown)]);
    }
    assert_eq!(world.server.counters().rejected, 3);
}

#[test]
fn with_two_addresses_it_learns_how_its_nat_behaves() {
    let addresses = [ip("198.51.100.1"), ip("198.51.100.2")];
    let nat_discovery = Some(NatDiscovery { addresses, ports: [3478, 3479] });
    let mut world = world(Settings { nat_discovery, ..settings() });
    let flow = Client::alice(FROM).flow;
    for (flags, source) in [
        (None, "198.51.100.1:3478"),
        (Some(0), "198.51.100.1:3478"),
        (Some(2), "198.51.100.1:3479"),
        (Some(4), "198.51.100.2:3478"),
        (Some(6), "198.51.100.2:3479"),
    ] {
        let attributes = flags.map_or(vec![], |f| vec![0, 3, 0, 4, 0, 0, 0, f]);
        let (to, bytes) = ask(&mut world, flow, &message(1, &attributes)).expect("an answer");
        assert_eq!((to.client, to.server.0), (flow.client, addr(source)));
        let expected = [(1, address(FROM)), (4, address(source)), (5, address("198.51.100.2:3479"))];
        assert_eq!(read(&bytes), (Class::Success, expected.to_vec()));
    }
    let bad = ask(&mut world, flow, &message(1, &[0, 3, 0, 0])).expect("an answer");
    assert_eq!(read(&bad.1), (Class::Error, vec![(T::ERROR_CODE.0, vec![0, 0, 4, 0])]));
    // Who has the cookie is answered as RFC 5780 has it.
    let answer = world.ask(flow, &Client::alice(FROM).request(Method::BINDING).finish()).unwrap();
    assert_eq!(answer.get(T::OTHER_ADDRESS), Some(Attribute::OtherAddress(addr("198.51.100.2:3479"))));
}

#[test]
fn nothing_else_is_answered_and_nothing_by_default() {
    let flow = Client::alice(FROM).flow;
    let mut off = World::new();
    assert_eq!(ask(&mut off, flow, &message(1, b"")), None);
    assert_eq!(off.server.counters().not_stun, 1);

    let mut on = world(settings());
    let stream = FiveTuple { transport: Transport::Tcp, ..flow };
    assert_eq!(ask(&mut on, stream, &message(1, b"")), None, "RFC 3489 knows UDP only");
    let cut = &message(1, b"")[..19];
    let overrun = message(1, &[0, 6, 0, 9]);
    // An indication, a response, the Shared Secret request, Allocate; a length that does not fit.
    for bytes in
        [&message(0x11, b""), &message(0x101, b""), &message(2, b""), &message(3, b""), cut, &overrun]
    {
        assert_eq!(ask(&mut on, flow, bytes), None, "{bytes:?}");
    }
    assert_eq!(on.server.counters().not_stun, 7);
    // With the cookie, it is no classic message.
    let mut bytes = message(1, &[0, 6, 0, 9]);
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    assert_eq!(ask(&mut on, flow, &bytes), None);
}

#[test]
fn an_address_gets_so_many_answers_and_no_more() {
    let mut few = settings();
    few.limits.unauthenticated_answers = 2;
    let mut world = world(few);
    let flow = Client::alice(FROM).flow;
    let answers = (0..20).filter(|_| ask(&mut world, flow, &message(1, b"")).is_some()).count();
    assert_eq!(answers, 10, "five seconds' worth at once");
    assert_eq!(world.server.counters().unanswered, 10);
}
