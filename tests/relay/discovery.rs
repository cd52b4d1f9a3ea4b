//! RFC 5780: two addresses, two ports, and answers from each of the four.

use ternd::stun::{Attribute, AttributeType as T, Builder, Class, Method, TransactionId};
use ternd::turn::{
    ClientAddr, FiveTuple, NatDiscovery, RelayAddress, ServerAddr, Settings, Transport, Verdict,
};

use crate::world::{Answer, World, addr, auth_settings, ip, settings};

fn world() -> World {
    let nat_discovery =
        Some(NatDiscovery { addresses: [ip("198.51.100.1"), ip("198.51.100.2")], ports: [3478, 3479] });
    World::with(Settings { nat_discovery, ..settings() }, auth_settings())
}

fn flow(server: &str) -> FiveTuple {
    FiveTuple {
        client: ClientAddr(addr("192.0.2.7:4000")),
        server: ServerAddr(addr(server)),
        transport: Transport::Udp,
    }
}

fn binding() -> Builder {
    Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
}

/// Where the answer comes from, where it goes, and the answer.
fn ask(world: &mut World, flow: FiveTuple, request: Builder) -> (String, String, Answer) {
    assert_eq!(world.server.handle_client(world.now, flow, &request.finish()), Verdict::Nothing);
    let [(flow, bytes)] = world.drive().try_into().expect("one answer");
    (flow.server.to_string(), flow.client.to_string(), Answer(bytes))
}

//= 5780-6-1 5780-6.1-1 5780-6.1-2 5780-6.1-3 5780-6.1-4 5780-6.1-5 5780-6.1-6 5780-6.1-7 5780-6.1-12
#[test]
fn the_table_of_section_6_1() {
    let corners = ["198.51.100.1:3478", "198.51.100.2:3479", "198.51.100.1:3479", "198.51.100.2:3478"];
    for (asked, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        for (flags, change_ip, change_port) in
            [(None, 0, 0), (Some(0), 0, 0), (Some(4), 1, 0), (Some(2), 0, 1), (Some(6), 1, 1)]
        {
            let mut request = binding();
            if let Some(flags) = flags {
                request = request.u32(T::CHANGE_REQUEST, flags);
            }
            let (here, there) = (addr(corners[asked]), addr(corners[other]));
            let expected = std::net::SocketAddr::new(
                [here.ip(), there.ip()][change_ip],
                [here.port(), there.port()][change_port],
            );
            let (from, to, answer) = ask(&mut world(), flow(corners[asked]), request);
            assert_eq!((from, to.as_str()), (expected.to_string(), "192.0.2.7:4000"));
            assert_eq!(answer.code(), 0);
            assert_eq!(answer.get(T::OTHER_ADDRESS), Some(Attribute::OtherAddress(there)));
            assert_eq!(answer.get(T::RESPONSE_ORIGIN), Some(Attribute::ResponseOrigin(expected)));
            assert_eq!(answer.get(T::MAPPED_ADDRESS), Some(Attribute::MappedAddress(addr("192.0.2.7:4000"))));
            assert_eq!(
                answer.get(T::XOR_MAPPED_ADDRESS),
                Some(Attribute::XorMappedAddress(addr("192.0.2.7:4000")))
            );
        }
    }
}

//= 5780-6.1-10 5780-7.5-1
#[test]
fn the_answer_goes_to_the_port_asked_for() {
    let request = binding().raw(T::RESPONSE_PORT, &[0x12, 0x34, 0, 0]);
    let (_, to, answer) = ask(&mut world(), flow("198.51.100.1:3478"), request);
    assert_eq!((to.as_str(), answer.code()), ("192.0.2.7:4660", 0));

    let request = binding().raw(T::RESPONSE_PORT, &[0x12, 0x34, 0, 0]).raw(T::PADDING, &[0; 64]);
    let (_, to, answer) = ask(&mut world(), flow("198.51.100.1:3478"), request);
    assert_eq!((to.as_str(), answer.code()), ("192.0.2.7:4000", 400));
}

