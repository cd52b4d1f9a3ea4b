//! The daemon as its users meet it: the real binary, with a configuration in a file, on loopback.
//!
//! ```text
//!   turnutils_*, nc, turn::client, TLS, HTTP, WebSocket  ───►  ternd serve --config FILE  ───►  UDP peer
//!                                                              (one per test, ports of its own)
//! ```
//! With `TERND_TEST_PEER=coturn` the tests in [`interop`] run against coturn instead, on the same ports and with
//! the same secret: what fails there too is the test's fault.
#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)] // a test binary has no outside

mod bad_input;
mod client;
mod commands;
mod conformance;
mod harness;
mod https;
mod interop;
mod web;
