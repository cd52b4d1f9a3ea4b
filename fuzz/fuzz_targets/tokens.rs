//! A client brings an access token (RFC 7635) whose key is known, so that any content can be sealed; or any bytes for
//! one. It gets an allocation when a second decoder finds the token right, and for no longer than the token lives.
//!
//! ```text
//! | how: 1 | age: 2 | content to be sealed, or the token as it is |
//! ```
#![no_main]
#![allow(dead_code)] // the stories' harness can do more than is needed here

#[path = "../../tests/relay/world.rs"]
mod world;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use libfuzzer_sys::fuzz_target;
use ternd::auth::{OAuth, Settings as AuthSettings, TokenAlgorithm, TokenKey};
use ternd::stun::AttributeType as T;
use world::{Client, REALM, START, World, auth_settings, settings};

const NAME: &str = "auth.example.org";
const KID: &str = "2026";
const SEALING_KEY: [u8; 32] = [9; 32];
const NONCE: &[u8; 12] = b"nonce 567890";
/// What an allocation gets that asks for nothing (RFC 8656 section 7.2).
const DEFAULT_LIFETIME: u64 = 600;
/// RFC 7635 section 7.
const DELTA: u64 = 5;

fuzz_target!(|input: &[u8]| {
    let Some(([how, a, b], rest)) = input.split_first_chunk() else { return };
    let age = i16::from_be_bytes([*a, *b]);
    let bit = |n: u8| how >> n & 1 == 1;
    let algorithm = [TokenAlgorithm::A128Gcm, TokenAlgorithm::A256Gcm][usize::from(bit(0))];

    let mut block = rest[..rest.len().min(1024)].to_vec();
    if bit(1)
        && let Some(at) = stamp_of(&block)
    {
        let issued = (START as i64 - i64::from(age)) as u64;
        block[at..at + 8].copy_from_slice(&(issued << 16).to_be_bytes());
    }
    let name = if bit(2) { "another.example.org" } else { NAME };
    let token = if bit(3) { block } else { seal(algorithm, name, block) };

    let opened = open(algorithm, &token);
    let key = match opened.as_ref().map(|o| o.mac_key.as_slice()) {
        Some(key) if bit(4) => key[..16].to_vec(), // as coturn's clients have it
        Some(key) if bit(5) => key[..key.len() - 1].to_vec(),
        Some(key) => key.to_vec(),
        None => b"abcdefghijklmnopqrst".to_vec(),
    };
    let signed = opened.as_ref().is_some_and(|o| {
        // HMAC takes a short key for the same one with zeros behind it.
        let padded = |key: &[u8]| std::array::from_fn::<u8, 64, _>(|n| key.get(n).copied().unwrap_or(0));
        [&o.mac_key[..], &o.mac_key[..16]].into_iter().any(|fits| padded(fits) == padded(&key))
    });
    let left = opened.and_then(|o| (o.lifetime + DELTA).checked_sub(o.issued.abs_diff(START)));
    let expected = left.filter(|left| signed && *left > 0);

    let key_of_tokens =
        TokenKey { id: KID.into(), algorithm, bytes: SEALING_KEY[..algorithm.key_len()].to_vec().into() };
    let oauth = Some(OAuth { server_name: NAME.into(), keys: vec![key_of_tokens] });
    let mut world = World::with(settings(), AuthSettings { oauth, ..auth_settings() });
    let mut client = Client::new("192.0.2.7:4000", KID, "");
    client.challenge(&mut world);
    let request = client
        .allocate_request()
        .raw(T::ACCESS_TOKEN, &token)
        .raw(T::USERNAME, KID.as_bytes())
        .raw(T::REALM, REALM.as_bytes())
        .raw(T::NONCE, &client.nonce)
        .message_integrity(&key)
        .finish();
    let answer = world.ask(client.flow, &request).expect("requests are answered");
    match expected {
        None => assert_eq!(answer.code(), 401),
        Some(left) => {
            let granted = left.min(DEFAULT_LIFETIME);
            assert_eq!((answer.code(), answer.lifetime().map(u64::from)), (0, Some(granted)));
            assert!(answer.message().verify_integrity(&key));
            world.wait(granted);
        }
    }
    world.assert_empty();
});

fn seal(algorithm: TokenAlgorithm, name: &str, mut block: Vec<u8>) -> Vec<u8> {
    fn tag<C: KeyInit + AeadInOut>(key: &[u8], name: &str, block: &mut [u8]) -> Vec<u8> {
        let cipher = C::new_from_slice(key).expect("a key of its length");
        let nonce = NONCE.as_slice().try_into().expect("12 bytes");
        cipher.encrypt_inout_detached(&nonce, name.as_bytes(), block.into()).expect("short").to_vec()
    }
    let key = &SEALING_KEY[..algorithm.key_len()];
    let tag = match algorithm {
        TokenAlgorithm::A128Gcm => tag::<Aes128Gcm>(key, name, &mut block),
        TokenAlgorithm::A256Gcm => tag::<Aes256Gcm>(key, name, &mut block),
    };
    [&[0, 12], &NONCE[..], &block, &tag].concat()
}

struct Opened {
    mac_key: Vec<u8>,
    issued: u64,
    lifetime: u64,
}

/// Where the time stamp of a content stands, if it has its place.
fn stamp_of(block: &[u8]) -> Option<usize> {
    let key = usize::from(u16::from_be_bytes([*block.first()?, *block.get(1)?]));
    ((20..=64).contains(&key) && block.len() == 2 + key + 8 + 4).then_some(2 + key)
}

/// The second decoder: it looks at the token from behind, and at the form of the content before anything else.
fn open(algorithm: TokenAlgorithm, token: &[u8]) -> Option<Opened> {
    fn unseal<C: KeyInit + AeadInOut>(key: &[u8], nonce: &[u8], block: &mut [u8], tag: &[u8]) -> Option<()> {
        let cipher = C::new_from_slice(key).ok()?;
        let (nonce, tag) = (nonce.try_into().ok()?, tag.try_into().ok()?);
        cipher.decrypt_inout_detached(&nonce, NAME.as_bytes(), block.into(), &tag).ok()
    }
    let block_at = 2 + 12;
    let tag_at = token.len().checked_sub(16).filter(|at| *at >= block_at)?;
    if token[..2] != [0, 12] {
        return None;
    }
    let mut block = token[block_at..tag_at].to_vec();
    let key = &SEALING_KEY[..algorithm.key_len()];
    match algorithm {
        TokenAlgorithm::A128Gcm => {
            unseal::<Aes128Gcm>(key, &token[2..block_at], &mut block, &token[tag_at..])
        }
        TokenAlgorithm::A256Gcm => {
            unseal::<Aes256Gcm>(key, &token[2..block_at], &mut block, &token[tag_at..])
        }
    }?;
    let at = stamp_of(&block)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    Some(Opened {
        mac_key: block[2..at].to_vec(),
        issued: number(&block[at..at + 6]), // two more bytes count fractions
        lifetime: number(&block[at + 8..]),
    })
}
