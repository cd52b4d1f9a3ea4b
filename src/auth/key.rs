//! The key of a user under one of the two password algorithms (RFC 8489 sections 9.2.2 and 18.5.1).

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::stun::PasswordAlgorithm;

/// How a password becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5 over `user:realm:password`: what all clients can do.
    Md5,
    /// SHA-256 over the same.
    Sha256,
}

impl Algorithm {
    /// The number in PASSWORD-ALGORITHM.
    pub const fn number(self) -> u16 {
        match self {
            Self::Md5 => PasswordAlgorithm::MD5,
            Self::Sha256 => PasswordAlgorithm::SHA256,
        }
    }

    /// The algorithm with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            PasswordAlgorithm::MD5 => Some(Self::Md5),
            PasswordAlgorithm::SHA256 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// A key to sign and verify with.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// 16 bytes.
    Md5(Zeroizing<[u8; 16]>),
    /// 32 bytes.
    Sha256(Zeroizing<[u8; 32]>),
    /// From an access token (RFC 7635): made by the authorization server, not of a password.
    Token(Zeroizing<Vec<u8>>),
}

impl Key {
    /// Derives a key. The parts are taken as they are: OpaqueString is the caller's affair.
    ///
    /// ```
    /// use ternd::auth::{Algorithm, Key};
    ///
    /// let key = Key::derive(Algorithm::Md5, b"user", "realm", "pass"); // the example of RFC 8489 section 9.2.2
    /// assert_eq!(key.as_bytes()[..4], [0x84, 0x93, 0xfb, 0xc5]);
    /// ```
    pub fn derive(algorithm: Algorithm, username: &[u8], realm: &str, password: &str) -> Self {
        let parts = [username, b":", realm.as_bytes(), b":", password.as_bytes()];
        match algorithm {
            Algorithm::Md5 => Self::Md5(Zeroizing::new(hash::<Md5>(&parts).into())),
            Algorithm::Sha256 => Self::Sha256(Zeroizing::new(hash::<Sha256>(&parts).into())),
        }
    }

    /// The algorithm it was derived with; `None`: it was not.
    pub const fn algorithm(&self) -> Option<Algorithm> {
        match self {
            Self::Md5(_) => Some(Algorithm::Md5),
            Self::Sha256(_) => Some(Algorithm::Sha256),
            Self::Token(_) => None,
        }
    }

    /// The bytes to sign and verify with.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Md5(key) => &**key,
            Self::Sha256(key) => &**key,
            Self::Token(key) => key,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Md5(_) => "Md5",
            Self::Sha256(_) => "Sha256",
            Self::Token(_) => "Token",
        };
        write!(f, "Key({kind}, redacted)")
    }
}

/// A short name for a key, to tell its holders apart: it tells nothing else.
pub(super) fn mark(key: &[u8]) -> String {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash::<Sha256>(&[key]).into();
    format!("{:016x}", u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// The value of USERHASH (RFC 8489 section 14.4).
pub fn userhash(username: &[u8], realm: &str) -> [u8; 32] {
    hash::<Sha256>(&[username, b":", realm.as_bytes()]).into()
}

fn hash<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize()
}
