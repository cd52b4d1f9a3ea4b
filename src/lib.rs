//! **ternd** makes WebRTC connect: a STUN/TURN relay with time-limited credentials, an HTTPS endpoint that
//! issues `iceServers`, and WebSocket rooms for signaling, in one daemon and in one crate.
//!
//! # The map
//!
//! An arrow only ever points down; `tests/architecture.rs` holds the imports against this picture.
//!
//! ```text
//! L5  cli  ops              commands; start and stop order, logging, systemd
//! L4  config                TOML as written -> validated, typed settings
//! L3  net      http  client sockets of the relay  |  hyper, WebSocket, static pages  |  the other side of the rooms
//! L2  turn     ice  signal  pure state machines: relay | iceServers and credentials | rooms
//! L1  auth                  "may this username act, and with which key?"
//! L0  stun  time            wire format; time as a value
//! ```
//!
//! L0 to L2 are the *core*: values in, values out, time as an argument. They need no runtime and no sockets;
//! without the cargo features `daemon` and `client` they are all there is. To see a packet enter and leave, read
//! `net/shard.rs`, [`turn`] and `turn/allocate.rs`.

#![warn(missing_docs)]

pub mod stun;
pub mod time;

pub mod auth;

pub mod ice;
pub mod signal;
pub mod turn;

#[cfg(any(feature = "client", feature = "daemon"))]
mod dial;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "daemon")]
pub mod http;
#[cfg(feature = "daemon")]
pub mod net;

#[cfg(feature = "daemon")]
pub mod config;

#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod ops;
