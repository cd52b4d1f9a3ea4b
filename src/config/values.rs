//! The kinds of value: each turns one [`Node`] into a typed value or reports what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::ExternalIp;
use super::reader::{Node, Read};
use crate::auth::{TokenAlgorithm, opaque_string};

/// A list of values of one kind. Every faulty element is reported, not only the first.
pub(super) fn list<T>(kind: impl Fn(&Node<'_>) -> Read<T>) -> impl Fn(&Node<'_>) -> Read<Vec<T>> {
    move |node| {
        let elements = node
            .elements()
            .ok_or_else(|| node.wrong_type("a list", "put it in brackets: [\"one\", \"another\"]"))?;
        let read: Vec<_> = elements.iter().map(&kind).collect();
        read.into_iter().collect()
    }
}

pub(super) fn flag(node: &Node<'_>) -> Read<bool> {
    node.flag()
}

pub(super) fn count(range: RangeInclusive<u64>) -> impl Fn(&Node<'_>) -> Read<usize> {
    move |node| {
        let n = node.integer(range.clone())?;
        usize::try_from(n).map_err(|_| node.error("too big for this machine", "write a smaller number"))
    }
}

/// Bounds that are `u32` in the settings.
pub(super) fn port(node: &Node<'_>) -> Read<u16> {
    // The range fits.
    small_count(1..=65_535)(node).map(|n| n as u16)
}

pub(super) fn small_count(range: RangeInclusive<u32>) -> impl Fn(&Node<'_>) -> Read<u32> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    move |node| {
        let n = node.integer(range.clone())?;
        u32::try_from(n).map_err(|_| node.error("too big", "write a smaller number"))
    }
}

/// So many per second; 0: as many as come.
pub(super) fn rate(sensible: u64) -> impl Fn(&Node<'_>) -> Read<u64> {
    move |node| {
        let rate = node.integer(0..=1_000_000_000_000)?;
        if (1..sensible).contains(&rate) {
            node.warn("too little for one call", format!("write {sensible} or more, or 0 for no cap"));
        }
        Ok(rate)
    }
}

/// `600` is seconds; `"10m"` says its unit: s, m, h or d. The range is in seconds.
pub(super) fn duration(range: RangeInclusive<u64>) -> impl Fn(&Node<'_>) -> Read<Duration> {
    move |node| {
        if node.is_integer() {
            return node.integer(range.clone()).map(Duration::from_secs);
        }
        let form = "write seconds, as in 600, or text with a unit (s, m, h, d), as in \"10m\"";
        let text = node.text()?;
        match duration_with_unit(text) {
            None => Err(node.error("not a duration", form)),
            Some(read) if range.contains(&read.as_secs()) => Ok(read),
            Some(_) => Err(node.error(
                "out of range",
                format!("write something from {} to {} seconds", range.start(), range.end()),
            )),
        }
    }
}

/// The duration that `"600"` (seconds) or `"10m"` stands for.
pub fn duration_from_text(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_secs).or_else(|| duration_with_unit(text))
}

fn duration_with_unit(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.trim_end().parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// One word of a table of words.
pub(super) fn one_of<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Node<'_>) -> Read<T> {
    move |node| {
        let text = node.text()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            node.error("not one of the words allowed here", format!("write one of {}", words.join(", ")))
        })
    }
}

fn parse<T: FromStr>(node: &Node<'_>, what: &str, fix: &str) -> Read<T> {
    node.text()?.parse().map_err(|_| node.error(what, fix))
}

/// Both wildcards: what a bare port stands for.
pub(super) fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

/// `443` (every address), `"192.0.2.1:443"`, `"[2001:db8::1]:443"`, or a list of these.
pub(super) fn listeners(node: &Node<'_>) -> Read<Vec<SocketAddr>> {
    let Some(elements) = node.elements() else { return listener(node) };
    let read: Vec<_> = elements.iter().map(listener).collect();
    Ok(read.into_iter().collect::<Read<Vec<_>>>()?.concat())
}

fn listener(node: &Node<'_>) -> Read<Vec<SocketAddr>> {
    if node.is_integer() {
        let port = node.integer(0..=65_535)?;
        return Ok(everywhere(u16::try_from(port).unwrap_or_default()));
    }
    let form = "write a port, as in 3478, or an address of this machine with a port, as in \"192.0.2.1:3478\" \
                or \"[2001:db8::1]:3478\"";
    parse(node, "not a port, nor an IP address with a port", form).map(|address| vec![address])
}

/// Where a Unix socket is to be.
pub(super) fn socket_path(node: &Node<'_>) -> Read<PathBuf> {
    let text = node.text()?;
    // sockaddr_un has 108 bytes, with a zero at the end.
    if !text.starts_with('/') || text.len() > 107 || text.contains(char::is_control) {
        let fix = "write an absolute path of at most 107 bytes, as in \"/run/ternd/admin.sock\"";
        return Err(node.error("not a place for a socket", fix));
    }
    Ok(text.into())
}

