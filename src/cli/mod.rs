//! The command line: `ternd serve`, `ternd check-config`, `ternd credentials`, `ternd invite`, `ternd check`,
//! `ternd ctl`, `ternd drain`, `ternd default-config`.
//!
//! What enters: arguments. What leaves: an exit code; results on stdout, everything else on stderr.

mod check;
mod coturn;
mod credentials;
mod ctl;
mod invite;
mod pages;
mod summary;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Checked, Config, Disk, Problem};
use crate::ops;

/// The configuration is refused (EX_CONFIG of sysexits.h). systemd does not restart a service that ends with it.
pub const EXIT_CONFIG: u8 = 78;

const LESSON: &str = "\
Examples:
  ternd serve
      run on the defaults: STUN and TURN on 3478 over UDP and TCP; HTTPS on 8443,
      with a self-signed certificate and a secret of its own; it prints the URL to open
  ternd check-config /etc/ternd/ternd.toml && systemctl reload ternd
      look at a configuration first, then use it
  ternd credentials --config /etc/ternd/ternd.toml --user alice --ttl 1h
      a user name and a password for any TURN client, good for an hour
  ternd invite demo --config /etc/ternd/ternd.toml --name Bob --ttl 2h
      a link that lets Bob into the room, whatever PIN or token others need
  ternd check --secret-file secret turn:turn.example.org
      does a client reach the server, and does it relay? And if not, why?
  ternd ctl allocations --user alice
      what runs, with what it has relayed; `ternd ctl --help` shows what else there is
  ternd default-config > ternd.toml
      every key, with its default and what it does

The service reads /etc/ternd/ternd.toml. `ternd serve` without --config reads no file.

Exit codes:
   0  done; of the daemon: it was told to stop, and has, after a drain or at its end
   1  it could not do its work, and said why: a port in use, a file that vanished, ...
   2  the command line is wrong
  78  the configuration is wrong; all its errors were printed";

