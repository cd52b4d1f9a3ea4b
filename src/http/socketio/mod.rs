//! `/socket.io/`: the protocol of the classic WebRTC tutorials, for their clients as they are (socket.io-client 3 and
//! 4, Engine.IO 4, over polling and WebSocket). socketioxide speaks Socket.IO; the rules of the rooms are in `rooms.rs`.
//!
//! ```text
//! GET, POST ─► origin? place? size? no binary? ─────────────────────┐
//! WebSocket ─► the same ─► frames, each looked at ─► pipe ─► hyper ─┴─► socketioxide ─► rooms.rs: one Mutex
//!              gate.rs                                                  emit ◄──────── words
//! ```
//!
//! socketioxide bounds neither the frames of a WebSocket nor the attachments a client may announce. So the gate looks
//! at each message before it does: WebSockets end at the gate and go on through a pipe in memory.

mod gate;
mod rooms;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde_json::Value;
use socketioxide::SocketIo;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::service::SocketIoService;
use socketioxide::socket::Sid;

use self::rooms::{Bounds, Rooms, Word, Words};
use super::{Counters, Live};
use crate::net::admission::{Admission, StreamLimits, StreamTicket};
use crate::net::clock::Clock;

pub(super) use gate::answer;

/// Messages that may wait for a client that reads slowly.
const QUEUE: usize = 64;

type Service = SocketIoService<NotHere>;

/// Answers what is not under [`PATH`], of which nothing is ever handed on.
#[derive(Clone)]
struct NotHere;

impl<Asked> hyper::service::Service<Asked> for NotHere {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, _: Asked) -> Self::Future {
        let mut nothing = Response::new(Empty::new());
        *nothing.status_mut() = StatusCode::NOT_FOUND;
        ready(Ok(nothing))
    }
}

/// The endpoint and its rooms.
pub(super) struct Classic {
    io: SocketIo,
    service: Service,
    places: Arc<Admission>,
    rooms: Arc<Mutex<Rooms<Sid>>>,
}

/// What a session holds while it lives: it travels with the request that opened it.
#[derive(Clone)]
struct Ticket {
    pace: Arc<Pace>,
    _place: Arc<StreamTicket>,
    /// While one of these lives, the server is not done.
    _alive: tokio::sync::mpsc::Sender<()>,
}

/// So many events per second in the long run, and a burst at once.
struct Pace {
    clock: Clock,
    cost_ms: f64,
    burst_ms: f64,
    /// When everything that came would have been used up, had it come evenly; milliseconds of the monotonic clock.
    used_up: Mutex<f64>,
}

impl Pace {
    fn new(clock: Clock, per_second: u32, burst: u32) -> Self {
        let cost_ms = 1000.0 / f64::from(per_second.max(1));
        Self { clock, cost_ms, burst_ms: cost_ms * f64::from(burst.max(1)), used_up: Mutex::new(0.0) }
    }

    /// Pays for one event; `false`: that is too many.
    fn take(&self) -> bool {
        let now = self.clock.now().instant.as_millis() as f64;
        let mut used_up = self.used_up.lock().unwrap_or_else(PoisonError::into_inner);
        *used_up = used_up.max(now) + self.cost_ms;
        *used_up <= now + self.burst_ms
    }
}

impl Classic {
    pub(super) fn new(live: &Live, counters: Arc<Counters>) -> Self {
        let limits = &live.rooms;
        let (service, io) = SocketIo::builder()
            .req_path(PATH)
            .max_payload(limits.max_bytes as u64)
            .max_buffer_size(QUEUE)
            .connect_timeout(limits.hello_timeout)
            .ping_interval(limits.ping.max(Duration::from_secs(1)))
            .ping_timeout((limits.timeout.saturating_sub(limits.ping)).max(Duration::from_secs(1)))
            .build_with_inner_svc(NotHere);
        let rooms = Arc::new(Mutex::new(Rooms::new(bounds(live))));
        let talk = Talk { io: io.clone(), rooms: rooms.clone(), counters };
        io.ns("/", move |socket: SocketRef| {
            talk.welcome(&socket);
            ready(())
        });
        Self { io, service, places: Admission::new(places(live)), rooms }
    }

