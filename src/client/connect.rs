//! From a URL to a WebSocket: TCP, TLS, the opening handshake.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::error::Error;
use crate::dial;
use crate::signal::SUBPROTOCOL;

/// Bytes that a WebSocket reads at a time: thousands of clients fit in one process.
const BUFFER: usize = 4096;
/// Bytes of a message of the server: more than any ternd sends by default.
const MAX_BYTES: usize = 4 << 20;
const PATH: &str = "/v1/ws";

/// Where to connect to, and as whom.
#[derive(Clone)]
pub struct Options {
    url: String,
    pub(super) client: String,
    pub(super) token: Option<String>,
    pub(super) patience: Duration,
    tls: Option<Arc<rustls::ClientConfig>>,
    from: Option<IpAddr>,
}

impl Options {
    /// `wss://HOST` or `ws://HOST:PORT`; without a path it is that of ternd, `/v1/ws`.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            client: concat!("ternd-client/", env!("CARGO_PKG_VERSION")).into(),
            token: None,
            patience: Duration::from_secs(10),
            tls: None,
            from: None,
        }
    }

    /// What the server's log calls this client.
    #[must_use]
    pub fn client(mut self, name: &str) -> Self {
        self.client = name.into();
        self
    }

    /// An invite or a JWT.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long it may take to connect and be welcomed. Otherwise 10 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Whom to trust, for `wss`. Otherwise whom this machine trusts.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Connect from this address of the machine.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, client, patience, from, .. } = self;
        f.debug_struct("Options")
            .field("url", url)
            .field("client", client)
            .field("patience", patience)
            .field("from", from)
            .finish_non_exhaustive()
    }
}

/// A TCP connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> Stream for T {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

pub(super) async fn open(options: &Options) -> Result<Socket, Error> {
    let wrong = |what: &str| Error::Options(format!("'{}': {what}", options.url));
    let uri: Uri = options.url.parse().map_err(|error| wrong(&format!("{error}")))?;
    let secure = match uri.scheme_str() {
        Some("wss") => true,
        Some("ws") => false,
        _ => return Err(wrong("it must begin with wss:// or ws://")),
    };
    let host = uri.host().ok_or_else(|| wrong("there is no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut parts = uri.into_parts();
    if parts.path_and_query.as_ref().is_none_or(|path| path.as_str() == "/") {
        parts.path_and_query = Some(uri::PathAndQuery::from_static(PATH));
    }
    let uri = Uri::from_parts(parts).map_err(|error| wrong(&error.to_string()))?;
    let mut request = uri.into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));

    let lost = |error: io::Error| Error::Lost(format!("{host}:{port}: {error}"));
    let addresses = lookup_host((host.as_str(), port)).await.map_err(lost)?;
    let tcp = dial::connect(addresses, options.from, options.patience).await.map_err(lost)?;
    let stream: Box<dyn Stream> = match secure {
        true => {
            let name = ServerName::try_from(host).map_err(|error| wrong(&error.to_string()))?;
            let config =
                options.tls.clone().map_or_else(|| dial::trusting(None), Ok).map_err(Error::Options)?;
            let tls = TlsConnector::from(config).connect(name, tcp).await;
            Box::new(tls.map_err(|error| Error::Lost(format!("TLS: {error}")))?)
        }
        false => Box::new(tcp),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(MAX_BYTES))
        .max_frame_size(Some(MAX_BYTES));
    Ok(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?.0)
}
