//! The rooms behind one lock, and the outboxes of their connections.
//!
//! What enters: messages of WebSockets and of POSTs. What leaves: messages in outboxes, lines in the log, names whose
//! credentials are revoked. Nothing in here waits: a full outbox closes its connection and holds up nobody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::outbox::Outbox;
use super::{Counters, Shared};
use crate::ice::Host;
use crate::signal::{self, Authority, BadToken, Claims, ConnectionId, Event, Output, Rooms, close};
use crate::time::Now;

pub(super) struct Hub {
    state: Mutex<State>,
    /// There is a first deadline to watch, or an earlier one.
    waiting: Notify,
}

struct State {
    rooms: Rooms,
    clients: HashMap<ConnectionId, Client, ahash::RandomState>,
    last: u64,
    /// What the timers wait for.
    deadline: Option<crate::time::Instant>,
}

#[derive(Clone)]
struct Client {
    outbox: Arc<Outbox>,
    /// What the client calls this server; `None`: nothing that fits in a URL.
    host: Option<Arc<Host>>,
}

impl Hub {
    pub(super) fn new(settings: signal::Settings, seed: [u8; 32]) -> Self {
        // Ids are counted up: nobody can choose whom to collide with.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let state = State {
            rooms: Rooms::new(settings, seed),
            clients: HashMap::with_hasher(hasher),
            last: 0,
            deadline: None,
        };
        Self { state: Mutex::new(state), waiting: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was opened. It may be closed already when this returns: its outbox says so.
    pub(super) fn connected(
        &self,
        shared: &Shared,
        from: IpAddr,
        host: Option<Host>,
    ) -> (ConnectionId, Arc<Outbox>) {
        let outbox = {
            let live = shared.live();
            Arc::new(Outbox::new(live.rooms.queue_messages, live.rooms.queue_bytes))
        };
        let client = Client { outbox: outbox.clone(), host: host.map(Arc::new) };
        let mut state = self.state();
        // Under the lock: a stop comes either before this, or closes the outbox with all others.
        if shared.is_stopping() {
            outbox.close(GOING_AWAY.0, GOING_AWAY.1);
        }
        state.last += 1;
        let id = ConnectionId(state.last);
        state.clients.insert(id, client);
        self.act_on(state, shared, |rooms, now| rooms.connected(now, id, from));
        (id, outbox)
    }

    /// A message came in.
    pub(super) fn received(&self, shared: &Shared, id: ConnectionId, text: &str) {
        let state = self.state();
        let host = state.clients.get(&id).and_then(|client| client.host.clone());
        let mut issuer = Issuer { shared, host: host.as_deref() };
        self.act_on(state, shared, |rooms, now| rooms.received(now, id, text, &mut issuer));
    }

    /// Something happened on a connection, or the operator wants something of the rooms.
    pub(super) fn act<T>(&self, shared: &Shared, what: impl FnOnce(&mut Rooms, Now) -> T) -> T {
        self.act_on(self.state(), shared, what)
    }

    fn act_on<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        shared: &Shared,
        what: impl FnOnce(&mut Rooms, Now) -> T,
    ) -> T {
        let result = state.act(shared, what);
        let first = state.rooms.poll_timeout();
        let earlier = first.is_some() && state.deadline.is_none_or(|deadline| first < Some(deadline));
        drop(state);
        if earlier {
            self.waiting.notify_one();
        }
        result
    }

    /// A connection is gone. With `done` its client has closed it as one does who won't come back.
    pub(super) fn disconnected(&self, shared: &Shared, id: ConnectionId, done: bool) {
        let mut state = self.state();
        state.clients.remove(&id);
        self.act_on(state, shared, |rooms, now| match done {
            true => rooms.closed(now, id),
            false => rooms.disconnected(now, id),
        });
    }

    /// Other bounds and habits for the rooms; nobody has to leave for them.
    pub(super) fn reload(&self, settings: signal::Settings) {
        self.state().rooms.set_settings(settings);
    }

    /// Closes all connections: with 4007 if the stop was announced, else with 1001.
    pub(super) fn stop(&self) {
        let state = self.state();
        let (code, reason) = match state.rooms.is_draining() {
            true => (close::DRAINING, "the server stops"),
            false => GOING_AWAY,
        };
        for client in state.clients.values() {
            client.outbox.close(code, reason);
        }
    }

