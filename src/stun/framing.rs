//! Cutting a byte stream into messages (RFC 8489 section 6.2.2, RFC 8656 section 12.5).

use super::message::{HEADER, MAGIC_COOKIE};
use super::{CHANNEL_DATA_HEADER, padded};

/// What stands at the start of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Too little to say more: the buffer must hold at least `needed` bytes.
    Incomplete {
        /// Bytes from the start of the buffer.
        needed: usize,
    },
    /// A whole message.
    Complete {
        /// Bytes of the message without padding: what to parse.
        message: usize,
        /// Bytes to take from the stream: the message with its padding.
        consumed: usize,
    },
}

/// The bytes can't be the start of a STUN or ChannelData message, so the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither STUN nor ChannelData")]
pub struct FramingError;

/// Looks at the start of `bytes`, which may hold less or more than one message.
///
/// ```
/// use ternd::stun::{Frame, frame};
///
/// // ChannelData with 2 bytes is padded to 4 on a stream; the next message has begun.
/// let bytes = [0x40, 0x00, 0x00, 0x02, b'h', b'i', 0, 0, 0x40];
/// assert_eq!(frame(&bytes), Ok(Frame::Complete { message: 6, consumed: 8 }));
/// assert_eq!(frame(&bytes[..5]), Ok(Frame::Incomplete { needed: 8 }));
/// ```
///
/// # Errors
/// [`FramingError`] as soon as the first bytes exclude both kinds of message.
pub fn frame(bytes: &[u8]) -> Result<Frame, FramingError> {
    let Some(&first) = bytes.first() else { return Ok(Frame::Incomplete { needed: 1 }) };
    let (message, consumed) = match first >> 6 {
        0 => {
            let cookie = MAGIC_COOKIE.to_be_bytes();
            if bytes.iter().skip(4).zip(&cookie).any(|(a, b)| a != b) {
                return Err(FramingError);
            }
            let Some(head) = bytes.first_chunk::<4>() else {
                return Ok(Frame::Incomplete { needed: HEADER });
            };
            let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
            if !length.is_multiple_of(4) {
                return Err(FramingError);
            }
            (HEADER + length, HEADER + length)
        }
        1 => {
            let Some(head) = bytes.first_chunk::<CHANNEL_DATA_HEADER>() else {
                return Ok(Frame::Incomplete { needed: CHANNEL_DATA_HEADER });
            };
            let length = CHANNEL_DATA_HEADER + usize::from(u16::from_be_bytes([head[2], head[3]]));
            (length, padded(length))
        }
        _ => return Err(FramingError),
    };
    if bytes.len() < consumed {
        return Ok(Frame::Incomplete { needed: consumed });
    }
    Ok(Frame::Complete { message, consumed })
}
