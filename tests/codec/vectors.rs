//! The test vectors of RFC 5769, and of RFC 8489 appendix B.1 as erratum 6268 corrects it.

use std::net::SocketAddr;

use ternd::auth::{Algorithm, Key, userhash};
use ternd::stun::{
    Attribute, AttributeType as T, Builder, Class, Message, Method, ParseError, TransactionId,
};

/// RFC 5769 section 2.1. Its padding is spaces: receivers ignore it.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// Section 2.2.
const IPV4_RESPONSE: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// Section 2.3.
const IPV6_RESPONSE: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

/// Section 2.4.
const LONG_TERM: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

/// RFC 8489 appendix B.1 after erratum 6268: with its true length, and the algorithm it was made with.
const LONG_TERM_SHA256: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476 79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

const SHORT_TERM_PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
const MATRIX: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// All five, each with the key that signs it.
pub fn all() -> [(Vec<u8>, Vec<u8>); 5] {
    let key =
        |algorithm| Key::derive(algorithm, MATRIX.as_bytes(), "example.org", "TheMatrIX").as_bytes().to_vec();
    [
        (hex(REQUEST), SHORT_TERM_PASSWORD.to_vec()),
        (hex(IPV4_RESPONSE), SHORT_TERM_PASSWORD.to_vec()),
        (hex(IPV6_RESPONSE), SHORT_TERM_PASSWORD.to_vec()),
        (hex(LONG_TERM), key(Algorithm::Md5)),
        (hex(LONG_TERM_SHA256), key(Algorithm::Sha256)),
    ]
}

fn decoded<'a>(message: &Message<'a>) -> Vec<Attribute<'a>> {
    message.attributes().map(|a| a.decode(message.transaction_id()).unwrap()).collect()
}

fn mapped(message: &Message<'_>) -> SocketAddr {
    match message.find(T::XOR_MAPPED_ADDRESS).unwrap().decode(message.transaction_id()) {
        Ok(Attribute::XorMappedAddress(address)) => address,
        other => panic!("{other:?}"),
    }
}

#[test]
fn request() {
    let bytes = hex(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!(message.transaction_id().0[..], hex("b7e7a701bc34d686fa87dfae"));
    let (priority, controlled) = (T(0x0024), T(0x8029));
    assert_eq!(
        decoded(&message),
        [
            Attribute::Software("STUN test client"),
            Attribute::Unknown(priority, &[0x6e, 0x00, 0x01, 0xff]),
            Attribute::Unknown(controlled, &hex("932ff9b151263b36")),
            Attribute::Username(b"evtj:h6vY"),
            Attribute::MessageIntegrity(&bytes[80..100].try_into().unwrap()),
            Attribute::Fingerprint(0xe57a_3bcf ^ 0x5354_554e),
        ]
    );
}

#[test]
fn ipv4_response() {
    let bytes = hex(IPV4_RESPONSE);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Success, Method::BINDING));
    assert_eq!(decoded(&message)[0], Attribute::Software("test vector"));
    assert_eq!(mapped(&message), "192.0.2.1:32853".parse().unwrap());
}

#[test]
fn ipv6_response() {
    let bytes = hex(IPV6_RESPONSE);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(mapped(&message), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap());
}

#[test]
fn long_term_credentials() {
    let [.., (bytes, key), _] = all();
    let built =
        Builder::new(Class::Request, Method::BINDING, TransactionId(bytes[8..20].try_into().unwrap()))
            .raw(T::USERNAME, MATRIX.as_bytes())
            .raw(T::NONCE, b"f//499k954d6OL34oL9FSTvy64sA")
            .raw(T::REALM, b"example.org")
            .message_integrity(&key)
            .finish();
    assert_eq!(built, bytes, "built to the byte");
}

#[test]
fn long_term_credentials_with_sha256_and_userhash() {
    let [.., (bytes, key)] = all();
    let built =
        Builder::new(Class::Request, Method::BINDING, TransactionId(bytes[8..20].try_into().unwrap()))
            .raw(T::USERHASH, &userhash(MATRIX.as_bytes(), "example.org"))
            .raw(T::NONCE, b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")
            .raw(T::REALM, b"example.org")
            .raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0])
            .message_integrity_sha256(&key)
            .finish();
    assert_eq!(built, bytes, "built to the byte");
}

#[test]
fn as_printed_the_vector_of_rfc_8489_is_no_message() {
    // Its length field counts the header, and what it was signed with is missing.
    let mut bytes = hex(LONG_TERM_SHA256);
    bytes.drain(128..136);
    bytes[3] = 0x9c;
    assert_eq!(Message::parse(&bytes), Err(ParseError::WrongLength));
}

#[test]
fn every_vector_verifies_and_no_changed_one_does() {
    for (bytes, key) in all() {
        let verify = |bytes: &[u8]| {
            let Ok(message) = Message::parse(bytes) else { return (false, Some(false)) };
            let sha256 = message.find(T::MESSAGE_INTEGRITY_SHA256).is_some();
            let signed =
                if sha256 { message.verify_integrity_sha256(&key) } else { message.verify_integrity(&key) };
            (signed, message.verify_fingerprint())
        };
        let has_fingerprint = Message::parse(&bytes).unwrap().find(T::FINGERPRINT).is_some();
        assert_eq!(verify(&bytes), (true, has_fingerprint.then_some(true)));

        let sealed_until = if has_fingerprint { bytes.len() - 8 } else { bytes.len() };
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let (signed, fingerprint) = verify(&changed);
                assert!(!signed || at >= sealed_until, "byte {at} is signed");
                assert!(fingerprint != Some(true), "byte {at} is in the fingerprint");
            }
        }
        let message = Message::parse(&bytes).unwrap();
        assert!(
            !message.verify_integrity(b"another key") && !message.verify_integrity_sha256(b"another key")
        );
    }
}
