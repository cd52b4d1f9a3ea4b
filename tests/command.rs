//! The binary as a user meets it: exit codes, stdout for results, stderr for the rest.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs, process};

fn ternd(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ternd"));
    command.env_remove("CREDENTIALS_DIRECTORY").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A file that is removed when the test is done.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &str) -> Self {
        let path = env::temp_dir().join(format!("ternd-{}-{name}", process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_default_configuration_is_printed_and_passes_its_own_check() {
    let printed = ternd(&["default-config"]);
    assert!(printed.status.success());
    let file = TempFile::new("default.toml", &stdout(&printed));
    let checked = ternd(&["check-config", file.name()]);
    assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    assert_eq!(stderr(&checked), "");
    assert!(stdout(&checked).contains("is good. It would run:"));
}

#[test]
fn all_errors_of_a_bad_configuration_and_exit_code_78() {
    let file = TempFile::new("bad.toml", "hots = 'x'\n[listen]\nudp = 'localhost'\n[log]\nlevel = \"loud\n");
    for args in [&["check-config", file.name()][..], &["serve", "--config", file.name()]] {
        let output = ternd(args);
        assert_eq!(output.status.code(), Some(78));
        assert_eq!(stdout(&output), "");
        let text = stderr(&output);
        for part in [
            ":1: error: hots: there is no such key",
            "did you mean host?",
            ":3: error: listen.udp = 'localhost': not a port",
            ":5: error: not TOML",
            "is refused: 3 errors",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
    let gone = ternd(&["serve", "--config", "/nonexistent/ternd.toml"]);
    assert_eq!(gone.status.code(), Some(78));
    assert!(stderr(&gone).contains("/nonexistent/ternd.toml: error: cannot be read"), "{}", stderr(&gone));
}

#[test]
fn warnings_do_not_fail_the_check() {
    let file = TempFile::new("foolish.toml", "host = 'localhost'\n");
    let output = ternd(&["check-config", file.name()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains(":1: warning: host = 'localhost'"));
    assert!(stdout(&output).contains("is valid, with 1 warning"));
}

#[test]
fn credentials_are_json_on_stdout() {
    let secret = TempFile::new("secret", "a secret of more than 16 bytes\n");
    let config = TempFile::new(
        "with-secret.toml",
        "host = 'turn.example.org'\n[auth]\nsecret = 'a secret of more than 16 bytes'\n[ice]\nttl = 120\n",
    );
    for args in [
        &["--config", config.name()][..],
        &["--secret-file", secret.name(), "--host", "turn.example.org", "--ttl", "2m"],
        &["--secret", "a secret of more than 16 bytes", "--host", "turn.example.org", "--ttl", "120"],
    ] {
        let output = ternd(&[&["credentials", "--user", "alice"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json["username"].as_str().unwrap().ends_with(":alice"));
        assert_eq!(json["ttl"], 120);
        assert_eq!(json["iceServers"][0]["urls"][0], "stun:turn.example.org:3478");
    }
}

#[test]
fn credentials_without_a_secret_say_what_is_missing() {
    let config = TempFile::new("without-secret.toml", "");
    let output = ternd(&["credentials", "--user", "alice", "--config", config.name()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("set auth.secret"), "{}", stderr(&output));
    let output = ternd(&["credentials", "--user", "alice", "--secret-file", "/nonexistent/secret"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read --secret-file /nonexistent/secret"));
    assert_eq!(ternd(&["credentials", "--user", "alice"]).status.code(), Some(2));
}

#[test]
fn an_invite_is_a_link_that_the_server_can_verify() {
    let config = TempFile::new(
        "with-invites.toml",
        "host = 'turn.example.org'\n[listen]\ntls = 443\n[rooms]\ninvite-secret = 'a secret of more than 16 bytes'\n",
    );
    let secret = TempFile::new("invite-secret", "a secret of more than 16 bytes\n");
    let key = b"a secret of more than 16 bytes";
    let read = |link: &str, before: &str| {
        let token = link.trim_end().strip_prefix(before).unwrap_or_else(|| panic!("{link}"));
        ternd::signal::read_invite(key, token).unwrap()
    };
    let output =
        ternd(&["invite", "Ñandú", "--config", config.name(), "--name", "Bob", "--role", "moderator"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let claims = read(&stdout(&output), "https://turn.example.org/r/%C3%91and%C3%BA#token=");
    assert_eq!(claims.name.as_deref(), Some("Bob"));
    assert_eq!(claims.role, Some(ternd::signal::Role::Moderator));
    assert_eq!((claims.may_create, claims.may_relay), (Some(true), Some(true)));
    assert_eq!(claims.room, Some(ternd::signal::RoomClaim::One("Ñandú".into())));

    let host = ["--secret-file", secret.name(), "--host", "[2001:db8::1]"];
    let output =
        ternd(&[&["invite", "demo", "--ttl", "10m", "--no-create", "--no-relay"][..], &host].concat());
    let claims = read(&stdout(&output), "https://[2001:db8::1]/r/demo#token=");
    assert_eq!((claims.may_create, claims.may_relay, claims.role), (Some(false), Some(false), None));

    let output = ternd(&[&["invite", "demo", "--json"][..], &host].concat());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["link"].as_str().unwrap().ends_with(json["token"].as_str().unwrap()));
    assert!(json["expires"].is_u64());

    let bad = ternd(&[&["invite", "no room"][..], &host].concat());
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).contains("no name of a room"), "{}", stderr(&bad));
    let without = TempFile::new("without-invites.toml", "");
    let output = ternd(&["invite", "demo", "--config", without.name()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("ternd ctl room invite"), "{}", stderr(&output));
}

#[test]
fn wrong_command_lines_exit_with_2_and_help_with_0() {
    assert_eq!(ternd(&["severe"]).status.code(), Some(2));
    assert_eq!(ternd(&[]).status.code(), Some(2));
    let help = ternd(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Exit codes:"));
}
