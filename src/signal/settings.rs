//! Bounds and habits of the rooms.

use std::time::Duration;

/// Bounds and habits. Plain values; each has a key of the same name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the server calls itself in `welcome`.
    pub server: String,
    /// How long a connection may take to say hello.
    pub hello_timeout: Duration,
    /// How often the driver pings, as told in `welcome`. At most [`timeout`](Self::timeout).
    pub ping: Duration,
    /// After how long a silence, pongs included, the driver takes a connection for dead; told in `welcome`.
    pub timeout: Duration,
    /// Bytes of one message from a client.
    pub max_bytes: usize,
    /// Connections in total.
    pub connections: usize,
    /// Connections of one client address (IPv6: its /64).
    pub connections_per_address: usize,
    /// Rooms in total.
    pub rooms: usize,
    /// Members of one room. At least 2, or nobody meets.
    pub capacity: usize,
    /// Characters of a room's name.
    pub room_chars: usize,
    /// Characters of a member's name, and of the client's in `hello`.
    pub name_chars: usize,
    /// Candidates in one `signal` message.
    pub candidates: usize,
    /// Messages per second a connection may send in the long run.
    pub messages_per_second: u32,
    /// Messages it may send at once. This many more, refused, and it is closed.
    pub burst: u32,
    /// This many frames that are no `ternd.v1` message, over the life of a connection, close it.
    pub malformed: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: concat!("ternd/", env!("CARGO_PKG_VERSION")).into(),
            hello_timeout: Duration::from_secs(5),
            ping: Duration::from_secs(20),
            timeout: Duration::from_secs(45),
            max_bytes: 64 * 1024,
            connections: 10_000,
            connections_per_address: 200,
            rooms: 5_000,
            capacity: 2,
            room_chars: 64,
            name_chars: 64,
            candidates: 64,
            messages_per_second: 50,
            burst: 200,
            malformed: 5,
        }
    }
}
