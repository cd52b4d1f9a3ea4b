//! A stream that arrives in pieces is cut into the same messages as one that arrives at once.
//!
//! ```text
//! | n | n lengths of pieces | the stream |
//! ```
#![no_main]

use libfuzzer_sys::fuzz_target;
use ternd::stun::{ChannelData, Frame, FramingError, HEADER, Message, ParseError, frame};

/// The longest message with its padding.
const LONGEST: usize = 4 + 65_536;

fuzz_target!(|bytes: &[u8]| {
    let Some((n, rest)) = bytes.split_first() else { return };
    let (pieces, stream) = rest.split_at(rest.len().min(usize::from(*n)));

    let mut whole = Reader::default();
    whole.take(stream);

    let (mut reader, mut at) = (Reader::default(), 0);
    for piece in pieces {
        let end = stream.len().min(at + usize::from(*piece));
        reader.take(&stream[at..end]);
        at = end;
    }
    stream[at..].iter().for_each(|byte| reader.take(std::slice::from_ref(byte)));

    assert_eq!(reader.messages, whole.messages);
    assert_eq!(reader.lost, whole.lost);
    if !whole.lost {
        assert_eq!(reader.buffer, whole.buffer);
    }
    for message in &whole.messages {
        match message[0] >> 6 {
            0 => assert!(matches!(Message::parse(message), Ok(_) | Err(ParseError::AttributeOverrun))),
            _ => {
                // Numbers that are not channels are framed, so that the stream goes on, and then dropped.
                let data = ChannelData::parse(message);
                assert!(data.is_none_or(|data| data.data.len() + 4 == message.len()));
            }
        }
    }
});

/// What the driver does with a stream's bytes.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    messages: Vec<Vec<u8>>,
    lost: bool,
}

impl Reader {
    fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while !self.lost {
            match frame(&self.buffer) {
                Ok(Frame::Complete { message, consumed }) => {
                    assert!(0 < message && message <= consumed && consumed <= self.buffer.len());
                    assert!(consumed - message < 4);
                    self.messages.push(self.buffer[..message].to_vec());
                    self.buffer.drain(..consumed);
                }
                Ok(Frame::Incomplete { needed }) => {
                    assert!(needed > self.buffer.len() && needed <= HEADER + LONGEST);
                    return;
                }
                Err(FramingError) => self.lost = true,
            }
        }
    }
}
