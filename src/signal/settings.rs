//! Bounds and habits of the rooms.

use std::time::Duration;

use super::access::Access;
use crate::auth::Secret;

/// Bounds and habits. Plain values; each has a key of the same name in the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the server calls itself in `welcome`.
    pub server: String,
    /// How long a connection may take to say hello.
    pub hello_timeout: Duration,
    /// How often the driver pings, as told in `welcome`. At most [`timeout`](Self::timeout).
    pub ping: Duration,
    /// After how long a silence, pongs included, the driver takes a connection for dead; told in `welcome`.
    pub timeout: Duration,
    /// How long a session is kept whose connection was lost; zero: not at all.
    pub resume: Duration,
    /// Events kept for a session to resume.
    pub replay_messages: usize,
    /// Bytes of them.
    pub replay_bytes: usize,
    /// Bytes of those of all sessions.
    pub replay_bytes_total: usize,
    /// Bytes of one message from a client.
    pub max_bytes: usize,
    /// Connections in total; as many sessions may wait to be resumed.
    pub connections: usize,
    /// Connections of one client address (IPv6: its /64); as many sessions may wait.
    pub connections_per_address: usize,
    /// Rooms in total.
    pub rooms: usize,
    /// Members of a room whose maker asks for no number. At least 2, or nobody meets.
    pub capacity: usize,
    /// Members that its maker can ask for.
    pub max_capacity: usize,
    /// Characters of a room's name.
    pub room_chars: usize,
    /// Characters of a member's name, and of the client's in `hello`.
    pub name_chars: usize,
    /// Candidates in one `signal` message.
    pub candidates: usize,
    /// Bytes of `signal` messages held for a member that is not ready.
    pub held_bytes: usize,
    /// Bytes of the keys and values of one room.
    pub state_bytes: usize,
    /// Messages that a room can be asked to remember; 0: none.
    pub history: usize,
    /// Bytes of them.
    pub history_bytes: usize,
    /// Messages that may wait for a connection that reads slowly. For the driver.
    pub queue_messages: usize,
    /// Bytes of them. For the driver.
    pub queue_bytes: usize,
    /// Messages per second a connection may send in the long run.
    pub messages_per_second: u32,
    /// Messages it may send at once. This many more, refused, and it is closed.
    pub burst: u32,
    /// Bytes per second a connection may send in the long run.
    pub bytes_per_second: u32,
    /// Bytes it may send at once. At least [`max_bytes`](Self::max_bytes).
    pub burst_bytes: u32,
    /// Joins per minute of one client address (IPv6: its /64); 0: no limit.
    pub joins_per_minute: u32,
    /// Wrong PINs per minute of one client address; 0: no limit.
    pub wrong_pins_per_minute: u32,
    /// Requests for `ice` per minute of one client address; 0: no limit.
    pub credentials_per_minute: u32,
    /// This many frames that are no `ternd.v1` message, over the life of a connection, close it.
    pub malformed: u32,
    /// Who may make rooms.
    pub create: Access,
    /// Who may enter them.
    pub join: Access,
    /// Who gets `iceServers` with credentials.
    pub ice: Access,
    /// May programs come in that send no `Origin`, as browsers do? For the driver.
    pub native_clients: bool,
    /// What invites are signed with. `None`: something that is made from the seed.
    pub invite_secret: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: concat!("ternd/", env!("CARGO_PKG_VERSION")).into(),
            hello_timeout: Duration::from_secs(5),
            ping: Duration::from_secs(20),
            timeout: Duration::from_secs(45),
            resume: Duration::from_secs(60),
            replay_messages: 256,
            replay_bytes: 256 * 1024,
            replay_bytes_total: 256 * 1024 * 1024,
            max_bytes: 64 * 1024,
            connections: 10_000,
            connections_per_address: 200,
            rooms: 5_000,
            capacity: 2,
            max_capacity: 8,
            room_chars: 64,
            name_chars: 64,
            candidates: 64,
            held_bytes: 64 * 1024,
            state_bytes: 16 * 1024,
            history: 100,
            history_bytes: 64 * 1024,
            // More than what a session that is resumed gets at once.
            queue_messages: 512,
            queue_bytes: 1024 * 1024,
            messages_per_second: 50,
            burst: 200,
            bytes_per_second: 256 * 1024,
            burst_bytes: 4 * 1024 * 1024,
            joins_per_minute: 120,
            wrong_pins_per_minute: 10,
            credentials_per_minute: 120,
            malformed: 5,
            create: Access::Any,
            join: Access::Any,
            ice: Access::Any,
            native_clients: true,
            invite_secret: None,
        }
    }
}
