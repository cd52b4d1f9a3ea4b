//! The relay (RFC 8656) and the Binding method (RFC 8489): a pure state machine.
//!
//! ```text
//!            handle_client(flow, bytes)                 Verdict::Relay { relay, to, payload }
//!  client  ────────────────────────────►  ┌────────┐  ─────────────────────────────────────►  peer
//!                                         │ Server │
//!          ◄────────────────────────────  └────────┘  ◄─────────────────────────────────────
//!            Verdict::ToClient { flow, framing }        handle_peer(relay, from, len)
//! ```
//!
//! Relayed data leaves as a [`Verdict`]: a destination for bytes the caller already holds. Everything slower
//! (answers, sockets to bind or to close, events for the log) is an [`Output`], taken with
//! [`Server::poll_output`] until it is empty, after every call. The driver is `net/shard.rs`.
//!
//! To follow a request: `server.rs` tells messages apart and authenticates, then `allocate.rs`, `refresh.rs`,
//! `create_permission.rs` or `channel_bind.rs` takes the RFC's steps in its order; a `Rejection` becomes a code
//! in `rejection.rs`. To follow a packet: `data.rs`.

mod allocate;
mod allocation;
mod alternate;
mod binding;
mod channel_bind;
mod classic;
mod control;
mod counters;
mod create_permission;
mod data;
mod framing;
mod limiter;
mod meant;
mod meter;
mod mobility;
mod nat_discovery;
mod output;
mod policy;
mod refresh;
mod rejection;
mod reports;
mod request;
mod revoked;
mod server;
mod settings;
mod shared;
mod sorted_map;
mod tallies;
mod tcp;
mod types;

pub use allocation::Traffic;
pub use control::{Census, Listed};
pub use counters::Counters;
pub use framing::Framing;
pub use meter::Rates;
pub use output::{BindError, EndReason, Event, Grant, Output, PayloadRange, PortChoice, Verdict};
pub use policy::{Access, PeerPolicy, Rule, canonicalise, special};
pub use rejection::Rejection;
pub use server::Server;
pub use settings::{Limits, NatDiscovery, RelayAddress, Settings};
pub use shared::{Limit, Shared};
pub use tallies::Tallies;
pub use types::{
    ClientAddr, ConnectionId, FiveTuple, PeerAddr, RelayAddr, RelayId, RelayTransport, ServerAddr, Transport,
};
