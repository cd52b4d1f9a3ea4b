//! What counts in a message, and what does not (RFC 8489 sections 5 and 14).

use ternd::stun::{
    Attribute, AttributeType as T, Builder, Class, Message, Method, ParseError, TransactionId,
};

const KEY: &[u8] = b"key";

fn builder() -> Builder {
    Builder::new(Class::Request, Method::ALLOCATE, TransactionId([7; 12]))
}

fn kinds(bytes: &[u8]) -> Vec<T> {
    Message::parse(bytes).unwrap().attributes().map(|a| a.kind).collect()
}

#[test]
fn types_have_the_numbers_of_the_registry() {
    // IANA, "STUN Attributes", as far as RFC 8489, 8656, 6062 and 5780 define them.
    const REGISTRY: &[(u16, &str)] = &[
        (0x0001, "MAPPED-ADDRESS"),
        (0x0003, "CHANGE-REQUEST"),
        (0x0006, "USERNAME"),
        (0x0008, "MESSAGE-INTEGRITY"),
        (0x0009, "ERROR-CODE"),
        (0x000A, "UNKNOWN-ATTRIBUTES"),
        (0x000C, "CHANNEL-NUMBER"),
        (0x000D, "LIFETIME"),
        (0x0012, "XOR-PEER-ADDRESS"),
        (0x0013, "DATA"),
        (0x0014, "REALM"),
        (0x0015, "NONCE"),
        (0x0016, "XOR-RELAYED-ADDRESS"),
        (0x0017, "REQUESTED-ADDRESS-FAMILY"),
        (0x0018, "EVEN-PORT"),
        (0x0019, "REQUESTED-TRANSPORT"),
        (0x001A, "DONT-FRAGMENT"),
        (0x001B, "ACCESS-TOKEN"),
        (0x001C, "MESSAGE-INTEGRITY-SHA256"),
        (0x001D, "PASSWORD-ALGORITHM"),
        (0x001E, "USERHASH"),
        (0x0020, "XOR-MAPPED-ADDRESS"),
        (0x0022, "RESERVATION-TOKEN"),
        (0x0026, "PADDING"),
        (0x0027, "RESPONSE-PORT"),
        (0x002A, "CONNECTION-ID"),
        (0x8000, "ADDITIONAL-ADDRESS-FAMILY"),
        (0x8001, "ADDRESS-ERROR-CODE"),
        (0x8002, "PASSWORD-ALGORITHMS"),
        (0x8003, "ALTERNATE-DOMAIN"),
        (0x8004, "ICMP"),
        (0x8022, "SOFTWARE"),
        (0x8023, "ALTERNATE-SERVER"),
        (0x8028, "FINGERPRINT"),
        (0x802B, "RESPONSE-ORIGIN"),
        (0x802C, "OTHER-ADDRESS"),
        (0x802E, "THIRD-PARTY-AUTHORIZATION"),
        (0x8030, "MOBILITY-TICKET"),
    ];
    let ours: Vec<_> = crate::any::known_types().iter().map(|kind| (kind.0, kind.name().unwrap())).collect();
    assert_eq!(ours, REGISTRY);
    assert!(T(0x7FFF).is_comprehension_required() && !T(0x8000).is_comprehension_required());
}

#[test]
fn methods_have_the_numbers_of_the_registry() {
    let ours = [
        (Method::BINDING, 0x001),
        (Method::ALLOCATE, 0x003),
        (Method::REFRESH, 0x004),
        (Method::SEND, 0x006),
        (Method::DATA, 0x007),
        (Method::CREATE_PERMISSION, 0x008),
        (Method::CHANNEL_BIND, 0x009),
        (Method::CONNECT, 0x00A),
        (Method::CONNECTION_BIND, 0x00B),
        (Method::CONNECTION_ATTEMPT, 0x00C),
    ];
    assert!(ours.iter().all(|(method, number)| method.0 == *number));
}

