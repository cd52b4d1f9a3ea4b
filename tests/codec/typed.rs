//! Each attribute: written and read back, in its right lengths and no other.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use ternd::stun::{
    Attribute, AttributeType as T, Builder, ChannelNumber, Class, DecodeError, Family, Message, Method,
    PasswordAlgorithm, RawAttribute, TransactionId,
};

use crate::any;

/// Writes a value between two other attributes, and reads it back.
fn round_trip<S: Strategy>(
    values: S,
    write: impl Fn(Builder, &S::Value) -> Builder,
    expected: impl for<'v> Fn(&'v S::Value) -> Attribute<'v>,
) {
    TestRunner::new(any::cases(100))
        .run(&(any::id(), values), |(id, value)| {
            let builder = Builder::new(Class::Success, Method::ALLOCATE, id).raw(T::SOFTWARE, b"odd");
            let bytes = write(builder, &value).raw(T::DATA, b"next").finish();
            let message = Message::parse(&bytes).unwrap();
            let [_, middle, last] = &message.attributes().collect::<Vec<_>>()[..] else {
                panic!("{message:?}")
            };
            prop_assert_eq!(middle.decode(id), Ok(expected(&value)));
            prop_assert_eq!(last.value, b"next");
            Ok(())
        })
        .unwrap();
}

fn raw(kind: T, value: &[u8]) -> RawAttribute<'_> {
    RawAttribute { kind, value, offset: 20 }
}

fn decode(kind: T, value: &[u8]) -> Result<Attribute<'_>, DecodeError> {
    raw(kind, value).decode(TransactionId::default())
}

#[test]
fn addresses() {
    let plain = |kind| move |b: Builder, a: &_| b.address(kind, *a);
    round_trip(any::address(), plain(T::MAPPED_ADDRESS), |a| Attribute::MappedAddress(*a));
    round_trip(any::address(), plain(T::ALTERNATE_SERVER), |a| Attribute::AlternateServer(*a));
    round_trip(any::address(), plain(T::RESPONSE_ORIGIN), |a| Attribute::ResponseOrigin(*a));
    round_trip(any::address(), plain(T::OTHER_ADDRESS), |a| Attribute::OtherAddress(*a));
    let xor = |kind| move |b: Builder, a: &_| b.xor_address(kind, *a);
    round_trip(any::address(), xor(T::XOR_MAPPED_ADDRESS), |a| Attribute::XorMappedAddress(*a));
    round_trip(any::address(), xor(T::XOR_PEER_ADDRESS), |a| Attribute::XorPeerAddress(*a));
    round_trip(any::address(), xor(T::XOR_RELAYED_ADDRESS), |a| Attribute::XorRelayedAddress(*a));
}

//= 8489-14.1-2
#[test]
fn the_first_byte_of_an_address_is_ignored() {
    for first in [1, 0x80, 0xFF] {
        assert_eq!(
            decode(T::MAPPED_ADDRESS, &[first, 1, 0x0F, 0xA0, 192, 0, 2, 7]),
            Ok(Attribute::MappedAddress("192.0.2.7:4000".parse().unwrap()))
        );
    }
}

#[test]
fn bytes() {
    let write = |kind| move |b: Builder, v: &Vec<u8>| b.raw(kind, v);
    round_trip(vec(any::<u8>(), 0..=763), write(T::USERNAME), |v| Attribute::Username(v));
    round_trip(vec(any::<u8>(), 0..=763), write(T::REALM), |v| Attribute::Realm(v));
    round_trip(vec(any::<u8>(), 0..=763), write(T::NONCE), |v| Attribute::Nonce(v));
    round_trip(vec(any::<u8>(), 0..2_000), write(T::DATA), |v| Attribute::Data(v));
    round_trip(vec(any::<u8>(), 0..2_000), write(T::PADDING), |v| Attribute::Padding(v));
    round_trip(vec(any::<u8>(), 0..200), write(T::ACCESS_TOKEN), |v| Attribute::AccessToken(v));
    round_trip(vec(any::<u8>(), 0..200), write(T::MOBILITY_TICKET), |v| Attribute::MobilityTicket(v));
    round_trip(any::<[u8; 32]>(), |b, v| b.raw(T::USERHASH, v), |v| Attribute::Userhash(v));
    round_trip(any::<[u8; 8]>(), |b, v| b.raw(T::RESERVATION_TOKEN, v), |v| Attribute::ReservationToken(v));
    round_trip(
        (any::<u16>().prop_map(T).prop_filter("no name", |t| t.name().is_none()), vec(any::<u8>(), 0..50)),
        |b, (kind, v)| b.raw(*kind, v),
        |(kind, v)| Attribute::Unknown(*kind, v),
    );
}

