//! Orders about one room: look, lock, close, invite.

use std::collections::HashMap;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use log::info;
use serde_json::{Value, json};

use super::{Refused, bad, room as described, unknown};
use crate::ops::daemon::Daemon;
use crate::signal::{Claims, Role};

/// Seconds of an invite if nobody says otherwise, and the longest: a day, a year.
const INVITE: u64 = 86_400;
const LONGEST: u64 = 365 * 86_400;

pub(super) fn carry_out(
    daemon: &Daemon,
    request: &Request<Incoming>,
    parameters: &HashMap<String, String>,
) -> Result<Value, Refused> {
    let parameter = |name: &str| parameters.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let room = parameter("room").ok_or_else(|| bad("which room? room=NAME"))?;
    let missing = || Refused(StatusCode::NOT_FOUND, format!("there is no room {room:?}"));
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/v1/room") => daemon.http().room(room).as_ref().map(described).ok_or_else(missing),
        ("POST", "/v1/room/lock") => {
            let locked = flag(parameter("locked"), "locked", true)?;
            if !daemon.http().lock_room(room, locked) {
                return Err(missing());
            }
            info!(room; "{} through the admin socket", if locked { "locked" } else { "unlocked" });
            Ok(json!({ "locked": locked }))
        }
        ("POST", "/v1/room/close") => match daemon.http().close_room(room) {
            0 => Err(missing()),
            ended => {
                info!(room; "closed through the admin socket");
                Ok(json!({ "ended": ended }))
            }
        },
        ("POST", "/v1/invite") => invite(daemon, room, &parameter),
        _ => Err(unknown(request)),
    }
}

fn flag(written: Option<&str>, name: &str, default: bool) -> Result<bool, Refused> {
    let parsed = written.map(str::parse).transpose();
    Ok(parsed.map_err(|_| bad(format!("{name}: write true or false")))?.unwrap_or(default))
}

fn invite<'a>(
    daemon: &Daemon,
    room: &str,
    parameter: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Value, Refused> {
    let ttl = parameter("ttl").map_or(Some(INVITE), |ttl| ttl.parse().ok());
    let ttl = ttl.filter(|ttl| (1..=LONGEST).contains(ttl));
    let now = daemon.now();
    let claims = Claims {
        name: parameter("name").map(String::from),
        role: match parameter("role") {
            None | Some("member") => None,
            Some("moderator") => Some(Role::Moderator),
            Some(_) => return Err(bad("role: write member or moderator")),
        },
        may_create: Some(flag(parameter("create"), "create", true)?),
        may_relay: Some(flag(parameter("relay"), "relay", true)?),
        ..Claims::for_room(room, now.unix + ttl.ok_or_else(|| bad("ttl: write seconds, at most a year"))?)
    };
    claims.check(now).map_err(|why| bad(why.to_string()))?;
    let (token, link) = daemon.invite(room, &claims);
    info!(room; "an invite was made through the admin socket");
    Ok(json!({ "token": token, "link": link, "expires": claims.exp }))
}
