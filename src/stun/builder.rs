//! Writing messages.

use std::net::SocketAddr;

use super::integrity::{INTEGRITY_SHA1_LEN, INTEGRITY_SHA256_LEN, adjusted, fingerprint};
use super::message::{HEADER, MAGIC_COOKIE, message_type};
use super::{
    AttributeType, Class, Family, Message, Method, TransactionId, encode_address, encode_xor_address,
    hmac_sha1, hmac_sha256, padded,
};

/// All attributes of a message together: the header's length field has 16 bits and counts in fours.
const MAX_LENGTH: usize = 65_532;

/// Builds one message; attributes appear in the order of the calls.
///
/// The integrity attributes cover what was written before them, so they come last, FINGERPRINT at the very end.
/// Whatever is put in, the message is well-formed: a value is cut to what still fits into its 65,532 bytes of
/// attributes, and an attribute that finds no room for its header is left out.
#[derive(Clone, Debug)]
pub struct Builder {
    bytes: Vec<u8>,
    id: TransactionId,
}

impl Builder {
    /// An empty message.
    pub fn new(class: Class, method: Method, id: TransactionId) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&message_type(class, method).to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        //= 8489-5-2
        bytes.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes.extend_from_slice(&id.0);
        Self { bytes, id }
    }

    /// The start of an answer to `request`: its method and transaction id, and what it has for a magic cookie, which
    /// is the cookie unless it came through [`Message::parse_classic`].
    //= 8489-5-4
    pub fn response(class: Class, request: &Message<'_>) -> Self {
        let mut builder = Self::new(class, request.method(), request.transaction_id());
        builder.bytes[4..8].copy_from_slice(&request.as_bytes()[4..8]);
        builder
    }

    /// Appends an attribute; padding is zero.
    #[must_use]
    //= 8489-14-1 8489-14-2 8489-14-3 8656-18-1
    pub fn raw(mut self, kind: AttributeType, value: &[u8]) -> Self {
        let Some(room) = (HEADER + MAX_LENGTH).checked_sub(self.bytes.len() + 4) else { return self };
        let value = &value[..value.len().min(room)];
        self.bytes.extend_from_slice(&kind.0.to_be_bytes());
        self.bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(padded(self.bytes.len()), 0);
        self.set_length();
        self
    }

    /// Appends a 32-bit value, such as LIFETIME in seconds.
    #[must_use]
    pub fn u32(self, kind: AttributeType, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    /// Appends an address in the clear.
    #[must_use]
    pub fn address(self, kind: AttributeType, addr: SocketAddr) -> Self {
        let mut value = [0; 20];
        let len = encode_address(addr, &mut value);
        self.raw(kind, &value[..len])
    }

    /// Appends an XOR-ed address.
    #[must_use]
    pub fn xor_address(self, kind: AttributeType, addr: SocketAddr) -> Self {
        let mut value = [0; 20];
        let len = encode_xor_address(addr, self.id, &mut value);
        self.raw(kind, &value[..len])
    }

    /// Appends ERROR-CODE. `code` is 300 to 699.
    #[must_use]
    //= 8489-14.8-2
    pub fn error_code(self, code: u16, reason: &str) -> Self {
        let mut value = vec![0, 0, (code / 100) as u8, (code % 100) as u8];
        value.extend_from_slice(reason.as_bytes());
        self.raw(AttributeType::ERROR_CODE, &value)
    }

    /// Appends ADDRESS-ERROR-CODE without a reason phrase (RFC 8656 section 18.12). `code` is 440 or 508.
    #[must_use]
    //= 8656-18.12-1
    pub fn address_error_code(self, family: Family, code: u16) -> Self {
        let value = [family.number(), 0, (code / 100) as u8, (code % 100) as u8];
        self.raw(AttributeType::ADDRESS_ERROR_CODE, &value)
    }

    /// Appends UNKNOWN-ATTRIBUTES.
    #[must_use]
    pub fn unknown_attributes(self, kinds: &[AttributeType]) -> Self {
        let value: Vec<u8> = kinds.iter().flat_map(|k| k.0.to_be_bytes()).collect();
        self.raw(AttributeType::UNKNOWN_ATTRIBUTES, &value)
    }

    /// Appends MESSAGE-INTEGRITY under `key` (RFC 8489 section 14.5).
    #[must_use]
    pub fn message_integrity(self, key: &[u8]) -> Self {
        let head = adjusted(&self.bytes, self.bytes.len(), INTEGRITY_SHA1_LEN);
        let value = hmac_sha1(key, &[&head, &self.bytes[4..]]);
        self.raw(AttributeType::MESSAGE_INTEGRITY, &value)
    }

    /// Appends MESSAGE-INTEGRITY-SHA256 under `key` (RFC 8489 section 14.6).
    #[must_use]
    pub fn message_integrity_sha256(self, key: &[u8]) -> Self {
        let head = adjusted(&self.bytes, self.bytes.len(), INTEGRITY_SHA256_LEN);
        let value = hmac_sha256(key, &[&head, &self.bytes[4..]]);
        self.raw(AttributeType::MESSAGE_INTEGRITY_SHA256, &value)
    }

    /// Appends FINGERPRINT (RFC 8489 section 14.7).
    #[must_use]
    pub fn fingerprint(self) -> Self {
        let value = fingerprint(&self.bytes);
        self.u32(AttributeType::FINGERPRINT, value)
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    //= 8489-5-5
    fn set_length(&mut self) {
        let length = (self.bytes.len() - HEADER) as u16;
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}
