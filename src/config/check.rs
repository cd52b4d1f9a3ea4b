//! What single values can't tell: keys that must fit each other, and what is foolish but valid.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Config;
use super::reader::Report;
use crate::auth::opaque_string;
use crate::signal::Access;

pub(super) fn check(config: &Config, report: &Report<'_>) {
    host(config, report);
    listeners(config, report);
    tls(report);
    super::acme::check(config, report);
    auth(config, report);
    relay(config, report);
    peers(config, report);
    ice(config, report);
    rooms(config, report);
}

/// The certificate and its key: are they what they should be, and do they fit?
pub(super) fn pair(report: &Report<'_>, certificate: &[u8], key: &[u8]) {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.unwrap_or_default();
    if chain.is_empty() {
        let fix = "name a PEM file with -----BEGIN CERTIFICATE-----, such as certbot's fullchain.pem";
        report.error("tls.certificate", "there is no certificate in the file", fix);
    }
    let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
        let fix =
            "name a PEM file with an unencrypted -----BEGIN PRIVATE KEY-----, such as certbot's privkey.pem";
        return report.error("tls.key", "there is no private key in the file", fix);
    };
    if chain.is_empty() {
        return;
    }
    match CertifiedKey::from_der(chain, key, &Arc::new(default_provider())) {
        Err(rustls::Error::InconsistentKeys(_)) => report.error(
            "tls.key",
            "it is not the key of this certificate",
            "name the two files that were issued together",
        ),
        Err(error) => {
            let fix = "use an RSA (2048 bits and more), ECDSA P-256/P-384 or Ed25519 key";
            report.error("tls.key", format!("it can't be used with this certificate: {error}"), fix);
        }
        Ok(_) => {}
    }
}

fn host(config: &Config, report: &Report<'_>) {
    let Some(host) = &config.host else { return };
    let local = match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || is_private(address),
        Err(_) => host == "localhost" || !host.contains('.'),
    };
    if local {
        let fix = "write the public DNS name of this server";
        report.warn("host", "clients elsewhere can't find this server by that name", fix);
    }
}

//= 5780-6-2
fn listeners(config: &Config, report: &Report<'_>) {
    let listen = &config.listen;
    let streams = listen.streams();
    let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    let mut blamed = Vec::new();
    for (path, addresses) in streams {
        for address in addresses.iter().filter(|a| a.port() != 0) {
            let Some(other) = taken.insert(*address, path).filter(|other| !blamed.contains(&(path, *other)))
            else {
                continue;
            };
            // A port stands for two addresses; one complaint will do.
            blamed.push((path, other));
            // Blame the key that was written: the other one may be a default.
            let (mine, theirs) = if report.has(path) { (path, other) } else { (other, path) };
            let what = if path == other { "there twice".into() } else { format!("in {theirs} too") };
            report.error(mine, format!("{address} is {what}"), "give each its own port");
        }
    }
    if let Some(address) = twice(listen.udp.iter().filter(|a| a.port() != 0)) {
        report.error("listen.udp", format!("{address} is there twice"), "remove one of them");
    }

    let [tcp, tls, http, redirect] = streams;
    let all = [("listen.udp", &*listen.udp), tcp, tls, http, redirect];
    for (path, addresses) in all {
        if addresses.iter().any(|a| a.port() == 0) {
            let fix = "write the port, unless this is a test";
            report.warn(path, "port 0 lets the system choose a port, which clients can't know", fix);
        }
    }
    if config.metrics.iter().any(|a| !a.ip().is_loopback()) {
        let fix = "listen on 127.0.0.1, or let a firewall keep strangers away";
        report.warn("metrics.listen", "everybody who can reach this address can read the metrics", fix);
    }
    for (path, networks) in
        [("listen.proxy-protocol", &listen.proxy_protocol), ("listen.forwarded-for", &listen.forwarded_for)]
    {
        if networks.iter().any(|network| network.prefix_len() == 0) {
            let fix = "name the addresses of your proxies";
            report.warn(path, "whoever connects can choose the address it is known by", fix);
        }
    }
    if all.iter().all(|(_, addresses)| addresses.is_empty()) {
        let fix = "leave [listen] out, and it listens on 3478 and 8443";
        return report.error("listen", "there is nothing to listen on", fix);
    }
    if listen.udp.is_empty() {
        let fix = "open 3478 over UDP: it is the fastest way through, and TCP and TLS the ways out";
        report.warn("listen.udp", "no STUN and TURN over UDP", fix);
    }
    if listen.tls.is_empty() && listen.http.is_empty() {
        let fix = "set listen.tls (or listen.http behind a proxy), unless only the relay is wanted";
        report.warn("listen.tls", "no iceServers endpoint, no rooms and no page without HTTPS", fix);
    }
    if listen.tls.is_empty() && !listen.redirect.is_empty() {
        report.error("listen.redirect", "there is no HTTPS to lead to", "set listen.tls, or leave it out");
    }
    if listen.http.iter().any(|a| !a.ip().is_loopback()) {
        let fix = "listen on 127.0.0.1, for the proxy alone";
        report.warn("listen.http", "credentials travel without encryption, whoever asks", fix);
    }
}