/// An address that something can be reached at.
pub(super) fn ip_address(node: &Node<'_>) -> Read<IpAddr> {
    let form = "write an IP address, as in \"192.0.2.1\" or \"2001:db8::1\"";
    let address: IpAddr = parse(node, "not an IP address", form)?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(node.error("no single machine has this address", form));
    }
    Ok(address)
}

/// A port of another server.
pub(super) fn server_address(node: &Node<'_>) -> Read<SocketAddr> {
    let form = "write address and port, as in \"203.0.113.20:3478\" or \"[2001:db8::20]:3478\"";
    let address: SocketAddr = parse(node, "not an IP address with a port", form)?;
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        return Err(node.error("no single server has this address", form));
    }
    Ok(address)
}

/// `"203.0.113.5"`, or `"10.0.0.5=203.0.113.5"` where there are several.
pub(super) fn external_ip(node: &Node<'_>) -> Read<ExternalIp> {
    let form =
        "write the public address, as in \"203.0.113.5\", or local=public, as in \"10.0.0.5=203.0.113.5\"";
    let text = node.text()?;
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
    let mapping = match text.split_once('=') {
        None => parse(text).map(|announced| ExternalIp { local: None, announced }),
        Some((local, announced)) => match (parse(local), parse(announced)) {
            (Some(local), Some(announced)) => Some(ExternalIp { local: Some(local), announced }),
            _ => None,
        },
    };
    let mapping = mapping.ok_or_else(|| node.error("not an external address", form))?;
    if mapping.local.is_some_and(|local| local.is_ipv4() != mapping.announced.is_ipv4()) {
        return Err(node.error("maps between IPv4 and IPv6", "map IPv4 to IPv4 and IPv6 to IPv6"));
    }
    Ok(mapping)
}

/// `"10.0.0.0/8"`, `"fd00::/8"`, or a single address.
pub(super) fn network(node: &Node<'_>) -> Read<IpNet> {
    let text = node.text()?;
    let form = "write a network, as in \"10.0.0.0/8\" or \"fd00::/8\", or one address";
    let network: IpNet = match text.parse::<IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => text.parse().map_err(|_| node.error("not a network in CIDR form", form))?,
    };
    if network.addr() != network.network() {
        let whole = network.trunc();
        node.warn(
            format!("this means all of {whole}"),
            format!("write \"{whole}\", or one address without /"),
        );
    }
    Ok(network.trunc())
}

/// `"49152-65535"`.
pub(super) fn port_range(node: &Node<'_>) -> Read<RangeInclusive<u16>> {
    let form = "write the first and the last port, as in \"49152-65535\"";
    let (first, last) = node
        .text()?
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)))
        .ok_or_else(|| node.error("not a range of ports", form))?;
    if first == 0 || first > last {
        return Err(node.error("an empty range", "write the lower port first; 0 is no port"));
    }
    Ok(first..=last)
}

/// What stands before the port in `turn:HOST:3478`: a DNS name or an address.
pub(super) fn host_name(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.into());
    }
    if text.len() > 253 || !text.split('.').all(label) {
        let fix = "write the bare name, as in \"turn.example.org\": no scheme, no port, no path";
        return Err(node.error("not a host name", fix));
    }
    Ok(text.to_ascii_lowercase())
}

/// An origin as browsers send it, `"https://app.example.org"`, or `"*"`.
pub(super) fn origin(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    let host = text.strip_prefix("https://").or(text.strip_prefix("http://"));
    let plain =
        |h: &str| !h.is_empty() && h.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@*\\".contains(&b));
    if text == "*" || host.is_some_and(plain) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(node.error(
        "not an origin",
        "write scheme and host of the page, as in \"https://app.example.org\", without a path; or \"*\"",
    ))
}

/// The name of a realm: short, since it is in each 401, and fit for a quoted string.
//= 8489-14.9-1
pub(super) fn realm(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    if text.is_empty() || text.len() > 127 || text.chars().any(|c| c.is_control() || "\"\\".contains(c)) {
        let fix = "write 1 to 127 bytes of text without \" and \\";
        return Err(node.error("not a realm", fix));
    }
    sendable(node, text)?;
    Ok(text.into())
}

/// Text that clients have to type and hash: all of its characters must survive that (RFC 8489 section 9.2.2).
pub(super) fn sendable(node: &Node<'_>, text: &str) -> Read<()> {
    let fix = "write letters, digits, signs and spaces";
    opaque_string(text).map(drop).map_err(|why| node.error(format!("no client can send this: {why}"), fix))
}

/// What answers name as SOFTWARE; "" is nothing (RFC 8489 section 14.14).
//= 8489-16.1.2-1
pub(super) fn software(node: &Node<'_>) -> Read<Option<String>> {
    let text = node.text()?;
    if text.chars().count() > 127 || text.chars().any(char::is_control) {
        return Err(node.error("not a name of software", "write up to 127 characters, or \"\" for nothing"));
    }
    Ok(Some(text.into()).filter(|t: &String| !t.is_empty()))
}

