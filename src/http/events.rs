//! The rooms without WebSocket: `GET /v1/events` (Server-Sent Events, down) and `POST /v1/send` (up).
//!
//! ```text
//! GET /v1/events ─► a connection with a secret name ─► hub ─► outbox ─► Stream ─► id: ...\ndata: {...}\n\n
//! POST /v1/send {"connection": name, "messages": [...]} ─► the connection of this name ─► hub ─► 204
//! ```
//!
//! To the rooms it is a connection like another: what a message does is the same. The `id:` of an event is all that a
//! resume needs, so a browser's EventSource comes back by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::origin::{self, Caller};
use super::outbox::{Next, Outbox};
use super::reply::{self, Failure, Reply};
use super::watch::watch;
use super::{Peer, Shared, derived};
use crate::signal::ConnectionId;

/// The event streams that are open, by their secret names.
#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<String, Arc<Stream>>>,
    count: AtomicU64,
}

struct Stream {
    id: ConnectionId,
    /// When the client was heard last: milliseconds of the monotonic clock.
    heard: AtomicU64,
}

impl Streams {
    fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Nobody can guess the name: it comes from the seed of the process.
    fn open(&self, seed: &[u8; 32], stream: Arc<Stream>) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let digest = derived(&derived(seed, "streams"), &count.to_string());
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("c_{name}");
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), stream);
        name
    }

    fn close(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// What is put on the wire at a time: a slow client holds up its own stream only, and its outbox fills.
const CHUNKS: usize = 1;

/// The body of an event stream.
#[derive(Debug)]
pub(super) struct EventBody(mpsc::Receiver<Bytes>);

impl Body for EventBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// `GET /v1/events`.
pub(super) fn listen(peer: &Arc<Peer>, request: &Request<Incoming>) -> Result<Reply, Failure> {
    let shared = &peer.shared;
    let live = shared.live();
    let list = &live.ice.origins;
    let caller = Caller::of(request, list);
    if request.method() != Method::GET {
        return Err(Failure::method_not_allowed("GET"));
    }
    caller.may_join(shared)?;
    if shared.is_stopping() {
        return Err(Failure::unavailable("The server is about to stop"));
    }
    let resume = request.headers().get("last-event-id").and_then(|v| v.to_str().ok()).and_then(resume_of);
    let (to, body) = mpsc::channel(CHUNKS);
    let (guest, from, host) = (peer.clone(), peer.client(request.headers()), shared.host(request));
    tokio::spawn(async move { serve(&guest, from, host, resume, to).await });

    let mut reply = reply::stream(EventBody(body));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would wait until it has a buffer full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    origin::allow(&mut reply, caller, list);
    Ok(reply)
}

/// What a session is resumed with.
struct Resume {
    session: String,
    secret: String,
    seq: u64,
}

/// `session.secret.seq`, as an `id:` was.
fn resume_of(id: &str) -> Option<Resume> {
    let (session, rest) = id.split_once('.')?;
    let (secret, seq) = rest.split_once('.')?;
    Some(Resume { session: session.into(), secret: secret.into(), seq: seq.parse().ok()? })
}

async fn serve(
    peer: &Peer,
    from: IpAddr,
    host: Option<crate::ice::Host>,
    resume: Option<Resume>,
    to: mpsc::Sender<Bytes>,
) {
    let shared = &*peer.shared;
    shared.counters.event_streams.add();
    let (id, outbox) = shared.hub.connected(shared, from, host);
    let stream = Arc::new(Stream { id, heard: AtomicU64::new(now(shared)) });
    let name = shared.streams.open(&shared.services.seed, stream.clone());
    let _open = Open { shared, name: &name, id };
    log::debug!(connection = id.0, peer:% = peer.address; "event stream opened");
    let open = format!("event: open\ndata: {{\"type\":\"open\",\"connection\":\"{name}\"}}\n\n");
    if to.send(open.into()).await.is_err() {
        return;
    }
    if let Some(Resume { session, secret, seq }) = resume {
        shared.hub.act(shared, |rooms, now| rooms.come_back(now, id, &session, &secret, seq));
    }
    tokio::select! {
        () = write(&outbox, &to) => {}
        () = last_words(&to) => {}
        () = watch(shared, id, &outbox, &stream.heard) => {}
    }
}

/// How long a stream is kept whose client has closed it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A page that is closed says `bye`, and its browser ends the stream meanwhile: either may come first.
async fn last_words(to: &mpsc::Sender<Bytes>) {
    to.closed().await;
    sleep(LAST_WORDS).await;
}

/// Whatever ends a stream, its name goes with it.
struct Open<'a> {
    shared: &'a Shared,
    name: &'a str,
    id: ConnectionId,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.streams.close(self.name);
        self.shared.hub.disconnected(self.shared, self.id, false);
        log::debug!(connection = self.id.0; "event stream closed");
    }
}

