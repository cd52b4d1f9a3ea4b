//! Which request goes where.

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::reply::{Content, Failure, Reply, with_type};
#[cfg(feature = "socketio")]
use super::socketio;
use super::{Peer, challenges, events, ice, websocket};

/// Answers one request.
pub(super) async fn answer(peer: &Arc<Peer>, request: Request<Incoming>) -> Reply {
    let counters = &peer.shared.counters;
    counters.requests.add();
    let head = request.method() == Method::HEAD;
    let mut reply = route(peer, request).await.unwrap_or_else(Reply::from);
    if reply.status().is_client_error() {
        counters.client_errors.add();
    } else if reply.status().is_server_error() {
        counters.server_errors.add();
    }
    if head && let Some(length) = reply.body().size_hint().exact() {
        if reply.status() != StatusCode::NOT_MODIFIED {
            reply.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *reply.body_mut() = Content::default();
    }
    reply
}

async fn route(peer: &Arc<Peer>, request: Request<Incoming>) -> Result<Reply, Failure> {
    let path = request.uri().path();
    if let Some(reply) = challenges::answer(peer, &request) {
        return Ok(reply);
    }
    if is_ice(path, request.uri().query()) {
        return Ok(ice::answer(peer, request).await);
    }
    #[cfg(feature = "socketio")]
    if let ("/socket.io/" | "/socket.io", Some(classic)) = (path, &peer.shared.classic) {
        return Ok(socketio::answer(peer, classic, request).await);
    }
    match path {
        "/v1/ws" => websocket::answer(peer, request),
        "/v1/events" => events::listen(peer, &request),
        "/v1/send" => Ok(events::send(peer, request).await),
        "/healthz" => health(&request, true),
        "/readyz" => health(&request, !peer.shared.is_stopping() && !peer.shared.is_draining()),
        path => {
            let (method, headers) = (request.method(), request.headers());
            if let Some(files) = &peer.shared.static_files
                && let Some(reply) = files.get(method, path, headers).await
            {
                return reply;
            }
            let page = peer.shared.pages.get(method, path, headers);
            page.unwrap_or_else(|| Err(Failure::not_found()))
        }
    }
}

/// The endpoint under the names that other programs know it by: coturn's helpers, Nextcloud and Matrix bridges,
/// apprtc; and draft-uberti-behave-turn-rest-00.
fn is_ice(path: &str, query: Option<&str>) -> bool {
    let by_service = || {
        form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .any(|(name, value)| name == "service" && value == "turn")
    };
    match path {
        "/v1/ice" | "/turn" | "/turn/" | "/turn/credentials" | "/v1alpha/iceconfig" => true,
        "/" => by_service(),
        _ => false,
    }
}

fn health(request: &Request<Incoming>, well: bool) -> Result<Reply, Failure> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Failure::method_not_allowed("GET, HEAD"));
    }
    if !well {
        return Err(Failure::unavailable("The server is about to stop"));
    }
    let mut reply = with_type(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into());
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}
