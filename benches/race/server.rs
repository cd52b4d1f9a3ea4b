//! A server under test: one process in the servers' namespace, on the servers' core.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::lab::Lab;
use crate::process::{LOAD_CORE, Process, SERVER_CORE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Coturn,
    Ternd,
    /// ternd with two shards, on both cores.
    TwoShards,
    Floor,
}

impl Kind {
    /// Whom ternd runs against.
    pub const RIVAL: Self = Self::Coturn;

    pub fn name(self) -> &'static str {
        match self {
            Self::Coturn => "coturn",
            Self::Ternd => "ternd",
            Self::TwoShards => "2 shards",
            Self::Floor => "floor",
        }
    }

    fn ip(self) -> Ipv4Addr {
        let last = match self {
            Self::Coturn => 10,
            Self::Ternd => 20,
            Self::Floor => 30,
            Self::TwoShards => 40,
        };
        Ipv4Addr::new(10, 9, 0, last)
    }
}

pub const USER: &str = "race";
pub const PASSWORD: &str = "race";
/// The name in the certificate.
pub const NAME: &str = "race.test";
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

/// Where things are that the servers need.
pub struct Files {
    pub ternd: String,
    directory: tempfile::TempDir,
    /// What TLS clients trust.
    pub certificate: rustls::pki_types::CertificateDer<'static>,
}

impl Files {
    pub fn new(ternd: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        std::fs::write(directory.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        Self { ternd, directory, certificate: cert.der().clone() }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

pub struct Server {
    pub kind: Kind,
    pub process: Process,
    pub udp: SocketAddrV4,
    pub tls: SocketAddrV4,
}

impl Server {
    /// Starts it; it may take a moment until it answers.
    pub fn start(kind: Kind, lab: &Lab, files: &Files) -> Self {
        let (udp, tls) = (SocketAddrV4::new(kind.ip(), PORT), SocketAddrV4::new(kind.ip(), TLS_PORT));
        let cores = match kind {
            Kind::TwoShards => format!("{SERVER_CORE},{LOAD_CORE}"),
            _ => SERVER_CORE.to_string(),
        };
        let mut line = lab.enter();
        line.extend(["taskset".into(), "-c".into(), cores]);
        line.extend(match kind {
            Kind::Coturn => coturn(files, udp, tls),
            Kind::Ternd | Kind::TwoShards => {
                let config = files.path(kind.name());
                std::fs::write(&config, ternd(udp, tls, if kind == Kind::Ternd { 1 } else { 2 })).unwrap();
                vec![files.ternd.clone(), "serve".into(), "--config".into(), config]
            }
            Kind::Floor => {
                let this = std::env::current_exe().unwrap().display().to_string();
                vec![this, "--floor".into(), udp.to_string(), crate::fleet::PEER.to_string()]
            }
        });
        Self { kind, process: Process::start(&line, "RACE_LOG"), udp, tls }
    }
}

/// As Debian ships it, with what costs time for nothing switched off, and as many relay threads as ternd has shards.
fn coturn(files: &Files, udp: SocketAddrV4, tls: SocketAddrV4) -> Vec<String> {
    let ip = udp.ip();
    let (udp, tls) = (udp.port(), tls.port());
    let (cert, key, pid) = (files.path("cert.pem"), files.path("key.pem"), files.path("coturn.pid"));
    let line = format!(
        "turnserver -n --no-cli --log-file stdout --simple-log --pidfile {pid} \
         --listening-ip {ip} --relay-ip {ip} --listening-port {udp} --tls-listening-port {tls} --no-dtls \
         --cert {cert} --pkey {key} --realm race --lt-cred-mech --user {USER}:{PASSWORD} \
         --relay-threads 1 --min-port 10000 --max-port 65000"
    );
    line.split_whitespace().map(Into::into).collect()
}

fn ternd(udp: SocketAddrV4, tls: SocketAddrV4, shards: u8) -> String {
    format!(
        r#"shards = {shards}
[listen]
udp = ["{udp}"]
tcp = ["{udp}"]
tls = ["{tls}"]
[tls]
certificate = "cert.pem"
key = "key.pem"
[auth]
realm = "race"
users = {{ {USER} = "{PASSWORD}" }}
[relay]
addresses = ["{}"]
ports = "10000-65000"
[peers]
allow = ["10.9.0.0/16"]
[limits]
allocations = 50000
allocations-per-user = 50000
allocations-per-address = 50000
unauthenticated-answers = 0
connections-per-address = 10000
[log]
level = "warn"
"#,
        udp.ip()
    )
}
