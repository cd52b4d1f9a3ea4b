//! The rooms behind one lock, and the outboxes of their connections.
//!
//! What enters: frames of WebSockets. What leaves: messages in outboxes, lines in the log. Nothing in here waits:
//! a full outbox closes its connection and holds up nobody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::outbox::Outbox;
use super::{Counters, Shared};
use crate::signal::{self, ConnectionId, Event, IceIssuer, Output, Rooms};
use crate::time::Now;

pub(super) struct Hub {
    state: Mutex<State>,
    /// There is a first deadline to watch.
    waiting: Notify,
}

struct State {
    rooms: Rooms,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    last: u64,
}

impl Hub {
    pub(super) fn new(settings: signal::Settings, seed: [u8; 32]) -> Self {
        let state = State { rooms: Rooms::new(settings, seed), outboxes: HashMap::new(), last: 0 };
        Self { state: Mutex::new(state), waiting: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A WebSocket was opened. It may be closed already when this returns: its outbox says so.
    pub(super) fn connected(&self, shared: &Shared, from: IpAddr) -> (ConnectionId, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::new(shared.settings.queue_messages, shared.settings.queue_bytes));
        let mut state = self.state();
        // Under the lock: a stop comes either before this, or closes the outbox with all others.
        if shared.is_stopping() {
            outbox.close(GOING_AWAY.0, GOING_AWAY.1);
        }
        state.last += 1;
        let id = ConnectionId(state.last);
        state.outboxes.insert(id, outbox.clone());
        state.act(shared, |rooms, now| rooms.connected(now, id, from));
        drop(state);
        self.waiting.notify_one();
        (id, outbox)
    }

    /// Something happened on a connection.
    pub(super) fn act(&self, shared: &Shared, what: impl FnOnce(&mut Rooms, Now)) {
        self.state().act(shared, what);
    }

    pub(super) fn disconnected(&self, shared: &Shared, id: ConnectionId) {
        let mut state = self.state();
        state.outboxes.remove(&id);
        state.act(shared, |rooms, now| rooms.disconnected(now, id));
    }

    /// Other bounds and habits for the rooms; nobody has to leave for them.
    pub(super) fn reload(&self, settings: signal::Settings) {
        self.state().rooms.set_settings(settings);
    }

    /// Closes all connections with 1001.
    pub(super) fn stop(&self) {
        for outbox in self.state().outboxes.values() {
            outbox.close(GOING_AWAY.0, GOING_AWAY.1);
        }
    }

    /// Counts since the start, connections and rooms.
    pub(super) fn figures(&self) -> (signal::Counters, usize, usize) {
        let state = self.state();
        (state.rooms.counters(), state.rooms.connections(), state.rooms.rooms())
    }

    /// Moves the rooms' time on, for ever.
    pub(super) async fn run_timers(&self, shared: &Shared) {
        loop {
            let deadline = self.state().rooms.poll_timeout();
            match deadline {
                Some(deadline) => {
                    // A millisecond more, or rounding makes it spin.
                    let wait = deadline - shared.services.clock.now().instant + Duration::from_millis(1);
                    tokio::time::sleep(wait).await;
                    self.act(shared, |rooms, now| rooms.handle_timeout(now));
                }
                // Deadlines come in order, so only the first one has to wake it.
                None => self.waiting.notified().await,
            }
        }
    }
}

/// RFC 6455 section 7.4.1.
const GOING_AWAY: (u16, &str) = (1001, "the server stops");

impl State {
    fn act(&mut self, shared: &Shared, what: impl FnOnce(&mut Rooms, Now)) {
        let now = shared.services.clock.now();
        what(&mut self.rooms, now);
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { to, text } => {
                    let full = self.outboxes.get(&to).is_some_and(|outbox| outbox.push(text).is_err());
                    if full {
                        self.rooms.slow_consumer(now, to);
                    }
                }
                Output::Close { connection, code, reason } => {
                    if let Some(outbox) = self.outboxes.remove(&connection) {
                        outbox.close(code, reason);
                    }
                }
                Output::Event(event) => note(&event, &shared.counters),
            }
        }
    }
}

fn note(event: &Event, counters: &Counters) {
    match event {
        Event::Joined { connection, room, peer, members } => {
            log::info!(connection = connection.0, room:%, peer:%, members; "joined a room");
        }
        Event::Left { connection, room, peer, members } => {
            log::info!(connection = connection.0, room:%, peer:%, members; "left a room");
        }
        Event::Refused { connection, code } => {
            if *code == signal::ErrorCode::SlowConsumer {
                counters.slow_websockets.add();
            }
            log::debug!(connection = connection.0, code = code.as_str(); "refused");
        }
        Event::IceRefused { room, peer, why } => {
            log::warn!(room:%, peer:%; "no iceServers for a member: {why}");
        }
        Event::Report { room, from, report } => {
            counters.reports.count(report);
            log::info!(room:%, peer:% = from; "a member reports: {report:?}");
        }
        other => log::debug!("{other:?}"),
    }
}

/// Issues `iceServers` to the members that came by one connection.
pub(super) struct Issuer<'a> {
    pub(super) shared: &'a Shared,
    /// What the client calls this server; `None`: nothing that fits in a URL.
    pub(super) host: Option<&'a crate::ice::Host>,
}

impl IceIssuer for Issuer<'_> {
    fn issue(
        &mut self,
        now: Now,
        _room: &str,
        peer: &str,
    ) -> Result<Box<serde_json::value::RawValue>, String> {
        let host = self.host.ok_or("Your request had no valid Host")?;
        let request = crate::ice::Request { host, user: peer, ttl: None, transport: None };
        let live = self.shared.live();
        let issued = live.ice.issue(request, &live.auth, now).map_err(|error| error.to_string())?;
        self.shared.counters.room_credentials.add();
        serde_json::value::RawValue::from_string(issued.body(crate::ice::Format::Object))
            .map_err(|error| error.to_string())
    }
}
