//! The admin socket: HTTP and JSON over a Unix socket that its owner and group may open. `ternd ctl` is its client;
//! `curl --unix-socket` is another.
//!
//! ```text
//! GET  /v1/status          GET  /v1/allocations?user=U              POST /v1/kick?user=U | client=A | allocation=R
//! POST /v1/reload          POST /v1/credentials?user=U&ttl=SECONDS  GET  /v1/log-level
//! POST /v1/drain           GET  /metrics                            POST /v1/log-level?level=L&module=M
//! GET  /v1/rooms?after=ROOM                                         POST /v1/kick?room=ROOM&peer=PEER&ban=SECONDS
//! GET  /v1/room?room=ROOM  POST /v1/room/lock?room=ROOM&locked=L    POST /v1/room/close?room=ROOM
//! POST /v1/invite?room=ROOM&name=NAME&role=ROLE&ttl=SECONDS&create=C&relay=R
//! POST /v1/revoke?username=USERNAME
//! ```

mod rooms;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::log::{LevelFilter, info};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::daemon::Daemon;
use super::serve::{self, Reply};
use super::{StartError, log, metrics};
use crate::auth::TimedUsername;
use crate::signal::{MemberListing, RoomListing};
use crate::turn::{Listed, RelayTransport};

/// As many rooms as one answer lists; `after` goes on from the last of them.
const ROOMS: usize = 1_000;

/// Bound, and not yet served.
pub(super) struct Admin {
    listener: UnixListener,
    path: PathBuf,
}

/// Serves until it is dropped; then the socket is gone.
pub(super) struct Serving {
    task: JoinHandle<()>,
    path: PathBuf,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket that the configuration names, or `admin.sock` in the directory that systemd made.
pub(super) fn bind(configured: Option<&Path>) -> Result<Option<Admin>, StartError> {
    let path = match (configured, std::env::var_os("RUNTIME_DIRECTORY").filter(|d| !d.is_empty())) {
        (Some(path), _) => path.to_owned(),
        (None, Some(directory)) => Path::new(&directory).join("admin.sock"),
        (None, None) => return Ok(None),
    };
    let bound = || -> io::Result<UnixListener> {
        if std::fs::symlink_metadata(&path).is_ok_and(|m| m.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                let text = "another ternd answers there; give each its own socket";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            // Left behind by a daemon that was killed.
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    let listener = bound().map_err(|error| StartError::Admin { path: path.clone(), error })?;
    Ok(Some(Admin { listener, path }))
}

impl Admin {
    pub(super) fn serve(self, daemon: Arc<Daemon>) -> Serving {
        let Self { listener, path } = self;
        info!("ternd ctl: the admin socket is {}", path.display());
        let task = tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(serve::CONNECTIONS));
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(serve::PAUSE).await;
                    continue;
                };
                let daemon = daemon.clone();
                serve::spawn(stream, &places, move |request| answer(&daemon, request));
            }
        });
        Serving { task, path }
    }
}

/// Why a request is not carried out.
struct Refused(StatusCode, String);

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

fn bad(message: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, message.into())
}

fn answer(daemon: &Daemon, request: &Request<Incoming>) -> Reply {
    if (request.method(), request.uri().path()) == (&Method::GET, "/metrics") {
        return metrics::answer(daemon);
    }
    let (status, body) = match carry_out(daemon, request) {
        Ok(value) => (StatusCode::OK, value),
        Err(Refused(status, message)) => (status, json!({ "message": message })),
    };
    serve::text(status, "application/json", format!("{body}\n"))
}

fn carry_out(daemon: &Daemon, request: &Request<Incoming>) -> Result<Value, Refused> {
    let query = request.uri().query().unwrap_or_default();
    let parameters: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let parameter = |name: &str| parameters.get(name).map(String::as_str);
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/v1/status") => Ok(serde_json::to_value(daemon.status()?)?),
        ("GET", "/v1/allocations") => {
            let list = daemon.allocations(parameter("user"))?;
            Ok(list.iter().map(allocation).collect())
        }
        ("GET", "/v1/rooms") => Ok(daemon.http().rooms(parameter("after"), ROOMS).iter().map(room).collect()),
        (_, "/v1/room" | "/v1/room/lock" | "/v1/room/close" | "/v1/invite") => {
            rooms::carry_out(daemon, request, &parameters)
        }
        ("POST", "/v1/kick") if parameters.contains_key("peer") => put_out(daemon, &parameters),
        ("POST", "/v1/kick") => kick(daemon, &parameters),
        ("POST", "/v1/reload") => {
            let outcome = daemon.reload();
            if outcome.ok {
                Ok(serde_json::to_value(outcome)?)
            } else {
                Err(Refused(StatusCode::UNPROCESSABLE_ENTITY, outcome.notes.join("\n")))
            }
        }
        ("POST", "/v1/drain") => {
            daemon.drain("ternd ctl");
            Ok(serde_json::to_value(daemon.status()?)?)
        }
        ("POST", "/v1/credentials") => {
            let seconds =
                parameter("ttl").map(str::parse).transpose().map_err(|_| bad("ttl: write seconds"))?;
            let user = parameter("user").unwrap_or_default();
            if user.len() > 480 || user.contains(char::is_control) {
                return Err(bad("user: write at most 480 bytes of text"));
            }
            let issued = daemon
                .issue(user, seconds.map(Duration::from_secs))
                .ok_or_else(|| bad("there is no secret to sign with: set auth.secret"))?;
            info!(user; "a credential for {user:?} was issued through the admin socket");
            Ok(serde_json::to_value(issued)?)
        }
        ("POST", "/v1/revoke") => revoke(daemon, parameter("username").unwrap_or_default()),
        ("GET", "/v1/log-level") => Ok(levels()),
        ("POST", "/v1/log-level") => {
            let level = parameter("level").unwrap_or_default();
            let parsed = LevelFilter::from_str(level).ok().filter(|level| *level != LevelFilter::Off);
            let parsed = parsed.ok_or_else(|| bad("level: write error, warn, info, debug or trace"))?;
            log::set_level(parameter("module").filter(|module| !module.is_empty()), parsed);
            info!("log level of {}: {parsed}", parameter("module").unwrap_or("everything else"));
            Ok(levels())
        }
        _ => Err(unknown(request)),
    }
}

