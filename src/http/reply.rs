//! Answers: JSON, errors, and the headers that all of them carry.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::events::EventBody;

pub(super) type Reply = Response<Content>;

/// What follows the headers.
#[derive(Debug)]
pub(super) enum Content {
    Full(Full<Bytes>),
    Events(EventBody),
}

impl Default for Content {
    fn default() -> Self {
        Self::Full(Full::default())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body).poll_frame(context),
            Self::Events(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Events(body) => body.size_hint(),
        }
    }
}

/// An error as callers see it: `{"error": for programs, "message": for people, "retry_after": seconds or null}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) message: String,
    pub(super) retry_after: Option<Duration>,
    /// A header that belongs to the status, such as `Allow`.
    pub(super) header: Option<(header::HeaderName, &'static str)>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
    retry_after: Option<u64>,
}

impl Failure {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into(), retry_after: None, header: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"ternd\"")
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here; see / and /v1/ice")
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This address answers to {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).with(header::ALLOW, allow)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("A request body has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The request body did not arrive in time")
    }

    pub(super) fn upgrade_required() -> Self {
        let message = "This is a WebSocket: open it with subprotocol ternd.v1, over HTTP/1.1, version 13";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", message)
            .with(header::SEC_WEBSOCKET_VERSION, "13")
    }

    pub(super) fn session_expired() -> Self {
        let message = "There is no such connection, or no more; open /v1/events again";
        Self::new(StatusCode::GONE, "session_expired", message)
    }

    pub(super) fn rate_limited(after: Duration) -> Self {
        let message = "Too many requests from your address; an API key has no such limit";
        let retry_after = Some(after);
        Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message) }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    fn with(self, name: header::HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let Failure { status, error, message, retry_after, header } = failure;
        // Whole seconds, rounded up: who waits for as long is served.
        let retry_after = retry_after.map(|d| d.as_millis().div_ceil(1000).max(1) as u64);
        let body = serde_json::to_string(&Body { error, message: &message, retry_after });
        let mut reply = json(status, body.unwrap_or_default());
        if let Some(seconds) = retry_after {
            reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = header {
            if status == StatusCode::UPGRADE_REQUIRED {
                reply.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        reply
    }
}

/// JSON that is nobody else's business and good only once.
pub(super) fn json(status: StatusCode, body: String) -> Reply {
    let mut reply = with_type(status, "application/json", body.into());
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(super) fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut reply = empty(status);
    *reply.body_mut() = body.into();
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// An answer that goes on for as long as there are events.
pub(super) fn stream(events: EventBody) -> Reply {
    let mut reply = empty(StatusCode::OK);
    *reply.body_mut() = Content::Events(events);
    reply
}

pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Content::default());
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
