//! A client of the rooms (`ternd.v1`), for bots and tests.
//!
//! ```text
//!   join, signal, message ──► requests, kept until they are answered ──► WebSocket
//!   next() ◄── events, in order ◄── read, counted (seq) ◄──────────────────┘
//!                         resume(): connects again, sends again, misses nothing
//! ```
//!
//! There is no task behind it: what comes is read while [`Client::next`], or a method that waits for an answer, is
//! awaited. So keep one of them waiting, or the server takes the client for dead after a while.
//!
//! It needs a tokio runtime and the cargo feature `client`. The protocol is in `docs/signaling-protocol.md`. This greets
//! whoever is in a room, and `examples/bot.rs` is a whole program:
//!
//! ```no_run
//! use serde_json::json;
//! use ternd::client::{Client, Event, Join, Options};
//!
//! # async fn bot() -> Result<(), ternd::client::Error> {
//! let mut client = Client::connect(Options::new("wss://turn.example.org")).await?;
//! let joined = client.join(Join::room("demo").name("bot")).await?;
//! for peer in &joined.peers {
//!     client.message(Some(&peer.peer), json!({"text": "hello"})).await?;
//! }
//! loop {
//!     match client.next().await {
//!         Ok(Event::Message { from, data, .. }) => println!("{from} says {data}"),
//!         Ok(Event::Signal(signal)) => println!("{} wants to connect", signal.from),
//!         Ok(other) => println!("{other:?}"),
//!         // Nothing was missed if it is the same session; otherwise join again.
//!         Err(error) if error.may_resume() => {
//!             if !client.resume().await? {
//!                 client.join(Join::room("demo").name("bot")).await?;
//!             }
//!         }
//!         Err(error) => return Err(error),
//!     }
//! }
//! # }
//! ```

mod connect;
mod error;
mod event;

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

pub use connect::Options;
pub use error::Error;
pub use event::{Event, Join, Joined, Member, Presence, Roles, Signal, Welcome};

use connect::Socket;
use event::{Body, Incoming};

