//! `ternd invite`: a link into a room, made where the secret is, without the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{EXIT_CONFIG, fail, print, refuse, ttl};
use crate::config::{self, Checked, Config, Disk, Files};
use crate::net::clock::Clock;
use crate::signal::{Claims, Role, invite};

#[derive(Debug, Args)]
pub(super) struct InviteArgs {
    #[command(flatten)]
    guest: Guest,
    /// Print token, link and end as JSON.
    #[arg(long)]
    json: bool,
    /// The server's name in the link [default: host of the configuration, or else 127.0.0.1]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    secret: Source,
}

/// Where the secret comes from: exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Take rooms.invite-secret, the host and the port from this configuration.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file that holds the server's rooms.invite-secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Who is let in, and as what.
#[derive(Debug, Args)]
pub(super) struct Guest {
    /// The room.
    room: String,
    /// What the member is called, whatever it says of itself.
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// What it is to the room.
    #[arg(short, long, value_enum, default_value = "member")]
    role: Rank,
    /// How long the link is good for: seconds, or with a unit as in 10m, 12h, 7d
    #[arg(short, long, value_name = "TIME", value_parser = ttl, default_value = "1d")]
    ttl: Duration,
    /// It does not make the room, if that is not there.
    #[arg(long)]
    no_create: bool,
    /// It gets no TURN credentials.
    #[arg(long)]
    no_relay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rank {
    /// One of many.
    Member,
    /// May lock, kick and invite.
    Moderator,
}

impl Guest {
    /// As the admin socket reads them.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let role = if self.role == Rank::Moderator { "moderator" } else { "member" };
        let fixed = [
            ("room", self.room.clone()),
            ("role", role.into()),
            ("ttl", self.ttl.as_secs().to_string()),
            ("create", (!self.no_create).to_string()),
            ("relay", (!self.no_relay).to_string()),
        ];
        fixed.into_iter().chain(self.name.clone().map(|name| ("name", name))).collect()
    }

    fn claims(&self, now: u64) -> Claims {
        Claims {
            name: self.name.clone(),
            role: (self.role == Rank::Moderator).then_some(Role::Moderator),
            may_create: Some(!self.no_create),
            may_relay: Some(!self.no_relay),
            ..Claims::for_room(&self.room, now.saturating_add(self.ttl.as_secs()))
        }
    }
}

pub(super) fn run(args: &InviteArgs) -> ExitCode {
    let (config, secret) = match secret(&args.secret) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let now = Clock::start().now();
    let claims = args.guest.claims(now.unix);
    if let Err(why) = claims.check(now) {
        return fail(&why.to_string());
    }
    let token = invite(&secret, &claims);
    let host = args.host.as_deref().or(config.host.as_deref()).unwrap_or("127.0.0.1");
    let link = match host.parse() {
        Ok(host) => config.invite_link(&host, &args.guest.room, &token),
        Err(error) => return fail(&format!("--host {host}: {error}")),
    };
    match args.json {
        true => print(&format!("{:#}\n", json!({ "token": token, "link": link, "expires": claims.exp }))),
        false => print(&format!("{link}\n")),
    }
}

fn secret(source: &Source) -> Result<(Config, Vec<u8>), ExitCode> {
    if let Some(path) = &source.config {
        let Checked { config, .. } =
            config::load(path, &Disk::beside(path)).map_err(|invalid| refuse(&invalid))?;
        let Some(secret) = config.rooms.invite_secret.as_ref().map(|secret| secret.bytes.to_vec()) else {
            let path = path.display();
            eprintln!(
                "error: {path} has no rooms.invite-secret; set it, or let the running daemon sign: ternd ctl room invite"
            );
            return Err(ExitCode::from(EXIT_CONFIG));
        };
        return Ok((config, secret));
    }
    let path = source.secret_file.as_deref().unwrap_or(Path::new(""));
    let bytes = Disk::beside(path).read(path);
    let bytes =
        bytes.map_err(|error| fail(&format!("cannot read --secret-file {}: {error}", path.display())))?;
    let secret = config::without_line_end(&bytes).to_vec();
    if secret.is_empty() {
        return Err(fail("the secret is empty: give the one that the server has as rooms.invite-secret"));
    }
    let mut config = Config::default();
    // The ports of another server are not known: a link leads to the usual one.
    config.listen.tls.clear();
    Ok((config, secret))
}
