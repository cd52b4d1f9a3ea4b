//! A server on loopback, and clients that are not ours: hyper, tungstenite, rustls.

#[cfg(feature = "socketio")]
mod classic;
mod endpoint;
mod events;
mod front;
mod hostile;
mod pages;
mod rooms;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Challenges, Door, Handle, Proxies, Server, Services, Settings};
use crate::auth::{self, Authenticator, Secret};
use crate::net::clock::Clock;
use crate::net::tls::{Certificates, pair_from_pem};
use crate::signal::tests::schema::is_of_the_server;
use crate::{ice, signal};

pub(super) const KEY: &str = "a key of sixteen";
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

type Handed = (std::net::TcpStream, Box<rustls::ServerConnection>, Vec<u8>);

pub(super) struct World {
    pub(super) tls: SocketAddr,
    pub(super) plain: SocketAddr,
    pub(super) redirect: SocketAddr,
    pub(super) challenges: Challenges,
    pub(super) certificates: Arc<Certificates>,
    pub(super) handle: Handle,
    pub(super) turn: Arc<Mutex<Vec<Handed>>>,
    pub(super) revoked: Arc<Mutex<Vec<(String, u64)>>>,
    connector: TlsConnector,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

pub(super) fn settings() -> Settings {
    let loopback: SocketAddr = "127.0.0.1:0".parse().unwrap();
    Settings {
        tls: vec![loopback],
        plain: vec![loopback],
        redirect: vec![loopback],
        handshake_timeout: Duration::from_secs(2),
        linger: Duration::from_secs(2),
        ..Settings::default()
    }
}

pub(super) fn ice_settings() -> ice::Settings {
    ice::Settings {
        api_keys: vec![Secret::new("other", "another key, longer"), Secret::new("test", KEY)],
        origins: vec!["https://app.example".into()],
        credentials_per_minute: 5,
        ..ice::Settings::default()
    }
}

/// Tokens signed with [`KEY`].
fn tokens() -> super::Tokens {
    let mut tokens = super::Tokens::default();
    tokens.add(None, super::TokenKind::Hs256, KEY.as_bytes()).unwrap();
    tokens
}

fn certificate() -> (Arc<Certificates>, TlsConnector) {
    let (shown, certificate) = pair("localhost");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Certificates::new(shown), TlsConnector::from(Arc::new(client)))
}

/// A certificate for this name.
pub(super) fn pair(name: &str) -> (Arc<rustls::sign::CertifiedKey>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    (pair_from_pem(chain.as_bytes(), key.as_bytes()).unwrap(), made.cert.der().clone())
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(settings(), ice_settings(), signal::Settings::default()).await
    }

    pub(super) async fn with(settings: Settings, ice: ice::Settings, rooms: signal::Settings) -> Self {
        Self::with_secrets(settings, ice, rooms, vec![Secret::new("a", "north")]).await
    }

    pub(super) async fn with_secrets(
        settings: Settings,
        ice: ice::Settings,
        rooms: signal::Settings,
        secrets: Vec<Secret>,
    ) -> Self {
        let (certificates, connector) = certificate();
        let (tls, challenges) = (certificates.configuration().unwrap(), Challenges::default());
        let turn = Arc::new(Mutex::new(Vec::new()));
        let sink = turn.clone();
        let revoked = Arc::new(Mutex::new(Vec::new()));
        let told = revoked.clone();
        let services = Services {
            auth: Arc::new(Authenticator::new(
                auth::Settings { secrets, ..auth::Settings::default() },
                [0; 32],
            )),
            ice,
            rooms,
            tls,
            proxies: Proxies::default(),
            clock: Clock::start(),
            seed: [7; 32],
            turn: Arc::new(move |socket, _, tls, early| sink.lock().unwrap().push((socket, tls, early))),
            tokens: Arc::new(tokens()),
            socketio_capacity: 2,
            challenges: challenges.clone(),
            revoke: Arc::new(move |user, expires| {
                told.lock().unwrap().push((user.to_owned(), expires));
            }),
        };
        let server = Server::bind(settings, services).await.unwrap();
        let at = |door| server.listeners().iter().find(|l| l.0 == door).unwrap().1;
        let (tls, plain, redirect) = (at(Door::Tls), at(Door::Plain), at(Door::Redirect));
        let handle = server.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self {
            tls,
            plain,
            redirect,
            challenges,
            certificates,
            handle,
            turn,
            revoked,
            connector,
            stop: Some(stop),
            running,
        }
    }

    /// Stops the server, and waits until it is done.
    pub(super) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }

    pub(super) async fn connect_tls(&self, alpn: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut config = (**self.connector.config()).clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(self.tls).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Asks over HTTPS, HTTP/1.1.
    pub(super) async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        ask_http1(self.connect_tls(&["http/1.1"]).await, request).await
    }

    pub(super) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(request(Method::GET, target, headers, "")).await
    }

    /// Opens a WebSocket over TLS.
    pub(super) async fn open(&self, headers: &[(&str, &str)]) -> Result<Client, tungstenite::Error> {
        open_on(self.connect_tls(&[]).await, headers).await
    }
}

pub(super) fn request(
    method: Method,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        builder = builder.header("host", "turn.example.org:8443");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body.to_owned().into())).unwrap()
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Is it this error, with a sentence for people?
    pub(super) fn assert_error(&self, status: u16, error: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        let json = self.json();
        assert_eq!(json["error"], error);
        assert!(json["message"].as_str().unwrap().len() > 10);
        assert!(json.get("retry_after").is_some());
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }
}

pub(super) async fn ask_http1(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Client(WebSocketStream<Box<dyn Stream>>);

pub(super) async fn open_on(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    headers: &[(&str, &str)],
) -> Result<Client, tungstenite::Error> {
    let mut request = "ws://turn.example.org:8443/v1/ws".into_client_request().unwrap();
    let mut set = |name: &'static str, value: &str| {
        request.headers_mut().insert(name, value.parse().unwrap());
    };
    set("sec-websocket-protocol", "chat, ternd.v1");
    for (name, value) in headers {
        set(String::leak(name.to_string()), value);
    }
    let stream: Box<dyn Stream> = Box::new(stream);
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
    assert_eq!(response.headers()["sec-websocket-protocol"], "ternd.v1");
    Ok(Client(socket))
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message that is no ping or pong.
    pub(super) async fn next(&mut self) -> Message {
        let next = async {
            loop {
                match self.0.next().await.expect("an open stream").unwrap() {
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => return other,
                }
            }
        };
        timeout(PATIENCE, next).await.expect("a message in time")
    }

    pub(super) async fn json(&mut self) -> Value {
        let message = self.next().await;
        let value: Value = serde_json::from_str(message.to_text().unwrap())
            .unwrap_or_else(|_| panic!("no JSON: {message:?}"));
        assert!(is_of_the_server(&value), "not in the schema: {value}");
        value
    }

    /// The code it is closed with, after whatever comes before.
    pub(super) async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a code").code.into();
            }
        }
    }

    /// Enters a room; returns `joined`.
    pub(super) async fn join(&mut self, room: &str) -> Value {
        self.send(r#"{"type":"hello","id":1}"#).await;
        assert_eq!(self.json().await["type"], "welcome");
        self.send(&format!(r#"{{"type":"join","id":2,"room":"{room}"}}"#)).await;
        let joined = self.json().await;
        assert_eq!(joined["type"], "joined", "{joined}");
        joined
    }
}