//= 8489-14.8-2
#[test]
fn text() {
    round_trip(".{0,127}", |b, v| b.raw(T::SOFTWARE, v.as_bytes()), |v| Attribute::Software(v));
    round_trip(
        ".{0,127}",
        |b, v| b.raw(T::THIRD_PARTY_AUTHORIZATION, v.as_bytes()),
        |v| Attribute::ThirdPartyAuthorization(v),
    );
    round_trip(
        "[a-z.]{0,255}",
        |b, v| b.raw(T::ALTERNATE_DOMAIN, v.as_bytes()),
        |v| Attribute::AlternateDomain(v),
    );
    round_trip(
        (300..700_u16, ".{0,127}"),
        |b, (code, reason)| b.error_code(*code, reason),
        |(code, reason)| Attribute::ErrorCode { code: *code, reason },
    );
}

//= 8656-18.1-1 8656-18.8-1
#[test]
fn numbers_and_flags() {
    round_trip(any::<u32>(), |b, v| b.u32(T::LIFETIME, *v), |v| Attribute::Lifetime(*v));
    round_trip(any::<u32>(), |b, v| b.u32(T::CONNECTION_ID, *v), |v| Attribute::ConnectionId(*v));
    round_trip(
        any::<(u16, u16)>(), // the second half is reserved
        |b, (number, rffu)| b.u32(T::CHANNEL_NUMBER, u32::from(*number) << 16 | u32::from(*rffu)),
        |(number, _)| Attribute::ChannelNumber(ChannelNumber(*number)),
    );
    round_trip(
        any::<(u16, bool)>(), // some count the padding, some don't
        |b, (port, long)| {
            b.raw(T::RESPONSE_PORT, &[&port.to_be_bytes()[..], &[0, 0]].concat()[..if *long { 4 } else { 2 }])
        },
        |(port, _)| Attribute::ResponsePort(*port),
    );
    round_trip(
        any::<[u8; 4]>(),
        |b, v| b.raw(T::REQUESTED_TRANSPORT, v),
        |[protocol, ..]| Attribute::RequestedTransport(*protocol),
    );
    round_trip(
        any::<u8>(),
        |b, v| b.raw(T::EVEN_PORT, &[*v]),
        |v| Attribute::EvenPort { reserve: *v >= 0x80 },
    );
    round_trip(Just(()), |b, ()| b.raw(T::DONT_FRAGMENT, &[]), |()| Attribute::DontFragment);
    round_trip(
        any::<[u8; 8]>(),
        |b, v| b.raw(T::ICMP, v),
        |[_, _, kind, code, data @ ..]| Attribute::Icmp {
            kind: *kind,
            code: *code,
            data: u32::from_be_bytes(*data),
        },
    );
    round_trip(
        any::<u32>(),
        |b, v| b.u32(T::CHANGE_REQUEST, *v),
        |v| Attribute::ChangeRequest { ip: v & 0b100 != 0, port: v & 0b010 != 0 },
    );
}

//= 8656-18.6-1
#[test]
fn families() {
    fn family(number: u8) -> Option<Family> {
        [(1, Family::V4), (2, Family::V6)].into_iter().find(|(n, _)| *n == number).map(|(_, family)| family)
    }
    let value =
        || (0..5_u8, any::<[u8; 3]>()).prop_map(|(n, reserved)| [n, reserved[0], reserved[1], reserved[2]]);
    round_trip(
        value(),
        |b, v| b.raw(T::REQUESTED_ADDRESS_FAMILY, v),
        |v| Attribute::RequestedAddressFamily(family(v[0])),
    );
    round_trip(
        value(),
        |b, v| b.raw(T::ADDITIONAL_ADDRESS_FAMILY, v),
        |v| Attribute::AdditionalAddressFamily(family(v[0])),
    );
    round_trip(
        (select(&[Family::V4, Family::V6][..]), select(&[440, 508][..])),
        |b, (family, code)| b.address_error_code(*family, *code),
        |(family, code)| Attribute::AddressErrorCode { family: Some(*family), code: *code, reason: "" },
    );
    assert_eq!(
        decode(T::ADDRESS_ERROR_CODE, &[3, 0, 4, 40, b'n', b'o']),
        Ok(Attribute::AddressErrorCode { family: None, code: 440, reason: "no" })
    );
    assert_eq!(Family::of(&"192.0.2.1".parse().unwrap()).number(), 1);
    assert_eq!(Family::of(&"2001:db8::1".parse().unwrap()).number(), 2);
}