/// A name for logs.
pub(super) fn name(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
        return Err(node.error("not a name", "write 1 to 64 bytes of text"));
    }
    Ok(text.into())
}

/// A secret, a key or a password of at least `good` bytes, written here.
pub(super) fn secret(good: usize) -> impl Fn(&Node<'_>) -> Read<Zeroizing<String>> {
    move |node| {
        let node = node.hidden();
        let text = node.text()?;
        weigh(&node, text.as_bytes(), good)?;
        Ok(Zeroizing::new(text.into()))
    }
}

/// A secret in a file of its own; line breaks at its end are not part of it. `None`: it can't be looked at from here.
pub(super) fn secret_file(node: &Node<'_>) -> Read<Option<Zeroizing<Vec<u8>>>> {
    let Some(bytes) = private_file(node)?.1 else { return Ok(None) };
    let secret = without_line_end(&bytes);
    weigh(node, secret, 16)?;
    Ok(Some(Zeroizing::new(secret.to_vec())))
}

/// A key for access tokens in a file of its own, as bytes or in Base64, as long as its algorithm wants it.
pub(super) fn token_key_file(node: &Node<'_>, algorithm: TokenAlgorithm) -> Read<Option<Zeroizing<Vec<u8>>>> {
    let Some(content) = private_file(node)?.1 else { return Ok(None) };
    let len = algorithm.key_len();
    if content.len() == len {
        return Ok(Some(content));
    }
    match STANDARD.decode(without_line_end(&content)).map(Zeroizing::new) {
        Ok(key) if key.len() == len => Ok(Some(key)),
        _ => Err(node.error(
            format!("the file holds no key of {len} bytes"),
            format!("make one with `openssl rand -base64 {len}`"),
        )),
    }
}

/// The content of a file with a secret: without the line breaks that editors leave at the end.
pub fn without_line_end(content: &[u8]) -> &[u8] {
    let end = content.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
    content.get(..end).unwrap_or_default()
}

fn weigh(node: &Node<'_>, secret: &[u8], good: usize) -> Read<()> {
    let random = "make one with `openssl rand -base64 32`";
    if secret.is_empty() {
        return Err(node.error("empty: anybody could act", random));
    }
    if secret.len() < good {
        node.warn("short enough to be guessed", random);
    }
    Ok(())
}

/// A file that can be read: where it is, and what it holds unless it can't be looked at from here.
pub(super) fn file(node: &Node<'_>) -> Read<(PathBuf, Option<Vec<u8>>)> {
    let written = node.text()?;
    let Some(path) = node.report.files.locate(written) else {
        node.warn(
            "not looked at: systemd hands it to the running service only",
            "run this inside the service to have it checked, or trust it",
        );
        return Ok((written.into(), None));
    };
    match node.report.files.read(&path) {
        Ok(bytes) => Ok((path, Some(bytes))),
        Err(error) => Err(node.error(
            format!("cannot read {}: {error}", path.display()),
            "name a file that exists and that the service's user may read; relative names start beside this file",
        )),
    }
}

/// A file of certificates.
pub(super) fn authorities(node: &Node<'_>) -> Read<Option<Vec<u8>>> {
    let Some(pem) = file(node)?.1 else { return Ok(None) };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(Some(pem)),
        _ => Err(node.error(
            "there is no certificate in the file",
            "name a PEM file with the -----BEGIN CERTIFICATE----- of your authority",
        )),
    }
}

/// A directory that is there.
pub(super) fn directory(node: &Node<'_>) -> Read<PathBuf> {
    let written = node.text()?;
    let fix = "name a directory that exists and that the service's user may read; relative names start beside this file";
    match node.report.files.locate(written) {
        Some(path) if node.report.files.is_directory(&path) => Ok(path),
        Some(path) => Err(node.error(format!("{} is no directory", path.display()), fix)),
        None => Err(node.error("a credential is no directory", fix)),
    }
}

/// What the operator's own pages may do by default: their own scripts, styles and sockets, also inline.
pub(super) const PAGE_POLICY: &str = "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline'; \
    style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; object-src 'none'; frame-ancestors 'self'";

/// What can be the value of an HTTP header.
pub(super) fn header_value(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
        return Ok(text.into());
    }
    Err(node.error("not the value of a header", "write printable ASCII on one line"))
}

/// The same for a file with a secret in it.
pub(super) fn private_file(node: &Node<'_>) -> Read<(PathBuf, Option<Zeroizing<Vec<u8>>>)> {
    let (path, bytes) = file(node)?;
    if node.report.files.is_public(&path) {
        node.warn(
            "every user of this machine can read this file",
            "chmod 640 it, with the group of the service",
        );
    }
    Ok((path, bytes.map(Zeroizing::new)))
}
