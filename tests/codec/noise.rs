//! No input panics.

use std::hint::black_box;

use proptest::collection::vec;
use proptest::prelude::*;
use ternd::stun::{
    Attribute, ChannelData, Message, TransactionId, decode_address, decode_xor_address, frame,
};

use crate::{any, vectors};

/// Calls everything that reads.
pub fn read_everything(bytes: &[u8], key: &[u8]) {
    let _ = black_box(frame(bytes));
    black_box(ChannelData::parse(bytes));
    black_box(decode_address(bytes));
    black_box(decode_xor_address(bytes, TransactionId([7; 12])));
    let Ok(message) = Message::parse(bytes) else { return };
    black_box((message.class(), message.method(), message.transaction_id(), message.as_bytes()));
    for attribute in message.attributes() {
        black_box(attribute.unknown_attributes().count());
        black_box(attribute.password_algorithms().count());
        if let Ok(Attribute::Unknown(kind, _)) = black_box(attribute.decode(message.transaction_id())) {
            black_box(message.find(kind));
        }
    }
    black_box((
        message.verify_integrity(key),
        message.verify_integrity_sha256(key),
        message.verify_fingerprint(),
    ));
}

/// And what prints, which allocates.
fn read_and_print(bytes: &[u8]) {
    read_everything(bytes, b"key");
    if let Ok(message) = Message::parse(bytes) {
        black_box(format!("{message:?}"));
        message
            .attributes()
            .for_each(|a| drop(black_box(format!("{:?}", a.decode(message.transaction_id())))));
    }
}

proptest! {
    #![proptest_config(any::cases(1_000))]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        read_and_print(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_header(body in vec(prop_oneof![1 => 0..40_u8, 1 => any::<u8>()], 0..100)) {
        let body = &body[..body.len() / 4 * 4];
        let head = [0, 1, 0, body.len() as u8, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        read_and_print(&[&head, body].concat());
    }

    #[test]
    fn messages_that_make_no_sense(bytes in any::message()) {
        prop_assert!(Message::parse(&bytes).is_ok());
        read_and_print(&bytes);
    }

    #[test]
    fn mutated_messages(bytes in any::mutated_message()) {
        read_and_print(&bytes);
    }
}

proptest! {
    #![proptest_config(any::cases(50))]

    #[test]
    fn truncated_messages(bytes in any::message()) {
        for len in 0..bytes.len() {
            prop_assert!(Message::parse(&bytes[..len]).is_err(), "{} of {} bytes", len, bytes.len());
            read_and_print(&bytes[..len]);
        }
    }
}

#[test]
fn each_byte_of_the_vectors_set_to_each_value() {
    for (bytes, key) in vectors::all() {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            for value in 0..=u8::MAX {
                changed[at] = value;
                // The hashes are slow, so only where a length may have changed.
                if at < 4 || value < 40 {
                    read_everything(&changed, &key);
                }
            }
        }
    }
}

#[test]
fn the_longest_message_there_is() {
    let mut bytes = vec![0; 20 + 65_532];
    bytes[2..8].copy_from_slice(&[0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42]);
    assert_eq!(Message::parse(&bytes).unwrap().attributes().count(), 65_532 / 4);
    read_everything(&bytes, b"key");
}
