//! The `stun` and `turn` crates (webrtc-rs) as a second opinion: they have no code in common with ours.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use stun::addr::MappedAddress;
use stun::attributes::*;
use stun::error_code::{ErrorCode, ErrorCodeAttribute};
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{Getter, Message as Theirs, MessageClass, MessageType, Method as TheirMethod, Setter};
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;
use ternd::auth::{Algorithm, Key};
use ternd::stun::{
    Attribute, AttributeType as T, Builder, ChannelData, ChannelNumber, Class, HEADER, Message, Method,
    ParseError, TransactionId,
};
use turn::proto;

use crate::any;

fn theirs(bytes: &[u8]) -> Option<Theirs> {
    let mut message = Theirs::new();
    message.unmarshal_binary(bytes).ok().map(|()| message)
}

fn their_class(class: Class) -> MessageClass {
    match class {
        Class::Request => stun::message::CLASS_REQUEST,
        Class::Indication => stun::message::CLASS_INDICATION,
        Class::Success => stun::message::CLASS_SUCCESS_RESPONSE,
        Class::Error => stun::message::CLASS_ERROR_RESPONSE,
    }
}

fn their_method(method: Method) -> TheirMethod {
    // Made from a number only by reading a message type: appendix A of the RFC, for a request.
    let m = method.0;
    let mut request = MessageType::default();
    request.read_value((m & 0x1F80) << 2 | (m & 0x0070) << 1 | (m & 0x000F));
    request.method
}

/// A message of theirs with these attributes.
fn build_theirs(class: Class, method: Method, id: TransactionId, setters: &[&dyn Setter]) -> Theirs {
    let mut message = Theirs::new();
    message.typ = MessageType::new(their_method(method), their_class(class));
    message.transaction_id = stun::agent::TransactionId(id.0);
    message.write_header();
    setters.iter().for_each(|setter| setter.add_to(&mut message).unwrap());
    message
}

fn build_ours(id: TransactionId) -> Builder {
    Builder::new(Class::Success, Method::ALLOCATE, id)
}

/// Their view of a message of ours, with one attribute.
fn they_read<G: Getter + Default>(builder: Builder) -> G {
    let mut value = G::default();
    value.get_from(&theirs(&builder.finish()).unwrap()).unwrap();
    value
}

/// Our view of a message of theirs, with one attribute.
fn we_read(id: TransactionId, setter: &dyn Setter, check: impl FnOnce(Attribute<'_>)) {
    let message = build_theirs(Class::Success, Method::ALLOCATE, id, &[setter]);
    let message = Message::parse(&message.raw).unwrap();
    check(message.attributes().next().unwrap().decode(id).unwrap());
}

fn is_seal(kind: T) -> bool {
    [T::MESSAGE_INTEGRITY, T::MESSAGE_INTEGRITY_SHA256, T::FINGERPRINT].contains(&kind)
}

/// Both read the same, but for what is said here.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (ours, theirs) = (Message::parse(bytes), theirs(bytes));
    let theirs = match (&ours, theirs) {
        (Err(_), None) => return Ok(()),
        (Ok(_), None) => return Err(TestCaseError::fail("only we take it for a message")),
        // They don't look at the two top bits, and take a message with other bytes behind it.
        (Err(ParseError::NotStun), Some(_)) if bytes[0] & 0xC0 != 0 => return Ok(()),
        (Err(ParseError::WrongLength), Some(m)) if HEADER + (m.length as usize) < bytes.len() => {
            return Ok(());
        }
        (Err(error), Some(_)) => {
            return Err(TestCaseError::fail(format!("only they take it for a message: {error}")));
        }
        (Ok(_), Some(theirs)) => theirs,
    };
    let ours = ours.unwrap();
    prop_assert_eq!(their_method(ours.method()), theirs.typ.method);
    prop_assert_eq!(their_class(ours.class()), theirs.typ.class);
    prop_assert_eq!(ours.transaction_id().0, theirs.transaction_id.0);

    // They show all attributes. We show those up to the first seal, and behind it other kinds of seals. They read the
    // old type 0x8020 as XOR-MAPPED-ADDRESS.
    let all: Vec<_> = theirs.attributes.0.iter().map(|a| (a.typ.0, &a.value[..])).collect();
    let shown: Vec<_> = ours
        .attributes()
        .map(|a| (if a.kind.0 == 0x8020 { T::XOR_MAPPED_ADDRESS.0 } else { a.kind.0 }, a.value))
        .collect();
    let sealed_at = all.iter().position(|(kind, _)| is_seal(T(*kind))).map_or(all.len(), |at| at + 1);
    prop_assert_eq!(&shown[..sealed_at], &all[..sealed_at]);
    prop_assert!(shown[sealed_at..].iter().all(|(kind, _)| is_seal(T(*kind))));
    for attribute in ours.attributes() {
        prop_assert_eq!(&bytes[attribute.offset + 4..][..attribute.value.len()], attribute.value);
    }
    Ok(())
}

