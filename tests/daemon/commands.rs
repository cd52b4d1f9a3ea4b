//! The commands beside `serve`, and the end of `serve`.

use std::net::TcpStream;

use serde_json::Value;

use crate::client::{Client, Login, Refused, call};
use crate::harness::{Daemon, SECRET, Setup, run, said, ternd, unix_now};
use crate::{https, web};

#[test]
fn issued_credentials_allocate() {
    let daemon = Daemon::start();
    let config = daemon.setup.folder.path().join("ternd.toml");
    let output =
        run(ternd().args(["credentials", "--user", "alice", "--ttl", "120", "--config"]).arg(config));
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let start = text.find('{').expect("JSON");
    let issued: Value =
        serde_json::Deserializer::from_str(&text[start..]).into_iter().next().unwrap().unwrap();
    let word = |name: &str| issued[name].as_str().unwrap_or_else(|| panic!("no {name} in {text}")).to_owned();
    let login = Login { username: word("username"), password: word("password") };
    let (expires, user) = login.username.split_once(':').unwrap();
    assert_eq!(user, "alice");
    assert!((unix_now() + 60..=unix_now() + 120).contains(&expires.parse().unwrap()), "{text}");
    call(Client::udp(daemon.turn()), &login);

    let forged = Login { username: login.username.replace("alice", "bob"), ..login };
    assert_eq!(Client::udp(daemon.turn()).allocate(&forged), Err(Refused(401)));
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
    let setup = Setup::new();
    let path = setup.folder.write("default.toml", &String::from_utf8(output.stdout).unwrap());
    let output = run(ternd().arg("check-config").arg(path));
    assert!(output.status.success(), "{}", said(&output));
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
    let said = daemon.logged(&[&format!("https://{}", daemon.https())]);
    assert!(said.contains("://"), "{said}");
    daemon.logged(&["self-signed"]);
    assert_eq!(
        Client::udp(daemon.turn()).allocate(&Login::new(SECRET, format!("{}:alice", unix_now() + 600))),
        Err(Refused(401)),
        "each start makes its own secret"
    );
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
