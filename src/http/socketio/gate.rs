//! Who comes in at `/socket.io/`, and with how much.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::service::{Service as _, service_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use socketioxide::socket::Sid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::{Classic, Pace, Service, Ticket};
use crate::http::Peer;
use crate::http::origin::{self, Caller};
use crate::http::reply::{self, Failure, Reply};
use crate::http::websocket::lists;
use crate::signal::{Access, close};

/// Bytes of the pipe to socketioxide, and of a WebSocket's buffers.
const BUFFER: usize = 4096;
/// Bytes of the headers of socketioxide's answer to an upgrade.
const MAX_HEAD: usize = 4096;
/// Between the packets of a polling request (Engine.IO 4).
const SEPARATOR: u8 = 0x1E;
const METHODS: &str = "GET, POST, OPTIONS";

/// Answers one request.
pub(in crate::http) async fn answer(
    peer: &Arc<Peer>,
    classic: &Classic,
    mut request: Request<Incoming>,
) -> Reply {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let live = peer.shared.live().clone();
    let list = &live.ice.origins;
    let caller = Caller::of(&request, list);
    let mut reply =
        respond(peer, classic, &request, (upgrade, body), caller).await.unwrap_or_else(Reply::from);
    origin::allow(&mut reply, caller, list);
    reply
}

async fn respond(
    peer: &Arc<Peer>,
    classic: &Classic,
    request: &Request<()>,
    (upgrade, body): (OnUpgrade, Incoming),
    caller: Caller<'_>,
) -> Result<Reply, Failure> {
    if request.method() == Method::OPTIONS && caller != Caller::Stranger {
        return Ok(permissions());
    }
    caller.may_join(&peer.shared)?;
    let (create, join) = (peer.shared.live().rooms.create, peer.shared.live().rooms.join);
    if (create, join) != (Access::Any, Access::Any) {
        let message = "These clients can show no token, and the rooms of this server need one (rooms.create, rooms.join)";
        return Err(Failure::forbidden(message));
    }
    if ![Method::GET, Method::POST].contains(request.method()) {
        return Err(Failure::method_not_allowed(METHODS));
    }
    if peer.shared.is_stopping() {
        return Err(Failure::unavailable("The server is about to stop"));
    }
    let ticket = if has_session(request) { None } else { Some(ticket(peer, classic, request.headers())?) };
    if lists(request.headers(), header::UPGRADE, "websocket") {
        return websocket(peer, classic, request, upgrade, ticket);
    }
    poll(peer, classic, request, body, ticket).await
}

/// The answer to a preflight (Fetch standard).
fn permissions() -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// Would socketioxide look for a session, and not open one? It reads the query in this very way.
fn has_session(request: &Request<()>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let first = query.split('&').find(|part| part.starts_with("sid="));
    first.and_then(|part| part.split('=').nth(1)).is_some_and(|sid| sid.parse::<Sid>().is_ok())
}

fn ticket(peer: &Peer, classic: &Classic, headers: &HeaderMap) -> Result<Ticket, Failure> {
    let place = classic.places.admit(peer.client(headers));
    let place = place.ok_or_else(|| Failure::unavailable("Too many clients are connected"))?;
    Ok(Ticket { pace: Arc::new(pace(peer)), _place: Arc::new(place), _alive: peer._alive.clone() })
}

fn pace(peer: &Peer) -> Pace {
    let live = peer.shared.live();
    let limits = &live.rooms;
    Pace::new(peer.shared.services.clock, limits.messages_per_second, limits.burst)
}

/// One request of the polling transport. A GET waits for the next messages.
async fn poll(
    peer: &Peer,
    classic: &Classic,
    request: &Request<()>,
    body: Incoming,
    ticket: Option<Ticket>,
) -> Result<Reply, Failure> {
    let max_bytes = peer.shared.live().rooms.max_bytes;
    let patience = peer.shared.live().handshake_timeout;
    let body = timeout(patience, collect(body, max_bytes)).await.map_err(|_| Failure::timeout())??;
    if body.split(|byte| *byte == SEPARATOR).any(is_binary) {
        return Err(Failure::bad_request("Binary messages are not relayed"));
    }
    let mut asked = Request::new(Full::new(body));
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = request.uri().clone();
    *asked.headers_mut() = request.headers().clone();
    if let Some(ticket) = ticket {
        asked.extensions_mut().insert(ticket);
    }
    let Ok(answer) = classic.service.call(asked).await;
    let (head, body) = answer.into_parts();
    let Ok(body) = body.collect().await;
    let mut reply = reply::empty(head.status);
    *reply.body_mut() = body.to_bytes().into();
    if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
        reply.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

async fn collect(body: Incoming, max_bytes: usize) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Failure::too_large(max_bytes));
    }
    let whole = Limited::new(body, max_bytes).collect().await;
    whole.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::too_large(max_bytes)
        } else {
            Failure::bad_request("The request body broke off")
        }
    })
}