proptest! {
    #![proptest_config(any::cases(1_000))]

    #[test]
    fn the_same_messages_with_the_same_attributes(bytes in any::message()) {
        prop_assert!(Message::parse(&bytes).is_ok());
        compare(&bytes)?;
    }

    #[test]
    fn of_mutated_messages_too(bytes in any::mutated_message()) {
        compare(&bytes)?;
    }

    #[test]
    fn of_random_bytes_too(body in vec(0..12_u8, 0..60), head in any::<[u8; 2]>()) {
        compare(&[&head[..], &[0, body.len() as u8, 0x21, 0x12, 0xA4, 0x42], &[7; 12], &body].concat())?;
    }
}

proptest! {
    #![proptest_config(any::cases(300))]

    #[test]
    fn the_same_bytes_are_built(class in any::class(), method in any::method(), id in any::id(), attributes in vec(any::attribute(), 0..12)) {
        let mut ours = Builder::new(class, method, id);
        let mut theirs = build_theirs(class, method, id, &[]);
        for (kind, value) in &attributes {
            ours = ours.raw(*kind, value);
            theirs.add(AttrType(kind.0), value);
        }
        prop_assert_eq!(ours.finish(), theirs.raw);
    }

    #[test]
    fn our_seals_hold_there(bytes in any::message(), key in vec(any::<u8>(), 0..80), flip in any::<prop::sample::Index>()) {
        // Their integrity check counts from the end, so no seals but ours.
        let plain = Message::parse(&bytes).unwrap();
        let mut builder = Builder::response(plain.class(), &plain);
        for attribute in plain.attributes().filter(|a| !is_seal(a.kind)) {
            builder = builder.raw(attribute.kind, attribute.value);
        }
        let sealed = builder.message_integrity(&key).fingerprint().finish();
        let check = |bytes: &[u8], key: &[u8]| {
            let mut message = theirs(bytes).unwrap();
            let fingerprint = FINGERPRINT.check(&message).is_ok();
            (MessageIntegrity(key.to_vec()).check(&mut message).is_ok(), fingerprint)
        };
        prop_assert_eq!(check(&sealed, &key), (true, true));
        prop_assert_eq!(check(&sealed, &[&key[..], b"!"].concat()), (false, true));
        // A changed transaction id, which moves nothing.
        let mut changed = sealed.clone();
        changed[8 + flip.index(12)] ^= 0x10;
        prop_assert_eq!(check(&changed, &key), (false, false));
    }

    #[test]
    fn their_seals_hold_here(
        id in any::id(),
        attributes in vec(any::attribute(), 0..6),
        key in vec(any::<u8>(), 0..80),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut message = build_theirs(Class::Request, Method::REFRESH, id, &[]);
        for (kind, value) in attributes.iter().filter(|(kind, _)| !is_seal(*kind)) {
            message.add(AttrType(kind.0), value);
        }
        MessageIntegrity(key.clone()).add_to(&mut message).unwrap();
        FINGERPRINT.add_to(&mut message).unwrap();
        let check = |bytes: &[u8], key: &[u8]| {
            let message = Message::parse(bytes).unwrap();
            (message.verify_integrity(key), message.verify_fingerprint())
        };
        prop_assert_eq!(check(&message.raw, &key), (true, Some(true)));
        prop_assert_eq!(check(&message.raw, &[&key[..], b"!"].concat()), (false, Some(true)));
        let mut changed = message.raw.clone();
        changed[8 + flip.index(12)] ^= 0x10;
        prop_assert_eq!(check(&changed, &key), (false, Some(false)));
    }

    #[test]
    fn the_same_key_from_the_same_password(user in ".{0,40}", realm in "[^:]{0,20}", password in ".{0,40}") {
        let ours = Key::derive(Algorithm::Md5, user.as_bytes(), &realm, &password);
        prop_assert_eq!(ours.as_bytes(), MessageIntegrity::new_long_term_integrity(user, realm, password).0);
    }

    #[test]
    fn addresses(id in any::id(), address in any::address()) {
        let (ip, port) = (address.ip(), address.port());
        let xor: XorMappedAddress = they_read(build_ours(id).xor_address(T::XOR_MAPPED_ADDRESS, address));
        prop_assert_eq!(SocketAddr::new(xor.ip, xor.port), address);
        let plain: MappedAddress = they_read(build_ours(id).address(T::MAPPED_ADDRESS, address));
        prop_assert_eq!(SocketAddr::new(plain.ip, plain.port), address);
        let peer: proto::peeraddr::PeerAddress = they_read(build_ours(id).xor_address(T::XOR_PEER_ADDRESS, address));
        prop_assert_eq!(SocketAddr::new(peer.ip, peer.port), address);
        let relayed: proto::relayaddr::RelayedAddress =
            they_read(build_ours(id).xor_address(T::XOR_RELAYED_ADDRESS, address));
        prop_assert_eq!(SocketAddr::new(relayed.ip, relayed.port), address);

        we_read(id, &XorMappedAddress { ip, port }, |a| assert_eq!(a, Attribute::XorMappedAddress(address)));
        we_read(id, &MappedAddress { ip, port }, |a| assert_eq!(a, Attribute::MappedAddress(address)));
        we_read(id, &proto::peeraddr::PeerAddress { ip, port }, |a| assert_eq!(a, Attribute::XorPeerAddress(address)));
        we_read(id, &proto::relayaddr::RelayedAddress { ip, port }, |a| {
            assert_eq!(a, Attribute::XorRelayedAddress(address));
        });
    }

    #[test]
    fn errors(id in any::id(), code in 300..700_u16, reason in "[ -~]{0,127}", types in vec(any::<u16>(), 0..9)) {
        let read: ErrorCodeAttribute = they_read(build_ours(id).error_code(code, &reason));
        prop_assert_eq!((read.code.0, &read.reason[..]), (code, reason.as_bytes()));
        let error = ErrorCodeAttribute { code: ErrorCode(code), reason: reason.clone().into_bytes() };
        we_read(id, &error, |a| assert_eq!(a, Attribute::ErrorCode { code, reason: &reason }));

        let ours: Vec<_> = types.iter().copied().map(T).collect();
        let mut read = UnknownAttributes(Vec::new());
        read.get_from(&theirs(&build_ours(id).unknown_attributes(&ours).finish()).unwrap()).unwrap();
        prop_assert_eq!(read.0.iter().map(|t| t.0).collect::<Vec<_>>(), types);
    }

    #[test]
    fn what_turn_adds(id in any::id(), number in any::<u32>(), [byte, ..] in any::<[u8; 2]>(), data in vec(any::<u8>(), 0..100)) {
        let seconds = Duration::from_secs(number.into());
        let lifetime: proto::lifetime::Lifetime = they_read(build_ours(id).u32(T::LIFETIME, number));
        prop_assert_eq!(lifetime.0, seconds);
        we_read(id, &proto::lifetime::Lifetime(seconds), |a| assert_eq!(a, Attribute::Lifetime(number)));

        let channel = (number >> 16) as u16;
        let read: proto::channum::ChannelNumber =
            they_read(build_ours(id).u32(T::CHANNEL_NUMBER, u32::from(channel) << 16));
        prop_assert_eq!(read.0, channel);
        we_read(id, &read, |a| assert_eq!(a, Attribute::ChannelNumber(ChannelNumber(channel))));

        let transport: proto::reqtrans::RequestedTransport =
            they_read(build_ours(id).raw(T::REQUESTED_TRANSPORT, &[byte, 0, 0, 0]));
        prop_assert_eq!(transport.protocol.0, byte);
        we_read(id, &transport, |a| assert_eq!(a, Attribute::RequestedTransport(byte)));

        let even_port: proto::evenport::EvenPort = they_read(build_ours(id).raw(T::EVEN_PORT, &[byte & 0x80]));
        prop_assert_eq!(even_port.to_string(), format!("reserve: {}", byte >= 0x80));
        we_read(id, &even_port, |a| assert_eq!(a, Attribute::EvenPort { reserve: byte >= 0x80 }));

        let _: proto::dontfrag::DontFragmentAttr = they_read(build_ours(id).raw(T::DONT_FRAGMENT, &[]));
        we_read(id, &proto::dontfrag::DontFragmentAttr, |a| assert_eq!(a, Attribute::DontFragment));

        let read: proto::data::Data = they_read(build_ours(id).raw(T::DATA, &data));
        prop_assert_eq!(&read.0, &data);
        we_read(id, &read, |a| assert_eq!(a, Attribute::Data(&data)));

        let token = [id.0[0], 1, 2, 3, 4, 5, 6, 7];
        let read: proto::rsrvtoken::ReservationToken = they_read(build_ours(id).raw(T::RESERVATION_TOKEN, &token));
        prop_assert_eq!(&read.0[..], token);
        we_read(id, &read, |a| assert_eq!(a, Attribute::ReservationToken(&token)));
    }

    #[test]
    fn channel_data(bytes in prop_oneof![
        vec(any::<u8>(), 0..20),
        (0x3F00..0x8100_u16, 0..24_u16, vec(any::<u8>(), 0..24))
            .prop_map(|(number, length, data)| [&number.to_be_bytes()[..], &length.to_be_bytes(), &data].concat()),
    ]) {
        let mut theirs = proto::chandata::ChannelData { raw: bytes.clone(), ..Default::default() };
        let theirs = theirs.decode().is_ok().then_some(theirs);
        match (ChannelData::parse(&bytes), theirs) {
            (None, None) => {}
            (Some(ours), Some(theirs)) => {
                prop_assert_eq!((ours.number.0, ours.data), (theirs.number.0, &theirs.data[..]));
                let mut again = ChannelData::header(ours.number, ours.data.len()).to_vec();
                again.extend(ours.data);
                prop_assert_eq!(&again, &bytes[..again.len()]);
            }
            (ours, theirs) => prop_assert!(false, "{:?} here, {:?} there", ours, theirs),
        }
    }
}
