//! Nonces that the server does not have to remember.
//!
//! ```text
//! base64:  | 3 bytes: low bits of the time | 6 bytes: MAC(key, time, features, client address and port) |
//! ```
//! The MAC binds a nonce to one client and one second, so a million spoofed sources cost no memory, and an old
//! nonce dies of its age. Twelve characters, because a nonce is in each 401: an answer that is larger than its
//! question makes the server an amplifier.
//!
//! Where there is room, the nonce cookie of RFC 8489 section 9.2 stands before it, 13 characters that name the
//! security features the server offers. The MAC covers them: who strips an offer breaks the nonce.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::stun::hmac_sha256;

const TIME: usize = 3;
const MAC: usize = 6;
//= 8489-14.10-1
const TEXT: usize = (TIME + MAC) / 3 * 4;
/// The time wraps after 2^24 s, about 194 days.
const WRAP: u64 = 1 << (8 * TIME);
const COOKIE: &[u8] = b"obMatJos2";
const COOKIE_TEXT: usize = COOKIE.len() + 4;

/// The security features that a nonce cookie names (RFC 8489 section 18.1), 24 bits. Bit 0 is the leftmost in the RFC's
/// text and in RFC 8656's example; it is the rightmost in RFC 8489's example, in erratum 6290, and for the clients that
/// follow them, such as libjuice. So each feature is named at both ends: bits that a client does not know mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// Bit 0: PASSWORD-ALGORITHMS is offered.
    pub algorithms: bool,
    /// Bit 1: USERHASH may stand for USERNAME.
    pub anonymity: bool,
}

impl Features {
    const fn bits(self) -> [u8; 3] {
        let (algorithms, anonymity) = (self.algorithms as u8, self.anonymity as u8);
        [algorithms << 7 | anonymity << 6, 0, algorithms | anonymity << 1]
    }

    /// `None` if a bit is set that this server never sets: the MAC would not cover it.
    fn from_bits(bits: [u8; 3]) -> Option<Self> {
        let features = Self { algorithms: bits[2] & 1 != 0, anonymity: bits[2] & 2 != 0 };
        (features.bits() == bits).then_some(features)
    }
}

/// A nonce as it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    bytes: [u8; COOKIE_TEXT + TEXT],
    len: usize,
}

impl Nonce {
    /// The value of the NONCE attribute.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The features a nonce claims to have been issued with, whether or not it is genuine.
pub(super) fn features(nonce: &[u8]) -> Option<Features> {
    let coded = nonce.strip_prefix(COOKIE)?.get(..4)?;
    let mut bits = [0; 3];
    (STANDARD.decode_slice(coded, &mut bits) == Ok(3)).then(|| Features::from_bits(bits))?
}

pub(super) struct NonceKey {
    key: Zeroizing<[u8; 32]>,
    lifetime: u64,
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(redacted)")
    }
}

impl NonceKey {
    pub(super) fn new(key: [u8; 32], lifetime: Duration) -> Self {
        Self { key: Zeroizing::new(key), lifetime: lifetime.as_secs().min(WRAP / 2) }
    }

    //= 8489-9.2-1
    pub(super) fn issue(&self, client: SocketAddr, unix: u64, features: Option<Features>) -> Nonce {
        let mut raw = [0; TIME + MAC];
        raw[..TIME].copy_from_slice(&unix.to_be_bytes()[8 - TIME..]);
        raw[TIME..].copy_from_slice(&self.mac(client, unix, features));

        let (mut bytes, mut len) = ([0; COOKIE_TEXT + TEXT], 0);
        if let Some(features) = features {
            bytes[..COOKIE.len()].copy_from_slice(COOKIE);
            len = COOKIE.len() + encode(&features.bits(), &mut bytes[COOKIE.len()..]);
        }
        len += encode(&raw, &mut bytes[len..]);
        Nonce { bytes, len }
    }

    //= 8489-16-1
    pub(super) fn verify(&self, nonce: &[u8], client: SocketAddr, unix: u64) -> bool {
        let features = features(nonce);
        let text = if features.is_some() { &nonce[COOKIE_TEXT..] } else { nonce };
        let mut raw = [0; TIME + MAC];
        if text.len() != TEXT || STANDARD.decode_slice(text, &mut raw) != Ok(raw.len()) {
            return false;
        }
        let low = u64::from_be_bytes([0, 0, 0, 0, 0, raw[0], raw[1], raw[2]]);
        let age = (unix % WRAP + WRAP - low) % WRAP;
        let Some(issued) = unix.checked_sub(age) else { return false };
        let genuine: bool = self.mac(client, issued, features).ct_eq(&raw[TIME..]).into();
        genuine && age <= self.lifetime
    }

    //= 8489-9.2.4-3 8656-5-2
    fn mac(&self, client: SocketAddr, unix: u64, features: Option<Features>) -> [u8; MAC] {
        let ip = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let features = features.map_or([0xFF; 3], Features::bits);
        let parts = [&unix.to_be_bytes()[..], &features, &ip.octets(), &client.port().to_be_bytes()];
        let [a, b, c, d, e, f, ..] = hmac_sha256(&*self.key, &parts);
        [a, b, c, d, e, f]
    }
}

fn encode(raw: &[u8], out: &mut [u8]) -> usize {
    // Three bytes make four characters; the callers' arrays are sized so.
    STANDARD.encode_slice(raw, out).unwrap_or(0)
}
