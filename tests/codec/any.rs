//! Arbitrary values: addresses, attributes, messages, and messages that something happened to.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ternd::stun::{AttributeType, Builder, Class, Method, TransactionId};

/// No files beside the sources: what failed is printed.
pub fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, ..ProptestConfig::default() }
}

pub fn id() -> impl Strategy<Value = TransactionId> {
    any::<[u8; 12]>().prop_map(TransactionId)
}

pub fn class() -> impl Strategy<Value = Class> {
    select(&[Class::Request, Class::Indication, Class::Success, Class::Error][..])
}

pub fn method() -> impl Strategy<Value = Method> {
    (0..0x1000_u16).prop_map(Method)
}

pub fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

/// Every type that has a name.
pub fn known_types() -> Vec<AttributeType> {
    (0..=u16::MAX).map(AttributeType).filter(|kind| kind.name().is_some()).collect()
}

/// A type that this crate knows, more often than not.
pub fn kind() -> impl Strategy<Value = AttributeType> {
    prop_oneof![4 => select(known_types()), 1 => any::<u16>().prop_map(AttributeType)]
}

/// An attribute of any type with a value of any form; often one that its type could have.
pub fn attribute() -> impl Strategy<Value = (AttributeType, Vec<u8>)> {
    let length =
        prop_oneof![2 => Just(4_usize), 1 => Just(8), 1 => Just(20), 1 => Just(32), 3 => 0..50_usize];
    (kind(), length, any::<u64>()).prop_map(|(kind, length, seed)| (kind, value(length, seed)))
}

/// Bytes that follow from a seed: far cheaper than a strategy for each. Half of the seeds give small numbers, of which
/// lengths, families and error codes are made.
fn value(length: usize, seed: u64) -> Vec<u8> {
    let mask = if seed & 1 == 0 { 0xFF } else { 0x07 };
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & mask
    };
    (0..length).map(|_| next()).collect()
}

/// A well-formed message; what its attributes say makes no sense.
pub fn message() -> impl Strategy<Value = Vec<u8>> {
    (class(), method(), id(), vec(attribute(), 0..12)).prop_map(|(class, method, id, attributes)| {
        let mut builder = Builder::new(class, method, id);
        for (kind, value) in &attributes {
            builder = builder.raw(*kind, value);
        }
        builder.finish()
    })
}

/// A message with some bytes changed, cut, or followed by others. The header's length is put right sometimes.
pub fn mutated_message() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    let cut = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let more = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..24)];
    (message(), changes, cut, more, any::<bool>()).prop_map(|(mut bytes, changes, cut, more, mend)| {
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        bytes.extend(more);
        if mend && bytes.len() >= 20 {
            let length = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        }
        bytes
    })
}