#[test]
fn seals() {
    round_trip(
        Just([9; 20]),
        |b, v| b.raw(T::MESSAGE_INTEGRITY, v).raw(T::FINGERPRINT, b"next"),
        |v| Attribute::MessageIntegrity(v),
    );
}

#[test]
fn lists_of_types() {
    let any_types = || vec(any::<u16>().prop_map(T), 0..20);
    TestRunner::new(any::cases(100))
        .run(&any_types(), |types| {
            let bytes = Builder::new(Class::Error, Method::ALLOCATE, TransactionId::default())
                .unknown_attributes(&types)
                .finish();
            let attribute = Message::parse(&bytes).unwrap().find(T::UNKNOWN_ATTRIBUTES).unwrap();
            prop_assert_eq!(attribute.unknown_attributes().collect::<Vec<_>>(), types);
            prop_assert_eq!(
                decode(T::UNKNOWN_ATTRIBUTES, attribute.value),
                Ok(Attribute::UnknownAttributes(attribute.value))
            );
            Ok(())
        })
        .unwrap();
    assert_eq!(raw(T::UNKNOWN_ATTRIBUTES, &[0, 1, 0]).unknown_attributes().collect::<Vec<_>>(), [T(1)]);
}

/// PASSWORD-ALGORITHMS by hand: number, length, parameters, padding.
fn algorithms_on_the_wire(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (number, parameters) in list {
        wire.extend(number.to_be_bytes());
        wire.extend((parameters.len() as u16).to_be_bytes());
        wire.extend(parameters);
        wire.resize(wire.len().next_multiple_of(4), 0);
    }
    wire
}

//= 8489-14.12-1
#[test]
fn password_algorithms() {
    let one = || (any::<u16>(), vec(any::<u8>(), 0..9));
    TestRunner::new(any::cases(200))
        .run(&(vec(one(), 0..6), any::<prop::sample::Index>()), |(list, cut)| {
            let wire = algorithms_on_the_wire(&list);
            let entry = |(number, parameters): &'_ (u16, Vec<u8>)| (*number, parameters.clone());
            let read: Vec<_> = raw(T::PASSWORD_ALGORITHMS, &wire)
                .password_algorithms()
                .map(|a| a.map(|a| (a.number, a.parameters.to_vec())))
                .collect();
            prop_assert_eq!(read, list.iter().map(|e| Ok(entry(e))).collect::<Vec<_>>());
            prop_assert_eq!(decode(T::PASSWORD_ALGORITHMS, &wire), Ok(Attribute::PasswordAlgorithms(&wire)));

            // Cut somewhere: whole entries, then at most one error, which ends it.
            let part = raw(T::PASSWORD_ALGORITHMS, &wire[..cut.index(wire.len() + 1)]);
            let read: Vec<_> = part.password_algorithms().collect();
            let errors = read.iter().filter(|a| a.is_err()).count();
            prop_assert!(errors <= 1 && read.iter().rev().skip(1).all(Result::is_ok));
            prop_assert_eq!(part.decode(TransactionId::default()).is_err(), errors == 1);
            Ok(())
        })
        .unwrap();
    round_trip(
        one(),
        |b, (number, parameters)| {
            // The length of the attribute may leave out the padding of its parameters, which is then its own.
            let wire = algorithms_on_the_wire(&[(*number, parameters.clone())]);
            b.raw(T::PASSWORD_ALGORITHM, &wire[..4 + parameters.len()])
        },
        |(number, parameters)| {
            Attribute::PasswordAlgorithm(PasswordAlgorithm { number: *number, parameters })
        },
    );
    assert_eq!((PasswordAlgorithm::MD5, PasswordAlgorithm::SHA256), (1, 2));
}

