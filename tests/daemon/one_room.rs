//! One room in the hands of its operator: look, lock, close, invite.

use serde_json::{Value, json};

use crate::client::{Client, Login, Refused};
use crate::harness::{Daemon, Setup, poll, said};
use crate::https::{Response, get};
use crate::web::{self, Socket};

/// Opens a session, with a token or without.
fn greet(daemon: &Daemon, token: Option<&str>) -> Socket {
    let mut socket = web::socket(daemon.https());
    web::request(&mut socket, &json!({"type": "hello", "id": 1, "token": token}).to_string());
    socket
}

/// Asks for a room: what comes next.
fn ask(socket: &mut Socket, room: &str) -> Value {
    socket.send(web::text(&json!({"type": "join", "id": 2, "room": room}).to_string())).unwrap();
    web::next(socket)
}

fn token_of(link: &str) -> &str {
    link.trim_end().split_once("#token=").unwrap_or_else(|| panic!("{link}")).1
}

#[test]
fn a_room_is_shown_locked_and_closed() {
    let daemon = Setup::new().with_admin().0.start();
    let gone = daemon.ctl(&["room", "show", "demo"]);
    assert!(!gone.status.success() && said(&gone).contains("there is no room \"demo\""), "{}", said(&gone));

    let mut alice = greet(&daemon, None);
    let joined =
        web::request(&mut alice, r#"{"type":"join","id":2,"room":"demo","capacity":4,"name":"Alice"}"#);
    let room = daemon.ctl_json(&["room", "show", "demo"]);
    assert_eq!((&room["capacity"], &room["locked"], &room["pin"]), (&json!(4), &json!(false), &json!(false)));
    assert_eq!(room["members"][0]["peer"], joined["self"]);
    let table = said(&daemon.ctl(&["room", "show", "demo"]));
    assert!(table.starts_with("1 of 4 members\nROOM ") && table.contains("Alice"), "{table}");

    assert_eq!(said(&daemon.ctl(&["room", "lock", "demo"])), "locked\n");
    let told = web::next(&mut alice);
    assert_eq!((&told["type"], &told["locked"], &told["by"]), (&json!("room"), &json!(true), &Value::Null));
    let mut bob = greet(&daemon, None);
    assert_eq!(ask(&mut bob, "demo")["code"], "room_locked");
    assert!(said(&daemon.ctl(&["room", "show", "demo"])).contains("locked"));
    assert_eq!(daemon.ctl_json(&["room", "unlock", "demo"])["locked"], false);
    assert_eq!(web::next(&mut alice)["locked"], false);
    assert_eq!(ask(&mut bob, "demo")["type"], "joined");
    assert_eq!(web::next(&mut alice)["event"], "join");

    assert_eq!(said(&daemon.ctl(&["room", "close", "demo"])), "2 members put out\n");
    assert_eq!(web::closed_with(&mut alice), 4006);
    assert_eq!(web::closed_with(&mut bob), 4006);
    assert_eq!(daemon.ctl(&["room", "close", "demo"]).status.code(), Some(1));
    assert_eq!(daemon.ctl(&["room", "lock", "demo"]).status.code(), Some(1));
    assert_eq!(daemon.ctl_json(&["rooms"]), json!([]));
}

#[test]
fn a_link_lets_in_where_a_token_is_needed_and_gets_credentials_too() {
    let secret = "invite-secret = \"a secret of more than 16 bytes\"";
    let rooms = format!("[rooms]\ncreate = \"token\"\njoin = \"token\"\n{secret}\n\n[log]");
    let setup = Setup::new().with_admin().0.replace("[log]", &rooms);
    let daemon = setup.replace("[ice]", "[ice]\nissue = \"token\"").start();

    let mut stranger = greet(&daemon, None);
    assert_eq!(ask(&mut stranger, "demo")["code"], "forbidden");

    // By the daemon, and by whoever has the secret.
    let printed = said(&daemon.ctl(&["room", "invite", "demo", "--name", "Alice", "--role", "moderator"]));
    let port = daemon.https().port();
    assert!(printed.starts_with(&format!("https://localhost:{port}/r/demo#token=i1.")), "{printed}");
    let config = daemon.setup.folder.path().join("ternd.toml");
    let command = |args: &[&str]| {
        let output = crate::harness::run(
            crate::harness::ternd().arg("invite").args(args).arg("--config").arg(&config),
        );
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut alice = greet(&daemon, Some(token_of(&printed)));
    let joined = ask(&mut alice, "demo");
    assert_eq!((&joined["created"], &joined["moderators"][0]), (&json!(true), &joined["self"]));
    web::call_through_all(&joined["ice"]);
    let bobs = command(&["demo", "--name", "Bob"]);
    let mut bob = greet(&daemon, Some(token_of(&bobs)));
    assert_eq!(ask(&mut bob, "lobby")["code"], "forbidden", "it is for one room");
    assert_eq!(ask(&mut bob, "demo")["peers"][0]["name"], "Alice");

    // The same token at the endpoint, in a header and nowhere else.
    let by_header =
        |token: &str| get(daemon.https(), "/v1/ice", &[("Authorization", &format!("Bearer {token}"))]);
    let error =
        |answer: &Response| (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned());
    let answer = by_header(token_of(&bobs));
    assert_eq!(answer.status, 200, "{answer:?}");
    web::call_through_all(&answer.json());
    let in_url = get(daemon.https(), &format!("/v1/ice?key={}", token_of(&bobs)), &[]);
    assert_eq!(error(&in_url).0, 401);
    assert!(error(&in_url).1.contains("URLs end up in logs"), "{in_url:?}");
    assert_eq!(by_header(token_of(&command(&["demo", "--no-relay"]))).status, 403);
    let forged = format!("{}A", token_of(&bobs));
    assert_eq!(by_header(&forged).status, 401);
    assert!(!daemon.log().contains(token_of(&bobs)), "no token in the log");

    let bad = daemon.ctl(&["room", "invite", "no room"]);
    assert!(!bad.status.success() && said(&bad).contains("no name of a room"), "{}", said(&bad));
}

/// The credential of a member is good for as long as it is one.
#[test]
fn who_leaves_or_is_put_out_loses_credential_and_allocation() {
    let daemon = Setup::new().with_admin().0.start();
    let login = |joined: &Value| {
        let word = |name: &str| joined["ice"][name].as_str().unwrap_or_else(|| panic!("{joined}")).to_owned();
        Login { username: word("username"), password: word("password") }
    };
    let mut alice = greet(&daemon, None);
    let mut bob = greet(&daemon, None);
    let (hers, his) = (ask(&mut alice, "demo"), ask(&mut bob, "demo"));
    assert_eq!(web::next(&mut alice)["event"], "join");
    let mut callers = [&hers, &his].map(|joined| {
        let mut client = Client::udp(daemon.turn());
        let relayed = client.allocate(&login(joined)).unwrap();
        client.relay_both_ways(relayed);
        client
    });

    web::request(&mut bob, r#"{"type":"leave","id":3}"#);
    let peer = "127.0.0.1:9".parse().unwrap();
    let left = |count: u64| poll(|| (daemon.ctl_json(&["status"])["allocations"] == count).then_some(()));
    assert_eq!(left(1), Some(()), "his allocation is gone");
    assert_eq!(callers[1].permit(peer), Err(Refused(401)));
    assert_eq!(Client::udp(daemon.turn()).allocate(&login(&his)), Err(Refused(401)), "and his credential");
    assert_eq!(callers[0].permit(peer), Ok(()), "hers goes on");

    daemon.ctl_json(&["put-out", "demo", hers["self"].as_str().unwrap()]);
    assert_eq!(left(0), Some(()));
    assert_eq!(Client::udp(daemon.turn()).allocate(&login(&hers)), Err(Refused(401)));
}

/// Where systemd keeps a directory for the service, a link outlives it, with nothing configured.
#[test]
fn an_invite_survives_a_restart_of_the_service() {
    let state = tempfile::tempdir().unwrap();
    let start = || {
        let mut setup = Setup::new().with_admin().0;
        setup.environment.push(("STATE_DIRECTORY", state.path().to_owned()));
        setup.start()
    };
    let link = said(&start().ctl(&["room", "invite", "demo"]));
    let daemon = start();
    let mut bob = greet(&daemon, Some(token_of(&link)));
    assert_eq!(ask(&mut bob, "demo")["type"], "joined");
    assert!(daemon.ctl(&["reload"]).status.success());
    greet(&daemon, Some(token_of(&link)));
    let other = Setup::new().with_admin().0.start();
    let mut refused = web::socket(other.https());
    refused.send(web::text(&json!({"type": "hello", "token": token_of(&link)}).to_string())).unwrap();
    assert_eq!(web::next(&mut refused)["code"], "unauthorized");
}
