//! The endpoint `/v1/ice`: who asks, and with which parameters.
//!
//! ```text
//! request ─► Origin allowed? ─► parameters: query, then form or JSON ─► API key, or own page at its rate ─► crate::ice
//!             403                400 408 413                             401 429                             400 503
//! ```

use std::time::Duration;

use form_urlencoded::parse;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use subtle::{Choice, ConstantTimeEq};

use super::Peer;
use super::origin::{self, Caller};
use super::reply::{self, Failure, Reply};
use crate::ice::{Error, Format};

/// Bytes of a request's body.
pub(super) const MAX_BODY: usize = 4096;

const METHODS: &str = "GET, POST, OPTIONS";

pub(super) async fn answer(peer: &Peer, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, ());
    let live = peer.shared.live().clone();
    let list = &live.ice.origins;
    let caller = Caller::of(&request, list);
    let mut reply = respond(peer, &request, body, caller).await.unwrap_or_else(Reply::from);
    origin::allow(&mut reply, caller, list);
    reply
}

async fn respond(
    peer: &Peer,
    request: &Request<()>,
    body: Incoming,
    caller: Caller<'_>,
) -> Result<Reply, Failure> {
    let preflight = request.method() == Method::OPTIONS;
    if ![Method::GET, Method::POST, Method::OPTIONS].contains(request.method()) {
        return Err(Failure::method_not_allowed(METHODS));
    }
    if caller == Caller::Stranger {
        return Err(Failure::forbidden(
            "Pages of this origin may not call; ice.origins lists those that may",
        ));
    }
    if preflight {
        return Ok(permissions());
    }
    let mut parameters = Parameters::default();
    for (name, value) in parse(request.uri().query().unwrap_or_default().as_bytes()) {
        parameters.set(&name, value.into_owned());
    }
    let timeout = peer.shared.live().handshake_timeout;
    let body = tokio::time::timeout(timeout, collect(body)).await.map_err(|_| Failure::timeout())??;
    parameters.read(request.headers(), &body)?;

    let known = authorize(peer, request, &parameters, caller)?;
    issue(peer, request, &parameters, known)
}

/// The answer to OPTIONS; a preflight finds in it what it asks for (Fetch standard, CORS-preflight).
fn permissions() -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    for (name, value) in [
        (header::ALLOW, METHODS),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, x-api-key"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(Failure::too_large(MAX_BODY));
    }
    let whole = Limited::new(body, MAX_BODY).collect().await;
    whole.map(|body| body.to_bytes()).map_err(|error| {
        if error.is::<LengthLimitError>() {
            Failure::too_large(MAX_BODY)
        } else {
            Failure::bad_request("The request body broke off")
        }
    })
}

/// What was asked for, as text. Empty is as good as absent; what is unknown is ignored.
#[derive(Default)]
struct Parameters {
    service: Option<String>,
    username: Option<String>,
    ttl: Option<String>,
    key: Option<String>,
    transport: Option<String>,
    format: Option<String>,
}

impl Parameters {
    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "service" => &mut self.service,
            "username" => &mut self.username,
            "ttl" => &mut self.ttl,
            "key" | "api" => &mut self.key,
            "transport" => &mut self.transport,
            "format" => &mut self.format,
            _ => return None,
        })
    }

    fn set(&mut self, name: &str, value: String) {
        if let Some(field) = self.field(name) {
            *field = Some(value).filter(|value| !value.is_empty());
        }
    }

    /// What the body says wins over the query.
    fn read(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
        if body.is_empty() {
            return Ok(());
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => {
                parse(body).for_each(|(name, value)| self.set(&name, value.into_owned()));
                Ok(())
            }
            "application/json" => self.read_json(body),
            _ => Err(Failure::bad_request(
                "A body is application/json or application/x-www-form-urlencoded, and its Content-Type says so",
            )),
        }
    }

    fn read_json(&mut self, body: &[u8]) -> Result<(), Failure> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(Failure::bad_request("The body is not a JSON object"));
        };
        for (name, value) in fields {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ if self.field(&name).is_none() => continue,
                _ => return Err(Failure::bad_request(format!("'{name}' is text or a number"))),
            };
            self.set(&name, text);
        }
        Ok(())
    }
}

/// Who may have a credential. `true`: who showed a key.
fn authorize(
    peer: &Peer,
    request: &Request<()>,
    parameters: &Parameters,
    caller: Caller<'_>,
) -> Result<bool, Failure> {
    let live = peer.shared.live();
    let settings = &live.ice;
    if let Some(shown) = shown_key(request.headers()).or(parameters.key.as_deref()) {
        // Each key is compared whole, so that time tells nothing of where a wrong one differs.
        let known = settings
            .api_keys
            .iter()
            .fold(Choice::from(0), |known, key| known | key.bytes.as_slice().ct_eq(shown.as_bytes()));
        return if known.into() {
            Ok(true)
        } else {
            Err(Failure::unauthorized("This API key is not one of ice.api-keys"))
        };
    }
    if !settings.demo || !origin::is_own_page(request, caller) {
        let message = "An API key is needed: Authorization: Bearer KEY, X-API-Key: KEY, or ?key=KEY";
        return Err(Failure::unauthorized(message));
    }
    let now = peer.shared.services.clock.now().instant;
    peer.shared.demo_rate.take(peer.client(request.headers()), now).map_err(|after| {
        peer.shared.counters.rate_limited.add();
        Failure::rate_limited(after)
    })?;
    Ok(false)
}

fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

fn issue(peer: &Peer, request: &Request<()>, parameters: &Parameters, known: bool) -> Result<Reply, Failure> {
    let Parameters { service, username, ttl, transport, format, .. } = parameters;
    let refused = |error: Error| Failure::bad_request(error.to_string());
    if service.as_deref().is_some_and(|service| service != "turn") {
        return Err(Failure::bad_request("The only 'service' there is is turn"));
    }
    let seconds = ttl.as_deref().map(str::parse).transpose();
    let seconds = seconds.map_err(|_| Failure::bad_request("'ttl' is a whole number of seconds"))?;
    let transport = transport.as_deref().map(str::parse).transpose().map_err(refused)?;
    let format: Format = format.as_deref().unwrap_or_default().parse().map_err(refused)?;
    let host = peer
        .shared
        .host(request)
        .ok_or_else(|| Failure::bad_request("The Host of the request is no name or address"))?;

    // Who showed no key can't spend the quota of a user by naming it.
    let user = username.clone().filter(|_| known).unwrap_or_else(|| peer.shared.users.next());
    let ttl = seconds.map(Duration::from_secs);
    let asked = crate::ice::Request { host: &host, user: &user, ttl, transport };
    let (live, clock) = (peer.shared.live(), peer.shared.services.clock);
    let issued = live.ice.issue(asked, &live.auth, clock.now()).map_err(|error| match error {
        Error::NoSecret => Failure::unavailable(error.to_string()),
        other => refused(other),
    })?;
    peer.shared.counters.credentials.add();
    Ok(reply::json(StatusCode::OK, issued.to_json(format)))
}
