//! The configuration: TOML as written -> validated, typed settings.
//!
//! What enters: the text of `ternd.toml`. What leaves: a [`Config`], with warnings about what is foolish but valid; or
//! [`Invalid`] with every problem there is, each with its key, value, line and the way out.
//!
//! ```text
//! text ─► toml ─► sections.rs ─────► check.rs ─────────► Config
//!                 one line per key   keys that must      │
//!                   │                fit each other      └ settings of auth, turn and signal, and plain
//!                   └ values.rs: what a value must be      values that `ops` hands to net, http and ice
//!                     reader.rs: collects the problems
//! ```
//!
//! A key is added in three places: a field here, its line in `sections.rs`, and its line in `etc/ternd.full.toml`;
//! a test fails while one is missing.

mod acme;
mod check;
mod files;
mod hints;
mod problem;
mod reader;
mod rooms;
mod sections;
mod url;
mod values;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use zeroize::Zeroizing;

use crate::{auth, ice, signal, turn};

pub use acme::{Acme, Challenge, ExternalAccount};
pub use files::{Disk, Files};
pub use problem::{Problem, Severity};
pub use url::WebUrl;
pub use values::{duration_from_text, without_line_end};

/// `etc/ternd.full.toml`: every key with its default and what it does.
pub const FULL: &str = include_str!("../../etc/ternd.full.toml");

/// Everything the daemon can be told. [`Config::default`] is what runs without a file, and safe.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name clients are told, in URLs and to the people who open the page. `None`: the `Host` they asked for.
    pub host: Option<String>,
    /// Threads of the relay; 0: one per CPU.
    pub shards: usize,
    /// Bytes that the kernel keeps for each UDP listener. `None`: as many as it likes, up to 4 MiB.
    pub socket_buffer: Option<usize>,
    /// Each of these threads stays on one CPU.
    pub pin_shards: bool,
    /// Where it listens.
    pub listen: Listen,
    /// Certificate and key. `None`: a self-signed pair is made at each start.
    pub tls: Option<TlsFiles>,
    /// Certificates that it gets by itself.
    pub acme: Acme,
    /// Who may relay. Without secrets and users `ops` adds a secret that lives as long as the process.
    pub auth: auth::Settings,
    /// Where relayed packets leave.
    pub relay: Relay,
    /// Lifetimes, peers and bounds of the relay. Its addresses are empty: `ops` fills them in, from
    /// [`Relay::addresses`] or the interfaces of the machine, each with [`Relay::announced`].
    pub turn: turn::Settings,
    /// Whether clients can learn how their NAT behaves.
    pub nat_discovery: NatDiscovery,
    /// Bounds on streams: TCP and TLS, whoever speaks over them.
    pub connections: Connections,
    /// The endpoint that issues `iceServers`.
    pub ice: ice::Settings,
    /// The rooms.
    pub rooms: signal::Settings,
    /// The keys of tokens that the rooms take.
    pub jwt: Jwt,
    /// The rooms of the classic tutorials, at `/socket.io/`.
    pub socketio: SocketIo,
    /// Pages of the operator's own.
    pub pages: Pages,
    /// How long running calls may go on at a stop.
    pub drain_timeout: Duration,
    /// Where metrics are served, over HTTP. Empty: not at all.
    pub metrics: Vec<SocketAddr>,
    /// The socket for `ternd ctl`. `None`: `admin.sock` in the directory that systemd makes for the service.
    pub admin_socket: Option<PathBuf>,
    /// The log.
    pub log: Log,
}

/// Where metrics are served unless the configuration says otherwise.
pub const DEFAULT_METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9643));

