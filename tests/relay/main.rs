//! The relay told as stories: a world, what is sent, all that comes out, time moved by hand, and at the end
//! nothing is left. No sockets, no clocks.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)] // a test binary has no outside

mod across;
mod alternate;
mod amplification;
mod classic;
mod control;
#[path = "../support/counting.rs"]
mod counting;
mod data;
mod digest;
mod discovery;
mod errors;
mod grants;
mod lifetimes;
mod memory;
mod mobility;
mod model;
mod peers;
mod revoked;
mod simulation;
mod story;
mod tcp;
mod tokens;
mod world;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
