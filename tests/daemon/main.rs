//! The daemon as its users meet it: the real binary, with a configuration in a file, on loopback.
//!
//! ```text
//!   coturn's tools, nc, TURN crates, HTTP, WebSocket   ───►  ternd serve --config FILE  ───►  UDP peer
//!                                                              (one per test, ports of its own)
//! ```
//! With `TERND_TEST_PEER=coturn` the tests in [`coturn`], [`interop`] and [`sans_io`] run against coturn instead, on the same ports and with
//! the same secret: what fails there too is the test's fault.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)] // a test binary has no outside

mod bad_input;
#[path = "../support/call.rs"]
mod call;
mod client;
mod commands;
mod conformance;
mod coturn;
#[path = "../support/files.rs"]
mod files;
mod harness;
mod https;
mod interop;
mod jwks;
mod listeners;
mod one_room;
mod operations;
mod rooms;
mod sans_io;
mod web;
