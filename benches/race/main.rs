//! The race: `ternd`, Debian's `coturn` and a bare forwarder relay the same packets in turn, on one core each time.
//!
//! ```text
//!   core 1 (this process)                     core 0 (the server under test)
//!   1,000 clients ═ ChannelData ═► ══ veth ══►  relay  ═══► ══ veth ══► one peer     "up"
//!                 ◄═ ChannelData ═            ◄═══                                   "down"
//! ```
//!
//! Counted is what arrives whole where it should, and what the server's threads, and the kernel's that receive for
//! it, spent on the CPU meanwhile (schedstat, nanoseconds). Only ratios within one run mean anything. What the rows
//! are and how to read them: docs/performance.md. The way through this code: `rows.rs` says what is measured,
//! `traffic.rs` makes the packets, `lab.rs` and `sys.rs` carry them, `report.rs` shows the figures.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)] // a benchmark has no outside, and may panic

#[path = "../../tests/support/counting.rs"]
#[allow(dead_code)] // shared with tests, which use more of it
mod counting;
#[path = "../../tests/support/files.rs"]
mod files;
mod fleet;
mod floor;
mod lab;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/report.rs"]
mod report;
mod rows;
#[path = "../support/run.rs"]
mod run;
mod server;
mod streams;
mod sys;
mod traffic;
#[path = "../core/world.rs"]
#[allow(dead_code)] // shared with the bench `core`, which uses more of it
mod world;

use rows::{FULL, Profile, QUICK, Race, Row, SMOKE};
use run::{Output, number, one_of, usage};
use server::Kind;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const HELP: &str = "\
cargo bench --bench race -- [OPTIONS]

  --profile NAME     quick (5 minutes), full (half an hour), smoke (does it work?)   (default: quick)
  --rows A,B         only rows whose names begin so, from all there are; --list shows them
  --list             the rows, and which of them are in the quick profile
  --servers A,B      of: coturn, ternd, floor (default: all)
  --rate N           packets per second, in rows that otherwise look for the highest rate
  --rounds N         measurements of each server, in turn (default: 2, full 3)
  --seconds S        of a measurement at a given rate (default: 0.5, full 2)
  --ternd PATH       the binary (default: the one that cargo built for this bench)
  --json FILE        all figures of all rounds; '-' is standard output
  --write FILE       puts the table between the marks of this document: docs/performance.md

With RACE_LOG=1 the servers say what they have to say.
Needs two cores that have nothing else to do, root, and the Debian packages coturn, ethtool, iproute2, util-linux.
";

/// Those that can be chosen.
const SERVERS: [Kind; 3] = [Kind::Coturn, Kind::Ternd, Kind::Floor];

struct Options {
    profile: Profile,
    rows: Vec<Row>,
    servers: Vec<Kind>,
    rate: Option<f64>,
    ternd: String,
    output: Output,
}

fn options() -> Options {
    let mut o = Options {
        profile: QUICK,
        rows: Vec::new(),
        servers: SERVERS.into(),
        rate: None,
        ternd: env!("CARGO_BIN_EXE_ternd").into(),
        output: Output::default(),
    };
    let (mut chosen, mut rounds, mut seconds) = (None, None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--profile" => o.profile = one_of(&value(), &[QUICK, FULL, SMOKE], |profile| profile.name),
            "--rows" => chosen = Some(value()),
            "--list" => {
                rows::all()
                    .iter()
                    .for_each(|row| println!("{}{}", row.name, if row.quick { "  quick" } else { "" }));
                std::process::exit(0);
            }
            "--servers" => {
                o.servers = value().split(',').map(|name| one_of(name, &SERVERS, |k| k.name())).collect()
            }
            "--rate" => o.rate = Some(number(&value())),
            "--rounds" => rounds = Some(number(&value())),
            "--seconds" => seconds = Some(number(&value())),
            "--ternd" => o.ternd = value(),
            "--json" => o.output.json = Some(value()),
            "--write" => o.output.write = Some(value()),
            "--bench" => {} // cargo's own
            "--help" | "-h" => run::help(),
            other => usage(other),
        }
    }
    o.profile.rounds = rounds.map_or(o.profile.rounds, |n: f64| (n as usize).max(1));
    o.profile.time = seconds.map_or(o.profile.time, std::time::Duration::from_secs_f64);
    o.rows = rows::all();
    match &chosen {
        Some(names) => {
            // The whole name of a row means that one only: "up-single-1000" not "up-single-10000", too.
            let is_whole = |name: &str| rows::all().iter().any(|row| row.name == name);
            let means =
                |row: &Row, name| if is_whole(name) { row.name == name } else { row.name.starts_with(name) };
            o.rows.retain(|row| names.split(',').any(|name| means(row, name)));
        }
        None => o.rows.retain(|row| row.quick || o.profile.name == FULL.name),
    }
    if o.rows.is_empty() {
        usage("--rows: no row begins so");
    }
    o
}

fn main() {
    // What the race starts itself, in the servers' network.
    if let [_, flag, listen, peer] = &std::env::args().collect::<Vec<_>>()[..]
        && flag == "--floor"
    {
        files::raise_file_limit();
        floor::run(listen.parse().unwrap(), peer.parse().unwrap());
    }
    let o = options();
    let version = report::said("dpkg-query", &["-W", "-f", "${Version}", "coturn"]);
    let about = report::about(format!("{}, {} rounds", o.profile.name, o.profile.rounds), version);
    files::raise_file_limit();
    process::pin_to(process::LOAD_CORE);
    let mut race = Race::new(o.profile, o.servers, o.rate, o.ternd);

    o.output.of("race", o.profile.name, &about, &o.rows, |row| race.measure(row));
}
