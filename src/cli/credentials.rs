//! `ternd credentials`: one credential, ready to be used.

use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::json;

use super::{CredentialsArgs, EXIT_CONFIG, fail, print, refuse};
use crate::auth::{Authenticator, Credential, Secret};
use crate::config::{self, Checked, Config, Disk, Files};
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
    print(&format!("{:#}\n", document(config, host, ttl.as_secs(), &credential)))
}

/// What is printed. `iceServers` goes into `new RTCPeerConnection(...)` as it is.
pub(super) fn document(config: &Config, host: &str, ttl: u64, credential: &Credential) -> serde_json::Value {
    let in_url = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    let port = |listeners: &[std::net::SocketAddr]| listeners.first().map(|address| address.port());
    let udp = port(&config.listen.udp);
    let (tcp, tls) = (port(&config.listen.tcp), port(&config.listen.tls));

    let stun = udp.or(tcp).map(|port| format!("stun:{in_url}:{port}"));
    let turn = [("turn", udp, "udp"), ("turn", tcp, "tcp"), ("turns", tls, "tcp")].into_iter().filter_map(
        |(scheme, port, transport)| Some(format!("{scheme}:{in_url}:{}?transport={transport}", port?)),
    );
    let Credential { username, password, expires } = credential;
    json!({
        "username": username,
        "password": password,
        "ttl": ttl,
        "expires": expires,
        "iceServers": [
            { "urls": stun.into_iter().collect::<Vec<_>>() },
            { "urls": turn.collect::<Vec<_>>(), "username": username, "credential": password },
        ],
        "try": try_line(host, udp, tcp, tls, credential),
    })
}

/// Two clients of this server send each other 100 messages (-y) by one port each (-c).
fn try_line(
    host: &str,
    udp: Option<u16>,
    tcp: Option<u16>,
    tls: Option<u16>,
    credential: &Credential,
) -> String {
    let (flags, port) = match (udp, tcp, tls) {
        (Some(port), ..) => ("", port),
        (None, Some(port), _) => ("-t ", port),
        (None, None, port) => ("-t -S ", port.unwrap_or(443)),
    };
    let [user, password] = [&credential.username, &credential.password].map(|text| quoted(text));
    format!("turnutils_uclient {flags}-u {user} -w {password} -p {port} -y -c -m 2 -n 100 {}", quoted(host))
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:+=@%".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
