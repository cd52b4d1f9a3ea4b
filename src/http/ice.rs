//! The endpoint `/v1/ice`: who asks, and with which parameters.
//!
//! ```text
//! request ─► Origin allowed? ─► parameters: query, then form or JSON ─► API key; token or own page, at a rate ─► crate::ice
//!             403                400 408 413                             401 429                                  400 503
//! ```

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, AsHeaderName, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use subtle::{Choice, ConstantTimeEq};

use super::origin::{self, Caller};
use super::reply::{self, Failure, Reply};
use super::{Live, Peer};
use crate::ice::{Asked, Error, Parameters, shown_key};
use crate::signal::Access;

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
    parameters.read_form(request.uri().query().unwrap_or_default().as_bytes());
    let timeout = peer.shared.live().handshake_timeout;
    let body = tokio::time::timeout(timeout, collect(body)).await.map_err(|_| Failure::timeout())??;
    parameters.read_body(text(request.headers(), header::CONTENT_TYPE), &body).map_err(refused)?;

    let known = authorize(peer, request, &parameters, caller).await?;
    issue(peer, request, &parameters, known)
}

/// The answer to OPTIONS; a preflight finds in it what it asks for (Fetch standard, CORS-preflight).
pub(super) fn permissions() -> Reply {
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

/// Who may have a credential. `true`: who showed a key.
async fn authorize(
    peer: &Peer,
    request: &Request<()>,
    parameters: &Parameters,
    caller: Caller<'_>,
) -> Result<bool, Failure> {
    let live = peer.shared.live().clone();
    let Live { ice: settings, rooms, .. } = &*live;
    if rooms.ice == Access::Never {
        return Err(Failure::forbidden("This server gives no credentials (ice.issue)"));
    }
    let headers = request.headers();
    let in_header = shown_key(text(headers, header::AUTHORIZATION), text(headers, "x-api-key"));
    let shown = in_header.or(parameters.key());
    if let Some(shown) = shown {
        // Each key is compared whole, so that time tells nothing of where a wrong one differs.
        let known = settings
            .api_keys
            .iter()
            .fold(Choice::from(0), |known, key| known | key.bytes.as_slice().ct_eq(shown.as_bytes()));
        if known.into() {
            return Ok(true);
        }
        // A token has three parts.
        if shown.split('.').count() != 3 {
            return Err(Failure::unauthorized("This API key is not one of ice.api-keys"));
        }
        if in_header.is_none() {
            let message = "A token belongs in the header Authorization (Bearer): URLs end up in logs";
            return Err(Failure::unauthorized(message));
        }
    } else if rooms.ice != Access::Any || !settings.demo || !origin::is_own_page(request, caller) {
        let message = "An API key is needed: Authorization: Bearer KEY, X-API-Key: KEY, or ?key=KEY";
        return Err(Failure::unauthorized(message));
    }
    let now = peer.shared.services.clock.now().instant;
    peer.shared.demo_rate.take(peer.client(headers), now).map_err(|after| {
        peer.shared.counters.rate_limited.add();
        Failure::rate_limited(after)
    })?;
    // Only now: signatures cost time, and anybody may show a wrong one.
    if let Some(token) = shown {
        peer.shared.prepare(token).await;
        let claims = peer.shared.hub.read_token(&peer.shared, token);
        let claims = claims.map_err(|bad| Failure::unauthorized(bad.to_string()))?;
        if !rooms.ice.allows(claims.may_relay) {
            return Err(Failure::forbidden("This token gives no credentials ('may-relay')"));
        }
    }
    Ok(false)
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn refused(error: Error) -> Failure {
    match error {
        Error::NoSecret => Failure::unavailable(error.to_string()),
        other => Failure::bad_request(other.to_string()),
    }
}

fn issue(peer: &Peer, request: &Request<()>, parameters: &Parameters, known: bool) -> Result<Reply, Failure> {
    let Asked { user, ttl, transport, format } = parameters.understand().map_err(refused)?;
    let host = peer
        .shared
        .host(request)
        .ok_or_else(|| Failure::bad_request("The Host of the request is no name or address"))?;

    // Who showed no key can't spend the quota of a user by naming it.
    let user = user.filter(|_| known).map_or_else(|| peer.shared.users.next(), String::from);
    let asked = crate::ice::Request { host: &host, user: &user, ttl, transport };
    let (live, clock) = (peer.shared.live(), peer.shared.services.clock);
    let issued = live.ice.issue(asked, &live.auth, clock.now()).map_err(refused)?;
    peer.shared.counters.credentials.add();
    let body = issued.body(format);
    let mut reply = reply::json(StatusCode::OK, body);
    if !format.is_json() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
    for link in issued.links(format) {
        // A user that no header can hold is in the body.
        if let Ok(link) = HeaderValue::from_str(&link) {
            reply.headers_mut().append(header::LINK, link);
        }
    }
    Ok(reply)
}
