//! Cutting a stream: whatever pieces it arrives in, the same messages come out.

use proptest::collection::vec;
use proptest::prelude::*;
use ternd::stun::{
    CHANNEL_DATA_HEADER, ChannelData, ChannelNumber, Frame, FramingError, HEADER, Message, frame,
};

use crate::any;

/// A message and, for ChannelData on a stream, its padding.
#[derive(Clone, Debug)]
struct Piece {
    message: Vec<u8>,
    padding: usize,
}

fn channel_data() -> impl Strategy<Value = Piece> {
    // Numbers that can't be bound, too: whoever sends them keeps its stream (RFC 8656 section 12.6).
    (0x4000..0x8000_u16, vec(any::<u8>(), 0..40)).prop_map(|(number, data)| {
        let mut message = ChannelData::header(ChannelNumber(number), data.len()).to_vec();
        message.extend(&data);
        let padding = message.len().next_multiple_of(4) - message.len();
        Piece { message, padding }
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![any::message().prop_map(|message| Piece { message, padding: 0 }), channel_data()]
}

/// Reads a stream that arrives in chunks, as a connection does: keeps what is incomplete.
fn read(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match frame(&buffer).unwrap() {
                Frame::Complete { message, consumed } => {
                    assert!(message <= consumed && consumed <= buffer.len());
                    messages.push(buffer[..message].to_vec());
                    buffer.drain(..consumed);
                }
                Frame::Incomplete { needed } => {
                    assert!(needed > buffer.len(), "there is progress to be made");
                    break;
                }
            }
        }
    }
    assert!(buffer.is_empty(), "{} bytes are left over", buffer.len());
    messages
}

proptest! {
    #![proptest_config(any::cases(400))]

    #[test]
    fn the_same_messages_come_out(
        pieces in vec(piece(), 0..8),
        sizes in vec(prop_oneof![3 => 1..8_usize, 1 => 1..200_usize], 1..60),
        padding in any::<u8>(),
    ) {
        let mut stream = Vec::new();
        for piece in &pieces {
            stream.extend(&piece.message);
            stream.resize(stream.len() + piece.padding, padding);
        }
        let (mut rest, mut chunks) = (&stream[..], Vec::new());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, more) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = more;
        }
        let sent: Vec<_> = pieces.into_iter().map(|p| p.message).collect();
        prop_assert_eq!(read(&chunks), sent);
    }

    #[test]
    fn a_reader_never_waits_for_more_than_the_message(piece in piece(), next in any::<[u8; 3]>()) {
        let mut bytes = piece.message.clone();
        bytes.resize(bytes.len() + piece.padding, 0);
        for len in 0..bytes.len() {
            match frame(&bytes[..len]) {
                Ok(Frame::Incomplete { needed }) => prop_assert!(len < needed && needed <= bytes.len()),
                other => prop_assert!(false, "{:?} after {} of {} bytes", other, len, bytes.len()),
            }
        }
        let whole = Ok(Frame::Complete { message: piece.message.len(), consumed: bytes.len() });
        prop_assert_eq!(frame(&bytes), whole);
        bytes.extend(next);
        prop_assert_eq!(frame(&bytes), whole);
    }

    #[test]
    fn a_stream_once_refused_stays_refused(bytes in vec(any::<u8>(), 1..60)) {
        let first = (0..=bytes.len()).find(|&len| frame(&bytes[..len]).is_err());
        if let Some(first) = first {
            for len in first..=bytes.len() {
                prop_assert_eq!(frame(&bytes[..len]), Err(FramingError));
            }
        }
    }
}

#[test]
fn other_protocols_are_refused_at_once() {
    let tls = [0x16, 3, 1, 0, 0xC4, 1, 0, 0, 0xC0, 3, 3];
    assert_eq!(frame(&tls[..4]), Ok(Frame::Incomplete { needed: HEADER + 0x0100 }));
    assert_eq!(frame(&tls[..5]), Err(FramingError), "no magic cookie follows");
    for first in 0x80..=0xFF {
        assert_eq!(frame(&[first]), Err(FramingError), "{first:#x}");
    }
    let odd = [0, 1, 0, 2, 0x21, 0x12, 0xA4, 0x42];
    assert_eq!(frame(&odd[..4]), Err(FramingError), "no length of a message");
}

#[test]
fn nothing_and_little() {
    assert_eq!(frame(&[]), Ok(Frame::Incomplete { needed: 1 }));
    assert_eq!(frame(&[0]), Ok(Frame::Incomplete { needed: HEADER }));
    assert_eq!(frame(&[0x40]), Ok(Frame::Incomplete { needed: CHANNEL_DATA_HEADER }));
    // A ChannelData message may be empty; it still goes to the peer.
    assert_eq!(frame(&[0x40, 0, 0, 0]), Ok(Frame::Complete { message: 4, consumed: 4 }));
}

#[test]
fn what_is_cut_can_be_parsed() {
    let bytes = [0x40, 1, 0, 2, b'h', b'i', 0xFF, 0xFF];
    let Ok(Frame::Complete { message, .. }) = frame(&bytes) else { panic!("{:?}", frame(&bytes)) };
    let data = ChannelData::parse(&bytes[..message]).unwrap();
    assert_eq!((data.number, data.data), (ChannelNumber(0x4001), &b"hi"[..]));

    let largest = [&[0x4F, 0xFF, 0xFF, 0xFF][..], &vec![1; 65_536]].concat();
    assert_eq!(frame(&largest), Ok(Frame::Complete { message: 65_539, consumed: 65_540 }));
    assert_eq!(ChannelData::parse(&largest[..65_539]).unwrap().data.len(), 65_535);

    let binding = ternd::stun::Builder::new(
        ternd::stun::Class::Request,
        ternd::stun::Method::BINDING,
        ternd::stun::TransactionId([1; 12]),
    );
    let stream = [binding.finish(), bytes.to_vec()].concat();
    let Ok(Frame::Complete { message, consumed }) = frame(&stream) else { panic!("{:?}", frame(&stream)) };
    assert_eq!((message, consumed), (20, 20));
    assert!(Message::parse(&stream[..message]).is_ok());
}

#[test]
fn channel_data_is_refused_where_it_claims_too_much_or_no_channel() {
    assert_eq!(ChannelData::parse(&[0x40, 0, 0, 3, 1, 2]), None);
    assert_eq!(ChannelData::parse(&[0x40, 0, 0]), None);
    // What can be read, and what RFC 8656 lets a client bind.
    for (number, read, valid) in [
        (0x3FFF, false, false),
        (0x4000, true, true),
        (0x4FFF, true, true),
        (0x5000, true, false),
        (0x7FFF, true, false),
        (0x8000, false, false),
        (0xFFFF, false, false),
    ] {
        let header = ChannelData::header(ChannelNumber(number), 0);
        assert_eq!(ChannelData::parse(&header).is_some(), read, "{number:#x}");
        assert_eq!(ChannelNumber(number).is_valid(), valid, "{number:#x}");
    }
}
