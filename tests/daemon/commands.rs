//! The commands beside `serve`, and the end of `serve`.

use std::net::TcpStream;

use serde_json::Value;

use crate::client::{Client, Login, Refused, call};
use crate::harness::{Daemon, Folder, SECRET, Setup, have, run, said, ternd, unix_now};
use crate::{https, web};

/// What `ternd credentials` prints for a daemon's configuration.
fn issue(daemon: &Daemon, user: &str) -> Value {
    let config = daemon.setup.folder.path().join("ternd.toml");
    let output = run(ternd().args(["credentials", "--user", user, "--ttl", "120", "--config"]).arg(config));
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", said(&output)))
}

#[test]
fn issued_credentials_allocate() {
    let daemon = Daemon::start();
    let issued = issue(&daemon, "alice");
    let word =
        |name: &str| issued[name].as_str().unwrap_or_else(|| panic!("no {name} in {issued}")).to_owned();
    let login = Login { username: word("username"), password: word("password") };
    let (expires, user) = login.username.split_once(':').unwrap();
    assert_eq!(user, "alice");
    assert!((unix_now() + 60..=unix_now() + 120).contains(&expires.parse().unwrap()), "{issued}");
    call(Client::udp(daemon.turn()), &login);
    web::call_through_all(&issued);

    let forged = Login { username: login.username.replace("alice", "bob"), ..login };
    assert_eq!(Client::udp(daemon.turn()).allocate(&forged), Err(Refused(401)));
}

#[test]
fn the_line_to_try_them_with_works() {
    if !have("turnutils_uclient") {
        return;
    }
    let daemon = Daemon::start();
    let issued = issue(&daemon, "it's me");
    let line = issued["try"].as_str().expect("a line to try");
    let output = run(std::process::Command::new("sh").args(["-c", line]));
    let report = said(&output);
    assert!(report.contains("tot_send_msgs=200, tot_recv_msgs=200"), "{line}\n{report}");
}

#[test]
fn check_config_says_what_serve_would_say() {
    let good = Setup::new();
    let path = good.folder.write("ternd.toml", &good.toml);
    let output = run(ternd().arg("check-config").arg(&path));
    assert!(output.status.success(), "{}", said(&output));

    let path = good.folder.write("ternd.toml", &good.toml.replace("secret =", "secert ="));
    let output = run(ternd().arg("check-config").arg(&path));
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("auth.secert"), "{}", said(&output));
}

#[test]
fn the_default_configuration_is_a_good_one() {
    let output = run(ternd().arg("default-config"));
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for section in ["[listen]", "[tls]", "[auth]", "[relay]", "[peers]", "[ice]", "[rooms]", "[log]"] {
        assert!(text.contains(section), "no {section} in:\n{text}");
    }
    let folder = Folder::new();
    let path = folder.write("default.toml", &text);
    let output = run(ternd().arg("check-config").arg(path));
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("0.0.0.0:3478"), "{}", said(&output));
}

#[test]
fn help_names_the_commands() {
    let help = said(&run(ternd().arg("--help")));
    for command in ["serve", "check-config", "credentials", "default-config"] {
        assert!(help.contains(command), "no {command:?} in:\n{help}");
    }
    assert!(!run(ternd().arg("sreve")).status.success());
}

#[test]
fn it_serves_without_secret_and_certificate_and_says_so() {
    let mut setup = Setup::new();
    let from = setup.toml.find("[tls]").unwrap();
    let to = setup.toml.find("[relay]").unwrap();
    setup.toml.replace_range(from..to, "");
    let daemon = setup.start();
    daemon.logged(&["open https://", &format!(":{}/", daemon.https().port())]);
    daemon.logged(&["certificate is self-signed", "tls.certificate"]);
    daemon.logged(&["auth.secret"]);
    assert_eq!(
        Client::udp(daemon.turn()).allocate(&Login::new(SECRET, format!("{}:alice", unix_now() + 600))),
        Err(Refused(401)),
        "each start makes its own secret"
    );
}

/// Once the line that names the signal held the wait for it, and a level that drops the line ended the daemon.
#[test]
fn a_quiet_log_does_not_end_it() {
    let mut daemon = Setup::new().replace("[log]", "[log]\nlevel = \"error\"").start();
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        daemon.still_answers();
    }
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn what_it_listens_on_is_printed() {
    let daemon = Daemon::start();
    for at in [daemon.turn(), daemon.https()] {
        daemon.logged(&[&at.to_string()]);
    }
    assert!(!daemon.log().contains(SECRET), "no secret gets into the log");
}

#[test]
fn sigterm_ends_it_with_success_whatever_goes_on() {
    let mut daemon = Daemon::start();
    let login = Login::new(SECRET, format!("{}:alice", unix_now() + 600));
    let mut clients = [Client::udp(daemon.turn()), Client::tcp(daemon.turn()), Client::tls(daemon.https())];
    for client in &mut clients {
        client.allocate(&login).unwrap();
    }
    let mut room = web::socket(daemon.https());
    web::hello(&mut room);
    let _idle = (TcpStream::connect(daemon.turn()).unwrap(), https::connect(daemon.https(), &[]));
    assert_eq!(daemon.terminate().code(), Some(0));
}