    /// Goes on with other bounds; no session ends for them. What socketioxide was built with stays: the times of pings,
    /// and the bytes of a POST.
    pub(super) fn reload(&self, live: &Live) {
        self.places.set_limits(places(live));
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).set_bounds(bounds(live));
    }

    /// Sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.places.open()
    }

    /// Ends all sessions.
    pub(super) async fn close(&self) {
        self.io.close().await;
    }
}

fn bounds(live: &Live) -> Bounds {
    Bounds { capacity: live.socketio_capacity, rooms: live.rooms.rooms, room_chars: live.rooms.room_chars }
}

fn places(live: &Live) -> StreamLimits {
    StreamLimits { total: live.rooms.connections, per_address: live.rooms.connections_per_address }
}

/// The path of Engine.IO in the way socketioxide wants it.
const PATH: &str = "/socket.io";

/// What the handlers of all sockets share. Handlers run as soon as a message is read, one after the other for each
/// socket: what they do is done when they return, so messages keep their order.
#[derive(Clone)]
struct Talk {
    io: SocketIo,
    rooms: Arc<Mutex<Rooms<Sid>>>,
    counters: Arc<Counters>,
}

impl Talk {
    fn welcome(&self, socket: &SocketRef) {
        let ticket = socket.req_parts().extensions.get::<Ticket>().cloned();
        let Some(Ticket { pace, .. }) = ticket.filter(|ticket| ticket.pace.take()) else {
            let _ = socket.clone().disconnect();
            return;
        };
        let (talk, turnstile) = (self.clone(), pace.clone());
        socket.on("create or join", move |socket: SocketRef, TryData(room): TryData<Value>| {
            talk.hear(&socket, &turnstile, |rooms, id| rooms.create_or_join(id, &room.unwrap_or_default()));
            ready(())
        });
        let (talk, turnstile) = (self.clone(), pace.clone());
        socket.on("message", move |socket: SocketRef, TryData(data): TryData<Value>| {
            talk.hear(&socket, &turnstile, |rooms, id| rooms.message(id, data.unwrap_or_default()));
            ready(())
        });
        let talk = self.clone();
        socket.on_fallback(move |socket: SocketRef| {
            talk.hear(&socket, &pace, |_, _| Words::new());
            ready(())
        });
        let talk = self.clone();
        socket.on_disconnect(move |socket: SocketRef| {
            talk.act(|rooms| rooms.leave(socket.id));
            log::debug!(session:% = socket.id; "Socket.IO client gone");
            ready(())
        });
        log::debug!(session:% = socket.id; "Socket.IO client connected");
    }

    fn hear(&self, socket: &SocketRef, pace: &Pace, what: impl FnOnce(&mut Rooms<Sid>, Sid) -> Words<Sid>) {
        if pace.take() {
            self.act(|rooms| what(rooms, socket.id));
        } else {
            self.counters.talkative_socketio.add();
            log::debug!(session:% = socket.id; "too many Socket.IO events: disconnected");
            let _ = socket.clone().disconnect();
        }
    }

    fn act(&self, what: impl FnOnce(&mut Rooms<Sid>) -> Words<Sid>) {
        let mut slow = Vec::new();
        {
            // The words go out under the lock, so that all hear them in one order. To emit is to put into a queue.
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            for (to, word) in what(&mut rooms) {
                let Some(socket) = self.io.get_socket(to) else { continue };
                if !say(&socket, &word) {
                    slow.push(socket);
                }
            }
        }
        for socket in slow {
            self.counters.slow_socketio.add();
            log::debug!(session:% = socket.id; "reads too slowly: disconnected");
            let _ = socket.disconnect();
        }
    }
}

/// `false`: the queue is full.
fn say(socket: &SocketRef, word: &Word) -> bool {
    let sent = match word {
        Word::Created(room) => socket.emit("created", &(room, socket.id.as_str())),
        Word::Joined(room) => socket.emit("joined", &(room, socket.id.as_str())),
        Word::Join(room) => socket.emit("join", room),
        Word::Full(room) => socket.emit("full", room),
        Word::Ready => socket.emit("ready", &[(); 0]),
        Word::Message(data) => socket.emit("message", &**data),
        Word::Log(lines) => socket.emit("log", lines),
    };
    use socketioxide::{SendError, SocketError};
    !matches!(sent, Err(SendError::Socket(SocketError::InternalChannelFull)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_pace_counts() {
        let pace = Pace::new(Clock::start(), 1, 3);
        assert_eq!([(); 5].map(|()| pace.take()), [true, true, true, false, false]);
    }
}