/// Addresses and ports, by what is spoken there. An empty list: not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// STUN and TURN over UDP.
    pub udp: Vec<SocketAddr>,
    /// STUN and TURN over TCP.
    pub tcp: Vec<SocketAddr>,
    /// HTTPS, WebSocket and TURN over TLS, all on each of these.
    pub tls: Vec<SocketAddr>,
    /// HTTP and WebSocket without TLS, for a proxy in front.
    pub http: Vec<SocketAddr>,
    /// HTTP that leads to HTTPS, and answers HTTP-01 challenges.
    pub redirect: Vec<SocketAddr>,
    /// Proxies that begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    /// Proxies whose X-Forwarded-For is believed.
    pub forwarded_for: Vec<IpNet>,
}

impl Listen {
    /// What is spoken over streams, each with its key: no two of these may have the same port.
    pub fn streams(&self) -> [(&'static str, &[SocketAddr]); 4] {
        [
            ("listen.tcp", &self.tcp),
            ("listen.tls", &self.tls),
            ("listen.http", &self.http),
            ("listen.redirect", &self.redirect),
        ]
    }
}

/// PEM files. They were readable, and fit each other, when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those up to the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The sockets of allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Local addresses to relay from. Empty: those of the machine.
    pub addresses: Vec<IpAddr>,
    /// What clients and peers are told instead, behind 1:1 NAT.
    pub external_ips: Vec<ExternalIp>,
    /// UDP ports to relay from.
    pub ports: RangeInclusive<u16>,
    /// Bytes that the kernel keeps for each relay socket. `None`: as many as it does for any socket.
    pub socket_buffer: Option<usize>,
}

/// What RFC 5780 needs: a second address and a second port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatDiscovery {
    /// Two addresses of this machine. `None`: off.
    pub addresses: Option<[IpAddr; 2]>,
    /// The port beside the first one of [`Listen::udp`].
    pub port: u16,
}

/// One line of a 1:1 NAT's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalIp {
    /// The address of this machine; `None`: each of the same family.
    pub local: Option<IpAddr>,
    /// What the world knows it as.
    pub announced: IpAddr,
}

impl Relay {
    /// What the local address `local` is announced as: the external address given for it, or else for its family,
    /// or else itself.
    pub fn announced(&self, local: IpAddr) -> IpAddr {
        let exact = self.external_ips.iter().find(|e| e.local == Some(local));
        let family = |e: &&ExternalIp| e.local.is_none() && e.announced.is_ipv4() == local.is_ipv4();
        exact.or_else(|| self.external_ips.iter().find(family)).map_or(local, |e| e.announced)
    }
}

/// Bounds on streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// In total.
    pub total: usize,
    /// From one client address (IPv6: its /64).
    pub per_address: usize,
    /// How long a TLS handshake, or a first request, may take.
    pub handshake_timeout: Duration,
}

/// The endpoint for socket.io clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketIo {
    /// Whether it is there. The program may have been built without it.
    pub enabled: bool,
    /// Members of one of its rooms. Its other bounds are those of the rooms.
    pub capacity: usize,
}

/// Pages beside the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Where they are. `None`: only those that are part of the program.
    pub directory: Option<PathBuf>,
    /// Their `Content-Security-Policy`; empty: none.
    pub policy: String,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// What is written of ternd's own messages; libraries add their warnings.
    pub level: LevelFilter,
    /// The same for single modules, `relay` or a library; the longest name that fits decides.
    pub levels: Vec<(String, LevelFilter)>,
    /// Write addresses without their last part.
    pub mask_addresses: bool,
    /// How it is written.
    pub format: LogFormat,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal if stderr is connected to it, else as text.
    Auto,
    /// Lines of text on stderr.
    Text,
    /// One JSON object per line on stderr.
    Json,
    /// Records with fields to systemd's journal.
    Journal,
}

/// Which JSON Web Tokens the rooms take.
#[derive(Clone, Debug, Default)]
pub struct Jwt {
    /// What `aud` must be, if anything.
    pub audience: Option<String>,
    /// What `iss` must be, if anything.
    pub issuer: Option<String>,
    /// The keys. One in a file that can't be looked at from here is left out.
    pub keys: Vec<JwtKey>,
    /// The content of a JWKS file.
    pub jwks: Option<Vec<u8>>,
    /// Where more keys are published, and how often to look.
    pub fetched: FetchedKeys,
}

