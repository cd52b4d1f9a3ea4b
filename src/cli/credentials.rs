//! `ternd credentials`: one credential, ready to be used.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use super::{CredentialsArgs, EXIT_CONFIG, fail, print, refuse};
use crate::auth::{Authenticator, Credential, Secret};
use crate::config::{self, Checked, Config, Disk, Files};
use crate::ice::Host;
use crate::net::clock::Clock;
use crate::time::Now;

pub(super) fn run(args: &CredentialsArgs) -> ExitCode {
    match configuration(args) {
        Ok(config) => issue(args, &config, Clock::start().now()),
        Err(code) => code,
    }
}

/// A configuration with a secret to sign with, wherever that comes from.
fn configuration(args: &CredentialsArgs) -> Result<Config, ExitCode> {
    let source = &args.secret;
    if let Some(path) = &source.config {
        let Checked { config, .. } =
            config::load(path, &Disk::beside(path)).map_err(|invalid| refuse(&invalid))?;
        if config.auth.secrets.is_empty() {
            let path = path.display();
            eprintln!(
                "error: {path} has no secret to sign with: set auth.secret, or give --secret-file FILE"
            );
            return Err(ExitCode::from(EXIT_CONFIG));
        }
        return Ok(config);
    }
    let bytes = match (&source.secret, &source.secret_file) {
        (Some(secret), _) => secret.0.clone().into_bytes(),
        (None, Some(path)) => Disk::beside(path)
            .read(path)
            .map(|bytes| config::without_line_end(&bytes).to_vec())
            .map_err(|error| fail(&format!("cannot read --secret-file {}: {error}", path.display())))?,
        (None, None) => Vec::new(),
    };
    if bytes.is_empty() {
        return Err(fail("the secret is empty: give the one that the server has as auth.secret"));
    }
    let mut config = Config::default();
    config.auth.secrets = vec![Secret::new("command line", bytes)];
    Ok(config)
}

fn issue(args: &CredentialsArgs, config: &Config, now: Now) -> ExitCode {
    let ttl = args.ttl.unwrap_or(config.ice.ttl);
    // No nonce is made here: their key does not matter.
    let Some(credential) = Authenticator::new(config.auth.clone(), [0; 32]).issue(&args.user, ttl, now)
    else {
        return fail("there is no secret to sign with");
    };
    let host = args.host.as_deref().or(config.host.as_deref()).unwrap_or("127.0.0.1");
    match host.parse() {
        Ok(host) => print(&format!("{:#}\n", document(config, &host, ttl, credential))),
        Err(error) => fail(&format!("--host {host}: {error}")),
    }
}

/// What is printed: all that `/v1/ice` would say, and a command to try it with.
pub(super) fn document(
    config: &Config,
    host: &Host,
    ttl: Duration,
    credential: Credential,
) -> serde_json::Value {
    let try_line = try_line(config, host, &credential);
    let issued = config.ice().describe(host, None, credential, ttl);
    // Text and numbers only: there is nothing in it that JSON lacks.
    let mut document = serde_json::to_value(issued).unwrap_or_default();
    document["try"] = try_line.into();
    document
}

/// Two clients of this server send each other 100 messages (-y) by one port each (-c), in Send indications (-s): the
/// tool's channel numbers are those of RFC 5766, which a server of RFC 8656 refuses.
fn try_line(config: &Config, host: &Host, credential: &Credential) -> String {
    let port = |listeners: &[SocketAddr]| listeners.first().map(SocketAddr::port);
    let listen = &config.listen;
    let (flags, port) = match (port(&listen.udp), port(&listen.tcp), port(&listen.tls)) {
        (Some(port), ..) => ("", port),
        (None, Some(port), _) => ("-t ", port),
        (None, None, port) => ("-t -S ", port.unwrap_or(443)),
    };
    let host = host.to_string();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let [user, password] = [&credential.username, &credential.password].map(|text| quoted(text));
    format!(
        "turnutils_uclient {flags}-u {user} -w {password} -p {port} -y -c -s -m 2 -n 100 {}",
        quoted(host)
    )
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:+=@%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
