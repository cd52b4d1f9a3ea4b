//! Nonces that the server does not have to remember.
//!
//! ```text
//! 12 characters of base64:  | 3 bytes: low bits of the time | 6 bytes: MAC(key, time, client address and port) |
//! ```
//! The MAC binds a nonce to one client and one second, so a million spoofed sources cost no memory, and an old
//! nonce dies of its age. Short, because it is in each 401: an answer that is larger than its question makes
//! the server an amplifier.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::stun::hmac_sha256;

const TIME: usize = 3;
const MAC: usize = 6;
const TEXT: usize = (TIME + MAC) / 3 * 4;
/// The time wraps after 2^24 s, about 194 days.
const WRAP: u64 = 1 << (8 * TIME);

/// A nonce as it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce([u8; TEXT]);

impl Nonce {
    /// The value of the NONCE attribute.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", String::from_utf8_lossy(&self.0))
    }
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

    pub(super) fn issue(&self, client: SocketAddr, unix: u64) -> Nonce {
        let mut raw = [0; TIME + MAC];
        raw[..TIME].copy_from_slice(&unix.to_be_bytes()[8 - TIME..]);
        raw[TIME..].copy_from_slice(&self.mac(client, unix));
        let mut text = [0; TEXT];
        let written = URL_SAFE_NO_PAD.encode_slice(raw, &mut text);
        debug_assert_eq!(written, Ok(TEXT));
        Nonce(text)
    }

    pub(super) fn verify(&self, nonce: &[u8], client: SocketAddr, unix: u64) -> bool {
        let mut raw = [0; TIME + MAC];
        if nonce.len() != TEXT || URL_SAFE_NO_PAD.decode_slice(nonce, &mut raw) != Ok(raw.len()) {
            return false;
        }
        let low = u64::from_be_bytes([0, 0, 0, 0, 0, raw[0], raw[1], raw[2]]);
        let age = (unix % WRAP + WRAP - low) % WRAP;
        let Some(issued) = unix.checked_sub(age) else { return false };
        let fits: bool = self.mac(client, issued).ct_eq(&raw[TIME..]).into();
        fits && age <= self.lifetime
    }

    fn mac(&self, client: SocketAddr, unix: u64) -> [u8; MAC] {
        let ip = match client.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let full =
            hmac_sha256(&*self.key, &[&unix.to_be_bytes(), &ip.octets(), &client.port().to_be_bytes()]);
        let mut mac = [0; MAC];
        mac.copy_from_slice(&full[..MAC]);
        mac
    }
}
