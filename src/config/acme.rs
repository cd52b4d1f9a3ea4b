//! `[acme]`: certificates that ternd gets by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::reader::{Node, Read, Report, Table};
use super::values::{authorities, everywhere, host_name, list, name, one_of, private_file, without_line_end};
use super::{Config, Listen, url};

/// Let's Encrypt.
const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// What Let's Encrypt takes in one certificate.
const MOST_DOMAINS: usize = 100;

/// Certificates from an ACME server (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The DNS names to have a certificate for. Empty: off.
    pub domains: Vec<String>,
    /// Whom the CA writes to.
    pub email: Option<String>,
    /// How control over the names is proved.
    pub challenge: Challenge,
    /// The URL of the ACME server's directory.
    pub directory: String,
    /// Certificates in PEM that the ACME server's own is checked with. `None`: those that this machine trusts.
    pub ca: Option<Vec<u8>>,
    /// The account at the CA that this one is bound to.
    pub external_account: Option<ExternalAccount>,
    /// Where account and certificates are kept. `None`: `acme` in the directory that systemd keeps for the service.
    pub state_dir: Option<PathBuf>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            email: None,
            challenge: Challenge::TlsAlpn01,
            directory: DIRECTORY.into(),
            ca: None,
            external_account: None,
            state_dir: None,
        }
    }
}

impl Acme {
    /// Is it wanted?
    pub fn is_on(&self) -> bool {
        !self.domains.is_empty()
    }
}

/// Kinds of challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8737: on port 443, in the TLS handshake.
    TlsAlpn01,
    /// RFC 8555 section 8.3: on port 80, over HTTP.
    Http01,
}

/// External account binding (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// Its id at the CA.
    pub id: String,
    /// Its HMAC key.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExternalAccount({:?}, redacted)", self.id)
    }
}

const CHALLENGES: &[(&str, Challenge)] =
    &[("tls-alpn-01", Challenge::TlsAlpn01), ("http-01", Challenge::Http01)];

pub(super) fn read(t: &mut Table<'_>, acme: &mut Acme) {
    t.key("domains", &mut acme.domains, list(domain));
    t.optional("email", &mut acme.email, email);
    t.key("challenge", &mut acme.challenge, one_of(CHALLENGES));
    t.key("directory", &mut acme.directory, directory_url);
    t.key("ca-file", &mut acme.ca, authorities);
    t.key("external-account", &mut acme.external_account, external_account);
    t.optional("state-dir", &mut acme.state_dir, state_dir);
}

/// What follows from it for other keys that are not written.
pub(super) fn complete(config: &mut Config, report: &Report<'_>) {
    if !config.acme.is_on() {
        return;
    }
    if config.host.is_none() && !report.has("host") {
        config.host = config.acme.domains.first().cloned();
    }
    let listen = &mut config.listen;
    let has_80 = listen.http.iter().any(|at| at.port() == 80);
    if config.acme.challenge == Challenge::Http01
        && !report.has("listen.redirect")
        && !has_80
        && !listen.tls.is_empty()
    {
        listen.redirect = everywhere(80);
    }
}

