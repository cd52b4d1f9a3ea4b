//! Starts and ends daemons. In: a configuration. Out: addresses that answer, and what the daemon printed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use ternd::net::clock::Clock;

use crate::client::Client;

pub const SECRET: &str = "the secret of these tests";
pub const API_KEY: &str = "an-api-key-of-these-tests";

/// Long enough for a busy machine: nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same for a program: coturn's tools take their time, some 15 s where messages get lost.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(90);

/// Seconds since the Unix epoch.
pub fn unix_now() -> u64 {
    Clock::start().now().unix
}

/// Asks again and again until there is an answer; `None` after [`PATIENCE`].
pub fn poll<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    poll_for(PATIENCE, ask)
}

fn poll_for<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(10);
    let clock = Clock::start();
    let end = clock.now().instant + time;
    loop {
        match ask() {
            Some(answer) => return Some(answer),
            None if clock.now().instant >= end => return None,
            None => thread::sleep(PAUSE),
        }
    }
}

/// Is this program here? Without it a test is skipped, said on stderr; under `CI=true` that is a failure.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return true;
    }
    skip(&format!("{program} is not installed (`./test setup` installs it)"));
    false
}

/// Says why the current test shows nothing.
pub fn skip(why: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{test} must not be skipped here: {why}");
    // Not eprintln: the harness would hide what a passing test prints.
    let _ = writeln!(io::stderr(), "skipped {test}: {why}");
}

/// Has this machine IPv6?
pub fn ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// A port that is free for UDP and TCP, below those the system gives to outgoing sockets.
pub fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const FIRST: usize = 20_000;
    const COUNT: usize = 12_000;
    // Test binaries that run side by side start at different ports.
    let base = std::process::id() as usize * 97;
    let free = |port| {
        let at = (Ipv4Addr::LOCALHOST, port);
        UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
    };
    let candidate = |_| u16::try_from(FIRST + (base + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT).unwrap();
    (0..COUNT).map(candidate).find(|&port| free(port)).expect("a free port")
}

/// A folder of one test, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.0.join(name);
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The certificate of all test daemons, for 127.0.0.1 and localhost: PEM certificate, PEM key.
pub fn certificate() -> &'static (String, String) {
    static CERTIFICATE: OnceLock<(String, String)> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let names = ["localhost", "127.0.0.1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
}

/// What a daemon is started with. [`Setup::toml`] is the whole configuration, ready to be damaged.
pub struct Setup {
    pub folder: Folder,
    /// UDP and TCP.
    pub turn: SocketAddr,
    /// HTTPS, WebSocket and TURN over TLS.
    pub https: SocketAddr,
    pub toml: String,
    /// Directories that systemd would hand to it.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Setup {
    pub fn new() -> Self {
        let folder = Folder::new();
        let [turn, https] =
            [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let (certificate, key) = certificate();
        folder.write("cert.pem", certificate);
        folder.write("key.pem", key);
        let also6 = if ipv6() { format!(", \"[::1]:{}\"", turn.port()) } else { String::new() };
        let toml = format!(
            r#"drain-timeout = "1s"

[listen]
udp = ["{turn}"{also6}]
tcp = ["{turn}"{also6}]
tls = ["{https}"]

[tls]
certificate = "cert.pem"
key = "key.pem"

[auth]
secret = "{SECRET}"

[relay]
addresses = [{relays}]

[peers]
allow = ["127.0.0.0/8", "::1"]

[ice]
api-keys = ["{API_KEY}"]

[metrics]
listen = []

[log]
format = "text"
"#,
            relays = if ipv6() { r#""127.0.0.1", "::1""# } else { r#""127.0.0.1""# }
        );
        Self { folder, turn, https, toml, environment: Vec::new() }
    }

    /// Replaces a part of the configuration, which must be there.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.toml.contains(from), "no {from:?} in the tests' configuration");
        self.toml = self.toml.replace(from, to);
        self
    }

    /// The command that serves this setup.
    fn command(&self) -> Command {
        let config = self.folder.write("ternd.toml", &self.toml);
        let mut command = ternd();
        command.arg("serve").arg("--config").arg(config).envs(self.environment.iter().cloned());
        command
    }

    /// Starts it, which must fail: everything it printed, and how it ended.
    pub fn fail(&self) -> Output {
        run(&mut self.command())
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Daemon {
        let mut command = if against_coturn() { self.coturn() } else { self.command() };
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let mut daemon = Daemon { child, log, setup: self };
        let ready = poll(|| {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended at once ({status})");
            }
            let listening = [daemon.setup.turn, daemon.setup.https].map(|at| TcpStream::connect(at).is_ok());
            (listening == [true; 2]).then(|| Client::udp(daemon.setup.turn).try_binding()).flatten()
        });
        assert!(ready.is_some(), "the daemon listens within {PATIENCE:?}");
        daemon
    }

    /// To its own uclient coturn 4.6 loses a message over TLS now and then.
    fn coturn(&self) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new("turnserver");
        command
            .args([
                "-n",
                "--no-cli",
                "--log-file=stdout",
                "--simple-log",
                "--listening-ip=127.0.0.1",
                "--listening-ip=::1",
            ])
            .args([
                "--relay-threads=1",
                "--relay-ip=127.0.0.1",
                "--relay-ip=::1",
                "--realm=ternd",
                "--use-auth-secret",
                "--allow-loopback-peers",
            ])
            .arg(format!("--static-auth-secret={SECRET}"))
            .arg(format!("--listening-port={}", self.turn.port()))
            .arg(format!("--tls-listening-port={}", self.https.port()))
            .arg(format!("--userdb={}", folder.join("turndb").display()))
            .arg(format!("--pidfile={}", folder.join("pid").display()))
            .arg(format!("--cert={}", folder.join("cert.pem").display()))
            .arg(format!("--pkey={}", folder.join("key.pem").display()));
        command
    }
}

