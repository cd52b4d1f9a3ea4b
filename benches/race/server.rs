//! A server under test: one process on core 0.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ternd::stun::{Builder, Class, Method, TransactionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Coturn,
    Ternd,
}

impl Kind {
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Coturn, Self::Ternd].into_iter().find(|k| k.name() == text)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Coturn => "coturn",
            Self::Ternd => "ternd",
        }
    }
}

pub const USER: &str = "bench";
pub const PASSWORD: &str = "bench";

pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    _config: Option<tempfile::NamedTempFile>,
}

impl Server {
    pub fn start(kind: Kind, ternd: &str) -> Self {
        // A free port: bound once and given back.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]);
        let mut file = None;
        match kind {
            Kind::Coturn => {
                command.args([
                    "turnserver",
                    "-n",
                    "--no-cli",
                    "--log-file",
                    "stdout",
                    "--simple-log",
                    "--pidfile",
                    "",
                    "--realm",
                    "bench",
                    "--lt-cred-mech",
                    "--user",
                    "bench:bench",
                    "--listening-ip",
                    "127.0.0.1",
                    "--relay-ip",
                    "127.0.0.1",
                    "--allow-loopback-peers",
                    "--no-tls",
                    "--no-dtls",
                    "--no-tcp",
                    "--relay-threads",
                    "1",
                    "--min-port",
                    "20000",
                    "--max-port",
                    "60000",
                    "--listening-port",
                ]);
                command.arg(port.to_string());
            }
            Kind::Ternd => {
                let mut config = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
                write!(
                    config,
                    "shards = 1\n[listen]\nudp = [\"127.0.0.1:{port}\"]\ntcp = []\ntls = []\n\
                     [auth]\nrealm = \"bench\"\nusers = {{ bench = \"bench\" }}\n\
                     [relay]\naddresses = [\"127.0.0.1\"]\nports = \"20000-60000\"\n\
                     [peers]\nallow = [\"127.0.0.0/8\"]\n\
                     [limits]\nallocations-per-user = 20000\nallocations-per-address = 20000\nunauthenticated-answers = 0\n\
                     [log]\nlevel = \"warn\"\n"
                )
                .unwrap();
                command.arg(ternd).args(["serve", "--config"]).arg(config.path());
                file = Some(config);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log()).spawn().expect("starts");
        let server = Self { child, addr: SocketAddr::from(([127, 0, 0, 1], port)), _config: file };
        server.wait();
        server
    }

    fn wait(&self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let request = Builder::new(Class::Request, Method::BINDING, TransactionId([1; 12])).finish();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            let _ = socket.send_to(&request, self.addr);
            if socket.recv(&mut [0; 256]).is_ok() {
                return;
            }
        }
        panic!("the server does not answer within 10 s");
    }

    /// Nanoseconds its threads have spent on the CPU.
    pub fn cpu(&self) -> u64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(tasks)
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// With RACE_LOG set, the server's own words are shown.
fn log() -> Stdio {
    if std::env::var_os("RACE_LOG").is_some() { Stdio::inherit() } else { Stdio::null() }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
