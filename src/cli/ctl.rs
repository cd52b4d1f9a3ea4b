//! `ternd ctl`: looks after the running daemon, through its admin socket.
//!
//! What enters: an order. What leaves: a table for people, or the daemon's JSON as it is for programs.

mod rooms;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::{fail, print, ttl, user};

/// Where the service has its admin socket.
pub(super) const SOCKET: &str = "/run/ternd/admin.sock";

#[derive(Debug, Args)]
pub(super) struct CtlArgs {
    /// The admin socket of the daemon.
    #[arg(short, long, value_name = "SOCKET", default_value = SOCKET, global = true)]
    socket: PathBuf,
    /// Print what the daemon answers, as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    order: Order,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Figures of this moment.
    Status,
    /// The allocations there are, with what they have relayed.
    Allocations {
        /// Those of this user only.
        #[arg(short, long, value_name = "NAME")]
        user: Option<String>,
    },
    /// The rooms there are, and who is in them: a thousand, by name.
    Rooms {
        /// Those after this one.
        #[arg(long, value_name = "ROOM")]
        after: Option<String>,
    },
    /// One room: look at it, lock it, close it, invite into it.
    Room {
        #[command(subcommand)]
        what: rooms::Order,
    },
    /// End allocations. Their clients may come again while their credentials are good.
    Kick(Whom),
    /// Put a member out of a room. Its credentials end, and what was allocated with them.
    PutOut {
        /// The room.
        room: String,
        /// The member, by the id that `rooms` shows.
        peer: String,
        /// It may not come back for so long, at most a day: seconds, or with a unit as in 10m.
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ban: Option<Duration>,
    },
    /// Credentials for clients.
    Credentials {
        #[command(subcommand)]
        what: Credentials,
    },
    /// Take no new calls, let those that run go on, and stop when they have ended or drain-timeout is over. A second
    /// time: stop at once.
    Drain,
    /// Read the configuration again. If it is refused, nothing changes, and the exit code is 1.
    Reload,
    /// Show the levels of the log, or change one until the next reload.
    LogLevel {
        /// error, warn, info, debug or trace.
        level: Option<String>,
        /// For this module only: relay, auth, http, net, ops, or a library's name.
        #[arg(short, long, value_name = "NAME")]
        module: Option<String>,
    },
    /// Print the metrics, as Prometheus reads them.
    Metrics,
}

/// Exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// All of this user, or of this user name with its time stamp.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All of this client address; with a port, that one.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// The one at this relay address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    allocation: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Credentials {
    /// Issue one that ends by itself.
    Issue {
        /// Whom it is for: it is in the user name, for logs and quotas.
        #[arg(short, long, value_name = "NAME", value_parser = user, default_value = "")]
        user: String,
        /// How long it is good for: seconds, or with a unit as in 10m, 12h, 7d [default: ice.ttl]
        #[arg(short, long, value_name = "TIME", value_parser = ttl)]
        ttl: Option<Duration>,
    },
    /// Take one back until the next restart: its allocations end, and it makes no new ones. For good, change auth.secret.
    Revoke {
        /// The user name as it was issued, with its time stamp.
        username: String,
    },
}

/// `ternd drain`.
pub(super) fn drain(socket: PathBuf) -> ExitCode {
    run(&CtlArgs { socket, json: false, order: Order::Drain })
}

pub(super) fn run(args: &CtlArgs) -> ExitCode {
    let (method, path, parameters) = request(&args.order);
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        query.append_pair(name, &value);
    }
    let target = match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let (status, body) = match ask(&args.socket, method, &target) {
        Ok(answer) => answer,
        Err(error) => return fail(&unreachable(&args.socket, &error)),
    };
    if !status.is_success() {
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        return fail(answer["message"].as_str().unwrap_or(&body));
    }
    if args.json || matches!(args.order, Order::Metrics) {
        return print(&body);
    }
    match serde_json::from_str(&body) {
        Ok(answer) => print(&shown(&args.order, &answer)),
        Err(error) => fail(&format!("the answer is no JSON: {error}")),
    }
}

fn request(order: &Order) -> (Method, &'static str, Vec<(&'static str, String)>) {
    let given = |name, value: &Option<String>| value.clone().map(|value| (name, value));
    match order {
        Order::Status => (Method::GET, "/v1/status", Vec::new()),
        Order::Allocations { user } => {
            (Method::GET, "/v1/allocations", given("user", user).into_iter().collect())
        }
        Order::Kick(Whom { user, client, allocation }) => {
            let whom = [given("user", user), given("client", client), given("allocation", allocation)];
            (Method::POST, "/v1/kick", whom.into_iter().flatten().collect())
        }
        Order::Rooms { after } => (Method::GET, "/v1/rooms", given("after", after).into_iter().collect()),
        Order::Room { what } => what.request(),
        Order::PutOut { room, peer, ban } => {
            let ban = ban.map(|ban| ("ban", ban.as_secs().to_string()));
            let whom = [Some(("room", room.clone())), Some(("peer", peer.clone())), ban];
            (Method::POST, "/v1/kick", whom.into_iter().flatten().collect())
        }
        Order::Credentials { what: Credentials::Issue { user, ttl } } => {
            let ttl = ttl.map(|ttl| ("ttl", ttl.as_secs().to_string()));
            let parameters = [Some(("user", user.clone())), ttl];
            (Method::POST, "/v1/credentials", parameters.into_iter().flatten().collect())
        }
        Order::Credentials { what: Credentials::Revoke { username } } => {
            (Method::POST, "/v1/revoke", vec![("username", username.clone())])
        }
        Order::Drain => (Method::POST, "/v1/drain", Vec::new()),
        Order::Reload => (Method::POST, "/v1/reload", Vec::new()),
        Order::LogLevel { level: None, .. } => (Method::GET, "/v1/log-level", Vec::new()),
        Order::LogLevel { level, module } => {
            let parameters = [given("level", level), given("module", module)];
            (Method::POST, "/v1/log-level", parameters.into_iter().flatten().collect())
        }
        Order::Metrics => (Method::GET, "/metrics", Vec::new()),
    }
}

