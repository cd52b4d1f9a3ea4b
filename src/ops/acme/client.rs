//! HTTPS to the ACME server: one connection for each of the dozen requests of an order.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::dial;

/// For one request, from the name's resolution to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// An answer is a small document or a chain of certificates.
const LONGEST: usize = 1024 * 1024;

/// A client that trusts certain roots.
#[derive(Clone)]
pub(super) struct Https(TlsConnector);

impl Https {
    /// Trusts the certificates in `ca` (PEM), or those that this machine trusts.
    pub(super) fn trusting(ca: Option<&[u8]>) -> Result<Self, String> {
        let config = dial::trusting(ca).map_err(|error| format!("acme.ca-file: {error}"))?;
        Ok(Self(TlsConnector::from(config)))
    }

    async fn ask(self, mut request: Request<BodyWrapper<Bytes>>) -> io::Result<BytesResponse> {
        let url = std::mem::take(request.uri_mut());
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {what}"));
        let authority = url.authority().filter(|_| url.scheme_str() == Some("https"));
        let authority = authority.ok_or_else(|| invalid("not an https:// URL"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| invalid("not a host"))?;
        *request.uri_mut() =
            url.path_and_query().map_or("/", |path| path.as_str()).parse().map_err(|_| invalid("no path"))?;
        let named = HeaderValue::from_str(authority.as_str()).map_err(|_| invalid("not a host"))?;
        request.headers_mut().insert(HOST, named);

        let addresses = lookup_host((host, authority.port_u16().unwrap_or(443))).await?;
        let stream = dial::connect(addresses, None, PATIENCE).await?;
        let stream = self.0.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with the last answer.
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(BytesResponse { parts, body: Box::new(body) })
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, url) = (self.clone(), request.uri().to_string());
        Box::pin(async move {
            let answer = timeout(PATIENCE, client.ask(request)).await;
            let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            answer.map_err(|error| Error::Other(format!("{url}: {}", dial::with_causes(&error)).into()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_name_the_url_and_the_cause() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let client = Https::trusting(Some(made.cert.pem().as_bytes())).unwrap();
        let ask = async |url: &str| {
            let request = Request::get(url).body(BodyWrapper::default()).unwrap();
            client.request(request).await.err().unwrap().to_string()
        };
        let plain = ask("http://localhost/dir").await;
        assert!(plain.contains("not an https:// URL"), "{plain}");

        // A port where nothing listens: bound, and dropped.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let refused = ask(&format!("https://127.0.0.1:{port}/dir")).await;
        assert!(refused.contains("/dir: ") && refused.contains("refused"), "{refused}");
    }
}
