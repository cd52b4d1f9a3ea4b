//! `ternd check`: is this STUN or TURN server fit for WebRTC, and if not, why?
//!
//! ```text
//! URIs ─────────────┐
//! --ice-url ─ ice ──┴─► DNS ─► leg, one per address family ─► rows ─► table or JSON, and the exit code
//!                              connect · session · relay · nat
//! ```
//! The client is not the server's own code: codec, transactions and TURN client are those of the crates `stun` and
//! `turn` (webrtc-rs), so that a mistake of one is not hidden by the same mistake of the other.

mod addresses;
mod advice;
mod connect;
mod http;
mod ice;
mod leg;
mod login;
mod nat;
mod partner;
mod relay;
mod report;
mod session;
mod table;
mod tls;
mod uri;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::auth::Secret;
use crate::config::{self, Disk, Files};
use crate::net::clock::Clock;
use crate::stun::Family;

use self::connect::{Context, resolve};
use self::leg::Leg;
use self::login::Login;
use self::report::{Report, Row};
use self::tls::Trust;
use self::uri::{Transport, Uri};
use super::{Hidden, fail};

/// The command line of `ternd check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// What to check: turn:host, turn:host:port?transport=tcp, turns:host:port, stun:host
    #[arg(value_name = "URI", value_parser = uri, required_unless_present = "ice_url")]
    uris: Vec<Uri>,
    /// Ask this endpoint for iceServers first, and check each of them.
    #[arg(long, value_name = "URL", value_parser = http::Endpoint::parse, conflicts_with_all = ["proof", "user"])]
    ice_url: Option<http::Endpoint>,
    /// Show the endpoint this key, as "Authorization: Bearer KEY".
    #[arg(long, value_name = "KEY", requires = "ice_url")]
    ice_key: Option<Hidden>,
    /// Make credentials from this secret. Other users of the machine can see it in the list of processes.
    #[arg(long, value_name = "SECRET", group = "proof")]
    secret: Option<Hidden>,
    /// A file that holds the secret.
    #[arg(long, value_name = "FILE", group = "proof")]
    secret_file: Option<PathBuf>,
    /// The user name; with a secret, the part behind the time stamp.
    #[arg(short, long, value_name = "NAME", value_parser = super::user, requires = "proof")]
    user: Option<String>,
    /// The password that goes with --user.
    #[arg(long, value_name = "PASSWORD", requires = "user", group = "proof")]
    password: Option<Hidden>,
    /// A file that holds the password.
    #[arg(long, value_name = "FILE", requires = "user", group = "proof")]
    password_file: Option<PathBuf>,
    /// Over IPv4 only.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Over IPv6 only.
    #[arg(short = '6')]
    ipv6: bool,
    /// How long each step may take: seconds, or with a unit.
    #[arg(long, value_name = "TIME", default_value = "5", value_parser = patience)]
    timeout: Duration,
    /// Trust the certificates in this file (PEM), too.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Go on with a certificate that a browser refuses.
    #[arg(long)]
    insecure: bool,
    /// Print JSON when all is done.
    #[arg(long)]
    json: bool,
}

fn uri(text: &str) -> Result<Uri, String> {
    match Uri::parse(text)? {
        Uri { transport: Transport::Dtls, .. } => {
            Err("TURN over DTLS: no browser speaks it, and this check neither; leave ?transport=udp out"
                .into())
        }
        uri => Ok(uri),
    }
}

fn patience(text: &str) -> Result<Duration, &'static str> {
    match config::duration_from_text(text) {
        Some(time) if !time.is_zero() && time <= Duration::from_secs(60) => Ok(time),
        _ => Err("write 1 to 60 seconds"),
    }
}

/// Checks, and prints what was found: 0 when nothing failed, else 1.
pub(super) fn run(args: &CheckArgs) -> ExitCode {
    let trust = match Trust::load(args.ca.as_deref()) {
        Ok(trust) => trust,
        Err(error) => return fail(&error),
    };
    let clock = Clock::start();
    let login = match login(args, &clock) {
        Ok(login) => login,
        Err(error) => return fail(&error),
    };
    let ctx = Context {
        clock,
        patience: args.timeout,
        family: match (args.ipv4, args.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => None,
        },
        trust,
        insecure: args.insecure,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let mut report = if args.json { Report::as_json() } else { Report::as_table(table::Style::of_stdout()) };
    runtime.block_on(check_all(&ctx, args, login.as_ref(), &mut report));
    // Not waited for: a name server that does not answer holds up a thread.
    runtime.shutdown_background();
    report.finish();
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn login(args: &CheckArgs, clock: &Clock) -> Result<Option<Login>, String> {
    let secret = match (&args.secret, &args.secret_file) {
        (Some(secret), _) => Some(secret.0.clone().into_bytes()),
        (None, Some(path)) => Some(line_of(path, "--secret-file")?),
        (None, None) => None,
    };
    if let Some(bytes) = secret {
        if bytes.is_empty() {
            return Err("the secret is empty: give the one that the server has".into());
        }
        let user = args.user.as_deref().unwrap_or("ternd-check");
        return Ok(Login::from_secret(Secret::new("command line", bytes), user, clock.now()));
    }
    let password = match (&args.password, &args.password_file) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(path)) => {
            let bytes = line_of(path, "--password-file")?;
            let text = String::from_utf8(bytes).map_err(|_| "--password-file: not UTF-8".to_owned())?;
            Some(Hidden(text))
        }
        (None, None) => None,
    };
    Ok(args.user.clone().zip(password).map(|(user, password)| Login::given(user, password)))
}

fn line_of(path: &std::path::Path, option: &str) -> Result<Vec<u8>, String> {
    let bytes = Disk::beside(path).read(path);
    let bytes = bytes.map_err(|error| format!("cannot read {option} {}: {error}", path.display()))?;
    Ok(config::without_line_end(&bytes).to_vec())
}

async fn check_all(ctx: &Context, args: &CheckArgs, login: Option<&Login>, report: &mut Report) {
    for uri in &args.uris {
        check(ctx, uri, login, report).await;
    }
    if let Some(endpoint) = &args.ice_url {
        let key = args.ice_key.as_ref().map(|key| key.0.as_str());
        for (text, login) in ice::ask(ctx, endpoint, key, report).await {
            match ice::usable(&text, login.as_ref()) {
                Ok(uri) => check(ctx, &uri, login.as_ref(), report).await,
                Err(row) => {
                    report.section(&report::printable(&text), None);
                    report.push(*row);
                }
            }
        }
    }
}

async fn check(ctx: &Context, uri: &Uri, login: Option<&Login>, report: &mut Report) {
    report.section(&uri.to_string(), None);
    if uri.transport == Transport::Dtls {
        return report.push(Row::skip("DTLS", "TURN over DTLS: no browser speaks it"));
    }
    for address in resolve(ctx, report, &uri.host, uri.port).await {
        Leg { ctx, uri, address, login }.check(report).await;
    }
}

#[cfg(test)]
mod tests;