    /// What a token says, an invite or a JWT, if it is good now. Strangers show them: nobody waits for their signatures.
    pub(super) fn read_token(&self, shared: &Shared, token: &str) -> Result<Claims, BadToken> {
        let secret = self.ask(|rooms| rooms.invite_secret().clone());
        let mut issuer = Issuer { shared, host: None };
        signal::read_token(shared.services.clock.now(), token, &secret.bytes, &mut issuer)
    }

    /// Asks the rooms something.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Rooms) -> T) -> T {
        question(&self.state().rooms)
    }

    /// Moves the rooms' time on, for ever.
    pub(super) async fn run_timers(&self, shared: &Shared) {
        loop {
            let deadline = {
                let mut state = self.state();
                state.deadline = state.rooms.poll_timeout();
                state.deadline
            };
            let sleep = async {
                match deadline {
                    Some(deadline) => {
                        // A millisecond more, or rounding makes it spin.
                        let wait = deadline - shared.services.clock.now().instant + Duration::from_millis(1);
                        tokio::time::sleep(wait).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => self.act(shared, |rooms, now| rooms.handle_timeout(now)),
                () = self.waiting.notified() => {}
            }
        }
    }
}

/// RFC 6455 section 7.4.1.
const GOING_AWAY: (u16, &str) = (1001, "the server stops");

impl State {
    fn act<T>(&mut self, shared: &Shared, what: impl FnOnce(&mut Rooms, Now) -> T) -> T {
        let now = shared.services.clock.now();
        let result = what(&mut self.rooms, now);
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Send { to, text } => {
                    let full = self.clients.get(&to).is_some_and(|client| client.outbox.push(text).is_err());
                    if full {
                        self.rooms.slow_consumer(now, to);
                    }
                }
                Output::Close { connection, code, reason } => {
                    if let Some(client) = self.clients.remove(&connection) {
                        client.outbox.close(code, reason);
                    }
                }
                Output::RefreshIce { connection } => {
                    let host = self.clients.get(&connection).and_then(|client| client.host.clone());
                    let mut issuer = Issuer { shared, host: host.as_deref() };
                    self.rooms.refresh_ice(now, connection, &mut issuer);
                }
                Output::Revoke { peer, expires } => (shared.services.revoke)(&peer, expires),
                Output::Event(event) => note(&event, &shared.counters),
            }
        }
        result
    }
}

fn note(event: &Event, counters: &Counters) {
    match event {
        Event::Joined { connection, room, peer, members } => {
            log::debug!(connection = connection.0, room:%, peer:%, members; "joined a room");
        }
        Event::Left { room, peer, members } => {
            log::debug!(room:%, peer:%, members; "left a room");
        }
        Event::Kicked { room, peer, by } => {
            let by = by.as_deref().unwrap_or("the operator");
            log::debug!(room:%, peer:%, by:%; "kicked from a room");
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
            log::debug!(room:%, peer:% = from; "a member reports: {report:?}");
        }
        other => log::debug!("{other:?}"),
    }
}

/// Issues `iceServers` to the members that came by one connection, and looks at their tokens.
struct Issuer<'a> {
    shared: &'a Shared,
    host: Option<&'a Host>,
}

impl Authority for Issuer<'_> {
    /// The name of a peer is that of the user: by it a credential is revoked.
    fn issue(&mut self, now: Now, _room: &str, peer: &str) -> Result<Box<RawValue>, String> {
        let host = self.host.ok_or("Your request had no valid Host")?;
        let request = crate::ice::Request { host, user: peer, ttl: None, transport: None };
        let live = self.shared.live();
        let issued = live.ice.issue(request, &live.auth, now).map_err(|error| error.to_string())?;
        self.shared.counters.room_credentials.add();
        RawValue::from_string(issued.body(crate::ice::Format::Object)).map_err(|error| error.to_string())
    }

    fn verify(&mut self, _now: Now, token: &str) -> Result<Claims, BadToken> {
        self.shared.verify(token)
    }
}