#[test]
fn message_types_are_those_of_appendix_a() {
    let classes = [(Class::Request, 0), (Class::Indication, 1), (Class::Success, 2), (Class::Error, 3)];
    for method in 0..0x1000_u16 {
        for (class, cls) in classes {
            let bytes = Builder::new(class, Method(method), TransactionId::default()).finish();
            let by_appendix_a = (method & 0x1F80) << 2
                | (method & 0x0070) << 1
                | (method & 0x000F)
                | (cls & 0x0002) << 7
                | (cls & 0x0001) << 4;
            assert_eq!(u16::from_be_bytes([bytes[0], bytes[1]]), by_appendix_a);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.class(), message.method()), (class, Method(method)));
        }
    }
}

//= 8489-5-1 8489-5-2 5780-3-1
#[test]
fn what_is_no_message_is_told_why() {
    let whole = builder().u32(T::LIFETIME, 600).finish();
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        Message::parse(&bytes).err()
    };
    assert_eq!(broken(&|_| ()), None);
    assert_eq!(broken(&|b| b.truncate(19)), Some(ParseError::TooShort));
    assert_eq!(broken(&|b| b[0] |= 0x80), Some(ParseError::NotStun));
    assert_eq!(broken(&|b| b[0] |= 0x40), Some(ParseError::NotStun));
    for at in 4..8 {
        assert_eq!(broken(&|b| b[at] ^= 1), Some(ParseError::WrongCookie));
    }
    assert_eq!(broken(&|b| b[3] -= 4), Some(ParseError::WrongLength));
    assert_eq!(broken(&|b| b.extend([0; 4])), Some(ParseError::WrongLength));
    let odd = |b: &mut Vec<u8>| {
        b[3] += 1;
        b.push(0);
    };
    assert_eq!(broken(&odd), Some(ParseError::WrongLength));
    assert_eq!(broken(&|b| b[23] = 5), Some(ParseError::AttributeOverrun));
    assert_eq!(broken(&|b| b[22] = 0xFF), Some(ParseError::AttributeOverrun));
}

//= 8489-14-3
#[test]
fn padding_may_hold_anything() {
    let mut bytes = builder().raw(T::DATA, b"12345").finish();
    let end = bytes.len();
    bytes[end - 3..].fill(0xFF);
    assert_eq!(Message::parse(&bytes).unwrap().find(T::DATA).unwrap().value, b"12345");
}

//= 8489-9-1 8489-9-2
#[test]
fn what_follows_a_signature_is_not_seen() {
    let signed = builder().u32(T::LIFETIME, 1).message_integrity(KEY);
    let forged = signed.raw(T::USERNAME, b"eve").u32(T::LIFETIME, 2).fingerprint().finish();
    assert_eq!(kinds(&forged), [T::LIFETIME, T::MESSAGE_INTEGRITY, T::FINGERPRINT]);
    let message = Message::parse(&forged).unwrap();
    assert_eq!(message.find(T::USERNAME), None);
    assert!(message.verify_integrity(KEY), "what was signed still is");
    assert_eq!(message.verify_fingerprint(), Some(true));

    let forged = builder().message_integrity_sha256(KEY).raw(T::USERNAME, b"eve").fingerprint().finish();
    assert_eq!(kinds(&forged), [T::MESSAGE_INTEGRITY_SHA256, T::FINGERPRINT]);
    assert!(Message::parse(&forged).unwrap().verify_integrity_sha256(KEY));
}

#[test]
fn both_signatures_together() {
    // The second covers the first, and whatever somebody put between them.
    let both = builder().message_integrity(KEY).raw(T::DATA, b"?").message_integrity_sha256(KEY).finish();
    assert_eq!(kinds(&both), [T::MESSAGE_INTEGRITY, T::MESSAGE_INTEGRITY_SHA256]);
    let message = Message::parse(&both).unwrap();
    assert!(message.verify_integrity(KEY) && message.verify_integrity_sha256(KEY));

    // The other way round the weaker one is an attribute behind a signature like others.
    let turned = builder().message_integrity_sha256(KEY).message_integrity(KEY).finish();
    assert_eq!(kinds(&turned), [T::MESSAGE_INTEGRITY_SHA256]);
}

