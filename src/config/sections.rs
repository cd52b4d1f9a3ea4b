//! The keys: one line each, in the order of `etc/ternd.full.toml`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use log::LevelFilter;
use zeroize::Zeroizing;

use super::reader::{Node, Read, Table};
use super::rooms::{ACCESS, rooms};
use super::values::{
    count, directory, duration, external_ip, file, flag, header_value, host_name, ip_address, list,
    listeners, name, network, one_of, origin, port, port_range, private_file, rate, realm, secret,
    secret_file, sendable, server_address, small_count, socket_path, software, token_key_file,
};
use super::{Config, Connections, Listen, Log, LogFormat, NatDiscovery, Relay, TlsFiles, acme, check};
use crate::auth::{self, OAuth, Secret, StaticUser, TokenAlgorithm, TokenKey, opaque_string};
use crate::{ice, turn};

/// Bounds have bounds: memory is taken for some of them at the start.
pub(super) const MILLION: RangeInclusive<u64> = 1..=1_000_000;
/// Below these one call's sound does not get through.
const MIN_BYTES: u64 = 10_000;
const MIN_PACKETS: u64 = 50;
const DAY: u64 = 86_400;

const LEVELS: &[(&str, LevelFilter)] = &[
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

const TOKEN_ALGORITHMS: &[(&str, TokenAlgorithm)] =
    &[("A128GCM", TokenAlgorithm::A128Gcm), ("A256GCM", TokenAlgorithm::A256Gcm)];

const FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
    ("journal", LogFormat::Journal),
];

pub(super) fn read(root: &mut Table<'_>, config: &mut Config) {
    root.optional("host", &mut config.host, host_name);
    root.key("shards", &mut config.shards, count(0..=256));
    root.optional("socket-buffer", &mut config.socket_buffer, count(65_536..=1 << 30));
    root.key("pin-shards", &mut config.pin_shards, flag);
    root.key("drain-timeout", &mut config.drain_timeout, duration(0..=DAY));
    root.section("listen", |t| listen(t, &mut config.listen));
    root.section("tls", |t| tls(t, &mut config.tls));
    root.section("acme", |t| acme::read(t, &mut config.acme));
    root.section("auth", |t| auth(t, &mut config.auth));
    root.section("relay", |t| relay(t, &mut config.relay, &mut config.turn));
    root.section("nat-discovery", |t| nat_discovery(t, &mut config.nat_discovery));
    root.section("peers", |t| peers(t, &mut config.turn));
    root.section("limits", |t| limits(t, &mut config.turn.limits, &mut config.connections));
    root.section("ice", |t| {
        endpoint(t, &mut config.ice);
        t.key("issue", &mut config.rooms.ice, one_of(ACCESS));
    });
    root.section("rooms", |t| rooms(t, &mut config.rooms, &mut config.jwt));
    root.section("socket-io", |t| {
        t.key("enabled", &mut config.socketio.enabled, flag);
        t.key("capacity", &mut config.socketio.capacity, count(2..=1000));
    });
    root.section("http", |t| {
        t.optional("static-dir", &mut config.pages.directory, directory);
        t.key("static-policy", &mut config.pages.policy, header_value);
    });
    root.section("metrics", |t| t.key("listen", &mut config.metrics, listeners));
    root.section("admin", |t| t.optional("socket", &mut config.admin_socket, socket_path));
    root.section("log", |t| log(t, &mut config.log));
}

fn listen(t: &mut Table<'_>, listen: &mut Listen) {
    t.key("udp", &mut listen.udp, listeners);
    t.key("tcp", &mut listen.tcp, listeners);
    t.key("tls", &mut listen.tls, listeners);
    t.key("http", &mut listen.http, listeners);
    t.key("redirect", &mut listen.redirect, listeners);
    t.key("proxy-protocol", &mut listen.proxy_protocol, list(network));
    t.key("forwarded-for", &mut listen.forwarded_for, list(network));
}

fn tls(t: &mut Table<'_>, tls: &mut Option<TlsFiles>) {
    let (mut certificate, mut key) = (None, None);
    t.optional("certificate", &mut certificate, file);
    t.optional("key", &mut key, private_file);
    if let (Some((certificate, chain)), Some((key, secret))) = (certificate, key) {
        if let (Some(chain), Some(secret)) = (chain, secret) {
            check::pair(t.report, &chain, &secret);
        }
        *tls = Some(TlsFiles { certificate, key });
    }
}

