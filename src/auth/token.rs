//! Access tokens (RFC 7635): a key that an authorization server made for one client, sealed for this server.
//!
//! ```text
//! ACCESS-TOKEN    | nonce length: 2 | nonce: 12 | sealed by AES-GCM, the server's name as associated data | tag: 16 |
//! sealed          | key length: 2 | MAC key: 20 to 64 | time stamp: 8 | lifetime: 4 |
//! time stamp      48 bits of seconds since 1970, 16 bits of their 1/64000
//! ```
//! USERNAME names the key that opens the token; the MAC key in it signs the messages. What enters is anybody's bytes:
//! nothing is looked at before the tag was found right, and nothing is longer than a token can be.

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use zeroize::Zeroizing;

use crate::time::Now;

const NONCE: usize = 12;
const TAG: usize = 16;
/// 160 bits MUST be supported (RFC 7635 section 6.2); HMAC hashes what is longer than its block of 64 bytes.
//= 7635-6.2-1
const MAC_KEY: std::ops::RangeInclusive<usize> = 20..=64;
/// What the key length, the time stamp and the lifetime take.
const AROUND_KEY: usize = 2 + 8 + 4;
const MAX_SEALED: usize = AROUND_KEY + *MAC_KEY.end();
/// How far clocks may be apart, in seconds (RFC 7635 section 7).
const DELTA: u64 = 5;

/// How tokens are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// AEAD_AES_128_GCM, key of 16 bytes.
    A128Gcm,
    /// AEAD_AES_256_GCM, key of 32 bytes.
    A256Gcm,
}

impl TokenAlgorithm {
    /// Bytes of its key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::A128Gcm => 16,
            Self::A256Gcm => 32,
        }
    }
}

/// A key shared with an authorization server.
#[derive(Clone)]
pub struct TokenKey {
    /// The key id (kid): what clients send as USERNAME.
    pub id: String,
    /// What it is for.
    pub algorithm: TokenAlgorithm,
    /// As many as [`TokenAlgorithm::key_len`] says; with another number no token fits.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?}, {:?}, redacted)", self.id, self.algorithm)
    }
}

/// An opened token.
pub(super) struct Token {
    pub mac_key: Zeroizing<Vec<u8>>,
    /// Seconds since the Unix epoch.
    issued: u64,
    /// Seconds.
    lifetime: u64,
}

impl Token {
    /// Opens a token; `None` if it was not sealed with this key for this server, or holds nothing sensible.
    //= 7635-7-2
    pub(super) fn open(sealed: &[u8], key: &TokenKey, server_name: &str) -> Option<Self> {
        let (len, rest) = sealed.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*len)) != NONCE {
            return None;
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
        let mut plain = Zeroizing::new([0; MAX_SEALED]);
        let plain = plain.get_mut(..sealed.len())?;
        plain.copy_from_slice(sealed);
        match key.algorithm {
            TokenAlgorithm::A128Gcm => unseal::<Aes128Gcm>(key, nonce, server_name, plain, tag),
            TokenAlgorithm::A256Gcm => unseal::<Aes256Gcm>(key, nonce, server_name, plain, tag),
        }?;

        let (len, rest) = plain.split_first_chunk::<2>()?;
        let (mac_key, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let (stamp, lifetime) = rest.split_first_chunk::<8>()?;
        if !MAC_KEY.contains(&mac_key.len()) {
            return None;
        }
        Some(Self {
            mac_key: Zeroizing::new(mac_key.to_vec()),
            issued: u64::from_be_bytes(*stamp) >> 16,
            lifetime: u32::from_be_bytes(lifetime.try_into().ok()?).into(),
        })
    }

    /// What its client may sign with: the key, or the first 16 bytes of it, which is all that coturn and the clients made
    /// for it take for HMAC-SHA1.
    pub(super) fn keys(&self) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
        let short = self.mac_key.get(..16).map(|key| Zeroizing::new(key.to_vec()));
        std::iter::once(self.mac_key.clone()).chain(short)
    }

    /// When it ends, in seconds since the Unix epoch, or how many seconds ago it did (RFC 7635 sections 7 and 9). A time
    /// stamp that lies ahead counts as one that lies as far back.
    //= 7635-7-3
    pub(super) fn expires(&self, now: Now) -> Result<u64, u64> {
        let (life, age) = (self.lifetime + DELTA, now.unix.abs_diff(self.issued));
        if age < life { Ok(now.unix + (life - age)) } else { Err(age - life) }
    }
}

fn unseal<C: KeyInit + AeadInOut>(
    key: &TokenKey,
    nonce: &[u8; NONCE],
    server_name: &str,
    plain: &mut [u8],
    tag: &[u8; TAG],
) -> Option<()> {
    let cipher = C::new_from_slice(&key.bytes).ok()?;
    let nonce = Nonce::<C>::try_from(&nonce[..]).ok()?;
    let tag = Tag::<C>::try_from(&tag[..]).ok()?;
    cipher.decrypt_inout_detached(&nonce, server_name.as_bytes(), plain.into(), &tag).ok()
}