/// Requests that may wait for their answers; with one more, some are waited for.
const PENDING: usize = 256;
/// Between two attempts to come back: doubled each time, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One session.
#[derive(Debug)]
pub struct Client {
    options: Options,
    socket: Option<Socket>,
    welcome: Welcome,
    /// The number of the last event that came.
    seq: u64,
    last_id: u64,
    pending: VecDeque<(u64, String)>,
    events: VecDeque<Event>,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Errors
    /// There is no connection, or the server refuses this client.
    pub async fn connect(options: Options) -> Result<Self, Error> {
        let (socket, welcome) = greet(&options, None).await?;
        Ok(Self {
            options,
            socket: Some(socket),
            welcome,
            seq: 0,
            last_id: 0,
            pending: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// What the server said at the beginning of this connection.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Enters a room.
    ///
    /// # Errors
    /// [`Error::Refused`]: the room is full, and the like. Or the connection is gone.
    pub async fn join(&mut self, join: Join) -> Result<Joined, Error> {
        match self.ask("join", join.fields()).await? {
            Body::Joined(joined) => Ok(*joined),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a description (`{"type": "offer", "sdp": ...}`) to a member of the room. Its generation is 0, and one more
    /// each time that the RTCPeerConnection is replaced; an answer has that of its offer ([`Signal::generation`]). Should
    /// it be refused, an [`Event::Refused`] tells so.
    ///
    /// # Errors
    /// The connection is gone; [`resume`](Self::resume) sends it.
    pub async fn describe(&mut self, to: &str, generation: u32, description: Value) -> Result<(), Error> {
        self.tell("signal", json!({"to": to, "gen": generation, "description": description})).await.map(drop)
    }

    /// Sends candidates (as their `toJSON()` makes them; `null`: there are no more) to a member of the room, with the
    /// generation of the description that they belong to.
    ///
    /// # Errors
    /// As of [`describe`](Self::describe).
    pub async fn candidates(
        &mut self,
        to: &str,
        generation: u32,
        candidates: Vec<Value>,
    ) -> Result<(), Error> {
        self.tell("signal", json!({"to": to, "gen": generation, "candidates": candidates})).await.map(drop)
    }

    /// Sends anything to one member of the room, or to all others.
    ///
    /// # Errors
    /// As of [`describe`](Self::describe).
    pub async fn message(&mut self, to: Option<&str>, data: Value) -> Result<(), Error> {
        self.tell("message", json!({"to": to, "data": data})).await.map(drop)
    }

    /// Asks for a fresh configuration for RTCPeerConnection.
    ///
    /// # Errors
    /// [`Error::Refused`], or the connection is gone.
    pub async fn ice(&mut self) -> Result<Value, Error> {
        match self.ask("ice", json!({})).await? {
            Body::Ice { ice } => Ok(ice),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends any other request of the protocol (`set`, `lock`, `kick`, `report`, ...), and waits for its `ok`. Its
    /// fields are an object, or `null` for none.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Options`] if the fields are something else, or the connection is gone.
    pub async fn request(&mut self, kind: &str, fields: Value) -> Result<(), Error> {
        self.ask(kind, fields).await.map(drop)
    }

    /// Leaves the room.
    ///
    /// # Errors
    /// [`Error::Refused`] if in none, or the connection is gone.
    pub async fn leave(&mut self) -> Result<(), Error> {
        self.request("leave", json!({})).await
    }

    /// Says bye: the session ends. A client that is only dropped is lost to the server, which keeps its place.
    ///
    /// # Errors
    /// The connection was gone before.
    pub async fn close(mut self) -> Result<(), Error> {
        self.request("bye", json!({})).await
    }

    /// The next event. What was refused of what nobody waited for is one, too. Can be cancelled.
    ///
    /// # Errors
    /// The connection is gone. [`Error::may_resume`] says whether it can be [resumed](Self::resume).
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let incoming = self.read().await?;
            self.sort(incoming);
        }
    }

    /// After the connection is gone: connects again, for as long as the server keeps the session. `true`: it is the
    /// same session, all that was missed follows, and what the server had not got is sent again. `false`: it is a
    /// new one, in no room.
    ///
    /// # Errors
    /// There is no way back in that time, or the server refuses this client.
    pub async fn resume(&mut self) -> Result<bool, Error> {
        self.socket = None;
        let end = Instant::now() + Duration::from_millis(self.welcome.resume_ms);
        let mut pause = PAUSES.0;
        loop {
            let Welcome { session, secret, .. } = &self.welcome;
            let resume = json!({"session": session, "secret": secret, "seq": self.seq});
            match greet(&self.options, Some(resume)).await {
                Ok((socket, welcome)) => {
                    (self.socket, self.welcome) = (Some(socket), welcome);
                    break;
                }
                Err(error) if !error.may_resume() || Instant::now() + pause >= end => return Err(error),
                Err(_) => sleep(pause).await,
            }
            pause = PAUSES.1.min(pause * 2);
        }
        if !self.welcome.resumed {
            (self.seq, self.last_id) = (0, 0);
            self.pending.clear();
            return Ok(false);
        }
        // What the server has got had its answer, which may be lost.
        let got = self.welcome.last_id.unwrap_or(0);
        self.pending.retain(|(id, _)| *id > got);
        for text in self.pending.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>() {
            self.write(text).await?;
        }
        Ok(true)
    }

    /// Sends a request and waits for its answer; what comes meanwhile is kept for [`next`](Self::next).
    async fn ask(&mut self, kind: &str, fields: Value) -> Result<Body, Error> {
        let id = self.tell(kind, fields).await?;
        loop {
            let incoming = self.read().await?;
            match incoming.body {
                body if incoming.id != Some(id) => self.sort(Incoming { body, ..incoming }),
                Body::Error { code, message, retry_ms } => {
                    return Err(Error::Refused { code, message, retry_ms });
                }
                body => return Ok(body),
            }
        }
    }

    /// Sends a request, and keeps it until it is answered.
    async fn tell(&mut self, kind: &str, fields: Value) -> Result<u64, Error> {
        let mut fields = match fields {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => return Err(Error::Options(format!("'{kind}': its fields are an object, not {other}"))),
        };
        while self.pending.len() >= PENDING {
            let incoming = self.read().await?;
            self.sort(incoming);
        }
        self.last_id += 1;
        fields.extend([("type".to_owned(), kind.into()), ("id".to_owned(), self.last_id.into())]);
        let text = Value::from(fields).to_string();
        self.pending.push_back((self.last_id, text.clone()));
        self.write(text).await?;
        Ok(self.last_id)
    }

    async fn write(&mut self, text: String) -> Result<(), Error> {
        let socket = self.socket.as_mut().ok_or_else(Error::gone)?;
        socket.send(Message::text(text)).await.map_err(|error| {
            self.socket = None;
            Error::from(error)
        })
    }

    async fn read(&mut self) -> Result<Incoming, Error> {
        let socket = self.socket.as_mut().ok_or_else(Error::gone)?;
        let silence = Duration::from_millis(self.welcome.timeout_ms);
        let incoming = receive(socket, silence).await.inspect_err(|_| self.socket = None)?;
        self.seq = incoming.seq.unwrap_or(self.seq);
        if let Some(id) = incoming.id {
            self.pending.retain(|(pending, _)| *pending != id);
        }
        Ok(incoming)
    }

    /// Keeps what is an event.
    fn sort(&mut self, incoming: Incoming) {
        let Incoming { id, body, .. } = incoming;
        self.events.extend(body.event(id));
    }
}

/// Opens a connection and says hello.
async fn greet(options: &Options, resume: Option<Value>) -> Result<(Socket, Welcome), Error> {
    let greeting = async {
        let mut socket = connect::open(options).await?;
        let mut hello = json!({"type": "hello", "id": 0, "client": options.client});
        if let Some(resume) = resume {
            hello["resume"] = resume;
        }
        if let Some(token) = &options.token {
            hello["token"] = token.as_str().into();
        }
        socket.send(Message::text(hello.to_string())).await?;
        match receive(&mut socket, options.patience).await?.body {
            Body::Welcome(welcome) => Ok((socket, *welcome)),
            Body::Error { code, message, retry_ms } => Err(Error::Refused { code, message, retry_ms }),
            other => Err(unexpected(&other)),
        }
    };
    timeout(options.patience, greeting).await.unwrap_or_else(|_| Err(Error::silent(options.patience)))
}

/// The next message; pings are answered on the way.
async fn receive(socket: &mut Socket, silence: Duration) -> Result<Incoming, Error> {
    loop {
        let message = timeout(silence, socket.next()).await.map_err(|_| Error::silent(silence))?;
        match message.ok_or_else(Error::gone)?? {
            Message::Text(text) => {
                return Incoming::deserialize(&mut serde_json::Deserializer::from_str(&text))
                    .map_err(|error| Error::Protocol(format!("{error} in {text}")));
            }
            Message::Close(frame) => {
                let (code, reason) =
                    frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                return Err(Error::Closed { code, reason });
            }
            _ => {}
        }
    }
}

fn unexpected(body: &Body) -> Error {
    Error::Protocol(format!("an answer to something else: {body:?}"))
}