fn ask(socket: &Path, method: Method, target: &str) -> io::Result<(StatusCode, String)> {
    /// A reload may load files and wait for shards.
    const PATIENCE: Duration = Duration::from_secs(30);
    let exchange = async {
        let stream = tokio::net::UnixStream::connect(socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(target).header(HOST, "ternd");
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let reply = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = reply.status();
        let body = reply.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange).await? })
}

fn unreachable(socket: &Path, error: &io::Error) -> String {
    let way_out = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the service running, and is this its admin.socket (--socket)?"
        }
        io::ErrorKind::PermissionDenied => "run this as root, or as a member of the group ternd",
        _ => "`journalctl -u ternd` may tell more",
    };
    format!("{}: {error}; {way_out}", socket.display())
}

/// The answer for people.
fn shown(order: &Order, answer: &Value) -> String {
    match order {
        Order::Allocations { .. } => allocations(answer),
        Order::Rooms { .. } => rooms::table_of(answer.as_array().into_iter().flatten()),
        Order::Room { what } => what.shown(answer),
        Order::PutOut { .. } => "put out\n".into(),
        Order::Credentials { what: Credentials::Issue { .. } } => credential(answer),
        Order::Kick(_) | Order::Credentials { what: Credentials::Revoke { .. } } => {
            format!("{} allocations ended\n", answer["ended"])
        }
        Order::Reload => {
            let notes = answer["notes"].as_array().into_iter().flatten();
            let notes: String = notes.map(|note| format!("note: {}\n", word(note))).collect();
            format!("{notes}reloaded\n")
        }
        _ => pairs(answer, ""),
    }
}

/// A credential, and a line for each URL it is for.
fn credential(answer: &Value) -> String {
    let servers = answer["iceServers"].as_array().into_iter().flatten();
    let urls = servers.flat_map(|server| server["urls"].as_array().into_iter().flatten());
    let row = |name: &str, value| [name.to_owned(), word(value)];
    let rest = ["password", "ttl", "expires_at"].map(|key| row(key, &answer[key]));
    let rest: Vec<_> = rest.into_iter().chain(urls.map(|url| row("url", url))).collect();
    table(row("username", &answer["username"]), &rest)
}

/// One line for each field of an object.
fn pairs(answer: &Value, indent: &str) -> String {
    let fields: Vec<_> = answer.as_object().into_iter().flatten().collect();
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&String, &Value)| match value {
        Value::Object(inner) if inner.is_empty() => String::new(),
        Value::Object(_) => format!("{indent}{name}\n{}", pairs(value, &format!("{indent}  "))),
        _ => format!("{indent}{name:<width$}  {}\n", word(value)),
    };
    fields.iter().map(line).collect()
}

fn allocations(answer: &Value) -> String {
    const HEAD: [&str; 8] =
        ["USER", "CLIENT", "VIA", "ALLOCATION", "SECONDS", "EXPIRES IN", "TO PEERS", "TO CLIENT"];
    let bytes = |value: &Value| size(value.as_u64().unwrap_or(0));
    let row = |a: &Value| {
        let relays: Vec<_> = a["relays"].as_array().into_iter().flatten().map(word).collect();
        [
            word(&a["user"]),
            word(&a["client"]),
            word(&a["transport"]),
            relays.join(" "),
            word(&a["seconds"]),
            word(&a["expires_in"]),
            bytes(&a["bytes_to_peers"]),
            bytes(&a["bytes_to_client"]),
        ]
    };
    let rows: Vec<_> = answer.as_array().into_iter().flatten().map(row).collect();
    table(HEAD.map(String::from), &rows)
}

/// Columns as wide as their longest word.
fn table<const N: usize>(head: [String; N], rows: &[[String; N]]) -> String {
    let all: Vec<_> = [&head].into_iter().chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &&[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

/// A value as a word. What clients chose must not talk to the terminal.
fn word(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let safe = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(safe).collect()
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_for_people() {
        let listed = json!([{
            "user": "al\u{1b}ice", "client": "192.0.2.7:5004", "transport": "udp", "relays": ["203.0.113.5:50000"],
            "seconds": 61, "expires_in": 540, "bytes_to_peers": 1_572_864, "bytes_to_client": 12,
        }]);
        assert_eq!(
            allocations(&listed),
            "USER           CLIENT          VIA  ALLOCATION         SECONDS  EXPIRES IN  TO PEERS  TO CLIENT\n\
             al\\u{1b}ice  192.0.2.7:5004  udp  203.0.113.5:50000  61       540         1.5 MiB   12 B\n"
                .replace("USER           ", "USER         ")
        );
        let status = json!({"state": "running", "last_reload": {"ok": false, "notes": ["a", "b"]}, "rooms": 2, "x": null});
        assert_eq!(
            pairs(&status, ""),
            "last_reload\n  notes  a, b\n  ok     false\nrooms        2\nstate        running\nx            -\n"
        );
        assert_eq!(size(1 << 40), "1.0 TiB");
    }
}
