//! A STUN message as a view of bytes (RFC 8489 section 5).

use super::attribute::{AttributeType, RawAttribute};
use super::{integrity, padded};

/// Bytes of the fixed header.
pub const HEADER: usize = 20;
/// The constant in bytes 4 to 7 of each message (RFC 8489 section 5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// The 96-bit id that pairs a response with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TransactionId(pub [u8; 12]);

/// The two class bits of the message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Asks; is answered by one of the two responses.
    Request,
    /// Tells; is never answered.
    Indication,
    /// The answer to a request that was carried out.
    Success,
    /// The answer to a request that was not.
    Error,
}

/// The twelve method bits of the message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Method(pub u16);

impl Method {
    /// RFC 8489 section 18.2.
    pub const BINDING: Self = Self(0x001);
    /// RFC 8656 section 7.
    pub const ALLOCATE: Self = Self(0x003);
    /// RFC 8656 section 8.
    pub const REFRESH: Self = Self(0x004);
    /// RFC 8656 section 11, indication only.
    pub const SEND: Self = Self(0x006);
    /// RFC 8656 section 11, indication only.
    pub const DATA: Self = Self(0x007);
    /// RFC 8656 section 10.
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// RFC 8656 section 12.
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// RFC 6062 section 5.2.
    pub const CONNECT: Self = Self(0x00A);
    /// RFC 6062 section 5.4.
    pub const CONNECTION_BIND: Self = Self(0x00B);
    /// RFC 6062 section 5.3, indication only.
    pub const CONNECTION_ATTEMPT: Self = Self(0x00C);
}

/// The 14-bit message type: the method's bits with the class bits at 4 and 8 between them.
///
/// ```text
///  0 0 M M M M M C M M M C M M M M
/// ```
pub(super) const fn message_type(class: Class, method: Method) -> u16 {
    let m = method.0;
    let c = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (m & 0x000F) | ((m & 0x0070) << 1) | ((m & 0x0F80) << 2) | c
}

/// Why bytes are not a STUN message. All of these mean: discard without an answer (RFC 8489 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than a header.
    #[error("shorter than a STUN header")]
    TooShort,
    /// The two top bits are not zero.
    #[error("the two top bits are not zero")]
    NotStun,
    /// Bytes 4 to 7 are not the magic cookie.
    #[error("wrong magic cookie")]
    WrongCookie,
    /// The length field is no multiple of four, or does not match the bytes given.
    #[error("the length field does not match")]
    WrongLength,
    /// An attribute reaches over the end of the message.
    #[error("an attribute is longer than the message")]
    AttributeOverrun,
}

/// A well-formed STUN message: header and attribute lengths fit. Values are not yet looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

fn header(bytes: &[u8]) -> Result<&[u8; HEADER], ParseError> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(ParseError::TooShort)?;
    //= 8489-5-1
    if header[0] & 0xC0 != 0 {
        return Err(ParseError::NotStun);
    }
    Ok(header)
}

