//! The listener for HTTP on port 80: answers HTTP-01 challenges (RFC 8555 section 8.3), and leads the rest to HTTPS.
//!
//! Challenges are answered on every listener, so that a proxy may pass them on to any.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::reply::{Failure, Reply, empty, with_type};
use super::{Door, Peer, origin};
use crate::ice::Host;

const WELL_KNOWN: &str = "/.well-known/acme-challenge/";

/// Tokens of challenges, and what proves the account they were given to. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<ArcSwap<HashMap<String, String>>>);

impl Challenges {
    /// Answers these, and no others.
    pub fn answer(&self, proofs: HashMap<String, String>) {
        self.0.store(Arc::new(proofs));
    }

    fn proof(&self, path: &str) -> Option<String> {
        self.0.load().get(path.strip_prefix(WELL_KNOWN)?).cloned()
    }
}

/// The answer to a challenge; and whatever is asked where there is nothing but the way to HTTPS.
pub(super) fn answer<B>(peer: &Peer, request: &Request<B>) -> Option<Reply> {
    let shared = &peer.shared;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(proof) = shared.services.challenges.proof(request.uri().path()).filter(|_| reads) {
        shared.counters.challenges.add();
        return Some(with_type(StatusCode::OK, "application/octet-stream", proof.into()));
    }
    (peer.door == Door::Redirect)
        .then(|| redirect(request, shared.listeners.https().unwrap_or(443)).unwrap_or_else(Reply::from))
}

/// To the same path over HTTPS, on the host that was asked.
fn redirect<B>(request: &Request<B>, https: u16) -> Result<Reply, Failure> {
    let no_host = || Failure::bad_request("Which host? The header Host has none");
    let host = origin::authority(request).and_then(|authority| Host::from_authority(authority).ok());
    let host = host.ok_or_else(no_host)?;
    let port = if https == 443 { String::new() } else { format!(":{https}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = format!("https://{host}{port}{path}");
    let mut reply = empty(StatusCode::PERMANENT_REDIRECT);
    reply.headers_mut().insert(header::LOCATION, HeaderValue::try_from(target).map_err(|_| no_host())?);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_https_keeps_host_path_and_query() {
        let to = |target: &str, host: &str, port| {
            let request = Request::get(target).header("host", host).body(()).unwrap();
            redirect(&request, port).map(|reply| reply.headers()["location"].to_str().unwrap().to_owned())
        };
        assert_eq!(to("/r/a?b=c", "turn.example.org", 443).unwrap(), "https://turn.example.org/r/a?b=c");
        assert_eq!(to("/", "turn.example.org:80", 8443).unwrap(), "https://turn.example.org:8443/");
        assert_eq!(
            to("//evil.example", "[2001:db8::1]", 443).unwrap(),
            "https://[2001:db8::1]//evil.example"
        );
        for host in ["", "a b", "turn.example.org/x", "user@turn.example.org"] {
            assert_eq!(to("/", host, 443).unwrap_err().status, StatusCode::BAD_REQUEST, "{host:?}");
        }
    }
}