/// A binary packet, or one that announces binary packets to come: as many as it likes, to be kept until all are there.
fn is_binary(packet: &[u8]) -> bool {
    matches!(packet, [b'b', ..] | [b'4', b'5' | b'6', ..])
}

fn websocket(
    peer: &Arc<Peer>,
    classic: &Classic,
    request: &Request<()>,
    upgrade: OnUpgrade,
    ticket: Option<Ticket>,
) -> Result<Reply, Failure> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13");
    if !version || request.version() != Version::HTTP_11 || request.method() != Method::GET {
        return Err(Failure::upgrade_required());
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| Failure::bad_request("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| Failure::bad_request("Sec-WebSocket-Key"))?;
    let query = request.uri().query().unwrap_or_default();
    let head = format!(
        "GET {}/?{query} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n",
        super::PATH
    );
    let (peer, service) = (peer.clone(), classic.service.clone());
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        if let Some(inner) = enter(&peer, service, head.as_bytes(), ticket).await {
            forward(&peer, upgraded, inner).await;
        }
    });

    let mut reply = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

/// Opens the WebSocket to socketioxide, through a pipe.
async fn enter(
    peer: &Peer,
    service: Service,
    head: &[u8],
    ticket: Option<Ticket>,
) -> Option<WebSocketStream<DuplexStream>> {
    let (mut near, far) = duplex(BUFFER);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(ticket) = ticket.clone() {
            request.extensions_mut().insert(ticket);
        }
        service.call(request)
    });
    let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(serve.with_upgrades());

    let answer = async {
        near.write_all(head).await.ok()?;
        let mut answer = Vec::new();
        loop {
            if near.read_buf(&mut answer).await.ok()? == 0 || answer.len() > MAX_HEAD {
                return None;
            }
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = answer.split_off(end + 4);
                return answer.starts_with(b"HTTP/1.1 101 ").then_some(rest);
            }
        }
    };
    let patience = peer.shared.live().handshake_timeout;
    let rest = timeout(patience, answer).await.ok()??;
    Some(WebSocketStream::from_partially_read(near, rest, Role::Client, Some(buffers())).await)
}

fn buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER)
}

/// Passes text both ways until one side ends. The client must keep to the bounds, and go on reading.
async fn forward(peer: &Peer, upgraded: Upgraded, inner: WebSocketStream<DuplexStream>) {
    let max_bytes = peer.shared.live().rooms.max_bytes;
    let patience = peer.shared.live().handshake_timeout;
    let config = buffers()
        .max_message_size(Some(max_bytes))
        .max_frame_size(Some(max_bytes))
        .max_write_buffer_size(2 * max_bytes + 4 * BUFFER);
    let outer = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut to_client, mut from_client) = outer.split();
    let (mut to_inner, mut from_inner) = inner.split();

    let pace = pace(peer);
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            if !pace.take() {
                return Some((close::RATE, "too many messages"));
            }
            match message {
                Message::Text(text) if !is_binary(text.as_bytes()) => {
                    to_inner.send(Message::Text(text)).await.ok()?;
                }
                Message::Text(_) | Message::Binary(_) => {
                    return Some((UNSUPPORTED, "binary messages are not relayed"));
                }
                _ => {}
            }
        }
        None
    };
    let down = async {
        while let Some(Ok(message)) = from_inner.next().await {
            if !matches!(message, Message::Text(_)) {
                continue;
            }
            match timeout(patience, to_client.send(message)).await {
                Ok(Ok(())) => {}
                _ => return,
            }
        }
    };
    let last = tokio::select! {
        last = up => last,
        () = down => None,
    };
    let (code, reason) = last.unwrap_or((1000, ""));
    let frame = CloseFrame { code: code.into(), reason: reason.into() };
    let _ = timeout(patience, to_client.send(Message::Close(Some(frame)))).await;
}

/// RFC 6455 section 7.4.1: data of a type that is not taken.
const UNSUPPORTED: u16 = 1003;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_packets_are_told_from_text() {
        for binary in [&b"bAAAA"[..], b"451-[\"x\",{\"_placeholder\":true,\"num\":0}]", b"461-1[]"] {
            assert!(is_binary(binary));
        }
        for text in [&b""[..], b"2", b"3", b"40", b"41", b"42[\"message\",\"b\"]", b"430[]", b"2probe", b"5"]
        {
            assert!(!is_binary(text));
        }
    }

    #[test]
    fn a_session_is_what_socketioxide_takes_for_one() {
        let session = |query: &str| {
            has_session(&Request::builder().uri(format!("/socket.io/?{query}")).body(()).unwrap())
        };
        let sid = Sid::new();
        assert!(session(&format!("EIO=4&sid={sid}&transport=polling")));
        for none in [
            "EIO=4",
            "sid=",
            "sid=short",
            &format!("s%69d={sid}"),
            &format!("sid=short&sid={sid}"),
            &format!("x=sid={sid}"),
        ] {
            assert!(!session(none), "{none}");
        }
    }
}
