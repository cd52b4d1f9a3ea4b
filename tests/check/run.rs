//! The command, and coturn.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use serde_json::Value;

pub(crate) const SECRET: &str = "a shared secret, never printed";

/// What a run of `ternd check --json` found.
pub(crate) struct Found {
    pub(crate) code: i32,
    json: Value,
}

/// Runs `ternd check --json` with the words of `line` and what is in `more`.
pub(crate) fn check(line: &str, more: &[&str]) -> Found {
    let output = command(line, more).arg("--json").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "");
    assert!(!stdout.contains(SECRET), "the secret is printed");
    let json = serde_json::from_str(&stdout).unwrap();
    Found { code: output.status.code().unwrap(), json }
}

pub(crate) fn command(line: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ternd"));
    command.arg("check").args(line.split_whitespace()).args(more);
    command
}

impl Found {
    fn steps(&self) -> impl Iterator<Item = &Value> {
        self.json["checks"].as_array().unwrap().iter().flat_map(|check| check["steps"].as_array().unwrap())
    }

    /// `"<step> <status>"` of all rows.
    pub(crate) fn rows(&self) -> Vec<String> {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        self.steps().map(|row| format!("{} {}", text(row, "step"), text(row, "status"))).collect()
    }

    pub(crate) fn counts(&self, status: &str) -> u64 {
        self.json["counts"][status].as_u64().unwrap()
    }

    /// The first row of this step.
    pub(crate) fn step(&self, step: &str) -> &Value {
        self.steps().find(|row| row["step"] == step).unwrap_or_else(|| panic!("no {step} in {:#}", self.json))
    }

    /// All is good.
    #[track_caller]
    pub(crate) fn assert_good(&self) {
        let bad: Vec<_> = self.steps().filter(|row| row["status"] != "ok").collect();
        assert!(bad.is_empty() && self.code == 0 && self.json["good"] == true, "{:#}", self.json);
    }

    /// This step failed, with these words in its cause and in its fix; the exit code says so.
    #[track_caller]
    pub(crate) fn assert_failed(&self, step: &str, cause: &str, fix: &str) {
        let failed = self.steps().find(|row| row["step"] == step && row["status"] == "fail");
        let row = failed.unwrap_or_else(|| panic!("no failed {step} in {:#}", self.json));
        assert!(row["cause"].as_str().unwrap().contains(cause), "{row:#}");
        assert!(row["fix"].as_str().unwrap().contains(fix), "{row:#}");
        assert_eq!((self.code, &self.json["good"]), (1, &Value::Bool(false)));
    }
}

/// A directory that is removed when the test is done.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let path = env::temp_dir().join(format!(
            "ternd-check-{}-{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that is free for UDP and TCP on 127.0.0.1, with the one after it.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let free = |port: u16| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        };
        if port < 65_000 && free(port) && free(port + 1) {
            return port;
        }
    }
}

/// IPv6 on loopback: containers may lack it.
pub(crate) fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A running turnserver.
pub(crate) struct Coturn {
    process: Child,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    dir: TempDir,
}

/// How users prove themselves.
pub(crate) const SHARED_SECRET: &[&str] = &["--use-auth-secret", "--static-auth-secret", SECRET];

impl Coturn {
    /// Starts one on 127.0.0.1, and on ::1 where there is IPv6. `None` with a reason, and without CI, if there is none.
    pub(crate) fn start(options: &[&[&str]]) -> Option<Self> {
        let mut addresses = vec!["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"];
        if has_ipv6() {
            addresses.extend(["--listening-ip=::1", "--relay-ip=::1"]);
        }
        Self::start_on("127.0.0.1", &[&[&addresses[..]], options].concat())
    }

    /// Starts one that `options` tell its addresses, `ip` among them.
    pub(crate) fn start_on(ip: &str, options: &[&[&str]]) -> Option<Self> {
        let dir = TempDir::new();
        certificates(&dir);
        let (port, tls_port) = (free_port(), free_port());
        let spawned = Command::new("turnserver")
            .args(["-n", "--no-cli", "--no-dtls", "--log-file=stdout", "--simple-log", "--realm=example.org"])
            .args(["--min-port=45000", "--max-port=46999"])
            .args([format!("--listening-port={port}"), format!("--tls-listening-port={tls_port}")])
            .args([format!("--cert={}", dir.file("cert.pem")), format!("--pkey={}", dir.file("key.pem"))])
            .args([format!("--pidfile={}", dir.file("pid")), format!("--userdb={}", dir.file("db"))])
            .args(options.concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match spawned {
            Ok(process) => process,
            Err(error) => {
                assert!(
                    env::var_os("CI").is_none_or(|ci| ci != "true"),
                    "no turnserver: apt install coturn ({error})"
                );
                eprintln!("SKIPPED: no turnserver (apt install coturn): {error}");
                return None;
            }
        };
        let this = Self { process, port, tls_port, dir };
        await_ports(ip, &[port, tls_port]);
        Some(this)
    }

    /// The authority that signed its certificate for "localhost".
    pub(crate) fn ca(&self) -> String {
        self.dir.file("ca.pem")
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn await_ports(ip: &str, ports: &[u16]) {
    for _ in 0..400 {
        if ports.iter().all(|port| TcpStream::connect((ip, *port)).is_ok()) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing listens on {ip}, ports {ports:?}");
}

/// A running ternd.
pub(crate) struct Ternd(Child);

impl Ternd {
    pub(crate) fn start(config: &str, ports: &[u16]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ternd"));
        let command = command.args(["serve", "--config", config]).stdout(Stdio::null()).stderr(Stdio::null());
        let this = Self(command.spawn().unwrap());
        await_ports("127.0.0.1", ports);
        this
    }
}

impl Drop for Ternd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An authority, and a certificate of it for "localhost".
fn certificates(dir: &TempDir) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test Authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca).unwrap();
    fs::write(dir.file("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.file("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.file("key.pem"), key.serialize_pem()).unwrap();
}