#[test]
fn a_second_signature_of_the_same_kind_is_not_seen() {
    let twice = builder().message_integrity(b"another key").message_integrity(KEY).finish();
    assert_eq!(kinds(&twice), [T::MESSAGE_INTEGRITY]);
    assert!(!Message::parse(&twice).unwrap().verify_integrity(KEY));
}

//= 8489-14.7-1
#[test]
fn nothing_follows_a_fingerprint() {
    let bytes = builder().fingerprint().message_integrity(KEY).fingerprint().finish();
    assert_eq!(kinds(&bytes), [T::FINGERPRINT]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.verify_fingerprint(), Some(false), "it is not the last attribute");
    assert!(!message.verify_integrity(KEY));
}

#[test]
fn no_fingerprint_is_not_a_wrong_one() {
    assert_eq!(Message::parse(&builder().finish()).unwrap().verify_fingerprint(), None);
    let short = builder().raw(T::FINGERPRINT, &[0; 3]).finish();
    assert_eq!(Message::parse(&short).unwrap().verify_fingerprint(), Some(false));
}

#[test]
fn of_duplicates_the_first_counts() {
    let bytes = builder().u32(T::LIFETIME, 1).raw(T::SOFTWARE, b"x").u32(T::LIFETIME, 2).finish();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.attributes().count(), 3, "all are there for whoever asks");
    let first = message.find(T::LIFETIME).unwrap();
    assert_eq!(first.decode(message.transaction_id()), Ok(Attribute::Lifetime(1)));
    assert_eq!(first.offset, 20);
}

/// A message signed with the first `len` bytes of its HMAC.
fn cut_signature(len: usize) -> Vec<u8> {
    let unsigned = builder().raw(T::USERNAME, b"alice");
    // The HMAC covers the length the message has with the cut value, so it is made over a message of that length.
    let filler = unsigned.clone().raw(T::MESSAGE_INTEGRITY_SHA256, &vec![0; len]).finish();
    let covered = filler.len() - 4 - len;
    let hmac = ternd::stun::hmac_sha256(KEY, &[&filler[..covered]]);
    unsigned.raw(T::MESSAGE_INTEGRITY_SHA256, &hmac[..len.min(32)]).finish()
}

#[test]
fn a_sha256_signature_may_be_cut_to_sixteen_bytes_and_no_further() {
    for len in 0..=36 {
        let bytes = cut_signature(len);
        let verified = Message::parse(&bytes).unwrap().verify_integrity_sha256(KEY);
        assert_eq!(verified, [16, 20, 24, 28, 32].contains(&len), "{len} bytes");
        if verified {
            let mut wrong = bytes.clone();
            let last = wrong.len() - 1;
            wrong[last] ^= 1;
            assert!(
                !Message::parse(&wrong).unwrap().verify_integrity_sha256(KEY),
                "{len} bytes are all compared"
            );
        }
    }
}

//= 8489-5-5 8489-14-1 8489-14-2 8656-18-1
#[test]
fn whatever_is_put_in_a_built_message_is_well_formed() {
    let large = vec![7; 70_000];
    for before in [0, 1, 30_000, 65_520, 65_524, 65_528, 65_532, 70_000] {
        let bytes = builder()
            .raw(T::DATA, &large[..before])
            .raw(T::DATA, &large)
            .message_integrity(KEY)
            .message_integrity_sha256(KEY)
            .fingerprint()
            .finish();
        let message = Message::parse(&bytes).unwrap();
        assert!(message.attributes().count() >= 1 && bytes.len() <= 20 + 65_532);
    }
    // What fits is not touched.
    let bytes = builder().raw(T::DATA, &large[..65_528 - 24]).message_integrity(KEY).finish();
    assert!(Message::parse(&bytes).unwrap().verify_integrity(KEY));
}
