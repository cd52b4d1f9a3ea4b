//! The wire format, held against the RFCs' vectors, against another implementation, and against noise.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)] // a test binary has no outside

mod any;
#[path = "../support/counting.rs"]
mod counting;
mod memory;
mod noise;
mod oracle;
mod rules;
mod stream;
mod typed;
mod vectors;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;
