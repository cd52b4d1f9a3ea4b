//! `ternd check` against servers that are good, and bad in the ways servers are: the right row, cause and exit code.
//!
//! coturn is the good server, and most of the bad ones; what coturn can't be is played by `fake.rs`.

#![expect(clippy::unwrap_used, reason = "a test that can't set itself up has failed")]

mod bad;
mod fake;
mod good;
mod run;
