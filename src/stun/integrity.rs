//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 sections 14.5 to 14.7).
//!
//! All three cover the message up to the attribute itself, with the header's length field set as if the
//! attribute were the last one.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::RawAttribute;
use super::message::HEADER;

/// Bytes of the value of MESSAGE-INTEGRITY.
pub const INTEGRITY_SHA1_LEN: usize = 20;
/// Bytes of the full value of MESSAGE-INTEGRITY-SHA256.
pub const INTEGRITY_SHA256_LEN: usize = 32;
/// What the CRC is XOR-ed with, so that it differs from other protocols' CRCs.
pub(super) const FINGERPRINT_MASK: u32 = 0x5354_554e;

/// HMAC-SHA1 over the concatenation of `parts`.
pub fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; INTEGRITY_SHA1_LEN] {
    hmac::<Hmac<Sha1>>(key, parts).into()
}

/// HMAC-SHA256 over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; INTEGRITY_SHA256_LEN] {
    hmac::<Hmac<Sha256>>(key, parts).into()
}

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> hmac::digest::Output<M> {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

/// The FINGERPRINT value of a message whose FINGERPRINT attribute starts at the end of `before`, which holds a header
/// at least.
pub(super) fn fingerprint(before: &[u8]) -> u32 {
    let head = adjusted(before, before.len(), 4);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    crc.update(&before[4..]);
    crc.finalize() ^ FINGERPRINT_MASK
}

/// The first four bytes with the length field of a message that ends with an attribute of `len` bytes at `offset`.
pub(super) fn adjusted(message: &[u8], offset: usize, len: usize) -> [u8; 4] {
    let length = (offset + 4 + len - HEADER) as u16;
    let [hi, lo] = length.to_be_bytes();
    [message[0], message[1], hi, lo]
}

pub(super) fn verify_sha1(message: &[u8], attribute: &RawAttribute<'_>, key: &[u8]) -> bool {
    let head = adjusted(message, attribute.offset, attribute.value.len());
    attribute.value.len() == INTEGRITY_SHA1_LEN
        && hmac_sha1(key, &[&head, &message[4..attribute.offset]]).ct_eq(attribute.value).into()
}

pub(super) fn verify_sha256(message: &[u8], attribute: &RawAttribute<'_>, key: &[u8]) -> bool {
    let len = attribute.value.len();
    let head = adjusted(message, attribute.offset, len);
    (16..=INTEGRITY_SHA256_LEN).contains(&len)
        && len.is_multiple_of(4)
        && hmac_sha256(key, &[&head, &message[4..attribute.offset]])[..len].ct_eq(attribute.value).into()
}

//= 8489-14.7-1
pub(super) fn verify_fingerprint(message: &[u8], attribute: &RawAttribute<'_>) -> bool {
    attribute.value == fingerprint(&message[..attribute.offset]).to_be_bytes()
        && attribute.offset + 8 == message.len()
}
