//! `/v1/ws`: the opening handshake (RFC 6455 section 4.2), and the life of one WebSocket.
//!
//! ```text
//! frames ─► read ─► hub: one Mutex<Rooms> ─► outbox ─► write ─► frames
//!             │                                          │
//!             └─── a silence, or the outbox is closed ───┴──► close frame ─► end
//! ```
//!
//! Reading goes on while writing waits, so a client that doesn't read fills its outbox and is closed for it.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::ahead::Ahead;
use super::origin::Caller;
use super::outbox::{Next, Outbox};
use super::reply::{self, Failure, Reply};
use super::watch::watch;
use super::{Peer, Shared};
use crate::ice::Host;
use crate::signal::{ConnectionId, SUBPROTOCOL, close};

/// Bytes that a WebSocket keeps for reading: enough for a candidate. More comes from [`Ahead`].
const READ: usize = 256;
/// Bytes that are collected until they are written. What waits when they are, goes with them.
const WRITE: usize = 4096;
/// Messages of one client that are taken in a row; then those who get them come first. Less than any outbox takes.
const IN_A_ROW: usize = 8;

type Socket = WebSocketStream<Ahead<TokioIo<Upgraded>>>;

/// Checks the opening handshake, and goes on with the WebSocket once the answer is sent.
pub(super) fn answer(peer: &Arc<Peer>, mut request: Request<Incoming>) -> Result<Reply, Failure> {
    let (accept, protocol) = check(peer, &request)?;
    let host = peer.shared.host(&request);
    let known = protocol == SUBPROTOCOL;
    let from = peer.client(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    let peer = peer.clone();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(&peer, from, upgraded, host, known).await,
            Err(error) => log::debug!(peer:% = peer.address; "no WebSocket: {error}"),
        }
    });

    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

