//! One look at a JWKS: GET, and no more. Redirects are not followed: they would lead the operator's trust elsewhere.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;

use super::JwksSource;
use crate::dial;

/// Bytes of the head of an answer.
const HEAD: usize = 16 * 1024;

/// What was found.
pub(super) struct Page {
    pub(super) body: Bytes,
    /// For how long the server says that it is good (RFC 9111 section 5.2.2.1).
    pub(super) max_age: Option<Duration>,
}

/// Whom the server's certificate may come from; of the machine's authorities those that it has now.
async fn trust(source: &JwksSource) -> Result<Arc<ClientConfig>, String> {
    let ca = source.ca.clone();
    // It reads files.
    let trust = spawn_blocking(move || dial::trusting(ca.as_deref())).await.map_err(said)?;
    trust.map_err(|error| format!("rooms.jwt.jwks-ca-file: {error}"))
}

/// Looks once. How long that may take is for the caller to say.
pub(super) async fn look(source: &JwksSource) -> Result<Page, String> {
    let tcp = reach(source).await?;
    if !source.secure {
        return get(source, tcp).await;
    }
    let name = ServerName::try_from(source.host.clone()).map_err(said)?;
    let tls = TlsConnector::from(trust(source).await?).connect(name, tcp).await;
    get(source, tls.map_err(|error| format!("no TLS: {error}"))?).await
}

async fn reach(source: &JwksSource) -> Result<TcpStream, String> {
    let addresses = lookup_host((source.host.as_str(), source.port)).await;
    let addresses = addresses.map_err(|error| format!("no address: {error}"))?;
    // Without TLS the name of this machine must not lead away from it.
    let addresses = addresses.filter(|address| source.secure || address.ip().is_loopback());
    dial::connect(addresses, None, source.timeout).await.map_err(|error| error.to_string())
}

async fn get(
    source: &JwksSource,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Page, String> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await.map_err(said)?;
    let request = Request::get(&source.path)
        .header(header::HOST, source.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("ternd/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(said)?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.map_err(said)?.into_parts();
        if head.status != StatusCode::OK {
            let hint = if head.status.is_redirection() { "; give the URL that it leads to" } else { "" };
            return Err(format!("the answer is {}{hint}", head.status));
        }
        let body = Limited::new(body, source.max_bytes).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => format!("it has more than {} bytes (rooms.jwt.jwks-bytes)", source.max_bytes),
            false => said(error),
        })?;
        Ok(Page { body: body.to_bytes(), max_age: max_age(&head.headers) })
    };
    let mut answer = std::pin::pin!(answer);
    // Both in one task: whoever gives up waiting ends the connection, too.
    tokio::select! {
        result = &mut answer => result,
        ended = connection => match ended {
            // Its last bytes may just have come, with a close of TCP and none of TLS.
            Ok(()) => answer.await,
            Err(error) => answer.await.map_err(|_| said(error)),
        },
    }
}

fn said(error: impl Into<Box<dyn Error + Send + Sync>>) -> String {
    dial::with_causes(&*error.into())
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let mut directives = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_answer_is_good() {
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, value.parse().unwrap())]);
            max_age(&headers).map(|age| age.as_secs())
        };
        assert_eq!(of("public, max-age=600, must-revalidate"), Some(600));
        assert_eq!(of("Max-Age=\"5\""), Some(5));
        for without in ["no-store", "max-age", "max-age=soon", "s-maxage=5"] {
            assert_eq!(of(without), None, "{without}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
