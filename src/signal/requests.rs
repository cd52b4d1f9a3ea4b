//! What each request of a client does, one function each.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::error::{ErrorCode, Refusal, close};
use super::text::excerpt;
use super::wire::{Create, Frame, Join, Member, Message, PeerEvent, Request, Roles, Signal, State};
use super::{Connection, ConnectionId, Event, IceIssuer, Output, Phase, Place, Report, Rooms, Session};
use crate::time::Now;

impl Rooms {
    /// Does what was asked. A request with an id gets one reply: its own (`welcome`, `joined`, `ice`, `bye`) or `ok`.
    pub(super) fn handle(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        request: Request<'_>,
        ice: &mut dyn IceIssuer,
    ) -> Result<(), Refusal> {
        let greeted = self.connections.get_mut(&from).is_some_and(|c| c.session().is_some());
        match request {
            Request::Hello { client } if !greeted => self.hello(from, id, client.as_deref()),
            Request::Hello { .. } => return Err(Refusal::bad("Hello was said already")),
            _ if !greeted => return Err(Refusal::bad("The first message must be hello")),
            Request::Join(join) => return self.join(now, from, id, join, ice),
            Request::Ice => return self.ice(now, from, id, ice),
            Request::Signal(signal) => self.signal(from, &signal).map(|()| self.ok(from, id))?,
            Request::Message(message) => self.message(from, &message).map(|()| self.ok(from, id))?,
            Request::Report(report) => self.report(from, report).map(|()| self.ok(from, id))?,
            Request::Leave => {
                self.place(from)?;
                self.leave(from);
                self.ok(from, id);
            }
            Request::Bye => {
                self.send(from, &Frame::Bye { id });
                self.close(from, close::NORMAL, "bye");
            }
        }
        Ok(())
    }

    fn hello(&mut self, from: ConnectionId, id: Option<u64>, client: Option<&str>) {
        let Some(connection) = self.connections.get_mut(&from) else { return };
        let before =
            std::mem::replace(&mut connection.phase, Phase::Greeted(Session { seq: 0, place: None }));
        if let Phase::Waiting(deadline) = before {
            self.waiting.remove(&(deadline, from));
        }
        let address = connection.from;
        let (session, secret) = (self.ids.session(), self.ids.secret());
        let settings = &self.settings;
        let welcome = Frame::Welcome {
            id,
            session: &session,
            secret: &secret,
            resumed: false,
            ping_ms: settings.ping.as_millis() as u64,
            timeout_ms: settings.timeout.as_millis() as u64,
            resume_ms: 0,
            max_bytes: settings.max_bytes,
            server: &settings.server,
            features: &[],
        }
        .encode();
        self.send_text(from, welcome);
        self.outputs.push_back(Output::Event(Event::Greeted {
            connection: from,
            from: address,
            session: session.into(),
            client: client.map(Arc::from),
        }));
    }

