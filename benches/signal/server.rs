//! A server under test: one process on the servers' core, on a port of loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{Process, SERVER_CORE};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Node,
    Ternd,
    Floor,
}

impl Kind {
    /// Whom ternd runs against.
    pub const RIVAL: Self = Self::Node;
    pub const ALL: [Self; 3] = [Self::Node, Self::Ternd, Self::Floor];

    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "socket.io",
            Self::Ternd => "ternd",
            Self::Floor => "floor",
        }
    }
}

/// What is installed beside [`SERVER`], exactly.
pub const SOCKET_IO: &str = "socket.io@4.8.1";
const SERVER: &str = include_str!("server.js");

/// Where things are that the servers need.
pub struct Files {
    pub ternd: String,
    node: PathBuf,
    directory: tempfile::TempDir,
}

impl Files {
    pub fn new(ternd: String) -> Self {
        let node = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-signal");
        Self { ternd, node, directory: tempfile::tempdir().unwrap() }
    }

    /// Installs socket.io if it is not there; why that can't be.
    pub fn install(&self) -> Result<(), String> {
        let (node, package) = (&self.node, self.node.join("node_modules/socket.io/package.json"));
        let write =
            std::fs::create_dir_all(node).and_then(|()| std::fs::write(node.join("server.js"), SERVER));
        write.map_err(|e| format!("{}: {e}", node.display()))?;
        let node_is_there = Command::new("node").arg("--version").output().is_ok_and(|o| o.status.success());
        if !node_is_there {
            return Err("node is not installed (apt install nodejs npm)".into());
        }
        let version = SOCKET_IO.split_once('@').map(|(_, version)| format!("\"version\": \"{version}\""));
        if std::fs::read_to_string(&package).is_ok_and(|text| text.contains(&version.unwrap_or_default())) {
            return Ok(());
        }
        eprintln!("installing {SOCKET_IO} in {}", node.display());
        let npm = Command::new("npm")
            .args(["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", SOCKET_IO])
            .current_dir(node)
            .output();
        match npm {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                Err(format!("npm install {SOCKET_IO}: {}", String::from_utf8_lossy(&output.stderr)))
            }
            Err(e) => Err(format!("npm: {e} (apt install npm)")),
        }
    }
}

pub struct Server {
    pub kind: Kind,
    pub process: Process,
    pub at: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub fn start(kind: Kind, files: &Files) -> Self {
        let at = free();
        let mut line: Vec<String> = ["taskset", "-c"].map(Into::into).into();
        line.push(SERVER_CORE.to_string());
        line.extend(match kind {
            Kind::Node => {
                let script = files.node.join("server.js").display().to_string();
                vec![
                    "env".into(),
                    "NODE_ENV=production".into(),
                    "node".into(),
                    "--expose-gc".into(),
                    script,
                    at.port().to_string(),
                ]
            }
            Kind::Ternd => {
                let config = files.directory.path().join("ternd.toml");
                std::fs::write(&config, ternd(at, free())).unwrap();
                vec![files.ternd.clone(), "serve".into(), "--config".into(), config.display().to_string()]
            }
            Kind::Floor => {
                let this = std::env::current_exe().unwrap().display().to_string();
                vec![this, "--floor".into(), at.to_string()]
            }
        });
        let mut server = Self { kind, process: Process::start(&line, "SIGNAL_LOG"), at };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(at).is_err() {
            let alive = server.process.is_alive() && Instant::now() < end;
            assert!(alive, "{} does not listen; try SIGNAL_LOG=1", kind.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Bytes of memory that it needs, without garbage.
    pub fn settled_memory(&self) -> u64 {
        if self.kind == Kind::Node {
            let id = rustix::process::Pid::from_raw(self.process.id() as i32).unwrap();
            for _ in 0..3 {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::USR2);
                std::thread::sleep(Duration::from_millis(500));
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        self.process.memory()
    }
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap()
}

/// All as it is by default, but for the bounds that so many connections from one machine would run into.
fn ternd(http: SocketAddr, udp: SocketAddr) -> String {
    format!(
        r#"host = "localhost"
shards = 1
[listen]
http = ["{http}"]
udp = ["{udp}"]
tcp = []
tls = []
[auth]
secret = "of this race, and nothing else"
[relay]
addresses = ["127.0.0.1"]
[limits]
connections = 30000
connections-per-address = 1000
[rooms]
max-capacity = 8
rooms = 15000
connections = 30000
connections-per-address = 1000
joins-per-minute = 0
messages-per-second = 100000
burst = 100000
bytes-per-second = 1000000000
burst-bytes = 1000000000
[metrics]
listen = []
[log]
level = "warn"
"#
    )
}
