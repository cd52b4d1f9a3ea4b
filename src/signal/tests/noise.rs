//! Random frames: nothing panics, whatever leaves is JSON with its events numbered (the world looks), and nobody
//! outside the room hears of it.

use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::World;
use crate::signal::Settings;

/// Valid messages, to begin with.
const SEEDS: &[&str] = &[
    r#"{"type":"hello","id":1,"token":"t","client":"demo/1","resume":{"session":"s_9f","secret":"r_","seq":41}}"#,
    r#"{"type":"join","id":2,"room":"demo","create":"if-missing","name":"Alice"}"#,
    r#"{"type":"signal","id":3,"to":"p_bob","pc":"main","gen":1,"description":{"type":"offer","sdp":"v=0"}}"#,
    r#"{"type":"signal","to":"p_bob","candidates":[{"candidate":"c","sdpMid":"0","sdpMLineIndex":0},null]}"#,
    r#"{"type":"message","id":4,"to":null,"data":{"text":"hi"}}"#,
    r#"{"type":"report","state":"failed","local":"relay","errors":[{"url":"turn:x","code":701}]}"#,
    r#"{"type":"ice","id":5}"#,
    r#"{"type":"leave","id":7}"#,
    r#"{"type":"bye"}"#,
];

/// Pieces that hurt parsers.
const PIECES: &[&str] = &[
    "null",
    "{}",
    "[]",
    "[[[[",
    "\"",
    "\\",
    "\\ud800",
    "1e999",
    "-0",
    "18446744073709551616",
    "\u{0}",
    "\u{202e}",
    "é",
    ",",
    ":",
    "}",
    "true",
    "\"type\":\"join\"",
    "\"to\":[]",
    "\"id\":null",
    "😀",
];

fn frame() -> impl Strategy<Value = String> {
    let mutated =
        (prop::sample::select(SEEDS), vec((any::<prop::sample::Index>(), 0..8_usize, piece()), 0..4))
            .prop_map(|(seed, cuts)| {
                cuts.into_iter().fold(seed.to_owned(), |text, (at, len, piece)| {
                    let chars: Vec<char> = text.chars().collect();
                    let at = at.index(chars.len() + 1);
                    let end = (at + len).min(chars.len());
                    let (head, tail) = (&chars[..at], &chars[end..]);
                    head.iter().chain(piece.chars().collect::<Vec<_>>().iter()).chain(tail).collect()
                })
            });
    prop_oneof![4 => mutated, 1 => ".{0,40}", 1 => vec(piece(), 0..12).prop_map(|pieces| pieces.concat())]
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(PIECES).prop_map(str::to_owned), ".{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_frames_do_no_harm(frames in vec((frame(), any::<bool>()), 1..12)) {
        let mut world = World::new(Settings::default());
        world.enter("bob", "demo");
        world.enter("carol", "other");
        world.enter("alice", "demo");
        world.hear("bob");
        for (text, by_a_member) in frames {
            let name = if by_a_member && world.is_connected("alice") { "alice" } else { "stranger" };
            if !world.is_connected(name) {
                world.open(name, Ipv4Addr::LOCALHOST.into());
            }
            world.send(name, &text);
        }
        prop_assert_eq!(world.hear("carol"), None);
        for name in ["alice", "bob", "stranger"] {
            while world.hear(name).is_some() {}
        }
        world.end();
    }
}