    fn join(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        Join { room, create, name, pin }: Join<'_>,
        ice: &mut dyn IceIssuer,
    ) -> Result<(), Refusal> {
        if let Ok(place) = self.place(from) {
            let message = format!("You are in room '{}'; leave it first", place.room);
            return Err(Refusal::new(ErrorCode::AlreadyJoined, message));
        }
        // Who sends a PIN expects that nobody comes in without it.
        if pin.is_some() {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                "Rooms of this server have no PIN; join without 'pin'",
            ));
        }
        let others = self.rooms.get(&*room).cloned().unwrap_or_default();
        let created = others.is_empty();
        let capacity = self.settings.capacity;
        if created && create == Some(Create::Never) {
            return Err(Refusal::new(ErrorCode::RoomNotFound, format!("There is no room '{room}'")));
        }
        if created && self.rooms.len() >= self.settings.rooms {
            let message = format!("Server has {0} of {0} rooms", self.settings.rooms);
            return Err(Refusal::new(ErrorCode::CreateDenied, message));
        }
        if others.len() >= capacity {
            let message = format!("Room '{room}' has {} of {capacity} participants", others.len());
            return Err(Refusal::new(ErrorCode::RoomFull, message));
        }

        let (room, peer) = (Arc::<str>::from(room), self.ids.peer());
        let name = name.filter(|name| !name.is_empty()).map(Arc::<str>::from);
        if let Some(session) = self.connections.get_mut(&from).and_then(Connection::session) {
            session.place = Some(Place { room: room.clone(), peer: peer.clone(), name: name.clone() });
        }
        self.rooms.entry(room.clone()).or_default().push(from);

        let issued = self.issue(now, &room, &peer, ice).ok();
        let seq = self.next_seq(from);
        let peers: Vec<_> = others
            .iter()
            .filter_map(|other| self.connections.get(other)?.place())
            .map(|there| Member {
                peer: &there.peer,
                name: there.name.as_deref(),
                state: State::Here,
                you: Roles::LATER,
            })
            .collect();
        let ice = issued.as_deref();
        let joined =
            Frame::Joined { id, seq, room: &room, me: &peer, created, capacity, peers: &peers, ice }.encode();
        self.send_text(from, joined);
        for other in &others {
            self.send_event(*other, |seq| Frame::Peer {
                seq,
                event: PeerEvent::Join { peer: &peer, name: name.as_deref(), you: Roles::EARLIER },
            });
        }
        self.counters.joins += 1;
        let members = others.len() + 1;
        self.outputs.push_back(Output::Event(Event::Joined { connection: from, room, peer, members }));
        Ok(())
    }

    fn ice(
        &mut self,
        now: Now,
        from: ConnectionId,
        id: Option<u64>,
        ice: &mut dyn IceIssuer,
    ) -> Result<(), Refusal> {
        let Place { room, peer, .. } = self.place(from)?.clone();
        let issued =
            self.issue(now, &room, &peer, ice).map_err(|why| Refusal::new(ErrorCode::Forbidden, why))?;
        self.send(from, &Frame::Ice { id, ice: &issued });
        Ok(())
    }

    fn issue(
        &mut self,
        now: Now,
        room: &Arc<str>,
        peer: &Arc<str>,
        ice: &mut dyn IceIssuer,
    ) -> Result<Box<RawValue>, String> {
        ice.issue(now, room, peer).inspect_err(|why| {
            self.outputs.push_back(Output::Event(Event::IceRefused {
                room: room.clone(),
                peer: peer.clone(),
                why: why.clone(),
            }));
        })
    }

    fn signal(&mut self, from: ConnectionId, signal: &Signal<'_>) -> Result<(), Refusal> {
        let sender = self.place(from)?.clone();
        let to = self.find(&sender, &signal.to)?;
        self.send_event(to, |seq| Frame::Signal {
            seq,
            from: &sender.peer,
            to: &signal.to,
            pc: &signal.pc,
            generation: signal.generation,
            description: signal.description,
            candidates: signal.candidates,
        });
        Ok(())
    }

    fn message(&mut self, from: ConnectionId, message: &Message<'_>) -> Result<(), Refusal> {
        let sender = self.place(from)?.clone();
        let to = match &message.to {
            Some(peer) => vec![self.find(&sender, peer)?],
            None => self.members(&sender).filter(|member| *member != from).collect(),
        };
        for member in to {
            self.send_event(member, |seq| Frame::Message {
                seq,
                from: &sender.peer,
                to: message.to.as_ref().map(Cow::as_ref),
                data: message.data,
            });
        }
        Ok(())
    }

    fn report(&mut self, from: ConnectionId, report: Report) -> Result<(), Refusal> {
        let Place { room, peer, .. } = self.place(from)?.clone();
        self.outputs.push_back(Output::Event(Event::Report { room, from: peer, report }));
        Ok(())
    }

    /// Takes a connection out of its room, if it is in one, and tells the others.
    pub(super) fn leave(&mut self, connection: ConnectionId) {
        let session = self.connections.get_mut(&connection).and_then(Connection::session);
        let Some(Place { room, peer, .. }) = session.and_then(|session| session.place.take()) else { return };
        let mut left = self.rooms.remove(&room).unwrap_or_default();
        left.retain(|member| *member != connection);
        if !left.is_empty() {
            self.rooms.insert(room.clone(), left.clone());
        }
        for member in &left {
            self.send_event(*member, |seq| Frame::Peer { seq, event: PeerEvent::Leave { peer: &peer } });
        }
        let members = left.len();
        self.outputs.push_back(Output::Event(Event::Left { connection, room, peer, members }));
    }

    fn ok(&mut self, to: ConnectionId, id: Option<u64>) {
        if let Some(id) = id {
            self.send(to, &Frame::Ok { id });
        }
    }

    fn place(&self, connection: ConnectionId) -> Result<&Place, Refusal> {
        self.connections
            .get(&connection)
            .and_then(Connection::place)
            .ok_or_else(|| Refusal::new(ErrorCode::NotInRoom, "You are in no room; join one first"))
    }

    fn members(&self, place: &Place) -> impl Iterator<Item = ConnectionId> {
        self.rooms.get(&place.room).into_iter().flatten().copied()
    }

    /// Who is called `peer` in the sender's room. Nobody outside of it exists, as far as the sender can tell.
    fn find(&self, sender: &Place, peer: &str) -> Result<ConnectionId, Refusal> {
        let is_called = |c: &Connection| c.place().is_some_and(|place| &*place.peer == peer);
        self.members(sender)
            .find(|member| peer != &*sender.peer && self.connections.get(member).is_some_and(is_called))
            .ok_or_else(|| {
                let message = format!("There is no other '{}' in room '{}'", excerpt(peer), sender.room);
                Refusal::new(ErrorCode::PeerNotFound, message)
            })
    }
}