//= 5780-6.1-8 5780-7.6-1
#[test]
fn padding_is_answered_with_as_much_up_to_a_frame() {
    for (asked, answered) in [(64, 64), (1_500, 1_500), (9_000, 1_500)] {
        let request = binding().raw(T::PADDING, &vec![7; asked]);
        let (_, _, answer) = ask(&mut world(), flow("198.51.100.1:3478"), request);
        assert!(matches!(answer.get(T::PADDING), Some(Attribute::Padding(p)) if p.len() == answered));
    }
}

//= 5780-6-3
#[test]
fn with_one_address_the_questions_are_unknown() {
    for (mut world, flow) in [
        (World::new(), flow("198.51.100.1:3478")),
        (world(), flow("198.51.100.9:3478")),
        (world(), FiveTuple { transport: Transport::Tls, ..flow("198.51.100.1:443") }),
    ] {
        let (_, _, answer) = ask(&mut world, flow, binding());
        assert_eq!(answer.kinds(), [T::XOR_MAPPED_ADDRESS]);
        let (_, _, answer) = ask(&mut world, flow, binding().u32(T::CHANGE_REQUEST, 6));
        assert_eq!(answer.code(), 420);
    }
}

/// The mapping tests go over TCP, too (RFC 5780 section 3.1): they need to know where to connect next. What an answer
/// from elsewhere, or a fragment, would show does not exist there.
#[test]
fn over_tcp_the_client_learns_the_addresses_and_gets_its_answer_where_it_is() {
    let tcp = FiveTuple { transport: Transport::Tcp, ..flow("198.51.100.1:3478") };
    for request in [binding(), binding().u32(T::CHANGE_REQUEST, 0)] {
        let (from, to, answer) = ask(&mut world(), tcp, request);
        assert_eq!((from.as_str(), to.as_str(), answer.code()), ("198.51.100.1:3478", "192.0.2.7:4000", 0));
        let client = addr("192.0.2.7:4000");
        assert_eq!(answer.get(T::MAPPED_ADDRESS), Some(Attribute::MappedAddress(client)));
        assert_eq!(
            answer.get(T::RESPONSE_ORIGIN),
            Some(Attribute::ResponseOrigin(addr("198.51.100.1:3478")))
        );
        assert_eq!(answer.get(T::OTHER_ADDRESS), Some(Attribute::OtherAddress(addr("198.51.100.2:3479"))));
    }
    for request in [
        binding().u32(T::CHANGE_REQUEST, 2),
        binding().u32(T::CHANGE_REQUEST, 4),
        binding().raw(T::RESPONSE_PORT, &[0x12, 0x34, 0, 0]),
        binding().raw(T::PADDING, &[0; 64]),
    ] {
        let (from, to, answer) = ask(&mut world(), tcp, request);
        assert_eq!((from.as_str(), to.as_str(), answer.code()), ("198.51.100.1:3478", "192.0.2.7:4000", 400));
    }
}

#[test]
fn behind_one_to_one_nat_the_other_address_is_the_external_one() {
    let relay = |local, announced| RelayAddress { local: ip(local), announced: ip(announced) };
    let behind = Settings {
        relay_addresses: vec![relay("10.0.0.1", "198.51.100.1"), relay("10.0.0.2", "198.51.100.2")],
        nat_discovery: Some(NatDiscovery {
            addresses: [ip("10.0.0.1"), ip("10.0.0.2")],
            ports: [3478, 3479],
        }),
        ..settings()
    };
    let (from, _, answer) = ask(
        &mut World::with(behind, auth_settings()),
        flow("10.0.0.1:3478"),
        binding().u32(T::CHANGE_REQUEST, 6),
    );
    assert_eq!(from, "10.0.0.2:3479");
    assert_eq!(answer.get(T::OTHER_ADDRESS), Some(Attribute::OtherAddress(addr("198.51.100.2:3479"))));
}
