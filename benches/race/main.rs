//! The race: `ternd` and Debian's `coturn` relay the same packets in turn, on one core each time.
//!
//! ```text
//!   core 1 (this process)            core 0 (the server under test)
//!   1,000 client sockets ═ ChannelData ═►  relay  ═══► one peer socket     "up"
//!                        ◄═ ChannelData ═         ◄═══                     "down"
//! ```
//!
//! Counted is what arrives, and what the server's threads spent on the CPU meanwhile (schedstat, nanoseconds).
//! Only ratios within one run mean anything. `cargo bench --bench race` prints the table of docs/performance.md;
//! `-- --help` shows what can be chosen.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)] // a benchmark has no outside, and may panic

mod client;
mod server;
mod sys;
mod traffic;

use std::time::Duration;

use server::{Kind, Server};
use traffic::{Load, Measured};

const HELP: &str = "\
cargo bench --bench race -- [OPTIONS]

  --servers A,B      of: coturn, ternd (default: both)
  --loads A,B        of: up-single, down-single, up-burst, down-burst (default: all)
  --clients N        allocations (default 1000)
  --rates A,B        packets per second offered; 'max' looks for the highest without loss
                     (default: 20000,max)
  --seconds S        of each measurement (default 3)
  --rounds N         measurements of each server, in turn (default 3)
  --ternd PATH       the binary (default: the one cargo built for this bench)

Needs two cores, the Debian package coturn, and permission to raise socket buffers (root).
";

struct Options {
    servers: Vec<Kind>,
    loads: Vec<Load>,
    clients: usize,
    rates: Vec<Option<u64>>,
    seconds: f64,
    rounds: usize,
    ternd: String,
}

fn options() -> Options {
    let mut o = Options {
        servers: vec![Kind::Coturn, Kind::Ternd],
        loads: Load::ALL.to_vec(),
        clients: 1_000,
        rates: vec![Some(20_000), None],
        seconds: 3.0,
        rounds: 3,
        ternd: env!("CARGO_BIN_EXE_ternd").into(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| usage(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--servers" => {
                o.servers = value().split(',').map(|s| Kind::parse(s).unwrap_or_else(|| usage(s))).collect()
            }
            "--loads" => {
                o.loads = value().split(',').map(|s| Load::parse(s).unwrap_or_else(|| usage(s))).collect()
            }
            "--clients" => o.clients = number(&value()),
            "--rates" => {
                o.rates = value().split(',').map(|s| (s != "max").then(|| number(s) as u64)).collect()
            }
            "--seconds" => o.seconds = number(&value()) as f64,
            "--rounds" => o.rounds = number(&value()),
            "--ternd" => o.ternd = value(),
            "--bench" => {} // cargo's own
            "--help" | "-h" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => usage(other),
        }
    }
    o
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| usage(text))
}

fn usage(what: &str) -> ! {
    eprintln!("{what}: not understood\n\n{HELP}");
    std::process::exit(2);
}

fn main() {
    let o = options();
    sys::pin_to(1);
    sys::raise_file_limit();
    println!("| load | offered/s | server | delivered/s | lost | CPU ns/packet | against coturn |");
    println!("|---|---|---|---|---|---|---|");
    for &load in &o.loads {
        for &rate in &o.rates {
            row(&o, load, rate);
        }
    }
}

/// Measures each server in turn, several times, and prints the medians.
fn row(o: &Options, load: Load, rate: Option<u64>) {
    let mut results: Vec<Vec<Measured>> = vec![Vec::new(); o.servers.len()];
    for _ in 0..o.rounds {
        for (kind, results) in o.servers.iter().zip(&mut results) {
            let server = Server::start(*kind, &o.ternd);
            let mut traffic = traffic::Traffic::new(&server, o.clients);
            traffic.run(load, 5_000, Duration::from_millis(300)); // warm
            let measured = match rate {
                Some(rate) => traffic.run(load, rate, Duration::from_secs_f64(o.seconds)),
                None => traffic.highest_without_loss(load, Duration::from_secs_f64(o.seconds)),
            };
            results.push(measured);
        }
    }
    let median = |measured: &[Measured], figure: fn(&Measured) -> f64| {
        let mut all: Vec<f64> = measured.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let coturn = o.servers.iter().position(|k| *k == Kind::Coturn);
    for (kind, measured) in o.servers.iter().zip(&results) {
        let (delivered, cpu) = (median(measured, Measured::delivered), median(measured, Measured::cpu));
        let against = coturn.map_or_else(String::new, |c| {
            let (base_delivered, base_cpu) =
                (median(&results[c], Measured::delivered), median(&results[c], Measured::cpu));
            format!("{:.2} × packets, {:.2} × CPU", delivered / base_delivered, cpu / base_cpu)
        });
        println!(
            "| {} | {} | {} | {:.0} | {:.2} % | {:.0} | {} |",
            load.name(),
            rate.map_or("max".into(), |r| r.to_string()),
            kind.name(),
            delivered,
            median(measured, Measured::lost) * 100.0,
            cpu,
            against
        );
    }
}
