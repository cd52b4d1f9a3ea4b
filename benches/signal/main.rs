//! The race of the rooms: `ternd`, a socket.io server on Node and a bare relay of tokio-tungstenite, side by side.
//!
//! ```text
//!   core 1 (this process)                               core 0 (the server under test)
//!   1,000 WebSockets, one thread ═══ loopback ═══►  rooms  ═══ loopback ═══►  the others of the room
//! ```
//!
//! Counted is what arrives whole, and what the server's threads spent on the CPU meanwhile (schedstat, nanoseconds).
//! Only ratios within one run mean anything. What the rows are and how to read them: docs/performance.md. The way
//! through this code: `rows.rs` says what is measured, `traffic.rs` makes the messages, `fleet.rs` carries them,
//! `dialect.rs` knows how each server is spoken to, `report.rs` shows the figures.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)] // a benchmark has no outside, and may panic

#[path = "../../tests/support/call.rs"]
mod call;
mod core;
#[path = "../../tests/support/counting.rs"]
#[allow(dead_code)] // shared with tests, which use more of it
mod counting;
mod dialect;
#[path = "../../tests/support/files.rs"]
mod files;
mod fleet;
mod floor;
mod flow;
mod frame;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/report.rs"]
mod report;
mod rows;
mod server;
mod traffic;

use std::time::Instant;

use report::Line;
use rows::{FULL, QUICK, Race, Row, SMOKE};
use server::{Files, Kind};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const HELP: &str = "\
cargo bench --bench signal -- [OPTIONS]

  --profile NAME     quick (3 minutes), full (10 minutes; 10,000 idle connections), smoke (does it work?)
                     (default: quick)
  --rows A,B         of: candidates, offers, chat-8, idle, core, flow (default: all)
  --servers A,B      of: socket.io, ternd, floor (default: all)
  --rate N           messages per second, in the place of half of what socket.io can do
  --rounds N         measurements of each server, in turn
  --seconds S        of a measurement
  --ternd PATH       the binary (default: the one that cargo built for this bench)
  --json FILE        all figures of all rounds; '-' is standard output
  --write FILE       puts the table between the marks of this document: docs/performance.md

With SIGNAL_LOG=1 the servers say what they have to say.
Needs two cores that have nothing else to do, taskset, and node with npm (Debian: util-linux, nodejs, npm); socket.io
is installed under target/ the first time.
";

struct Options {
    race: Race,
    rows: Vec<Row>,
    json: Option<String>,
    write: Option<String>,
}

fn options() -> Options {
    let (mut profile, mut rows, mut servers) = (QUICK, rows::ALL.to_vec(), Kind::ALL.to_vec());
    let (mut rate, mut ternd) = (None, env!("CARGO_BIN_EXE_ternd").to_owned());
    let (mut json, mut write, mut rounds, mut seconds) = (None, None, None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--profile" => profile = one_of(&value(), &[QUICK, FULL, SMOKE], |profile| profile.name),
            "--rows" => {
                rows = value().split(',').map(|name| one_of(name, &rows::ALL, |row| row.name)).collect()
            }
            "--servers" => {
                servers = value().split(',').map(|name| one_of(name, &Kind::ALL, |k| k.name())).collect()
            }
            "--rate" => rate = Some(number(&value())),
            "--rounds" => rounds = Some(number(&value())),
            "--seconds" => seconds = Some(number(&value())),
            "--ternd" => ternd = value(),
            "--json" => json = Some(value()),
            "--write" => write = Some(value()),
            "--bench" => {} // cargo's own
            "--help" | "-h" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => usage(other),
        }
    }
    profile.rounds = rounds.map_or(profile.rounds, |n: f64| (n as usize).max(1));
    profile.time = seconds.map_or(profile.time, std::time::Duration::from_secs_f64);
    let files = Files::new(ternd);
    if servers.contains(&Kind::Node)
        && let Err(why) = files.install()
    {
        eprintln!("WITHOUT socket.io, whose columns stay empty: {why}");
        servers.retain(|kind| *kind != Kind::Node);
    }
    Options { race: Race { files, profile, servers, rate }, rows, json, write }
}

fn one_of<T: Copy>(text: &str, all: &[T], name: impl Fn(&T) -> &str) -> T {
    all.iter().copied().find(|one| name(one) == text).unwrap_or_else(|| usage(text))
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| usage(text))
}

fn usage(what: &str) -> ! {
    eprintln!("{what}: not understood\n\n{HELP}");
    std::process::exit(2);
}

fn main() {
    files::raise_file_limit();
    // What the race starts itself, on the servers' core.
    if let [_, flag, listen] = &std::env::args().collect::<Vec<_>>()[..]
        && flag == "--floor"
    {
        floor::run(listen.parse().unwrap());
    }
    let Options { race, rows, json, write } = options();
    let start = Instant::now();
    let node = format!("{}, Node {}", server::SOCKET_IO, report::said("node", &["--version"]));
    let about = report::about(format!("{}, {} rounds", race.profile.name, race.profile.rounds), node);
    process::pin_to(process::LOAD_CORE);

    let mut lines: Vec<Line> = Vec::new();
    println!("{}", report::head());
    for row in &rows {
        let measured = race.measure(row);
        print!("{}", report::text(&measured));
        lines.extend(measured);
    }
    print!("\n{}", report::verdict(&lines));
    println!("{} s; profile {}", start.elapsed().as_secs(), race.profile.name);

    match json.as_deref() {
        Some("-") => println!("{:#}", report::json(&about, &lines)),
        Some(file) => std::fs::write(file, format!("{:#}\n", report::json(&about, &lines))).unwrap(),
        None => {}
    }
    if let Some(file) = write {
        let document =
            std::fs::read_to_string(&file).unwrap_or_else(|e| usage(&format!("--write {file}: {e}")));
        let document = report::put(&document, "signal", &report::markdown(&about, &lines));
        std::fs::write(&file, document.unwrap_or_else(|| usage("--write: the marks are missing"))).unwrap();
    }
}