/// Keys that are fetched while the daemon runs.
#[derive(Clone, Debug)]
pub struct FetchedKeys {
    /// Where from. `None`: from nowhere.
    pub url: Option<WebUrl>,
    /// The authorities that its certificate may come from, in PEM; `None`: those that this machine trusts.
    pub ca: Option<Vec<u8>>,
    /// The longest time between two looks.
    pub refresh: Duration,
    /// The shortest time between two looks.
    pub cooldown: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// Bytes of the set.
    pub max_bytes: usize,
}

impl Default for FetchedKeys {
    fn default() -> Self {
        Self {
            url: None,
            ca: None,
            refresh: Duration::from_secs(3600),
            cooldown: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            max_bytes: 256 * 1024,
        }
    }
}

/// A key for tokens.
#[derive(Clone)]
pub struct JwtKey {
    /// The `kid` of its tokens.
    pub id: Option<String>,
    /// The algorithm of its tokens.
    pub kind: JwtKind,
    /// A shared secret, or a public key in PEM.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({:?}, {:?}, redacted)", self.id, self.kind)
    }
}

/// Algorithms of tokens (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named by the RFCs")]
pub enum JwtKind {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: None,
            shards: 0,
            socket_buffer: None,
            pin_shards: false,
            listen: Listen {
                udp: values::everywhere(3478),
                tcp: values::everywhere(3478),
                tls: values::everywhere(8443),
                http: Vec::new(),
                redirect: Vec::new(),
                proxy_protocol: Vec::new(),
                forwarded_for: Vec::new(),
            },
            tls: None,
            acme: Acme::default(),
            auth: auth::Settings::default(),
            //= 8656-7.2-7
            relay: Relay {
                addresses: Vec::new(),
                external_ips: Vec::new(),
                ports: 49_152..=65_535,
                socket_buffer: None,
            },
            turn: turn::Settings::default(),
            nat_discovery: NatDiscovery { addresses: None, port: 3479 },
            connections: Connections {
                total: 10_000,
                per_address: 2_000,
                handshake_timeout: Duration::from_secs(10),
            },
            ice: ice::Settings::default(),
            rooms: signal::Settings::default(),
            jwt: Jwt::default(),
            socketio: SocketIo { enabled: true, capacity: 2 },
            pages: Pages { directory: None, policy: values::PAGE_POLICY.into() },
            drain_timeout: Duration::from_secs(30),
            metrics: vec![DEFAULT_METRICS],
            admin_socket: None,
            log: Log {
                level: LevelFilter::Info,
                levels: Vec::new(),
                mask_addresses: false,
                format: LogFormat::Auto,
            },
        }
    }
}

impl Config {
    /// The settings of the endpoint, with the host and the ports that are told to clients.
    pub fn ice(&self) -> ice::Settings {
        let ports = |listeners: &[SocketAddr]| {
            let mut ports: Vec<_> = listeners.iter().map(SocketAddr::port).collect();
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        ice::Settings {
            host: self.host.clone(),
            udp: ports(&self.listen.udp),
            tcp: ports(&self.listen.tcp),
            tls: ports(&self.listen.tls),
            ..self.ice.clone()
        }
    }
}

impl Config {
    /// What to send to whom a token invites. It stands behind `#`: no server sees it, and no log has it.
    pub fn invite_link(&self, host: &ice::Host, room: &str, token: &str) -> String {
        let room: String = form_urlencoded::byte_serialize(room.as_bytes()).collect();
        let port = match self.listen.tls.first().map_or(443, SocketAddr::port) {
            443 => String::new(),
            port => format!(":{port}"),
        };
        format!("https://{host}{port}/r/{room}#token={token}")
    }
}

/// A configuration that is accepted.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The settings.
    pub config: Config,
    /// What is foolish but valid.
    pub warnings: Vec<Problem>,
}

