//! TLS and HTTP/1.1 by hand, one request per connection.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::certificate;

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection that trusts the test daemons' certificate and no other.
pub fn connect(server: SocketAddr, alpn: &[&str]) -> TlsStream {
    wrap(TcpStream::connect(server).unwrap(), server, alpn)
}

/// The same over a connection that is there.
pub fn wrap(tcp: TcpStream, server: SocketAddr, alpn: &[&str]) -> TlsStream {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate().0.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let name = ServerName::from(server.ip());
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp)
}

/// A response. Header names are in lower case.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// `GET path` over TLS, with more header lines.
pub fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(connect(server, &["http/1.1"]), server, path, headers)
}

/// `GET path` over whatever stream it is.
pub fn request(
    mut stream: impl Read + Write,
    host: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    let mut raw = Vec::new();
    match stream.read_to_end(&mut raw) {
        Ok(_) => {}
        // A close of TCP without one of TLS.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&raw)),
    }
    let text = String::from_utf8(raw).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {text:?}"));
    let (first, lines) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3)).and_then(|s| s.parse().ok());
    let headers: BTreeMap<_, _> = lines
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    assert!(!headers.contains_key("transfer-encoding"), "chunks are not understood here: {head}");
    if let Some(length) = headers.get("content-length") {
        assert_eq!(length, &body.len().to_string(), "the whole body has come");
    }
    Response { status: status.unwrap_or_else(|| panic!("{first:?}")), headers, body: body.to_owned() }
}