fn now(shared: &Shared) -> u64 {
    shared.services.clock.now().instant.as_millis()
}

/// What a message says of itself, for its `id:`.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    session: Option<&'a str>,
    secret: Option<&'a str>,
    seq: Option<u64>,
}

/// Writes what is in the outbox, and comments in between, until the rooms close the stream.
async fn write(outbox: &Outbox, to: &mpsc::Sender<Bytes>) {
    let mut session = String::new();
    loop {
        let (text, last) = match outbox.next().await {
            Next::Ping => (": ping\n\n".into(), false),
            Next::Message(text) => (event(&mut session, &String::from(&text)), false),
            Next::Close(code, reason) => {
                (format!("event: close\ndata: {{\"code\":{code},\"reason\":\"{reason}\"}}\n\n"), true)
            }
        };
        if to.send(text.into()).await.is_err() {
            return std::future::pending().await;
        }
        if last {
            return;
        }
    }
}

/// A message as an event. JSON has line breaks between its tokens only (in strings they are escaped), and what clients
/// send is passed on as it is: a space does as well, and keeps the event in one line.
fn event(session: &mut String, text: &str) -> String {
    let text = &*text.replace(['\r', '\n'], " ");
    let Ok(head) = serde_json::from_str::<Head<'_>>(text) else { return format!("data: {text}\n\n") };
    let mut seq = head.seq;
    if let ("welcome", Some(id), Some(secret)) = (head.kind, head.session, head.secret) {
        *session = format!("{id}.{secret}");
        // What follows a resume has numbers of its own; a client that was lost right here has seen none of it.
        seq = seq.or(Some(0)).filter(|_| !text.contains(r#""resumed":true"#));
    }
    match seq {
        Some(seq) => format!("id: {session}.{seq}\ndata: {text}\n\n"),
        None => format!("data: {text}\n\n"),
    }
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    connection: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    messages: Vec<&'a RawValue>,
}

/// `POST /v1/send`.
pub(super) async fn send(peer: &Peer, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let live = peer.shared.live().clone();
    let list = &live.ice.origins;
    let caller = Caller::of(&request, list);
    let mut reply = take(peer, &request, body, caller).await.unwrap_or_else(Reply::from);
    origin::allow(&mut reply, caller, list);
    reply
}

async fn take(
    peer: &Peer,
    request: &Request<()>,
    body: Incoming,
    caller: Caller<'_>,
) -> Result<Reply, Failure> {
    let shared = &*peer.shared;
    match *request.method() {
        Method::POST => {}
        Method::OPTIONS if caller != Caller::Stranger => return Ok(super::ice::permissions()),
        _ => return Err(Failure::method_not_allowed("POST, OPTIONS")),
    }
    caller.may_join(shared)?;
    // As much as one message may have, a little for what stands around it, and several small ones.
    let (limit, patience) = {
        let live = shared.live();
        (2 * live.rooms.max_bytes, live.handshake_timeout)
    };
    let collected = timeout(patience, Limited::new(body, limit).collect()).await;
    let body = collected.map_err(|_| Failure::timeout())?.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::too_large(limit)
        } else {
            Failure::bad_request("The request body broke off")
        }
    })?;
    let body = body.to_bytes();
    let sent: Sent<'_> = serde_json::from_slice(&body).map_err(|e| {
        Failure::bad_request(format!(r#"The body is {{"connection":"c_...","messages":[...]}}: {e}"#))
    })?;
    let stream = shared.streams.get(&sent.connection).ok_or_else(Failure::session_expired)?;
    stream.heard.store(now(shared), Ordering::Relaxed);
    for message in sent.messages {
        shared.prepare_for(message.get()).await;
        shared.hub.received(shared, stream.id, message.get());
        // As on a WebSocket: the receivers come first.
        tokio::task::yield_now().await;
    }
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
