//! Debian's coturn tools against the daemon. Nothing that is sent may get lost, whatever their exit code says.
//!
//! `turnutils_uclient` is a load tool: `-m` clients each send `-n` messages to a peer that sends them back, or to each
//! other. Its letters, as far as they are used here:
//!
//! | letter | what it does |
//! |---|---|
//! | none | UDP; each client binds a channel, and allocates an even port with the next one reserved for RTCP |
//! | `-t`, `-t -S` | TCP, TLS; `-E FILE`: it checks the server's certificate |
//! | `-c` | no RTCP: one port for each client |
//! | `-e IP -r PORT` | the peer; `-y`: the clients' relayed addresses are each other's peers |
//! | `-s` | Send indications instead of a channel |
//! | `-X`, `-x` | asks for an IPv4 relayed address, for an IPv6 one |
//! | `-g` | DONT-FRAGMENT in the requests and Send indications |
//! | `-D` | pads ChannelData over UDP too, as pjnath does |
//! | `-G` | repeats CreatePermission and ChannelBind, with more peers than it needs |
//! | `-T`, `-P` | relays TCP (RFC 6062), by Connect; by ConnectionAttempt |
//! | `-M` | moves the allocation to another socket (RFC 8016) before it sends |
//! | `-N` | binds a random channel each time, also where it has one: must be refused |
//! | `-R` | spoils one message in ten, at random |
//! | `-I` | makes no permissions |
//! | `-B` | now and then breaks off after a few packets, and comes again |
//! | `-O` | connects, asks, and is gone |
//!
//! Not used: `-Z` (two families in one allocation; coturn 4.6 writes the attribute with a number of a draft, 0x8032, so
//! no server of RFC 8656 sees it), `-J` (names another key of tokens in each Refresh: 441 by RFC 8656 section 5), `-b`
//! (SCTP), `-S` alone (DTLS), `-U` (TLS without encryption), `-h` (never ends).

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{
    Daemon, SECRET, Setup, against_coturn, free_port, have, ipv6, run, run_at_most, said, skip,
};

/// A peer that sends everything back, over IPv4 and IPv6, on a port and on the next one: there RTCP goes.
struct Echo {
    port: u16,
    end: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Echo {
    fn start() -> Self {
        let hosts = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let hosts = &hosts[..if ipv6() { 2 } else { 1 }];
        let sockets = |port: u16| -> io::Result<Vec<UdpSocket>> {
            let both = |host: &IpAddr| [(*host, port), (*host, port + 1)];
            hosts.iter().flat_map(both).map(UdpSocket::bind).collect()
        };
        let pair = || {
            let port = free_port();
            Some((port, sockets(port).ok()?))
        };
        let (port, sockets) =
            std::iter::repeat_with(pair).take(100).flatten().next().expect("two free ports");
        let end = Arc::new(AtomicBool::new(false));
        let answer = |socket: UdpSocket| {
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let ended = end.clone();
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while !ended.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..n], from);
                    }
                }
            })
        };
        Self { port, threads: sockets.into_iter().map(answer).collect(), end }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

const CLIENTS: usize = 10;
const MESSAGES: usize = 20;
const ALL: usize = CLIENTS * MESSAGES;

/// The tool against this daemon. `PEER` and `PEER6` in the options are an echo.
fn uclient(at: SocketAddr, echo: &Echo, options: &str) -> Command {
    let port = echo.port;
    let options = options.replace("PEER6", &format!("-e ::1 -r {port}"));
    let mut command = Command::new("turnutils_uclient");
    command
        // Each a user of its own, so that they don't share a quota.
        .args(["-W", SECRET, "-u", &format!("user-{port}"), "-p", &at.port().to_string()])
        .args(["-m", &CLIENTS.to_string(), "-n", &MESSAGES.to_string()])
        .args(options.replace("PEER", &format!("-e 127.0.0.1 -r {port}")).split_whitespace())
        .arg(at.ip().to_string());
    command
}