fn auth(t: &mut Table<'_>, auth: &mut auth::Settings) {
    t.key("realm", &mut auth.realm, realm);
    let (mut first, mut more) = (None, Vec::new());
    t.optional("secret", &mut first, |n| secret(16)(n).map(|text| Secret::new("secret", text.as_bytes())));
    t.key("secret-file", &mut first, |n| {
        Ok(secret_file(n)?.map(|bytes| Secret { id: "secret-file".into(), bytes }))
    });
    t.key("secrets", &mut more, |n| list(named_secret)(&n.hidden()));
    auth.secrets = first.into_iter().chain(more.into_iter().flatten()).collect();
    t.section("users", |t| {
        auth.users = t.each(|name, n| {
            let password = secret(8)(n)?;
            sendable(&n.hidden(), &password)?;
            if name.is_empty() || name.len() > 508 {
                return Err(n.hidden().error("not a user name", "name the user with 1 to 508 bytes"));
            }
            if let Err(forbidden) = opaque_string(name) {
                let fix = "name the user with letters, digits, signs and spaces";
                return Err(n.hidden().error(format!("no client can send this user name: {forbidden}"), fix));
            }
            Ok(StaticUser { name: name.into(), password })
        });
    });
    t.section("oauth", |t| auth.oauth = oauth(t));
    t.key("nonce-lifetime", &mut auth.nonce_lifetime, duration(60..=DAY));
    t.key("strict-expiry", &mut auth.strict_expiry, flag);
}

fn oauth(t: &mut Table<'_>) -> Option<OAuth> {
    let (mut server_name, mut keys) = (None, Vec::new());
    t.optional("server-name", &mut server_name, name);
    t.key("keys", &mut keys, list(token_key));
    let keys: Vec<TokenKey> = keys.into_iter().flatten().collect();
    server_name.map(|server_name| OAuth { server_name, keys })
}

/// `{ id = "2026", key-file = "...", algorithm = "A256GCM" }`.
fn token_key(n: &Node<'_>) -> Read<Option<TokenKey>> {
    let (mut id, mut bytes, mut algorithm) = (None, None, TokenAlgorithm::A256Gcm);
    let mut fits = false;
    n.fields(|t| {
        t.optional("id", &mut id, name);
        t.key("algorithm", &mut algorithm, one_of(TOKEN_ALGORITHMS));
        t.key("key-file", &mut bytes, |n| token_key_file(n, algorithm));
        fits = t.has("id") && t.has("key-file");
    })?;
    if !fits {
        let fix = "write { id = \"2026\", key-file = \"...\", algorithm = \"A256GCM\" }";
        return Err(n.error("needs an id and a key-file", fix));
    }
    Ok(id.zip(bytes).map(|(id, bytes)| TokenKey { id, algorithm, bytes }))
}

/// `{ id = "2026", secret = "..." }` or `{ id = "2025", secret-file = "..." }`.
fn named_secret(n: &Node<'_>) -> Read<Option<Secret>> {
    let (mut id, mut bytes) = (None, None);
    let mut fits = false;
    n.fields(|t| {
        t.optional("id", &mut id, name);
        t.optional("secret", &mut bytes, |n| {
            secret(16)(n).map(|text| Zeroizing::new(text.as_bytes().to_vec()))
        });
        t.key("secret-file", &mut bytes, secret_file);
        fits = t.has("id") && (t.has("secret") != t.has("secret-file"));
    })?;
    if !fits {
        let fix = "write { id = \"2026\", secret = \"...\" } or { id = \"2026\", secret-file = \"...\" }";
        return Err(n.error("needs an id, and either secret or secret-file", fix));
    }
    Ok(id.zip(bytes).map(|(id, bytes)| Secret { id, bytes }))
}

fn relay(t: &mut Table<'_>, relay: &mut Relay, turn: &mut turn::Settings) {
    t.key("addresses", &mut relay.addresses, list(ip_address));
    t.key("external-ip", &mut relay.external_ips, list(external_ip));
    t.key("ports", &mut relay.ports, port_range);
    t.optional("socket-buffer", &mut relay.socket_buffer, count(8_192..=1 << 30));
    t.key("default-lifetime", &mut turn.default_lifetime, duration(60..=DAY));
    t.key("max-lifetime", &mut turn.max_lifetime, duration(60..=DAY));
    t.key("software", &mut turn.software, software);
    t.key("rfc5766-channels", &mut turn.rfc5766_channels, flag);
    t.key("rfc3489-clients", &mut turn.rfc3489_clients, flag);
    t.key("mobility", &mut turn.mobility, flag);
    t.key("alternate-servers", &mut turn.alternate_servers, list(server_address));
}

