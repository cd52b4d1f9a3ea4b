//! HTTP for the few who look after the daemon: metrics and admin. Small on purpose; users come in through
//! [`crate::http`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

/// An answer.
pub(super) type Reply = Response<Full<Bytes>>;

/// Connections at a time: a scraper or two, an operator or two.
pub(super) const CONNECTIONS: usize = 32;
/// For the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of accept.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Serves one connection in the background; `answer` runs where it may block.
pub(super) fn spawn(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    places: &Arc<Semaphore>,
    answer: impl Fn(&Request<Incoming>) -> Reply + Clone + Send + Sync + 'static,
) {
    // Who comes when all places are taken finds the connection closed.
    let Ok(place) = places.clone().try_acquire_owned() else { return };
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let done = tokio::task::spawn_blocking(move || answer(&request)).await;
                Ok::<_, Infallible>(done.unwrap_or_else(|_| {
                    text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "internal error\n".into())
                }))
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 * 1024);
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            log::debug!("a connection for metrics or admin ended: {error}");
        }
        drop(place);
    });
}

/// An answer with a body.
pub(super) fn text(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
