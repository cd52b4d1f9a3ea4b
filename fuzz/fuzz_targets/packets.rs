//! An input as a sequence of packets.
//!
//! ```text
//! | what: 1 byte | length: 2 bytes | bytes |  ...
//! ```

/// The packets of an input: the first byte says what to do with each. What the length promises and is not there is
/// left out.
pub fn packets(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([what, a, b], rest) = input.split_first_chunk()?;
        let (bytes, rest) = rest.split_at(rest.len().min(u16::from_be_bytes([*a, *b]).into()));
        input = rest;
        Some((*what, bytes))
    })
}

/// Appends a packet; the seeds are written so.
#[allow(dead_code)]
pub fn push(input: &mut Vec<u8>, what: u8, bytes: &[u8]) {
    input.push(what);
    input.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    input.extend_from_slice(bytes);
}