fn tls(report: &Report<'_>) {
    for (one, other) in [("tls.certificate", "tls.key"), ("tls.key", "tls.certificate")] {
        if report.has(one) && !report.has(other) {
            report.error(other, format!("missing, though {one} is set"), "name both, or none of them");
        }
    }
}

fn auth(config: &Config, report: &Report<'_>) {
    if report.has("auth.secret") && report.has("auth.secret-file") {
        let fix = "keep one; list several in auth.secrets = [{ id = \"new\", secret-file = \"...\" }, ...]";
        report.error("auth.secret-file", "there is auth.secret too", fix);
    }
    if let Some(id) = twice(config.auth.secrets.iter().map(|s| &s.id)) {
        let what = format!("two secrets have the id {id:?}");
        report.error("auth.secrets", what, "give each its own: it is how logs tell them apart");
    }
    let (name, keys) = ("auth.oauth.server-name", "auth.oauth.keys");
    for (one, other) in [(name, keys), (keys, name)] {
        if report.has(one) && !report.has(other) {
            report.error(other, format!("missing, though {one} is set"), "set both, or none of them");
        }
    }
    let ids = config.auth.oauth.iter().flat_map(|oauth| &oauth.keys).map(|key| &key.id);
    if let Some(id) = twice(ids) {
        let what = format!("two keys have the id {id:?}");
        report.error(keys, what, "give each its own: it is the user name of their clients");
    }
    let names = config.auth.users.iter().filter_map(|user| opaque_string(&user.name).ok());
    if let Some(name) = twice(names) {
        let what = format!("two names are {name:?} for every client, spelt with other characters");
        report.error("auth.users", what, "remove one of them");
    }
}