/// STUN/TURN relay, iceServers endpoint and signaling rooms: one daemon that makes WebRTC connect.
#[derive(Debug, Parser)]
#[command(name = "ternd", version, arg_required_else_help = true)]
#[command(after_help = "`ternd --help` shows examples and exit codes.", after_long_help = LESSON)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground, until SIGTERM or Ctrl-C.
    ///
    /// SIGHUP reads the configuration again. SIGTERM and Ctrl-C let running calls go on for as long as drain-timeout,
    /// while new ones are refused; the second time it ends at once.
    Serve {
        /// The configuration file. Without it: the built-in defaults, and no file is looked for.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Check a configuration file: print what would run, or every error there is (exit code 78).
    CheckConfig {
        /// The configuration file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Issue a time-limited credential, as JSON with ready iceServers and a command to try it with.
    ///
    /// username = "<unix time it ends>:<user>", password = base64(HMAC-SHA1(secret, username)): what coturn and
    /// its REST API use too. The field "try" is a command of Debian's coturn package that relays with it.
    Credentials(CredentialsArgs),
    /// Print a link that lets into a room for a while.
    ///
    /// Who opens it needs no PIN, and comes in where rooms.join is "token". The token behind the # is signed with
    /// rooms.invite-secret; browsers send it to no web server. Where that secret is not set, the running daemon has one
    /// of its own: ternd ctl room invite.
    Invite(invite::InviteArgs),
    /// Check a STUN or TURN server, any, step by step as a client: what works, and what to do where it does not.
    ///
    /// DNS, TCP, TLS and certificate, Binding, Allocate, permission, channel, a datagram relayed both ways. Exit code
    /// 0: nothing failed; 1: something did, and the row says why.
    Check(Box<check::CheckArgs>),
    /// Look after the running daemon: status, allocations, kick, rooms, invites, credentials, drain, reload, log levels, metrics.
    Ctl(Box<ctl::CtlArgs>),
    /// Take no new calls, let those that run go on, and stop with the last: ternd ctl drain.
    Drain {
        /// The admin socket of the daemon.
        #[arg(short, long, value_name = "SOCKET", default_value = ctl::SOCKET)]
        socket: PathBuf,
    },
    /// Print a configuration file with every key, its default, and what it does.
    DefaultConfig,
    /// Print the configuration that does what a turnserver.conf of coturn does.
    ///
    /// Options that have no counterpart become comments that say why. Values of such options are not shown.
    ImportCoturn {
        /// The file.
        #[arg(value_name = "FILE", default_value = "/etc/turnserver.conf")]
        file: PathBuf,
    },
    /// Write manual pages and shell completions, for packages.
    #[command(hide = true)]
    Pages {
        /// Where to: man/ and completions/ are made there.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct CredentialsArgs {
    /// Whom it is for: it is in the user name, for logs and quotas. May be empty.
    #[arg(short, long, value_name = "NAME", value_parser = user)]
    user: String,
    /// How long it is good for: seconds, or with a unit as in 10m, 12h, 7d [default: ice.ttl of the configuration]
    #[arg(short, long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
    /// The server's name in the URLs [default: host of the configuration, or else 127.0.0.1]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    secret: SecretSource,
}

/// Where the secret comes from: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct SecretSource {
    /// Take the secret, the host and the ports from this configuration.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The secret itself. Other users of the machine can see it in the list of processes.
    #[arg(long, value_name = "SECRET")]
    secret: Option<Hidden>,
    /// A file that holds the secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Text that Debug does not show.
#[derive(Clone)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redacted")
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

fn user(text: &str) -> Result<String, &'static str> {
    match text {
        // With time stamp and colon it must fit into USERNAME: 508 bytes.
        _ if text.len() > 480 => Err("longer than 480 bytes"),
        _ if text.contains(char::is_control) => Err("control characters in it"),
        _ => Ok(text.into()),
    }
}

fn ttl(text: &str) -> Result<Duration, &'static str> {
    match config::duration_from_text(text) {
        None => Err("write seconds, or a number with s, m, h or d behind it"),
        Some(ttl) if ttl.is_zero() || ttl > Duration::from_secs(365 * 86_400) => {
            Err("not between 1 second and 365 days")
        }
        Some(ttl) => Ok(ttl),
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    run(Cli::parse().command)
}

fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve { config } => serve(config.as_deref()),
        Command::CheckConfig { file } => check_config(&file),
        Command::Credentials(args) => credentials::run(&args),
        Command::Invite(args) => invite::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Drain { socket } => ctl::drain(socket),
        Command::DefaultConfig => print(config::FULL),
        Command::ImportCoturn { file } => coturn::run(&file),
        Command::Pages { directory } => pages::write(&directory),
    }
}

fn serve(path: Option<&Path>) -> ExitCode {
    let checked = match path {
        Some(path) => config::load(path, &Disk::beside(path)),
        None => Ok(Checked { config: Config::default(), warnings: Vec::new() }),
    };
    match checked {
        Err(invalid) => refuse(&invalid),
        Ok(Checked { config, warnings }) => {
            if let Err(error) = ops::log::init(&config.log) {
                return fail(&format!("cannot log: {error}"));
            }
            for warning in warnings {
                log::warn!("configuration: {warning}");
            }
            ops::serve(config, path)
        }
    }
}

fn check_config(path: &Path) -> ExitCode {
    match config::load(path, &Disk::beside(path).from_outside()) {
        Err(invalid) => refuse(&invalid),
        Ok(Checked { config, warnings }) => {
            report(path, &warnings);
            print(&summary::of(path, &config, warnings.len()))
        }
    }
}

fn report(path: &Path, problems: &[Problem]) {
    for problem in problems {
        eprintln!("{}", problem.render(&path.display().to_string()));
    }
}

fn refuse(invalid: &config::Invalid) -> ExitCode {
    eprintln!("{invalid}");
    ExitCode::from(EXIT_CONFIG)
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

/// Prints a result. A reader that has gone away (`ternd default-config | head`) is no error.
fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests;