/// The values of Sec-WebSocket-Accept and Sec-WebSocket-Protocol.
fn check(peer: &Peer, request: &Request<Incoming>) -> Result<(HeaderValue, HeaderValue), Failure> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Failure::method_not_allowed("GET"));
    }
    let asked = lists(headers, header::CONNECTION, "upgrade") && lists(headers, header::UPGRADE, "websocket");
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13");
    if !asked || !version || request.version() != Version::HTTP_11 {
        return Err(Failure::upgrade_required());
    }
    Caller::of(request, &peer.shared.live().ice.origins).may_join(&peer.shared)?;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if STANDARD.decode(key).map_or(0, |key| key.len()) != 16 {
        return Err(Failure::bad_request("Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    let protocol = match lists(headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        true => HeaderValue::from_static(SUBPROTOCOL),
        // A browser tells its page nothing of a handshake that was refused: the page learns it from the WebSocket.
        false => other_version(headers)
            .ok_or_else(|| Failure::bad_request("Offer the subprotocol: new WebSocket(url, \"ternd.v1\")"))?,
    };
    if peer.shared.is_stopping() {
        return Err(Failure::unavailable("The server is about to stop"));
    }
    let accept = HeaderValue::try_from(derive_accept_key(key));
    Ok((accept.map_err(|_| Failure::bad_request("Sec-WebSocket-Key"))?, protocol))
}

/// The first offer that is another version of this protocol.
fn other_version(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offers = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let version = |offer: &&str| {
        let number = offer.strip_prefix("ternd.v").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    HeaderValue::try_from(offers.map(str::trim).find(version)?).ok()
}

/// Does a header with a list of words have this one?
pub(super) fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Why reading ended.
enum End {
    /// The connection is lost.
    Lost,
    /// The client closed it as one does who is done: a page that is left, or that says so.
    Done,
    /// It said more than it may.
    TooLarge,
    /// It does not speak WebSocket: close code and reason.
    Broken(u16, &'static str),
}

/// What both directions of one WebSocket know.
struct Link<'a> {
    shared: &'a Shared,
    id: ConnectionId,
    outbox: &'a Outbox,
    /// When the client was heard last: milliseconds of the monotonic clock.
    heard: AtomicU64,
}

async fn serve(peer: &Peer, from: IpAddr, upgraded: Upgraded, host: Option<Host>, known: bool) {
    let shared = &*peer.shared;
    let (max_bytes, queue_bytes) = {
        let rooms = &shared.live().rooms;
        (rooms.max_bytes, rooms.queue_bytes)
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(WRITE)
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes))
        // Pongs wait here, too: who pings and never reads must not make the server keep them all. What the rooms
        // send is handed over one by one, and is hardly longer than the longest message of a client.
        .max_write_buffer_size(queue_bytes.saturating_add(2 * max_bytes + 4 * WRITE));
    let stream = Ahead::scooping(TokioIo::new(upgraded));
    // In a box that ends here: a future keeps room for all that it ever held, and this one lives long.
    let opening = async move { Socket::from_raw_socket(stream, Role::Server, Some(config)).await.split() };
    let (sink, stream) = Box::pin(opening).await;

    shared.counters.websockets.add();
    let (id, outbox) = shared.hub.connected(shared, from, host);
    if !known {
        shared.hub.act(shared, |rooms, now| rooms.wrong_version(now, id));
    }
    let link = Link { shared, id, outbox: &outbox, heard: AtomicU64::new(0) };
    link.hear();
    log::debug!(connection = id.0, peer:% = peer.address; "WebSocket opened");
    link.live(sink, stream).await;
    shared.hub.disconnected(shared, id, false);
    log::debug!(connection = id.0; "WebSocket closed");
}

impl Link<'_> {
    async fn live(&self, sink: SplitSink<Socket, Message>, stream: SplitStream<Socket>) {
        let linger = self.shared.settings.linger;
        let mut read = pin!(self.read(stream));
        let mut write = pin!(self.write(sink));
        tokio::select! {
            (stream, end) = &mut read => {
                let (code, reason) = match end {
                    End::Lost => return,
                    End::Done => return self.shared.hub.disconnected(self.shared, self.id, true),
                    End::TooLarge => {
                        self.shared.hub.act(self.shared, |rooms, now| rooms.too_large(now, self.id));
                        (close::TOO_BIG, "message too big")
                    }
                    End::Broken(code, reason) => (code, reason),
                };
                // Unless the rooms have closed it already.
                self.outbox.close(code, reason);
                self.shared.hub.disconnected(self.shared, self.id, true);
                let Ok(sink) = timeout(linger, write).await else { return };
                let ending = async move {
                    if let Ok(socket) = sink.reunite(stream) {
                        drain(socket.into_inner()).await;
                    }
                };
                let _ = timeout(linger, Box::pin(ending)).await;
            }
            _ = &mut write => {
                self.shared.hub.disconnected(self.shared, self.id, false);
                let _ = timeout(linger, read).await;
            }
            () = watch(self.shared, self.id, self.outbox, &self.heard) => {}
        }
    }

    fn hear(&self) {
        self.heard.store(self.shared.services.clock.now().instant.as_millis(), Ordering::Relaxed);
    }

    async fn read(&self, mut stream: SplitStream<Socket>) -> (SplitStream<Socket>, End) {
        let Self { shared, id, .. } = *self;
        let (mut done, mut in_a_row) = (false, 0);
        loop {
            let message = stream.next().await;
            self.hear();
            let end = match message {
                Some(Ok(Message::Text(text))) => {
                    shared.prepare_for(text.as_str()).await;
                    shared.hub.received(shared, id, text.as_str());
                    // The receivers' writers come first: a burst of one must not look like slowness of another.
                    in_a_row = (in_a_row + 1) % IN_A_ROW;
                    if in_a_row == 0 {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                Some(Ok(Message::Binary(_))) => {
                    shared.hub.act(shared, |rooms, now| rooms.received_binary(now, id));
                    continue;
                }
                // The library answers pings and closes; it goes on to send that when it is read further.
                Some(Ok(Message::Close(frame))) => {
                    done = frame.is_some_and(|frame| matches!(u16::from(frame.code), 1000 | 1001));
                    continue;
                }
                Some(Ok(_)) => continue,
                _ if done => End::Done,
                None => End::Lost,
                Some(Err(Error::Capacity(_))) => End::TooLarge,
                Some(Err(Error::Utf8(_))) => End::Broken(1007, "text that is not UTF-8"),
                Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => End::Lost,
                Some(Err(Error::Protocol(_))) => End::Broken(1002, "not speaking RFC 6455"),
                Some(Err(_)) => End::Lost,
            };
            return (stream, end);
        }
    }

    /// Writes what is in the outbox until the close frame is out or the client is gone.
    async fn write(&self, mut sink: SplitSink<Socket, Message>) -> SplitSink<Socket, Message> {
        loop {
            let mut next = Some(self.outbox.next().await);
            // All that waits is written at once.
            while let Some(now) = next.take() {
                let (message, last) = match now {
                    Next::Message(text) => (Message::text(String::from(&text)), false),
                    Next::Ping => (Message::Ping(Bytes::new()), false),
                    Next::Close(code, reason) => {
                        let frame = CloseFrame { code: code.into(), reason: reason.into() };
                        (Message::Close(Some(frame)), true)
                    }
                };
                if sink.feed(message).await.is_err() {
                    return sink;
                }
                if last {
                    let _ = sink.flush().await;
                    return sink;
                }
                next = self.outbox.try_next();
            }
            if sink.flush().await.is_err() {
                return sink;
            }
        }
    }
}

/// Reads on and throws away, so that the close frame is not lost to a reset: a client that is in the middle of
/// sending reads it afterwards.
async fn drain(mut socket: Ahead<TokioIo<Upgraded>>) {
    let _ = socket.shutdown().await;
    let mut waste = vec![0; WRITE];
    while socket.read(&mut waste).await.is_ok_and(|n| n > 0) {}
}