fn relay(config: &Config, report: &Report<'_>) {
    let (relay, turn) = (&config.relay, &config.turn);
    if turn.default_lifetime > turn.max_lifetime {
        let path = written(report, ["relay.default-lifetime", "relay.max-lifetime"]);
        let what = format!(
            "the default lifetime ({} s) is above the maximum ({} s)",
            turn.default_lifetime.as_secs(),
            turn.max_lifetime.as_secs()
        );
        report.error(path, what, "raise max-lifetime or lower default-lifetime");
    }
    if relay.ports.len() < 100 {
        let what = format!("only {} allocations at a time for each relay address", relay.ports.len());
        report.warn("relay.ports", what, "open a wider range, as in \"49152-65535\", in the firewall too");
    }
    //= 8656-7.2-8
    if *relay.ports.start() < 1024 {
        let fix = "start at 1024 or higher";
        report.warn("relay.ports", "ports below 1024 belong to other services", fix);
    }
    let relays = |port| relay.ports.contains(&port);
    if let Some(address) = config.listen.udp.iter().find(|a| relays(a.port())) {
        let what = format!("the relay's ports contain the listener {address}");
        report.warn("relay.ports", what, "keep listeners out of the range");
    }
    for external in &relay.external_ips {
        if is_private(external.announced) {
            let what = format!("{} is a private address", external.announced);
            report.warn("relay.external-ip", what, "write the address the internet knows this server by");
        }
        if let Some(local) = external.local
            && !relay.addresses.is_empty()
            && !relay.addresses.contains(&local)
        {
            let what = format!(
                "{local} is none of relay.addresses, so nothing is announced as {}",
                external.announced
            );
            report.warn("relay.external-ip", what, "add it to relay.addresses, or remove the mapping");
        }
    }
    let locals = relay.external_ips.iter().map(|e| (e.local, e.announced.is_ipv4()));
    if twice(locals).is_some() {
        let fix = "write local=public for each, as in \"10.0.0.5=203.0.113.5\"";
        report.error("relay.external-ip", "two addresses are given for the same local one", fix);
    }
}

fn peers(config: &Config, report: &Report<'_>) {
    let turn = &config.turn;
    for network in &turn.allow_peers {
        if network.prefix_len() == 0 {
            let what = format!("{network} opens every address, this machine's own services among them");
            report.warn(
                "peers.allow",
                what,
                "public peers are open anyway; name the private networks you mean",
            );
        } else if let Some(danger) = dangerous(network) {
            report.warn(
                "peers.allow",
                format!("{network} opens {danger} to every client"),
                "remove it unless this is a test",
            );
        }
        if let Some(denied) = turn.deny_peers.iter().find(|d| d.contains(network)) {
            let fix = "deny wins: remove one of them";
            report.warn("peers.allow", format!("{network} is closed again by peers.deny {denied}"), fix);
        }
    }
}

fn dangerous(network: &IpNet) -> Option<&'static str> {
    let overlaps = |text: &str| {
        text.parse::<IpNet>().is_ok_and(|other| network.contains(&other) || other.contains(network))
    };
    if overlaps("127.0.0.0/8") || overlaps("::1/128") {
        Some("the services on this machine's loopback address")
    } else if overlaps("169.254.169.254/32") || overlaps("fd00:ec2::254/128") {
        Some("the cloud's metadata service, and with it often its keys,")
    } else {
        None
    }
}

fn ice(config: &Config, report: &Report<'_>) {
    let ice = &config.ice;
    if !(ice.min_ttl <= ice.ttl && ice.ttl <= ice.max_ttl) {
        let path = written(report, ["ice.ttl", "ice.min-ttl", "ice.max-ttl"]);
        let [min, ttl, max] = [ice.min_ttl, ice.ttl, ice.max_ttl].map(|d| d.as_secs());
        let what = format!("ttl ({ttl} s) is not between min-ttl ({min} s) and max-ttl ({max} s)");
        report.error(path, what, "move one of the three");
    }
    if !ice.demo && ice.api_keys.is_empty() && !report.has("ice.api-keys-file") {
        let fix = "set ice.api-keys, or demo = true";
        report.warn("ice.demo", "nobody can get credentials from /v1/ice: no demo, and no key", fix);
    }
}