impl<'a> Message<'a> {
    /// Looks at `bytes`, which must be exactly one message.
    ///
    /// # Errors
    /// A [`ParseError`] names the first rule of RFC 8489 section 5 that is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let header = header(bytes)?;
        //= 8489-5-2 5780-3-1
        if header[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(ParseError::WrongCookie);
        }
        Self::parse_body(bytes, header)
    }

    /// The same for a client of RFC 3489: where the magic cookie is, it has the first 32 bits of a transaction id of
    /// 128 bits. [`Builder::response`](super::Builder::response) answers with the same bits.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), but never [`ParseError::WrongCookie`].
    pub fn parse_classic(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Self::parse_body(bytes, header(bytes)?)
    }

    fn parse_body(bytes: &'a [u8], header: &[u8; HEADER]) -> Result<Self, ParseError> {
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !length.is_multiple_of(4) || HEADER + length != bytes.len() {
            return Err(ParseError::WrongLength);
        }
        let mut rest = &bytes[HEADER..];
        while let Some(head) = rest.first_chunk::<4>() {
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            rest = rest.get(4 + padded(len)..).ok_or(ParseError::AttributeOverrun)?;
        }
        Ok(Self { bytes })
    }

    /// The whole message.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The class bits.
    pub fn class(&self) -> Class {
        match (self.bytes[0] & 0x01, self.bytes[1] & 0x10) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            (_, 0) => Class::Success,
            (_, _) => Class::Error,
        }
    }

    /// The method bits.
    pub fn method(&self) -> Method {
        let t = u16::from_be_bytes([self.bytes[0], self.bytes[1]]);
        Method((t & 0x000F) | ((t & 0x00E0) >> 1) | ((t & 0x3E00) >> 2))
    }

    /// The transaction id.
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER]);
        TransactionId(id)
    }

    /// The attributes that count, in order of appearance.
    ///
    /// What follows MESSAGE-INTEGRITY is not protected by it and is not shown, but for
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 sections 14.5 and 14.6). Nothing follows FINGERPRINT.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { bytes: self.bytes, at: HEADER, signed: Signed::No }
    }

    /// The first attribute of this type; later ones of the same type are ignored (RFC 8489 section 14).
    pub fn find(&self, kind: AttributeType) -> Option<RawAttribute<'a>> {
        self.attributes().find(|a| a.kind == kind)
    }

    /// Does MESSAGE-INTEGRITY hold under `key`? False when there is none. Constant time in the value.
    pub fn verify_integrity(&self, key: &[u8]) -> bool {
        self.find(AttributeType::MESSAGE_INTEGRITY)
            .is_some_and(|a| integrity::verify_sha1(self.bytes, &a, key))
    }

    /// Does MESSAGE-INTEGRITY-SHA256 hold under `key`? False when there is none. Constant time in the value.
    ///
    /// A value cut to 16, 20, 24 or 28 bytes is compared over that length (RFC 8489 section 14.6).
    pub fn verify_integrity_sha256(&self, key: &[u8]) -> bool {
        self.find(AttributeType::MESSAGE_INTEGRITY_SHA256)
            .is_some_and(|a| integrity::verify_sha256(self.bytes, &a, key))
    }

    /// `None` without FINGERPRINT; else whether it is the last attribute and its CRC fits (RFC 8489 section 14.7).
    pub fn verify_fingerprint(&self) -> Option<bool> {
        self.find(AttributeType::FINGERPRINT).map(|a| integrity::verify_fingerprint(self.bytes, &a))
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("class", &self.class())
            .field("method", &self.method())
            .field("transaction_id", &self.transaction_id())
            .field("attributes", &self.attributes().collect::<Vec<_>>())
            .finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Signed {
    No,
    Sha1,
    Sha256,
    Fingerprint,
}

/// Iterator over the attributes of a [`Message`] that count; see [`Message::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
    signed: Signed,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<RawAttribute<'a>> {
        loop {
            let offset = self.at;
            let head: &[u8; 4] = self.bytes.get(offset..)?.first_chunk()?;
            let kind = AttributeType(u16::from_be_bytes([head[0], head[1]]));
            let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = self.bytes.get(offset + 4..offset + 4 + len)?;
            //= 8489-14-3
            self.at = offset + 4 + padded(len);
            let seals = match kind {
                AttributeType::MESSAGE_INTEGRITY => Signed::Sha1,
                AttributeType::MESSAGE_INTEGRITY_SHA256 => Signed::Sha256,
                AttributeType::FINGERPRINT => Signed::Fingerprint,
                _ => Signed::No,
            };
            //= 8489-9-1 8489-9-2
            // Each seal lets only a later kind of seal through.
            if self.signed == Signed::No || seals > self.signed {
                self.signed = seals;
                return Some(RawAttribute { kind, value, offset });
            }
        }
    }
}
