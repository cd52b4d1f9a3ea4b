//! The wire format of STUN (RFC 8489) and TURN (RFC 8656).
//!
//! What enters: bytes of a datagram, or of a stream that [`frame`] has cut. What leaves: a borrowed view that
//! allocates nothing, or bytes from a [`Builder`]. No input panics. No sockets, clocks or randomness here.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 0|     STUN Message Type     |         Message Length        |   length: without these 20 bytes
//! |                         Magic Cookie                          |
//! |                     Transaction ID (96 bits)                  |
//! |         Type                  |            Length             |   attribute: length without padding
//! |         Value (variable)                ....   padded to 4    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 1|     Channel Number        |            Length             |   ChannelData (RFC 8656 section 12.4)
//! |         Application Data                ....                  |
//! ```
//!
//! ```
//! use ternd::stun::{Builder, Class, Message, Method, TransactionId};
//!
//! let request = Builder::new(Class::Request, Method::BINDING, TransactionId([7; 12])).finish();
//! let message = Message::parse(&request)?;
//! assert_eq!(message.method(), Method::BINDING);
//! assert_eq!(message.attributes().count(), 0);
//! # Ok::<(), ternd::stun::ParseError>(())
//! ```

mod address;
mod attribute;
mod builder;
mod channel_data;
mod framing;
mod integrity;
mod message;

pub use address::{decode_address, decode_xor_address, encode_address, encode_xor_address};
pub use attribute::{Attribute, AttributeType, DecodeError, Family, PasswordAlgorithm, RawAttribute};
pub use builder::Builder;
pub use channel_data::{CHANNEL_DATA_HEADER, ChannelData, ChannelNumber};
pub use framing::{Frame, FramingError, frame};
pub use integrity::{INTEGRITY_SHA1_LEN, INTEGRITY_SHA256_LEN, hmac_sha1, hmac_sha256};
pub use message::{Attributes, Class, HEADER, MAGIC_COOKIE, Message, Method, ParseError, TransactionId};

/// `len` rounded up to a multiple of four (RFC 8489 section 14: attributes are padded so).
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}
