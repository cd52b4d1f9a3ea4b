//! Ids and secrets from a seed: HMAC-SHA256(seed, kind || counter), cut to letters and digits.
//!
//! A deterministic core needs no source of randomness, and a test can know all ids; without the seed nobody can.

use std::fmt;
use std::sync::Arc;

use ahash::RandomState;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// 32 letters and digits: five bits each, none that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

pub(super) struct Ids {
    seed: Zeroizing<[u8; 32]>,
    count: u64,
}

impl Ids {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed: Zeroizing::new(seed), count: 0 }
    }

    /// Names a member: 60 bits, for no two members of a room share one.
    pub(super) fn peer(&mut self) -> Arc<str> {
        self.next("p_", 12).into()
    }

    /// Names a session: 80 bits.
    pub(super) fn session(&mut self) -> String {
        self.next("s_", 16)
    }

    /// Proves that a session is one's own: 130 bits.
    pub(super) fn secret(&mut self) -> String {
        self.next("r_", 26)
    }

    /// Keys a hash table.
    pub(super) fn hasher(&mut self) -> RandomState {
        let [a, b, c, d] = [(); 4].map(|()| {
            let bytes = self.bytes("h_");
            bytes.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
        });
        RandomState::with_seeds(a, b, c, d)
    }

    fn next(&mut self, prefix: &str, letters: usize) -> String {
        let random = self.bytes(prefix);
        let letters = random.iter().take(letters).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        prefix.chars().chain(letters).collect()
    }

    fn bytes(&mut self, prefix: &str) -> [u8; 32] {
        self.count += 1;
        #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&*self.seed).expect("any length");
        mac.update(prefix.as_bytes());
        mac.update(&self.count.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ids({}, redacted)", self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_have_their_length_never_repeat_and_depend_on_the_seed() {
        let mut ids = Ids::new([1; 32]);
        let all: BTreeSet<_> = (0..1000).flat_map(|_| [ids.session(), ids.secret()]).collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(|id| id.len() == if id.starts_with("s_") { 18 } else { 28 }));
        assert_ne!(Ids::new([1; 32]).peer(), Ids::new([2; 32]).peer());
        assert_eq!(Ids::new([1; 32]).peer(), Ids::new([1; 32]).peer());
    }

    #[test]
    fn the_seed_does_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", Ids::new([7; 32])), "Ids(0, redacted)");
    }
}
