//! The command line: what it takes, what it prints.

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::*;
use crate::auth::{Authenticator, Secret};
use crate::time::{Instant, Now};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn clap_is_content() {
    Cli::command().debug_assert();
}

#[test]
fn commands_parse() {
    let Command::Serve { config } = parse("ternd serve").unwrap().command else { panic!() };
    assert_eq!(config, None);
    let Command::Serve { config } = parse("ternd serve --config /etc/ternd/ternd.toml").unwrap().command
    else {
        panic!()
    };
    assert_eq!(config.as_deref(), Some(Path::new("/etc/ternd/ternd.toml")));
    assert!(matches!(parse("ternd check-config x.toml").unwrap().command, Command::CheckConfig { .. }));
    assert!(matches!(parse("ternd default-config").unwrap().command, Command::DefaultConfig));

    let line = "ternd credentials --user alice --ttl 10m --secret hunter2";
    let Command::Credentials(args) = parse(line).unwrap().command else { panic!() };
    assert_eq!((args.user.as_str(), args.ttl), ("alice", Some(Duration::from_secs(600))));
    assert!(!format!("{args:?}").contains("hunter2"));
}

#[test]
fn wrong_lines_are_refused_with_exit_code_2() {
    for line in [
        "ternd",
        "ternd severe",
        "ternd serve extra",
        "ternd check-config",
        "ternd credentials --user alice",
        "ternd credentials --secret x",
        "ternd credentials --user alice --secret x --config y",
        "ternd credentials --user alice --secret x --ttl soon",
        "ternd credentials --user alice --secret x --ttl 0",
        "ternd credentials --user alice --secret x --ttl 366d",
        "ternd invite demo",
        "ternd invite --config x",
        "ternd invite demo --config x --secret-file y",
        "ternd invite demo --config x --role king",
        "ternd ctl room",
        "ternd ctl room show",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
    assert!(user("a\nb").is_err());
    assert!(user(&"x".repeat(481)).is_err());
}

#[test]
fn help_teaches() {
    let help = parse("ternd --help").unwrap_err().to_string();
    for part in ["Examples:", "Exit codes:", "78", "/etc/ternd/ternd.toml", "check-config", "8443"] {
        assert!(help.contains(part), "{part}");
    }
    assert!(parse("ternd --version").unwrap_err().to_string().starts_with("ternd 0."));
}

fn issued(config: &Config, host: &str) -> serde_json::Value {
    let mut auth = config.auth.clone();
    auth.secrets = vec![Secret::new("test", "the secret")];
    let now = Now { instant: Instant::default(), unix: 1_795_347_122 };
    let credential =
        Authenticator::new(auth, [0; 32]).issue("it's me", Duration::from_secs(600), now).unwrap();
    credentials::document(config, &host.parse().unwrap(), Duration::from_secs(600), credential)
}

#[test]
fn credentials_are_the_hmac_of_the_name() {
    let json = issued(&Config::default(), "turn.example.org");
    assert_eq!(json["username"], "1795347722:it's me");
    assert_eq!((&json["expires_at"], &json["ttl"]), (&"2026-11-22T11:42:02Z".into(), &600.into()));
    let mut hmac = Hmac::<Sha1>::new_from_slice(b"the secret").unwrap();
    hmac.update(b"1795347722:it's me");
    let password = STANDARD.encode(hmac.finalize().into_bytes());
    assert_eq!(json["password"], password);
    assert_eq!(
        json["iceServers"],
        serde_json::json!([
            { "urls": ["stun:turn.example.org:3478"] },
            { "urls": ["turn:turn.example.org:3478?transport=udp",
                       "turn:turn.example.org:3478?transport=tcp",
                       "turns:turn.example.org:8443?transport=tcp"],
              "username": "1795347722:it's me", "credential": password },
        ])
    );
    assert_eq!(
        json["try"],
        format!(
            r"turnutils_uclient -u '1795347722:it'\''s me' -w {password} -p 3478 -y -c -s -m 2 -n 100 turn.example.org"
        )
    );
}

#[test]
fn credentials_name_only_what_is_open() {
    let mut config = Config::default();
    config.listen.udp.clear();
    config.listen.tcp.clear();
    config.listen.tls = vec![(Ipv4Addr::UNSPECIFIED, 443).into()];
    let json = issued(&config, "2001:db8::1");
    assert_eq!(json["iceServers"][0]["urls"], serde_json::json!(["turns:[2001:db8::1]:443?transport=tcp"]));
    assert!(json["try"].as_str().unwrap().contains("-t -S -u"));
}

#[test]
fn the_summary_says_what_would_run() {
    let text = summary::of(Path::new("x.toml"), &Config::default(), 1);
    assert!(text.starts_with("x.toml is valid, with 1 warning. It would run:\n"));
    for part in ["0.0.0.0:3478 [::]:3478   STUN, TURN", "self-signed", "ports 49152-65535", "info, auto"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.contains("tokens: invites of the daemon's own"), "{text}");
    let text = "[rooms]\ninvite-secret = 'a secret of more than 16 bytes'\n[rooms.jwt]\njwks-url = 'https://id.example.org/k'";
    let checked = config::parse(text, &Disk::beside(Path::new("x.toml"))).unwrap();
    let text = summary::of(Path::new("x.toml"), &checked.config, 0);
    assert!(text.contains("tokens: invites, keys from id.example.org"), "{text}");
}

/// README and docs are held to: each `toml` block is a configuration, each `ternd ...` line a command.
mod documents {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Files;

    /// Every file exists: it holds a certificate, a key, and what else is asked for.
    struct Imagined(String);

    impl Files for Imagined {
        fn locate(&self, written: &str) -> Option<PathBuf> {
            Some(written.into())
        }
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            Ok(self.0.clone().into_bytes())
        }
        fn is_public(&self, _: &Path) -> bool {
            false
        }
        fn is_directory(&self, _: &Path) -> bool {
            true
        }
    }

    fn documents() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        docs.chain([root.join("README.md")])
            .filter(|path| path.extension().is_some_and(|e| e == "md"))
            .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
            .collect()
    }

    /// The fenced blocks of a language.
    fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
        let mut parts = text.split("\n```");
        let mut found = Vec::new();
        parts.next();
        // Fences open and close by turns.
        while let (Some(block), _) = (parts.next(), parts.next()) {
            let (first, body) = block.split_once('\n').unwrap_or((block, ""));
            if first.trim() == language {
                found.push(body);
            }
        }
        found
    }

    #[test]
    fn toml_blocks_are_configurations() {
        let made = rcgen::generate_simple_self_signed(["turn.example.org".to_owned()]).unwrap();
        let files = Imagined(made.cert.pem() + &made.signing_key.serialize_pem());
        let mut count = 0;
        for (name, text) in documents() {
            for block in blocks(&text, "toml").iter().filter(|b| !b.contains("[dependencies]")) {
                let checked =
                    config::parse(block, &files).unwrap_or_else(|e| panic!("{name}: {block}\n{e:#?}"));
                assert!(checked.warnings.is_empty(), "{name}: {block}\n{:#?}", checked.warnings);
                count += 1;
            }
        }
        assert!(count > 0);
    }

    #[test]
    fn command_lines_parse() {
        let mut count = 0;
        for (name, text) in documents() {
            let fenced = blocks(&text, "sh").into_iter().flat_map(str::lines);
            // `ternd serve` in running text; `ternd serve [--config FILE]` is a form, no command.
            let inline = text.split('`').skip(1).step_by(2).filter(|code| !code.contains(['[', '\n', '…']));
            for line in fenced.chain(inline) {
                let line = line.split(" #").next().unwrap_or_default().trim().trim_start_matches("sudo ");
                let line = line.replace("cargo run --release -- ", "ternd ");
                for command in line.split("&&").flat_map(|c| c.split(['|', '>']).next()).map(str::trim) {
                    if !command.starts_with("ternd ") {
                        continue;
                    }
                    count += 1;
                    if let Err(error) = parse(command) {
                        assert_eq!(error.exit_code(), 0, "{name}: {command}\n{error}");
                    }
                }
            }
        }
        assert!(count > 5, "{count} commands found");
    }
}
