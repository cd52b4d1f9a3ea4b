//! One HTTP request to an endpoint that hands out iceServers.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::connect::{self, Context};
use super::report::{Advice, Report, Row, printable};

/// More than any list of servers takes.
const MOST: usize = 256 * 1024;
const STEP: &str = "HTTP";

/// Where to ask.
#[derive(Clone)]
pub(super) struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    /// Path and query.
    path: String,
    /// `user:password`, for those that want Basic.
    basic: Option<String>,
}

/// Without what may be secret: query and password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let (path, query) =
            self.path.split_once('?').map_or((self.path.as_str(), ""), |(path, _)| (path, "?…"));
        write!(f, "{scheme}://{}{path}{query}", self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("write https://host/path or http://host:port/path".into()),
        };
        let authority = url.authority().ok_or("no host in it")?;
        let basic = authority.as_str().rsplit_once('@').map(|(basic, _)| basic.to_owned());
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("no host in it".into());
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if secure => 443,
            None => 80,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { secure, host, port, path, basic })
    }

    /// As in the Host header.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn request(&self, method: Method, key: Option<&str>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .method(&method)
            .uri(&self.path)
            .header(header::HOST, self.authority())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("ternd-check/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        } else if let Some(basic) = &self.basic {
            request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(basic)));
        }
        if method == Method::POST {
            return request.header(header::CONTENT_TYPE, "application/json").body(Full::from("{}"));
        }
        request.body(Full::default())
    }

    /// Connects and asks; each step is a row. `None` after a failure.
    pub(super) async fn fetch(&self, ctx: &Context, report: &mut Report, key: Option<&str>) -> Option<Bytes> {
        let addresses = connect::resolve(ctx, report, &self.host, self.port).await;
        let mut stream = None;
        for address in addresses {
            stream = connect::stream(ctx, report, &self.host, address, self.secure).await;
            if stream.is_some() {
                break;
            }
        }
        let (stream, _) = stream?;
        let exchange = timeout(ctx.patience, async {
            let (sender, connection) =
                handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
            let driver = tokio::spawn(connection);
            let answer = self.ask(sender, key).await;
            driver.abort();
            answer
        });
        let (answer, took) = ctx.time(exchange).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer".into()));
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let advice = Advice::new(
                    "what answers there is no HTTP server, or it hangs",
                    "is the URL right? Try it with curl -v",
                );
                report.push(Row::fail(STEP, printable(&error), advice).took(took));
                return None;
            }
        };
        let bytes = body.len();
        if status.is_success() {
            report.push(Row::ok(STEP, format!("{status}, {bytes} bytes")).took(took));
            return Some(body);
        }
        report.push(
            Row::fail(STEP, status.to_string(), refused(status)).took(took).with("status", status.as_u16()),
        );
        None
    }

    /// GET, or POST where only that is served.
    async fn ask(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        key: Option<&str>,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut method = Method::GET;
        loop {
            sender.ready().await.map_err(|error| error.to_string())?;
            let request = self.request(method.clone(), key).map_err(|error| error.to_string())?;
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            if status != StatusCode::METHOD_NOT_ALLOWED || method == Method::POST {
                return Ok((status, body));
            }
            method = Method::POST;
        }
    }
}

fn refused(status: StatusCode) -> Advice {
    let (cause, fix) = match status.as_u16() {
        300..=399 => ("the endpoint is somewhere else", "give the URL it redirects to: curl -i shows it"),
        401 | 403 => (
            "the endpoint wants to know who asks",
            "give --ice-key KEY, or the key in the URL as the endpoint wants it",
        ),
        404 => ("there is no such endpoint", "is the path right? ternd has it at /v1/ice"),
        429 => ("too many were asked for", "wait a minute, or ask with a key"),
        500..=599 => ("the endpoint has a fault of its own", "see what it logs"),
        _ => ("the endpoint refuses the request", "see its documentation, and what it logs"),
    };
    Advice::new(cause, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let shown = |text: &str| Endpoint::parse(text).map(|endpoint| format!("{endpoint:?}"));
        assert_eq!(shown("https://h.example/v1/ice"), Ok("https://h.example/v1/ice".into()));
        assert_eq!(shown("https://h.example"), Ok("https://h.example/".into()));
        assert_eq!(shown("http://sid:token@[::1]:8080/t?key=secret"), Ok("http://[::1]:8080/t?…".into()));
        let endpoint = Endpoint::parse("http://sid:token@h:81/t?key=k").unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port, endpoint.basic.as_deref()),
            ("h", 81, Some("sid:token"))
        );
        assert_eq!(endpoint.path, "/t?key=k");
        for wrong in ["h.example/v1/ice", "ftp://h/", "https:///x", "not a url"] {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_go_where_they_belong() {
        let endpoint = Endpoint::parse("https://sid:token@h/ice?x=1").unwrap();
        let request = endpoint.request(Method::GET, None).unwrap();
        assert_eq!(request.uri(), "/ice?x=1");
        assert_eq!(request.headers()["host"], "h");
        assert_eq!(request.headers()["authorization"], format!("Basic {}", STANDARD.encode("sid:token")));
        let request = endpoint.request(Method::POST, Some("k1")).unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer k1");
    }
}
