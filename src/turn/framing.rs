//! How a peer's datagram is wrapped for the client: in place, into headroom before the payload.
//!
//! ```text
//! buf  |<------------- HEADROOM ------------->|<-- payload -->|<- TAILROOM ->|
//!                              |<- header --->|               |<- padding
//! ```

use std::ops::Range;

use super::{PeerAddr, Transport};
use crate::stun::{
    AttributeType, ChannelData, ChannelNumber, MAGIC_COOKIE, TransactionId, encode_xor_address, padded,
};

/// The message around relayed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// ChannelData (RFC 8656 section 12.7).
    Channel(ChannelNumber),
    /// A Data indication (RFC 8656 section 11.3).
    Data {
        /// XOR-PEER-ADDRESS.
        peer: PeerAddr,
        /// Of the indication.
        id: TransactionId,
    },
}

impl Framing {
    /// Bytes needed before the payload: STUN header 20, XOR-PEER-ADDRESS 4 + 20, DATA 4.
    pub const HEADROOM: usize = 48;
    /// The longest payload whose Data indication can still name its length.
    pub const MAX_PAYLOAD: usize = 65_532 - (Self::HEADROOM - 20);
    /// Bytes needed behind the payload, for padding.
    pub const TAILROOM: usize = 3;

    /// Frames in place: `buf[HEADROOM..HEADROOM + len]` is the payload, with `TAILROOM` bytes behind it.
    /// Returns the part of `buf` to send. ChannelData is padded on streams only.
    ///
    /// # Panics
    /// If `buf` is too short for that.
    pub fn wrap(&self, buf: &mut [u8], len: usize, transport: Transport) -> Range<usize> {
        let (payload, end) = (Self::HEADROOM, Self::HEADROOM + len);
        let padded_end = Self::HEADROOM + padded(len);
        match *self {
            Self::Channel(number) => {
                let header = ChannelData::header(number, len);
                let start = payload - header.len();
                buf[start..payload].copy_from_slice(&header);
                if !transport.is_stream() {
                    return start..end;
                }
                buf[end..padded_end].fill(0);
                start..padded_end
            }
            Self::Data { peer, id } => {
                let mut address = [0; 20];
                let address_len = encode_xor_address(peer.0, id, &mut address);
                let start = payload - 4 - address_len - 4 - 20;
                let body = 4 + address_len + 4 + padded(len);
                let head = &mut buf[start..payload];
                head[..2].copy_from_slice(&[0x00, 0x17]); // Data indication
                head[2..4].copy_from_slice(&(body as u16).to_be_bytes());
                head[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                head[8..20].copy_from_slice(&id.0);
                head[20..22].copy_from_slice(&AttributeType::XOR_PEER_ADDRESS.0.to_be_bytes());
                head[22..24].copy_from_slice(&(address_len as u16).to_be_bytes());
                head[24..24 + address_len].copy_from_slice(&address[..address_len]);
                head[24 + address_len..26 + address_len]
                    .copy_from_slice(&AttributeType::DATA.0.to_be_bytes());
                head[26 + address_len..].copy_from_slice(&(len as u16).to_be_bytes());
                buf[end..padded_end].fill(0);
                start..padded_end
            }
        }
    }
}
