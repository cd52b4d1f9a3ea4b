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
#[path = "../support/run.rs"]
mod run;
mod server;
mod traffic;

use rows::{FULL, QUICK, Race, Row, SMOKE};
use run::{Output, number, one_of, usage};
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
    output: Output,
}

fn options() -> Options {
    let (mut profile, mut rows, mut servers) = (QUICK, rows::ALL.to_vec(), Kind::ALL.to_vec());
    let (mut rate, mut ternd) = (None, env!("CARGO_BIN_EXE_ternd").to_owned());
    let (mut output, mut rounds, mut seconds) = (Output::default(), None, None);
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
            "--json" => output.json = Some(value()),
            "--write" => output.write = Some(value()),
            "--bench" => {} // cargo's own
            "--help" | "-h" => run::help(),
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
    Options { race: Race { files, profile, servers, rate }, rows, output }
}

fn main() {
    files::raise_file_limit();
    // What the race starts itself, on the servers' core.
    if let [_, flag, listen] = &std::env::args().collect::<Vec<_>>()[..]
        && flag == "--floor"
    {
        floor::run(listen.parse().unwrap());
    }
    let Options { race, rows, output } = options();
    let node = format!("{}, Node {}", server::SOCKET_IO, report::said("node", &["--version"]));
    let about = report::about(format!("{}, {} rounds", race.profile.name, race.profile.rounds), node);
    process::pin_to(process::LOAD_CORE);

    output.of("signal", race.profile.name, &about, &rows, |row| race.measure(row));
}