/// Is coturn tested in our place?
pub fn against_coturn() -> bool {
    std::env::var_os("TERND_TEST_PEER").is_some_and(|peer| peer == "coturn")
}

/// The binary under test, with an environment that does not depend on who runs the tests.
pub fn ternd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ternd"));
    for name in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

/// Runs a program to its end, which must come within [`PROGRAM_PATIENCE`].
pub fn run(command: &mut Command) -> Output {
    run_with(&[], command)
}

/// The same with something to read on stdin, which stays open behind it.
pub fn run_with(input: &[u8], command: &mut Command) -> Output {
    run_until(PROGRAM_PATIENCE, input, command).unwrap_or_else(|text| {
        panic!("{command:?} still runs after {PROGRAM_PATIENCE:?}; it said:\n{text}");
    })
}

/// Runs a program that need not come to an end.
pub fn run_at_most(time: Duration, command: &mut Command) {
    let _ = run_until(time, &[], command);
}

/// What it said, if it had to be ended.
fn run_until(time: Duration, input: &[u8], command: &mut Command) -> Result<Output, String> {
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let out = collect(child.stdout.take().unwrap());
    let err = collect(child.stderr.take().unwrap());
    if let Some(mut stdin) = stdin.as_ref() {
        stdin.write_all(input).unwrap();
    }
    let status = poll_for(time, || child.try_wait().unwrap());
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (stdout, stderr) = (out.join().unwrap(), err.join().unwrap());
    match status {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => Err(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned()),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// All that a program printed, on either stream.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Lines a program prints, collected while it runs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn follow(&self, from: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            let mut lines = BufReader::new(from);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                log.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A running daemon. Ends with the test; if that fails, its log is printed.
pub struct Daemon {
    child: Child,
    log: Log,
    pub setup: Setup,
}

impl Daemon {
    pub fn start() -> Self {
        Setup::new().start()
    }

    pub fn turn(&self) -> SocketAddr {
        self.setup.turn
    }

    pub fn turn6(&self) -> SocketAddr {
        (Ipv6Addr::LOCALHOST, self.setup.turn.port()).into()
    }

    pub fn https(&self) -> SocketAddr {
        self.setup.https
    }

    /// The first line that holds all of `parts`, as soon as there is one.
    #[track_caller]
    pub fn logged(&self, parts: &[&str]) -> String {
        let find = || {
            let log = self.log.text();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(String::from)
        };
        poll(find).unwrap_or_else(|| panic!("no line of the log has {parts:?}"))
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// It runs, and answers.
    #[track_caller]
    pub fn still_answers(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the daemon runs");
        Client::udp(self.turn()).binding();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        let killed = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        self.ended()
    }

    /// Waits for its end, and tells how it was.
    pub fn ended(&mut self) -> ExitStatus {
        poll(|| self.child.try_wait().unwrap()).expect("the daemon ends")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- configuration\n{}\n--- log of the daemon\n{}---", self.setup.toml, self.log());
        }
    }
}
