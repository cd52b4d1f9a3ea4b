//! Transport addresses on the wire (RFC 8489 sections 14.1 and 14.2).
//!
//! ```text
//! |0 0 0 0 0 0 0 0|    Family     |             Port              |
//! |            Address (32 bits or 128 bits)  ...                 |
//! ```
//! The XOR forms mask the port with the top half of the magic cookie, and the address with the cookie followed
//! by the transaction id.

use std::net::{IpAddr, SocketAddr};

use super::{Family, MAGIC_COOKIE, TransactionId};

/// The longest encoded address: an IPv6 one.
const MAX: usize = 20;

/// Reads a plain address; `None` if it is malformed.
//= 8489-14.1-1 8489-14.1-2
pub fn decode_address(value: &[u8]) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let ip = match head[1] {
        1 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        2 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([head[2], head[3]])))
}

/// Reads an XOR-ed address; `None` if it is malformed.
pub fn decode_xor_address(value: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let mut plain = [0; MAX];
    let plain = plain.get_mut(..value.len())?;
    plain.copy_from_slice(value);
    mask(plain, id);
    decode_address(plain)
}

/// Writes a plain address into `out`; returns how many bytes: 8 or 20.
//= 8489-14.1-2
pub fn encode_address(addr: SocketAddr, out: &mut [u8; MAX]) -> usize {
    out[0] = 0;
    out[1] = Family::of(&addr.ip()).number();
    out[2..4].copy_from_slice(&addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => {
            out[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            out[4..].copy_from_slice(&ip.octets());
            MAX
        }
    }
}

/// Writes an XOR-ed address into `out`; returns how many bytes: 8 or 20.
pub fn encode_xor_address(addr: SocketAddr, id: TransactionId, out: &mut [u8; MAX]) -> usize {
    let len = encode_address(addr, out);
    mask(&mut out[..len], id);
    len
}

/// XORs port and address; its own inverse.
fn mask(value: &mut [u8], id: TransactionId) {
    let cookie = MAGIC_COOKIE.to_be_bytes();
    if let Some(rest) = value.get_mut(2..) {
        let port_mask = &cookie[..2];
        for (byte, m) in rest.iter_mut().zip(port_mask.iter().chain(&cookie).chain(&id.0)) {
            *byte ^= m;
        }
    }
}