//= 8489-14.1-1
#[test]
fn each_type_in_its_lengths_and_no_other() {
    type Fits = fn(usize) -> bool;
    // Type, how a value begins, and which lengths it may have; the rest of the value is the letter "a".
    let table: &[(T, &[u8], Fits)] = &[
        (T::MAPPED_ADDRESS, &[0, 1], |n| n == 8),
        (T::MAPPED_ADDRESS, &[0, 2], |n| n == 20),
        (T::XOR_MAPPED_ADDRESS, &[0, 1], |n| n == 8),
        (T::XOR_MAPPED_ADDRESS, &[0, 2], |n| n == 20),
        (T::XOR_PEER_ADDRESS, &[0xFF, 1], |n| n == 8),
        (T::XOR_RELAYED_ADDRESS, &[0xFF, 2], |n| n == 20),
        (T::ALTERNATE_SERVER, &[0, 1], |n| n == 8),
        (T::RESPONSE_ORIGIN, &[0, 2], |n| n == 20),
        (T::OTHER_ADDRESS, &[0, 1], |n| n == 8),
        (T::MAPPED_ADDRESS, &[0, 3], |_| false),
        (T::XOR_PEER_ADDRESS, &[0, 0], |_| false),
        (T::USERNAME, &[], |n| n <= 763),
        (T::REALM, &[], |n| n <= 763),
        (T::NONCE, &[], |n| n <= 763),
        (T::SOFTWARE, &[], |n| n <= 763),
        (T::THIRD_PARTY_AUTHORIZATION, &[], |n| n <= 763),
        (T::ALTERNATE_DOMAIN, &[], |n| n <= 255),
        (T::DATA, &[], |_| true),
        (T::PADDING, &[], |_| true),
        (T::ACCESS_TOKEN, &[], |_| true),
        (T::MOBILITY_TICKET, &[], |_| true),
        (T::USERHASH, &[], |n| n == 32),
        (T::MESSAGE_INTEGRITY, &[], |n| n == 20),
        (T::MESSAGE_INTEGRITY_SHA256, &[], |n| [16, 20, 24, 28, 32].contains(&n)),
        (T::FINGERPRINT, &[], |n| n == 4),
        (T::ERROR_CODE, &[0xFF, 0xFF, 0xFB, 0], |n| (4..=767).contains(&n)), // the reserved bits are set
        (T::ERROR_CODE, &[0, 0, 6, 99], |n| (4..=767).contains(&n)),
        (T::ERROR_CODE, &[0, 0, 2, 0], |_| false),
        (T::ERROR_CODE, &[0, 0, 7, 0], |_| false),
        (T::ERROR_CODE, &[0, 0, 4, 100], |_| false),
        (T::ERROR_CODE, &[0, 0, 4, 0, 0xFF], |n| n == 4), // a reason that is no UTF-8
        (T::ADDRESS_ERROR_CODE, &[2, 0, 4, 40], |n| (4..=767).contains(&n)),
        (T::UNKNOWN_ATTRIBUTES, &[], |n| n.is_multiple_of(2)),
        (T::PASSWORD_ALGORITHM, &[0, 1, 0, 0], |n| n == 4),
        (T::PASSWORD_ALGORITHM, &[0, 1, 0, 5], |n| (9..=12).contains(&n)),
        (T::PASSWORD_ALGORITHMS, &[0, 1, 0, 0, 0, 2, 0, 0], |n| [0, 4, 8].contains(&n)),
        (T::CHANNEL_NUMBER, &[], |n| n == 4),
        (T::LIFETIME, &[], |n| n == 4),
        (T::CONNECTION_ID, &[], |n| n == 4),
        (T::CHANGE_REQUEST, &[], |n| n == 4),
        (T::REQUESTED_ADDRESS_FAMILY, &[1], |n| n == 4),
        (T::ADDITIONAL_ADDRESS_FAMILY, &[2], |n| n == 4),
        (T::REQUESTED_TRANSPORT, &[], |n| n == 4),
        (T::EVEN_PORT, &[], |n| n == 1),
        (T::DONT_FRAGMENT, &[], |n| n == 0),
        (T::RESERVATION_TOKEN, &[], |n| n == 8),
        (T::ICMP, &[], |n| n == 8),
        (T::RESPONSE_PORT, &[], |n| n == 2 || n == 4),
    ];
    for (kind, begins, fits) in table {
        for len in 0..=1_000 {
            let mut value = begins.to_vec();
            value.resize(len, b'a');
            let decoded = decode(*kind, &value);
            assert_eq!(decoded.is_ok(), fits(len), "{kind:?} {begins:?} of {len} bytes");
            if let Err(error) = decoded {
                assert_eq!(error, DecodeError(*kind));
            }
        }
    }
    let listed: BTreeSet<_> = table.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(listed, any::known_types().into_iter().collect(), "each type is in the table");
}

#[test]
fn an_error_names_the_attribute() {
    let error = decode(T::LIFETIME, &[1]).unwrap_err();
    assert_eq!(error.to_string(), "malformed LIFETIME");
    assert_eq!(format!("{:?}", T(0x7ABC)), "0x7abc");
}