/// A configuration that is refused. Displays as all its problems, the warnings with them, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The file, as it was named.
    pub file: String,
    /// At least one is an error.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}", problem.render(&self.file))?;
        }
        let errors = self.problems.iter().filter(|p| p.severity == Severity::Error).count();
        write!(f, "{} is refused: {errors} error{}", self.file, if errors == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Invalid {}

/// Reads and checks the configuration in the file `path`.
///
/// # Errors
/// [`Invalid`], with every problem found.
pub fn load(path: &Path, files: &dyn Files) -> Result<Checked, Invalid> {
    let refused = |problems| Invalid { file: path.display().to_string(), problems };
    let unreadable = |what: String, fix: &str| {
        let (severity, path, fix) = (Severity::Error, String::new(), fix.to_owned());
        refused(vec![Problem { severity, line: None, path, value: None, what, fix }])
    };
    let bytes = files.read(path).map_err(|error| {
        let fix = "name a file that exists and may be read; without one, `ternd serve` runs on its defaults";
        unreadable(format!("cannot be read: {error}"), fix)
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| unreadable(format!("not text: {}", error.utf8_error()), "save it as UTF-8"))?;

    let mut checked = parse(&text, files).map_err(refused)?;
    let secrets = !checked.config.auth.secrets.is_empty()
        || !checked.config.auth.users.is_empty()
        || !checked.config.ice.api_keys.is_empty();
    if secrets && files.is_public(path) {
        let fix = "chmod 640 it, with the group of the service; or keep secrets in files of their own".into();
        let what = "it holds or names secrets, and every user of this machine can read it".into();
        let (severity, path) = (Severity::Warning, String::new());
        checked.warnings.push(Problem { severity, line: None, path, value: None, what, fix });
    }
    Ok(checked)
}

/// Reads and checks a configuration.
///
/// ```
/// use std::path::Path;
/// use ternd::config::{Disk, parse};
///
/// let files = Disk::beside(Path::new("ternd.toml"));
/// assert_eq!(parse("[listen]\ntls = 443", &files).unwrap().config.listen.tls.len(), 2);
///
/// let problems = parse("[listen]\nudp = 99999\ntsl = 443", &files).unwrap_err();
/// assert_eq!(problems[0].to_string(), "line 2: listen.udp = 99999: out of range; write a number from 0 to 65535, without quotes");
/// assert_eq!(problems[1].to_string(), "line 3: listen.tsl: there is no such key; did you mean tls?");
/// ```
///
/// # Errors
/// Every problem found, warnings among them, in the order of the text.
pub fn parse(text: &str, files: &dyn Files) -> Result<Checked, Vec<Problem>> {
    let (outcome, _) = parse_and_list(text, files);
    outcome
}

/// As [`parse`], with the path of every key there is.
fn parse_and_list(text: &str, files: &dyn Files) -> (Result<Checked, Vec<Problem>>, Vec<String>) {
    let (document, syntax) = toml::de::DeTable::parse_recoverable(text);
    let report = reader::Report::new(text, files);
    let mut broken: Vec<usize> = Vec::new();
    for error in &syntax {
        let line = report.line(&error.span().unwrap_or_default());
        // One bracket that is missing makes many lines no TOML: the first few tell enough.
        if !broken.contains(&line) && broken.len() < 5 {
            report.syntax_error(error.message(), line);
        }
        broken.push(line);
    }
    let mut config = Config::default();
    reader::Table::root(&report, document.get_ref(), |root| sections::read(root, &mut config));
    acme::complete(&mut config, &report);
    check::check(&config, &report);

    let (mut problems, known) = report.finish();
    // What was guessed of a line that is no TOML says nothing more about it.
    problems.retain(|p| p.path.is_empty() || p.line.is_none_or(|line| !broken.contains(&line)));
    let refused = problems.iter().any(|p| p.severity == Severity::Error);
    (if refused { Err(problems) } else { Ok(Checked { config, warnings: problems }) }, known)
}

#[cfg(test)]
mod tests;
