//! Any bytes, taken for a message: nothing panics, and what was understood can be written again and says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ternd::stun::{
    Attribute, AttributeType as T, Builder, CHANNEL_DATA_HEADER, ChannelData, ChannelNumber, Frame, HEADER,
    Message, RawAttribute, frame,
};

const KEY: &[u8] = b"any key";

fuzz_target!(|bytes: &[u8]| {
    let framed = frame(bytes);
    if let Some(data) = ChannelData::parse(bytes) {
        channel_data(bytes, &data);
        assert!(framed.is_ok());
    }
    if let Ok(message) = Message::parse(bytes) {
        assert_eq!(framed, Ok(Frame::Complete { message: bytes.len(), consumed: bytes.len() }));
        read(bytes, &message);
        write_again(&message);
    }
});

fn channel_data(bytes: &[u8], data: &ChannelData<'_>) {
    assert!((ChannelNumber::MIN..=ChannelNumber::MAX_RFC5766).contains(&data.number));
    let mut again = ChannelData::header(data.number, data.data.len()).to_vec();
    again.extend_from_slice(data.data);
    assert_eq!(again, bytes[..CHANNEL_DATA_HEADER + data.data.len()]);
}

fn read(bytes: &[u8], message: &Message<'_>) {
    let _ = format!("{message:?}");
    let mut end = HEADER;
    for raw in message.attributes() {
        assert!(raw.offset >= end, "attributes do not overlap");
        end = raw.offset + 4 + raw.value.len();
        assert_eq!(raw.value, &bytes[raw.offset + 4..end]);
        assert!(message.find(raw.kind).is_some_and(|first| first.offset <= raw.offset));
        raw.password_algorithms().for_each(drop);
        raw.unknown_attributes().for_each(drop);
        if let Ok(attribute) = raw.decode(message.transaction_id()) {
            same_when_encoded(message, &raw, &attribute);
        }
    }
    message.verify_integrity(KEY);
    message.verify_integrity_sha256(KEY);
    if message.verify_fingerprint() == Some(true) {
        assert_eq!(end, bytes.len(), "nothing follows a FINGERPRINT that counts");
    }
}

fn same_when_encoded(message: &Message<'_>, raw: &RawAttribute<'_>, attribute: &Attribute<'_>) {
    let builder = Builder::response(message.class(), message);
    let again = match *attribute {
        Attribute::XorMappedAddress(a) | Attribute::XorPeerAddress(a) | Attribute::XorRelayedAddress(a) => {
            builder.xor_address(raw.kind, a)
        }
        Attribute::MappedAddress(a) | Attribute::AlternateServer(a) => builder.address(raw.kind, a),
        Attribute::ErrorCode { code, reason } => builder.error_code(code, reason),
        Attribute::Lifetime(seconds) => builder.u32(raw.kind, seconds),
        _ => return,
    };
    let again = again.finish();
    let again = Message::parse(&again).expect("what is built is well-formed");
    let decoded = again.find(raw.kind).expect("it was written").decode(again.transaction_id());
    assert_eq!(decoded.as_ref(), Ok(attribute));
}

fn write_again(message: &Message<'_>) {
    let seal = [T::MESSAGE_INTEGRITY, T::MESSAGE_INTEGRITY_SHA256, T::FINGERPRINT];
    let kept: Vec<_> = message.attributes().filter(|a| !seal.contains(&a.kind)).collect();
    let copy = || {
        let empty = Builder::new(message.class(), message.method(), message.transaction_id());
        kept.iter().fold(empty, |b, a| b.raw(a.kind, a.value))
    };
    for sha256 in [false, true] {
        let signed =
            if sha256 { copy().message_integrity_sha256(KEY) } else { copy().message_integrity(KEY) };
        let mut bytes = signed.fingerprint().finish();
        let again = Message::parse(&bytes).expect("what is built is well-formed");
        let verify = |m: &Message<'_>| m.verify_integrity(KEY) || m.verify_integrity_sha256(KEY);
        assert!(verify(&again) && again.verify_fingerprint() == Some(true));
        assert_eq!((again.class(), again.method()), (message.class(), message.method()));
        let values = |all: &mut dyn Iterator<Item = RawAttribute<'_>>| -> Vec<(T, Vec<u8>)> {
            all.map(|a| (a.kind, a.value.to_vec())).filter(|(kind, _)| !seal.contains(kind)).collect()
        };
        assert_eq!(values(&mut again.attributes()), values(&mut kept.iter().copied()));

        // A bit of the transaction id: neither seal holds any more.
        bytes[HEADER - 1] ^= 1;
        let forged = Message::parse(&bytes).expect("its form is the same");
        assert!(!verify(&forged) && forged.verify_fingerprint() == Some(false));
    }
}