/// Sent and received, from its report.
fn counts(report: &str) -> (usize, usize) {
    let number = |after: &str, text: &str| -> Option<usize> {
        let (_, rest) = text.split_once(after)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let total = |line: &str| {
        let line = line.split_once(": tot_send_msgs=").map(|_| line)?;
        Some((number("tot_send_msgs=", line)?, number("tot_recv_msgs=", line)?))
    };
    report.lines().rev().find_map(total).unwrap_or_else(|| panic!("no totals in:\n{report}"))
}

/// It may bind any of the channels that RFC 5766 had, as this tool does.
fn setup() -> Setup {
    Setup::new().replace("[relay]", "[relay]\nrfc5766-channels = true")
}

/// What it said, after it ended well.
fn report(at: SocketAddr, options: &str) -> Result<String, String> {
    let output = run(&mut uclient(at, &Echo::start(), options));
    let report = said(&output);
    if output.status.success() { Ok(report) } else { Err(format!("{}:\n{report}", output.status)) }
}

/// All of these at a time, since the tool does little but wait. `@6` asks the daemon over IPv6.
fn loses_nothing(daemon: &Daemon, at: SocketAddr, all: &[&str]) {
    if !have("turnutils_uclient") {
        return;
    }
    let check = |options: &str| -> Result<(), String> {
        let (options, at) = match options.strip_prefix("@6 ") {
            Some(options) => (options, daemon.turn6()),
            None => (options, at),
        };
        let report = report(at, options)?;
        let (sent, received) = counts(&report);
        let fine = sent >= ALL && sent == received && report.contains("Total lost packets 0 (");
        if fine { Ok(()) } else { Err(format!("{sent} sent, {received} received:\n{report}")) }
    };
    let (six, all): (Vec<&str>, Vec<&str>) = all.iter().partition(|options| options.contains('6'));
    if !ipv6() && !six.is_empty() {
        skip("this machine has no IPv6");
    }
    let all = all.into_iter().chain(six.into_iter().filter(|_| ipv6()));
    thread::scope(|scope| {
        let running: Vec<_> = all.map(|options| (options, scope.spawn(move || check(options)))).collect();
        for (options, thread) in running {
            if let Err(why) = thread.join().unwrap() {
                panic!("turnutils_uclient {options}: {why}");
            }
        }
    });
}

#[test]
fn uclient_loses_nothing_over_udp() {
    let daemon = setup().start();
    let all = [
        "-c -X PEER",
        "-X PEER",
        "-c -X -s PEER",
        "-c -X -s -g PEER",
        "-c -X -g PEER",
        "-c -X -D PEER",
        "-c -X -G PEER",
        "-c -X -B PEER",
        "-c -X -s -N PEER",
        "-c -X -y",
        "-X -y",
        "-c -x PEER6",
        "@6 -c -x -s PEER6",
        "@6 -c -X PEER",
        "@6 -x -y",
    ];
    loses_nothing(&daemon, daemon.turn(), &all);
}

const OVER_STREAMS: [&str; 7] =
    ["-c -X PEER", "-X PEER", "-c -X -s -g PEER", "-c -X -G PEER", "-c -X -y", "-c -x PEER6", "-T -X"];

#[test]
fn uclient_loses_nothing_over_tcp() {
    let daemon = setup().start();
    let all = OVER_STREAMS.map(|options| format!("-t {options}"));
    let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
    all.extend(["@6 -t -c -x PEER6", "@6 -T -x"]);
    loses_nothing(&daemon, daemon.turn(), &all);
}

#[test]
fn uclient_loses_nothing_over_tls() {
    let daemon = setup().start();
    let certificate = daemon.setup.folder.path().join("cert.pem");
    let mut all: Vec<String> = OVER_STREAMS.map(|options| format!("-t -S {options}")).into();
    all.push(format!("-t -S -E {} -c -X PEER", certificate.display()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    loses_nothing(&daemon, daemon.https(), &all);
}

/// RFC 8016, on one shard; `src/net/tests/moves.rs` has the moves between shards.
#[test]
fn uclient_loses_nothing_when_it_moves() {
    let daemon = setup()
        .replace("[relay]", "[relay]\nmobility = true")
        .replace("[listen]", "shards = 1\n[listen]")
        .start();
    loses_nothing(&daemon, daemon.turn(), &["-M -c -X PEER", "-M -t -c -X PEER"]);
}

/// RFC 6062 the other way round: half of the clients connect to the relayed addresses of the others. What these say comes
/// through; the tool counts it once for both, with coturn as server as well.
#[test]
fn uclient_takes_the_connections_of_peers() {
    if !have("turnutils_uclient") {
        return;
    }
    let daemon = setup().start();
    let report = report(daemon.turn(), "-P -X").unwrap();
    assert_eq!(counts(&report), (ALL, ALL / 2), "{report}");
}

/// The ports that the log says were relayed from.
fn relay_ports(daemon: &Daemon) -> BTreeSet<u16> {
    let log = daemon.log();
    let ended =
        log.lines().filter(|line| line.contains("allocation of user") && line.contains(" ended after "));
    let port = |line: &str| {
        let (_, rest) = line.split_once(" at 127.0.0.1:")?;
        rest.split(' ').next()?.parse().ok()
    };
    ended.filter_map(port).collect()
}

/// It asks for a pair, or for one port, as the dice fall.
#[test]
fn uclient_gets_pairs_of_ports() {
    if against_coturn() || !have("turnutils_uclient") {
        return;
    }
    let daemon = setup().start();
    let found = (0..8).any(|_| {
        report(daemon.turn(), "-X PEER").unwrap();
        let ports = relay_ports(&daemon);
        ports.iter().any(|port| port % 2 == 0 && ports.contains(&(port + 1)))
    });
    assert!(found, "{:?}", relay_ports(&daemon));
}

#[test]
fn uclient_gets_nothing_through_without_a_permission() {
    if !have("turnutils_uclient") {
        return;
    }
    let daemon = setup().start();
    let report = report(daemon.turn(), "-I -c -X -s PEER").unwrap();
    assert_eq!(counts(&report), (ALL, 0), "{report}");
}

/// RFC 8656 section 12.2: a peer that has a channel gets no other one. The tool gives up at the first refusal.
#[test]
fn uclient_is_refused_a_second_channel_to_a_peer() {
    if !have("turnutils_uclient") {
        return;
    }
    let daemon = setup().start();
    let output = run(&mut uclient(daemon.turn(), &Echo::start(), "-N -c -X PEER"));
    let report = said(&output);
    assert!(!output.status.success() && report.contains("channel bind: error 400"), "{report}");
}

/// It asks and never asks again: after a spoiled message, which RFC 8489 section 6.3 wants dropped, it waits for ever.
#[test]
fn what_uclient_spoils_harms_nobody_else() {
    if !have("turnutils_uclient") {
        return;
    }
    let mut daemon = setup().start();
    for (at, options) in [
        (daemon.turn(), "-R -c -X PEER"),
        (daemon.turn(), "-R -c -X -s PEER"),
        (daemon.turn(), "-R -t -c -X PEER"),
        (daemon.https(), "-R -t -S -c -X PEER"),
        (daemon.turn(), "-R -T -X"),
        (daemon.turn(), "-O -c -X PEER"),
        (daemon.https(), "-O -t -S -c -X PEER"),
    ] {
        let echo = Echo::start();
        run_at_most(Duration::from_secs(2), &mut uclient(at, &echo, options));
    }
    daemon.still_answers();
    let report = report(daemon.turn(), "-c -X PEER").unwrap();
    assert_eq!(counts(&report), (ALL, ALL), "{report}");
}

/// Without an answer this tool waits for ever.
#[test]
fn stunclient_learns_its_address() {
    if !have("turnutils_stunclient") {
        return;
    }
    let daemon = Daemon::start();
    let mut command = Command::new("turnutils_stunclient");
    let report = said(&run(command.args(["-p", &daemon.turn().port().to_string(), "127.0.0.1"])));
    assert!(report.contains("UDP reflexive addr: 127.0.0.1:"), "{report}");
}

/// With a second address and port: answers come from where they were asked to.
fn two_addresses() -> Setup {
    let port = free_port();
    let section =
        format!("[nat-discovery]\naddresses = [\"127.0.0.1\", \"127.0.0.2\"]\nport = {port}\n\n[peers]");
    Setup::new().replace("[peers]", &section)
}

#[test]
fn stunclient_is_answered_from_all_four_addresses() {
    if against_coturn() || !have("turnutils_stunclient") {
        return;
    }
    let daemon = two_addresses().start();
    let mut command = Command::new("turnutils_stunclient");
    let report = said(&run(command.args(["-f", "-p", &daemon.turn().port().to_string(), "127.0.0.1"])));
    for part in ["RFC 5780 response 3", "Response origin: : 127.0.0.2:", "Other addr: : 127.0.0.2:"] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

/// `-m`: how the NAT maps; `-f`: what it lets in; `-P`: with PADDING, so that answers come in fragments.
#[test]
fn natdiscovery_finds_no_nat() {
    if against_coturn() || !have("turnutils_natdiscovery") {
        return;
    }
    let daemon = two_addresses().start();
    for padding in [None, Some("-P")] {
        let mut command = Command::new("turnutils_natdiscovery");
        command.args(["-m", "-f"]).args(padding).args(["-p", &daemon.turn().port().to_string(), "127.0.0.1"]);
        let output = run(&mut command);
        let report = said(&output);
        assert!(output.status.success(), "{report}");
        for part in ["NAT with Endpoint Independent Mapping!", "NAT with Endpoint Independent Filtering!"] {
            assert!(report.contains(part), "no {part:?} in {report}");
        }
    }
}
