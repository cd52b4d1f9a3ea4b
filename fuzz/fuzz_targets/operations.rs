//! The model test (`tests/relay/model`) with sequences that coverage leads to: requests, data, time jumps, sockets that
//! can't be bound; the relay must agree with the reference in every output.
//!
//! ```text
//! | Setup | Op | Op | Op | ...
//! ```
#![no_main]
#![allow(dead_code)] // the stories' harness can do more than is needed here

#[path = "../../tests/relay/model/mod.rs"]
mod model;
#[path = "../../tests/relay/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use model::{Op, Setup};

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, ops)) = bytes.split_first_chunk::<{ Setup::BYTES }>() else { return };
    let setup = Setup::decode(*setup);
    let (ops, _) = ops.as_chunks::<{ Op::BYTES }>();
    let ops: Vec<Op> = ops.iter().take(200).map(|op| Op::decode(setup.focus, *op)).collect();
    model::run(&setup, &ops);
});
