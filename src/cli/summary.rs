//! `ternd check-config`: what would run.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::Config;

pub(super) fn of(path: &Path, config: &Config, warnings: usize) -> String {
    let Config { listen, relay, turn, ice, rooms, .. } = config;
    let limits = &turn.limits;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "  {name:<12} {text}");
    };

    line("host", config.host.clone().unwrap_or_else(|| "the one that clients ask for".into()));
    line("udp", listeners(&listen.udp, "STUN, TURN"));
    line("tcp", listeners(&listen.tcp, "STUN, TURN"));
    line("tls", listeners(&listen.tls, "HTTPS, WebSocket, TURN over TLS"));
    line("http", listeners(&listen.http, "HTTP and WebSocket without TLS"));
    line(
        "certificate",
        match &config.tls {
            Some(tls) => tls.certificate.display().to_string(),
            None => "self-signed, a new one at each start".into(),
        },
    );
    line(
        "relay from",
        match relay.addresses.as_slice() {
            [] => {
                format!("the addresses of this machine, ports {}-{}", relay.ports.start(), relay.ports.end())
            }
            some => format!("{}, ports {}-{}", joined(some), relay.ports.start(), relay.ports.end()),
        },
    );
    for external in &relay.external_ips {
        let local = external.local.map_or("every address of its family".into(), |local| local.to_string());
        line("", format!("{local}, announced as {}", external.announced));
    }
    line(
        "peers",
        format!("public ones; opened: {}; closed: {}", list(&turn.allow_peers), list(&turn.deny_peers)),
    );
    let ids: Vec<_> = config.auth.secrets.iter().map(|secret| &secret.id).collect();
    line("secrets", if ids.is_empty() { "none: each start makes one of its own".into() } else { list(&ids) });
    line("users", list(&config.auth.users.iter().map(|user| &user.name).collect::<Vec<_>>()));
    line(
        "limits",
        format!(
            "{} allocations, {} per user, {} per address; {} connections",
            limits.allocations,
            limits.allocations_per_user,
            limits.allocations_per_address,
            config.connections.total
        ),
    );
    let demo = if ice.demo { "open to its own page" } else { "closed without a key" };
    let (ttl, keys) = (ice.ttl.as_secs(), ice.api_keys.len());
    line(
        "/v1/ice",
        format!("{demo}; {keys} API keys; credentials for {ttl} s; origins: {}", list(&ice.origins)),
    );
    line(
        "rooms",
        format!("{} members each, {} rooms; tokens: {}", rooms.capacity, rooms.rooms, tokens(config)),
    );
    line("log", format!("{}, {:?}", config.log.level, config.log.format).to_lowercase());

    let verdict = match warnings {
        0 => "good".into(),
        1 => "valid, with 1 warning".into(),
        n => format!("valid, with {n} warnings"),
    };
    format!("{} is {verdict}. It would run:\n{out}", path.display())
}

fn listeners(addresses: &[SocketAddr], what: &str) -> String {
    if addresses.is_empty() { "-".into() } else { format!("{}   {what}", joined(addresses)) }
}

/// Who may sign tokens, as far as the configuration says.
fn tokens(config: &Config) -> String {
    let jwt = &config.jwt;
    let fetched = jwt.fetched.url.as_ref().map(|url| format!("keys from {}", url.host));
    let file = jwt.jwks.as_ref().map(|_| "a JWKS".to_owned());
    let keys = (!jwt.keys.is_empty()).then(|| format!("{} keys", jwt.keys.len()));
    let invites = config.rooms.invite_secret.as_ref().map(|_| "invites".to_owned());
    let all: Vec<_> = [invites, keys, file, fetched].into_iter().flatten().collect();
    if all.is_empty() { "invites of the daemon's own".into() } else { all.join(", ") }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() { "none".into() } else { joined(items) }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
