//! `[rooms]`: its keys, in the order of `etc/ternd.full.toml`.

use zeroize::Zeroizing;

use super::reader::{Node, Read, Table};
use super::sections::MILLION;
use super::url::web_url;
use super::values::{
    authorities, count, duration, file, flag, list, name, one_of, secret, secret_file, small_count,
    without_line_end,
};
use super::{FetchedKeys, Jwt, JwtKey, JwtKind};
use crate::auth::Secret;
use crate::signal::{self, Access};

pub(super) const ACCESS: &[(&str, Access)] =
    &[("any", Access::Any), ("token", Access::Token), ("never", Access::Never)];

const ALGORITHMS: &[(&str, JwtKind)] = &[
    ("HS256", JwtKind::Hs256),
    ("RS256", JwtKind::Rs256),
    ("ES256", JwtKind::Es256),
    ("EdDSA", JwtKind::EdDsa),
];

pub(super) fn rooms(t: &mut Table<'_>, rooms: &mut signal::Settings, jwt: &mut Jwt) {
    // Taken apart in full: a bound without a key does not compile. The server's name is no setting, and who gets
    // credentials is said in [ice].
    let signal::Settings {
        server: _,
        hello_timeout,
        ping,
        timeout,
        resume,
        replay_messages,
        replay_bytes,
        replay_bytes_total,
        max_bytes,
        connections,
        connections_per_address,
        rooms,
        capacity,
        max_capacity,
        room_chars,
        name_chars,
        candidates,
        held_bytes,
        state_bytes,
        history,
        history_bytes,
        queue_messages,
        queue_bytes,
        messages_per_second,
        burst,
        bytes_per_second,
        burst_bytes,
        joins_per_minute,
        wrong_pins_per_minute,
        credentials_per_minute,
        malformed,
        create,
        join,
        ice: _,
        native_clients,
        invite_secret,
    } = rooms;
    t.key("create", create, one_of(ACCESS));
    t.key("join", join, one_of(ACCESS));
    t.key("native-clients", native_clients, flag);
    let mut written = None;
    t.optional("invite-secret", &mut written, |n| secret(16)(&n.hidden()));
    *invite_secret =
        written.map(|text: Zeroizing<String>| Secret::new("rooms.invite-secret", text.as_bytes()));
    let mut in_file = None;
    t.key("invite-secret-file", &mut in_file, secret_file);
    if let Some(bytes) = in_file {
        *invite_secret = Some(Secret { id: "rooms.invite-secret-file".into(), bytes });
    }
    t.key("capacity", capacity, count(2..=1000));
    t.key("max-capacity", max_capacity, count(2..=1000));
    t.key("rooms", rooms, count(MILLION));
    t.key("connections", connections, count(MILLION));
    t.key("connections-per-address", connections_per_address, count(MILLION));
    t.key("max-bytes", max_bytes, count(4096..=1_048_576));
    t.key("candidates", candidates, count(1..=1024));
    t.key("room-chars", room_chars, count(1..=256));
    t.key("name-chars", name_chars, count(1..=256));
    t.key("messages-per-second", messages_per_second, small_count(1..=100_000));
    t.key("burst", burst, small_count(1..=100_000));
    t.key("bytes-per-second", bytes_per_second, small_count(1024..=1 << 30));
    t.key("burst-bytes", burst_bytes, small_count(4096..=1 << 30));
    t.key("malformed", malformed, small_count(1..=1000));
    t.key("joins-per-minute", joins_per_minute, small_count(0..=60_000));
    t.key("wrong-pins-per-minute", wrong_pins_per_minute, small_count(0..=60_000));
    t.key("credentials-per-minute", credentials_per_minute, small_count(0..=60_000));
    t.key("resume", resume, duration(0..=3600));
    t.key("replay-messages", replay_messages, count(1..=400));
    t.key("replay-bytes", replay_bytes, count(1024..=512 * 1024));
    t.key("replay-bytes-total", replay_bytes_total, count(1 << 20..=1 << 36));
    t.key("held-bytes", held_bytes, count(1024..=512 * 1024));
    t.key("state-bytes", state_bytes, count(0..=1 << 20));
    t.key("history", history, count(0..=1000));
    t.key("history-bytes", history_bytes, count(0..=512 * 1024));
    t.key("queue-messages", queue_messages, count(64..=65_536));
    t.key("queue-bytes", queue_bytes, count(65_536..=1 << 28));
    t.key("hello-timeout", hello_timeout, duration(1..=60));
    t.key("ping", ping, duration(1..=3600));
    t.key("timeout", timeout, duration(1..=7200));
    t.section("jwt", |t| {
        t.optional("audience", &mut jwt.audience, name);
        t.optional("issuer", &mut jwt.issuer, name);
        let mut keys = Vec::new();
        t.key("keys", &mut keys, list(jwt_key));
        jwt.keys = keys.into_iter().flatten().collect();
        t.key("jwks-file", &mut jwt.jwks, |n| Ok(file(n)?.1));
        let FetchedKeys { url, ca, refresh, cooldown, timeout, max_bytes } = &mut jwt.fetched;
        t.optional("jwks-url", url, web_url);
        t.key("jwks-ca-file", ca, authorities);
        t.key("jwks-refresh", refresh, duration(60..=7 * 86_400));
        t.key("jwks-cooldown", cooldown, duration(1..=3600));
        t.key("jwks-timeout", timeout, duration(1..=60));
        t.key("jwks-bytes", max_bytes, count(1024..=1 << 20));
    });
}

/// `{ id = "2026", algorithm = "ES256", key-file = "app.pem" }`.
fn jwt_key(n: &Node<'_>) -> Read<Option<JwtKey>> {
    let (mut id, mut bytes, mut kind) = (None, None, JwtKind::Hs256);
    let mut fits = false;
    n.fields(|t| {
        t.optional("id", &mut id, name);
        t.key("algorithm", &mut kind, one_of(ALGORITHMS));
        t.key("key-file", &mut bytes, |n| match kind {
            JwtKind::Hs256 => secret_file(n),
            _ => {
                let content = file(n)?.1;
                Ok(content.map(|content| Zeroizing::new(without_line_end(&content).to_vec())))
            }
        });
        fits = t.has("algorithm") && t.has("key-file");
    })?;
    if !fits {
        let fix = "write { algorithm = \"ES256\", key-file = \"app.pem\" }";
        return Err(n.error("needs an algorithm and a key-file", fix));
    }
    Ok(bytes.map(|bytes| JwtKey { id, kind, bytes }))
}