/// Keys that must fit each other.
pub(super) fn check(config: &Config, report: &Report<'_>) {
    let Config { acme, listen, .. } = config;
    const DOMAINS: &str = "acme.domains";
    if !acme.is_on() {
        for path in ["acme.email", "acme.challenge", "acme.external-account"] {
            if report.has(path) && !report.has(DOMAINS) {
                let fix = "set acme.domains = [\"turn.example.org\"], or leave [acme] out";
                report.error(DOMAINS, format!("missing, though {path} is set"), fix);
                return;
            }
        }
        return;
    }
    if report.has("tls.certificate") || report.has("tls.key") {
        let fix = "keep one: leave [tls] out, and ternd gets the certificate; or leave acme.domains out";
        report.error(DOMAINS, "there is tls.certificate too", fix);
    }
    if acme.domains.len() > MOST_DOMAINS {
        let what = format!("{} names, more than CAs take in one certificate", acme.domains.len());
        report.error(DOMAINS, what, format!("write at most {MOST_DOMAINS}"));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = acme.domains.iter().find(|name| !seen.insert(*name)) {
        report.error(DOMAINS, format!("{twice} is there twice"), "remove one of them");
    }
    if let Some(host) = config.host.as_ref().filter(|host| !acme.domains.contains(host)) {
        let what = format!("clients are told to connect to {host}, which the certificate will not name");
        report.warn(DOMAINS, what, "add it, or set host to one of these names");
    }
    if listen.tls.is_empty() {
        let fix = "set listen.tls = 443, or leave acme.domains out";
        return report.error(
            "listen.tls",
            "there is no TLS listener for the certificate of acme.domains",
            fix,
        );
    }
    reachable(acme.challenge, listen, report);
}

/// The CA connects to a port that it knows, whatever is configured here.
fn reachable(challenge: Challenge, listen: &Listen, report: &Report<'_>) {
    let has = |port, listeners: [&[SocketAddr]; 2]| listeners.concat().iter().any(|at| at.port() == port);
    match challenge {
        Challenge::TlsAlpn01 if !has(443, [&listen.tls, &[]]) => {
            let fix = "set listen.tls = 443; or have port 443 forwarded to it; or prove it with acme.challenge = \"http-01\"";
            report.warn("acme.domains", "the CA connects to port 443, where nothing listens", fix);
        }
        Challenge::Http01 if !has(80, [&listen.redirect, &listen.http]) => {
            let fix = "set listen.redirect = 80, or have port 80 forwarded to it";
            report.warn("acme.challenge", "the CA connects to port 80, where nothing listens", fix);
        }
        _ => {}
    }
}

/// A DNS name that a certificate can be had for.
fn domain(node: &Node<'_>) -> Read<String> {
    let written = node.text()?;
    if written.starts_with("*.") {
        let fix = "name each host; or get it with a program that speaks DNS-01, and set tls.certificate and tls.key";
        return Err(node.error("a wildcard needs the challenge DNS-01, which ternd does not speak", fix));
    }
    let name = host_name(node)?;
    if name.parse::<IpAddr>().is_ok() {
        let fix = "write the DNS name of this server; for an address, get a certificate otherwise and set tls.certificate and tls.key";
        return Err(node.error("an IP address is no DNS name", fix));
    }
    if !name.contains('.') || name.ends_with(".local") || name.ends_with(".internal") {
        node.warn(
            "no public CA certifies this name",
            "write the full public name, unless acme.directory is a CA of yours",
        );
    }
    Ok(name)
}

fn email(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    let fits = |(user, host): (&str, &str)| {
        !user.is_empty()
            && !host.is_empty()
            && text.chars().all(|c| c.is_ascii_graphic() && !",?&<>".contains(c))
    };
    match text.rsplit_once('@').is_some_and(fits) {
        true => Ok(text.into()),
        false => Err(node.error("not an e-mail address", "write one, as in \"admin@example.org\"")),
    }
}

fn directory_url(node: &Node<'_>) -> Read<String> {
    let text = node.text()?;
    match url::parse(text).is_some_and(|url| url.secure) {
        true => Ok(text.into()),
        false => {
            let fix = format!("write the https:// URL of the ACME server's directory, as in {DIRECTORY:?}");
            Err(node.error("not the URL of a directory", fix))
        }
    }
}

/// `{ id = "kid-1", key-file = "eab.key" }`: what the CA's account page shows.
fn external_account(node: &Node<'_>) -> Read<Option<ExternalAccount>> {
    let (mut id, mut key) = (None, None);
    let mut fits = false;
    node.fields(|t| {
        t.optional("id", &mut id, name);
        t.key("key-file", &mut key, hmac_key);
        fits = t.has("id") && t.has("key-file");
    })?;
    if !fits {
        let fix = "write { id = \"...\", key-file = \"eab.key\" }, as the CA gave them to you";
        return Err(node.error("needs an id and a key-file", fix));
    }
    Ok(id.zip(key).map(|(id, key)| ExternalAccount { id, key }))
}

fn hmac_key(node: &Node<'_>) -> Read<Option<Zeroizing<Vec<u8>>>> {
    let Some(content) = private_file(node)?.1 else { return Ok(None) };
    let text = without_line_end(&content);
    match URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)) {
        Ok(key) if !key.is_empty() => Ok(Some(Zeroizing::new(key))),
        _ => Err(node.error("the file holds no key in Base64", "save the HMAC key as the CA shows it")),
    }
}

fn state_dir(node: &Node<'_>) -> Read<PathBuf> {
    let text = node.text()?;
    if !text.starts_with('/') || text.contains(char::is_control) {
        let fix = "write an absolute path, as in \"/var/lib/ternd/acme\"";
        return Err(node.error("not a place for a directory", fix));
    }
    Ok(text.into())
}