fn unknown(request: &Request<Incoming>) -> Refused {
    let (method, path) = (request.method(), request.uri().path());
    Refused(StatusCode::NOT_FOUND, format!("{method} {path}: there is no such thing"))
}

fn kick(daemon: &Daemon, parameters: &HashMap<String, String>) -> Result<Value, Refused> {
    let known = ["user", "client", "allocation"];
    let Some((kind, value)) = parameters.iter().find(|(kind, _)| known.contains(&kind.as_str())) else {
        return Err(bad("whom? user=NAME, client=ADDRESS or allocation=ADDRESS:PORT"));
    };
    let (kind, value) = (kind.clone(), value.clone());
    info!("ending the allocations with {kind} {value:?}: ternd ctl");
    let ended = daemon.control().kick(move |listed| match kind.as_str() {
        "user" => *listed.user == *value || *listed.username == *value,
        "client" => {
            let client = listed.flow.client.0;
            client.to_string() == value || client.ip().to_string() == value
        }
        _ => listed.relays.iter().any(|relay| relay.to_string() == value),
    })?;
    Ok(json!({ "ended": ended }))
}

/// A credential is known by its user name, which carries its end.
fn revoke(daemon: &Daemon, username: &str) -> Result<Value, Refused> {
    let timed = TimedUsername::parse(username).ok_or_else(|| {
        bad("username: write it as it was issued, with its time stamp. One without is a user of auth.users: take it out \
             there, and reload")
    })?;
    let user = timed.user;
    let ended = daemon.control().take_back(username, timed.expires)?;
    info!(user, username; "the credential {username:?} was revoked through the admin socket; {ended} allocations ended");
    Ok(json!({ "ended": ended }))
}

/// Puts a member out of its room. Its credentials end with that, and what was allocated with them.
fn put_out(daemon: &Daemon, parameters: &HashMap<String, String>) -> Result<Value, Refused> {
    let parameter = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let (room, peer) = (parameter("room"), parameter("peer"));
    let ban = match parameter("ban") {
        "" => 0,
        text => text
            .parse()
            .ok()
            .filter(|ban| *ban <= 86_400)
            .ok_or_else(|| bad("ban: write seconds, at most a day"))?,
    };
    if !daemon.http().kick(room, peer, Duration::from_secs(ban)) {
        return Err(Refused(StatusCode::NOT_FOUND, format!("room {room:?} has no member {peer:?}")));
    }
    Ok(json!({ "ended": 1 }))
}

fn room(listed: &RoomListing) -> Value {
    let member = |member: &MemberListing| {
        json!({
            "peer": &*member.peer, "name": member.name.as_deref(), "from": member.from.to_string(),
            "here": member.here, "moderator": member.moderator,
        })
    };
    let members: Vec<_> = listed.members.iter().map(member).collect();
    json!({
        "room": &*listed.name, "capacity": listed.capacity, "pin": listed.pin, "locked": listed.locked,
        "members": members,
    })
}

fn levels() -> Value {
    let (level, modules) = log::levels();
    let word = |level: LevelFilter| level.as_str().to_ascii_lowercase();
    let modules: serde_json::Map<_, _> =
        modules.into_iter().map(|(name, level)| (name, word(level).into())).collect();
    json!({ "level": word(level), "modules": modules })
}

fn allocation(listed: &Listed) -> Value {
    let relays: Vec<_> = listed.relays.iter().map(ToString::to_string).collect();
    json!({
        "user": &*listed.user,
        "username": &*listed.username,
        "client": listed.flow.client.to_string(),
        "transport": listed.flow.transport.name(),
        "relays": relays,
        "relayed": match listed.transport { RelayTransport::Udp => "udp", RelayTransport::Tcp => "tcp" },
        "seconds": listed.lived.as_secs(),
        "expires_in": listed.left.as_secs(),
        "permissions": listed.permissions,
        "channels": listed.channels,
        "packets_to_peers": listed.traffic.to_peers,
        "bytes_to_peers": listed.traffic.to_peers_bytes,
        "packets_to_client": listed.traffic.to_client,
        "bytes_to_client": listed.traffic.to_client_bytes,
    })
}