fn rooms(config: &Config, report: &Report<'_>) {
    let rooms = &config.rooms;
    if rooms.ping >= rooms.timeout {
        let path = written(report, ["rooms.ping", "rooms.timeout"]);
        let what = format!(
            "a ping every {} s can't be answered within a timeout of {} s",
            rooms.ping.as_secs(),
            rooms.timeout.as_secs()
        );
        report.error(path, what, "let timeout be twice ping or more");
    }
    if rooms.max_capacity < rooms.capacity && report.has("rooms.max-capacity") {
        let what = format!(
            "the capacity of rooms ({}) is above max-capacity ({})",
            rooms.capacity, rooms.max_capacity
        );
        report.error(
            written(report, ["rooms.capacity", "rooms.max-capacity"]),
            what,
            "raise max-capacity or lower capacity",
        );
    }
    if (rooms.burst_bytes as usize) < rooms.max_bytes {
        let path = written(report, ["rooms.burst-bytes", "rooms.max-bytes"]);
        let what = format!(
            "a message of max-bytes ({}) would never pass burst-bytes ({})",
            rooms.max_bytes, rooms.burst_bytes
        );
        report.error(path, what, "raise burst-bytes or lower max-bytes");
    }
    for (keys, queue, replay) in [
        (["rooms.queue-messages", "rooms.replay-messages"], rooms.queue_messages, rooms.replay_messages),
        (["rooms.queue-bytes", "rooms.replay-bytes"], rooms.queue_bytes, rooms.replay_bytes),
    ] {
        if queue <= replay {
            let [bound, what] = keys.map(|key| key.trim_start_matches("rooms."));
            let text =
                format!("{what} ({replay}) does not fit into {bound} ({queue}): a resume would end itself");
            report.error(written(report, keys), text, format!("raise {bound} or lower {what}"));
        }
    }
    if report.has("rooms.invite-secret") && report.has("rooms.invite-secret-file") {
        report.error("rooms.invite-secret-file", "there is rooms.invite-secret too", "keep one");
    }
    let tokens = report.has("rooms.jwt.keys")
        || report.has("rooms.jwt.jwks-file")
        || report.has("rooms.jwt.jwks-url")
        || report.has("rooms.invite-secret")
        || report.has("rooms.invite-secret-file");
    for (path, access) in
        [("rooms.create", rooms.create), ("rooms.join", rooms.join), ("ice.issue", rooms.ice)]
    {
        if access == Access::Token && !tokens {
            let fix = "set rooms.jwt.keys, rooms.jwt.jwks-file, rooms.jwt.jwks-url or rooms.invite-secret";
            report.warn(path, "there is no key for tokens, so nobody has one", fix);
        }
    }
    if report.has("rooms.jwt.jwks-ca-file") && config.jwt.fetched.url.as_ref().is_none_or(|url| !url.secure) {
        let fix = "set rooms.jwt.jwks-url to an https:// URL, or remove it";
        report.error("rooms.jwt.jwks-ca-file", "there is nothing whose certificate it is for", fix);
    }
    if config.jwt.fetched.refresh < config.jwt.fetched.cooldown {
        let path = written(report, ["rooms.jwt.jwks-refresh", "rooms.jwt.jwks-cooldown"]);
        report.error(
            path,
            "jwks-refresh is below jwks-cooldown",
            "raise jwks-refresh or lower jwks-cooldown",
        );
    }
    if report.has("socket-io.enabled")
        && config.socketio.enabled
        && (rooms.create, rooms.join) != (Access::Any, Access::Any)
    {
        let what = "its clients can show no token, and rooms.create or rooms.join needs one: nobody comes in";
        report.warn("socket-io.enabled", what, "set it to false, or both of them to \"any\"");
    }
    if rooms.capacity > 8 {
        let what = format!("each browser sends its video {} times", rooms.capacity - 1);
        report.warn(
            "rooms.capacity",
            what,
            "keep it at 8 or less, or use a media server (SFU) for bigger rooms",
        );
    }
}

/// The first item that was there before.
fn twice<T: Ord + Clone>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    items.find(|item| !seen.insert(item.clone()))
}

/// The first of these keys that the file has: it is the one to blame.
fn written<'p, const N: usize>(report: &Report<'_>, paths: [&'p str; N]) -> &'p str {
    paths.into_iter().find(|path| report.has(path)).unwrap_or_default()
}

/// Not reachable from the internet.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
