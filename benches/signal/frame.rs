//! WebSocket frames (RFC 6455 section 5) as the load writes and reads them: nothing is copied that need not be.

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Appends a frame of these parts. Its mask is zero, so that it costs the load nothing; the server unmasks it like any.
pub fn push(out: &mut Vec<u8>, opcode: u8, parts: &[&str]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(FINAL | opcode);
    match len {
        0..126 => out.push(MASKED | len as u8),
        126..=0xFFFF => {
            out.push(MASKED | 126);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    parts.iter().for_each(|part| out.extend(part.as_bytes()));
}

/// The first frame of a server: opcode, payload, and its whole length; `None` as long as it is not all there.
pub fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (opcode, short) = (bytes.first()? & 0x0F, *bytes.get(1)?);
    let (header, len) = match short {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into()),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        _ => (2, usize::from(short)),
    };
    Some((opcode, bytes.get(header..header + len)?, header + len))
}
