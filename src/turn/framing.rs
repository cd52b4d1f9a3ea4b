//! How a peer's datagram is wrapped for the client: a header before it, padding behind it, the payload untouched.

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
    /// The longest header: STUN header 20, XOR-PEER-ADDRESS 4 + 20, DATA 4.
    pub const HEADROOM: usize = 48;
    /// The longest payload whose Data indication can still name its length.
    pub const MAX_PAYLOAD: usize = 65_532 - (Self::HEADROOM - 20);

    /// Writes the header for a payload of `len` bytes to the end of `room`. Returns how many bytes of header that
    /// is, and how many zero bytes belong behind the payload: ChannelData is padded on streams only.
    pub fn header(
        &self,
        room: &mut [u8; Self::HEADROOM],
        len: usize,
        transport: Transport,
    ) -> (usize, usize) {
        //= 8656-12.5-2
        let padding = padded(len) - len;
        match *self {
            Self::Channel(number) => {
                let header = ChannelData::header(number, len);
                room[Self::HEADROOM - header.len()..].copy_from_slice(&header);
                (header.len(), if transport.is_stream() { padding } else { 0 })
            }
            //= 8656-11.3-1
            Self::Data { peer, id } => {
                let mut address = [0; 20];
                let address_len = encode_xor_address(peer.0, id, &mut address);
                let header_len = 20 + 4 + address_len + 4;
                let body = header_len - 20 + len + padding;
                let head = &mut room[Self::HEADROOM - header_len..];
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
                (header_len, padding)
            }
        }
    }
}