fn nat_discovery(t: &mut Table<'_>, discovery: &mut NatDiscovery) {
    t.key("addresses", &mut discovery.addresses, |n| {
        let addresses: Vec<IpAddr> = list(ip_address)(n)?;
        match addresses[..] {
            [] => Ok(None),
            [a, b] if a != b && a.is_ipv4() == b.is_ipv4() => Ok(Some([a, b])),
            _ => Err(n.error(
                "needs two different addresses of one family",
                "name both addresses of this machine, or none",
            )),
        }
    });
    t.key("port", &mut discovery.port, port);
}

fn peers(t: &mut Table<'_>, turn: &mut turn::Settings) {
    t.key("allow", &mut turn.allow_peers, list(network));
    t.key("deny", &mut turn.deny_peers, list(network));
}

fn limits(t: &mut Table<'_>, limits: &mut turn::Limits, connections: &mut Connections) {
    // Taken apart in full: a bound without a key does not compile.
    let turn::Limits {
        allocations,
        allocations_per_user,
        allocations_per_address,
        permissions,
        channels,
        peer_connections,
        allocation_rates,
        user_rates,
        unauthenticated_answers,
    } = limits;
    t.key("allocations", allocations, count(MILLION));
    t.key("allocations-per-user", allocations_per_user, count(MILLION));
    t.key("allocations-per-address", allocations_per_address, count(MILLION));
    t.key("permissions", permissions, count(1..=65_536));
    // 0x4000 to 0x4FFF are the numbers a channel can have (RFC 8656 section 12).
    t.key("channels", channels, count(1..=4096));
    t.key("peer-connections", peer_connections, count(1..=65_536));
    t.key("allocation-bytes-per-second", &mut allocation_rates.bytes, rate(MIN_BYTES));
    t.key("allocation-packets-per-second", &mut allocation_rates.packets, rate(MIN_PACKETS));
    t.key("user-bytes-per-second", &mut user_rates.bytes, rate(MIN_BYTES));
    t.key("user-packets-per-second", &mut user_rates.packets, rate(MIN_PACKETS));
    t.key("unauthenticated-answers", unauthenticated_answers, small_count(0..=1_000_000));
    let Connections { total, per_address, handshake_timeout } = connections;
    t.key("connections", total, count(MILLION));
    t.key("connections-per-address", per_address, count(MILLION));
    t.key("handshake-timeout", handshake_timeout, duration(1..=300));
}

fn endpoint(t: &mut Table<'_>, ice: &mut ice::Settings) {
    t.key("ttl", &mut ice.ttl, duration(1..=365 * DAY));
    t.key("min-ttl", &mut ice.min_ttl, duration(1..=365 * DAY));
    t.key("max-ttl", &mut ice.max_ttl, duration(1..=365 * DAY));
    let (mut here, mut in_file) = (Vec::new(), Vec::new());
    t.key("api-keys", &mut here, |n| list(secret(16))(&n.hidden()));
    t.key("api-keys-file", &mut in_file, key_file);
    let here = here.into_iter().zip(1..).map(|(key, n)| Secret::new(format!("api-keys {n}"), key.as_bytes()));
    ice.api_keys = here.chain(in_file).collect();
    t.key("demo", &mut ice.demo, flag);
    t.key("credentials-per-minute", &mut ice.credentials_per_minute, small_count(0..=60_000));
    t.key("origins", &mut ice.origins, list(origin));
}

/// One key per line; empty lines and those that begin with # don't count.
fn key_file(n: &Node<'_>) -> Read<Vec<Secret>> {
    let Some(bytes) = private_file(n)?.1 else { return Ok(Vec::new()) };
    let text =
        std::str::from_utf8(&bytes).map_err(|_| n.error("the file is not text", "write one key per line"))?;
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let keys: Vec<_> = lines.map(|(i, line)| Secret::new(format!("api-keys-file line {i}"), line)).collect();
    if keys.is_empty() {
        return Err(n.error("there is no key in the file", "write one key per line"));
    }
    if let Some(short) = keys.iter().find(|key| key.bytes.len() < 16) {
        n.warn(format!("{} is short enough to be guessed", short.id), "make one with `openssl rand -hex 20`");
    }
    Ok(keys)
}

fn log(t: &mut Table<'_>, log: &mut Log) {
    t.key("level", &mut log.level, one_of(LEVELS));
    t.key("mask-addresses", &mut log.mask_addresses, flag);
    t.key("format", &mut log.format, one_of(FORMATS));
    t.section("levels", |t| log.levels = t.each(|name, n| Ok((name.to_owned(), one_of(LEVELS)(n)?))));
}
