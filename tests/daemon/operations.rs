//! What an operator does to a running daemon: reload, drain, look, kick. Calls go on meanwhile.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use serde_json::Value;

use crate::client::{Client, Login, Refused};
use crate::harness::{Daemon, SECRET, Setup, have, poll, run, run_with, said, ternd, unix_now};
use crate::{https, web};

impl Setup {
    /// With an admin socket and metrics.
    pub fn with_admin(self) -> (Self, SocketAddr) {
        // The port is this test's own: the harness gave it to UDP and TCP, and nothing listens on the address.
        let metrics = SocketAddr::from(([127, 0, 0, 2], self.turn.port()));
        let socket = self.folder.path().join("admin.sock");
        let admin = format!("[admin]\nsocket = \"{}\"\n\n[log]", socket.display());
        let metrics_at = format!("[metrics]\nlisten = [\"{metrics}\"]");
        (self.replace("[metrics]\nlisten = []", &metrics_at).replace("[log]", &admin), metrics)
    }
}

impl Daemon {
    pub fn ctl(&self, args: &[&str]) -> Output {
        let socket = self.setup.folder.path().join("admin.sock");
        run(ternd().arg("ctl").arg("--socket").arg(socket).args(args))
    }

    pub fn ctl_json(&self, args: &[&str]) -> Value {
        let output = self.ctl(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", said(&output)))
    }

    /// Changes the configuration file.
    pub fn rewrite(&self, from: &str, to: &str) {
        let path = self.setup.folder.path().join("ternd.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "no {from:?} in {text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn signal(&self, name: &str) {
        let killed =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(killed.success());
    }
}

pub fn alice(secret: &str) -> Login {
    Login::new(secret, format!("{}:alice", unix_now() + 600))
}

/// A client over each transport, with its allocation.
pub fn callers(daemon: &Daemon, login: &Login) -> Vec<(Client, SocketAddr)> {
    let (turn, tls) = (daemon.turn(), daemon.https());
    let clients = (0..4).flat_map(|_| [Client::udp(turn), Client::tcp(turn), Client::tls(tls)]);
    clients
        .map(|mut client| {
            let relayed = client.allocate(login).unwrap();
            (client, relayed)
        })
        .collect()
}

const NEW_SECRET: &str = "another secret, of the new file";

#[test]
fn a_reload_takes_what_changed_and_ends_nothing() {
    let daemon = Setup::new().with_admin().0.start();
    let mut callers = callers(&daemon, &alice(SECRET));
    let mut room = web::socket(daemon.https());
    web::hello(&mut room);

    daemon.rewrite(SECRET, NEW_SECRET);
    daemon.rewrite("[log]", "[limits]\nallocations-per-user = 13\n\n[log]");
    let output = daemon.ctl(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
    }
    room.send(web::text(r#"{"type":"ice","id":7}"#)).unwrap();
    let answer = web::next(&mut room);
    assert_eq!((&answer["id"], &answer["code"]), (&7.into(), &"not_in_room".into()), "the WebSocket is open");
    assert_eq!(Client::udp(daemon.turn()).allocate(&alice(SECRET)), Err(Refused(401)), "the old secret");
    let mut thirteenth = Client::udp(daemon.turn());
    thirteenth.allocate(&alice(NEW_SECRET)).unwrap();
    assert_eq!(Client::udp(daemon.turn()).allocate(&alice(NEW_SECRET)), Err(Refused(486)), "the new bound");
    for (client, _) in &mut callers {
        client.release();
    }

    // The same by a signal; a network that is closed is closed to those who use it.
    let mut client = Client::udp(daemon.turn());
    let relayed = client.allocate(&alice(NEW_SECRET)).unwrap();
    client.relay_both_ways(relayed);
    daemon.rewrite("allow = [\"127.0.0.0/8\", \"::1\"]", "allow = []");
    daemon.signal("HUP");
    let refused = poll(|| client.permit("127.0.0.9:9".parse().unwrap()).err());
    assert_eq!(refused, Some(Refused(403)));
}

#[test]
fn a_reload_that_is_refused_changes_nothing_and_says_why() {
    let daemon = Setup::new().with_admin().0.start();
    let mut callers = callers(&daemon, &alice(SECRET));
    daemon.rewrite(SECRET, NEW_SECRET);
    daemon.rewrite("[peers]", "[peers]\nalow = []");
    let output = daemon.ctl(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("peers.alow"), "{}", said(&output));
    daemon.logged(&["ERROR", "reload refused", "peers.alow"]);
    let last = daemon.ctl_json(&["status"])["last_reload"].clone();
    assert_eq!(last["ok"], false, "{last}");
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
    }
    assert!(Client::udp(daemon.turn()).allocate(&alice(SECRET)).is_ok(), "the old secret is good still");

    // What takes a restart is said, and the rest is taken.
    daemon.rewrite("alow = []", "deny = []");
    daemon.rewrite("[relay]", "[relay]\nports = \"50000-60000\"");
    let output = daemon.ctl(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("relay.ports changes with the next start"), "{}", said(&output));
    assert!(Client::udp(daemon.turn()).allocate(&alice(NEW_SECRET)).is_ok());
}

#[test]
fn a_new_certificate_is_taken_when_its_files_change() {
    if !have("openssl") {
        return;
    }
    let daemon = Daemon::start();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let shown = || {
        let at = daemon.https().to_string();
        said(&run_with(b"Q\n", Command::new("openssl").args(["s_client", "-connect", &at])))
    };
    let pem = made.cert.pem();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let has_it = |text: &str| text.replace(['\n', '\r'], "").contains(&body);
    assert!(!has_it(&shown()));
    // One after the other, as such programs do: in between, the two don't fit.
    daemon.setup.folder.write("cert.pem", &pem);
    daemon.setup.folder.write("key.pem", &made.signing_key.serialize_pem());
    poll(|| has_it(&shown()).then_some(())).expect("the new certificate is served");
}

#[test]
fn a_drain_lets_calls_go_on_and_takes_no_new_ones() {
    let alternate = "192.0.2.20:3478";
    let setup = Setup::new().replace("drain-timeout = \"1s\"", "drain-timeout = \"1h\"");
    let setup = setup.replace("[relay]", &format!("[relay]\nalternate-servers = [\"{alternate}\"]"));
    let mut daemon = setup.with_admin().0.start();
    let login = alice(SECRET);
    let mut callers = callers(&daemon, &login);
    let mut room = web::socket(daemon.https());
    web::hello(&mut room);
    daemon.signal("TERM");
    let told = web::next(&mut room);
    assert_eq!((&told["type"], &told["after_ms"]), (&"draining".into(), &3_600_000.into()), "{told}");
    poll(|| (https::get(daemon.https(), "/readyz", &[]).status == 503).then_some(())).expect("not ready");
    assert_eq!(https::get(daemon.https(), "/healthz", &[]).status, 200);
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
    }
    assert_eq!(Client::udp(daemon.turn()).allocate(&login), Err(Refused(300)), "there is another server");
    assert_eq!(Client::tls(daemon.https()).allocate(&login), Err(Refused(508)), "not for TLS");
    assert_eq!(daemon.ctl_json(&["status"])["state"], "draining");
    for (client, _) in &mut callers {
        client.release();
    }
    assert_eq!(web::closed_with(&mut room), 4007);
    assert_eq!(daemon.ended().code(), Some(0));
    daemon.logged(&["drained"]);
}

#[test]
fn the_second_order_to_stop_ends_it_at_once() {
    let setup = Setup::new().replace("drain-timeout = \"1s\"", "drain-timeout = \"1h\"").with_admin().0;
    let mut daemon = setup.start();
    let mut client = Client::udp(daemon.turn());
    client.allocate(&alice(SECRET)).unwrap();
    let socket = daemon.setup.folder.path().join("admin.sock");
    let told = run(ternd().args(["drain", "--socket"]).arg(socket));
    assert!(told.status.success() && said(&told).contains("draining"), "{}", said(&told));
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn ctl_lists_kicks_issues_and_sets_levels() {
    let daemon = Setup::new().with_admin().0.start();
    let issued = daemon.ctl_json(&["credentials", "issue", "--user", "bob", "--ttl", "2m"]);
    let word = |name: &str| issued[name].as_str().unwrap().to_owned();
    let bob = Login { username: word("username"), password: word("password") };
    let mut his = Client::udp(daemon.turn());
    let relayed = his.allocate(&bob).unwrap();
    his.relay_both_ways(relayed);
    let mut hers = Client::tcp(daemon.turn());
    let her_relay = hers.allocate(&alice(SECRET)).unwrap();

    let list = daemon.ctl_json(&["allocations", "--user", "bob"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["relays"][0], relayed.to_string());
    assert_eq!(
        (&list[0]["packets_to_peers"], &list[0]["bytes_to_client"]),
        (&1.into(), &13.into()),
        "{list}"
    );
    let table = said(&daemon.ctl(&["allocations"]));
    assert!(table.starts_with("USER ") && table.contains("alice") && table.contains("bob"), "{table}");
    assert_eq!(daemon.ctl_json(&["status"])["allocations"], 2);

    assert_eq!(daemon.ctl_json(&["kick", "--user", "bob"])["ended"], 1);
    assert_eq!(his.permit("127.0.0.1:9".parse().unwrap()), Err(Refused(437)), "his allocation is gone");
    hers.relay_both_ways(her_relay);
    daemon.logged(&["user=bob", "ended by the operator"]);

    let mut socket = web::socket(daemon.https());
    web::hello(&mut socket);
    let joined =
        web::request(&mut socket, r#"{"type":"join","id":1,"room":"demo","pin":"1234","name":"Eve"}"#);
    let list = daemon.ctl_json(&["rooms"]);
    let (room, member) = (&list[0], &list[0]["members"][0]);
    assert_eq!((&room["room"], &room["pin"], &member["name"]), (&"demo".into(), &true.into(), &"Eve".into()));
    let table = said(&daemon.ctl(&["rooms"]));
    assert!(table.contains("PIN") && table.contains("here, moderator"), "{table}");
    let eve = member["peer"].as_str().unwrap();
    assert_eq!(joined["self"], eve);
    let wrong = daemon.ctl(&["put-out", "demo", "p_nobody"]);
    assert!(said(&wrong).contains("has no member"), "{}", said(&wrong));
    daemon.ctl_json(&["put-out", "demo", eve]);
    assert_eq!(web::closed_with(&mut socket), 4006);
    assert_eq!(daemon.ctl_json(&["rooms"]).as_array().map(Vec::len), Some(0));

    daemon.ctl_json(&["log-level", "debug", "--module", "relay"]);
    assert_eq!(daemon.ctl_json(&["log-level"])["modules"]["relay"], "debug");
    Client::udp(daemon.turn()).allocate(&alice(SECRET)).unwrap();
    daemon.logged(&["DEBUG", "allocation of user", "alice"]);
    let wrong = daemon.ctl(&["log-level", "loud"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).contains("write error, warn"), "{}", said(&wrong));

    let nobody = run(ternd().args(["ctl", "--socket", "/nowhere/admin.sock", "status"]));
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("is the service running"), "{}", said(&nobody));
}

#[test]
fn a_credential_is_issued_with_its_servers_and_taken_back() {
    let daemon = Setup::new().with_admin().0.start();
    let issue = ["credentials", "issue", "--user", "bob", "--ttl", "10m"];
    let issued = daemon.ctl_json(&issue);
    let server = &issued["iceServers"][1];
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!((&server["username"], &issued["ttl"]), (&issued["username"], &600.into()), "{issued}");
    let udp = format!(":{}?transport=udp", daemon.turn().port());
    assert!(
        word(&server["urls"][0]).starts_with("turn:") && word(&server["urls"][0]).ends_with(&udp),
        "{issued}"
    );
    let table = said(&daemon.ctl(&issue));
    assert!(
        table.starts_with("username ") && table.contains(&udp) && table.contains("expires_at"),
        "{table}"
    );

    let first = Login { username: word(&server["username"]), password: word(&server["credential"]) };
    // Another one of the same user: another second, another time stamp.
    let other = daemon.ctl_json(&["credentials", "issue", "--user", "bob", "--ttl", "20m"]);
    let other = Login { username: word(&other["username"]), password: word(&other["password"]) };
    let (mut udp, mut tls, mut stays) =
        (Client::udp(daemon.turn()), Client::tls(daemon.https()), Client::tcp(daemon.turn()));
    udp.allocate(&first).unwrap();
    tls.allocate(&first).unwrap();
    let relayed = stays.allocate(&other).unwrap();
    assert_eq!(daemon.ctl_json(&["credentials", "revoke", &first.username])["ended"], 2);
    for client in [&mut udp, &mut tls] {
        assert_eq!(client.permit("127.0.0.1:9".parse().unwrap()), Err(Refused(401)));
    }
    assert_eq!(Client::tcp(daemon.turn()).allocate(&first), Err(Refused(401)));
    stays.relay_both_ways(relayed);
    daemon.logged(&["ended", "credentials revoked", "bob"]);
    daemon.logged(&["refused with 401", "revoked", "bob"]);
    let wrong = daemon.ctl(&["credentials", "revoke", "bob"]);
    assert!(said(&wrong).contains("with its time stamp"), "{}", said(&wrong));
}

/// What `/metrics` says: `name{label="value"} number` by line.
fn scrape(at: SocketAddr) -> Vec<String> {
    let reply = https::request(TcpStream::connect(at).unwrap(), at, "/metrics", &[]);
    assert_eq!(reply.status, 200);
    assert!(reply.body.ends_with("# EOF\n"), "{}", reply.body);
    reply.body.lines().map(String::from).collect()
}

fn value(lines: &[String], of: &str) -> f64 {
    let line = lines.iter().find(|line| line.strip_prefix(of).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {of} in:\n{}", lines.join("\n")));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn metrics_are_of_this_moment_and_name_nobody() {
    let (setup, metrics) = Setup::new().with_admin();
    let daemon = setup.start();
    let mut client = Client::tcp(daemon.turn());
    let relayed = client.allocate(&alice(SECRET)).unwrap();
    client.relay_both_ways(relayed);
    assert_eq!(Client::udp(daemon.turn()).allocate(&alice("a wrong secret")), Err(Refused(401)));
    let old = Login::new(SECRET, format!("{}:alice", unix_now() - 60));
    assert_eq!(Client::udp(daemon.turn()).allocate(&old), Err(Refused(401)));

    let lines = scrape(metrics);
    for (name, expected) in [
        (r#"ternd_allocations{transport="tcp",family="ipv4"}"#, 1.0),
        (r#"ternd_allocations{transport="udp",family="ipv4"}"#, 0.0),
        ("ternd_allocations_created_total", 1.0),
        (r#"ternd_relayed_packets_total{direction="to_peer"}"#, 1.0),
        (r#"ternd_relayed_bytes_total{direction="to_client"}"#, 13.0),
        (r#"ternd_stun_requests_total{method="allocate",outcome="success"}"#, 1.0),
        (r#"ternd_stun_requests_total{method="allocate",outcome="401"}"#, 5.0),
        (r#"ternd_authentication_failures_total{cause="no_such_secret"}"#, 1.0),
        (r#"ternd_authentication_failures_total{cause="expired"}"#, 1.0),
        (r#"ternd_quota_refusals_total{limit="limits.allocations-per-user"}"#, 0.0),
        ("ternd_client_time_to_connected_seconds_count", 0.0),
        (r#"ternd_sockets{kind="relay"}"#, 1.0),
        (r#"ternd_sockets{kind="stream"}"#, 1.0),
        ("ternd_room_members", 0.0),
        (r#"ternd_websockets_given_up_total{reason="slow"}"#, 0.0),
    ] {
        assert_eq!(value(&lines, name), expected, "{name}");
    }
    let text = lines.join("\n");
    for secret in ["alice", "127.0.0.1", SECRET] {
        assert!(!text.contains(secret), "{secret:?} in {text}");
    }
    client.release();
    assert_eq!(value(&scrape(metrics), r#"ternd_allocations{transport="tcp",family="ipv4"}"#), 0.0);
    assert_eq!(said(&daemon.ctl(&["metrics"])).lines().count(), scrape(metrics).len());
}

#[test]
fn rooms_and_what_their_clients_report_are_counted() {
    let (setup, metrics) = Setup::new().with_admin();
    let daemon = setup.start();
    let mut alice = web::socket(daemon.https());
    let welcome = web::hello(&mut alice);
    web::request(&mut alice, r#"{"type":"join","id":1,"room":"demo","pin":"1234"}"#);
    let report = |id: u32, more: &str| format!(r#"{{"type":"report","id":{id},"pc":"main",{more}}}"#);
    let connected = r#""state":"connected","ms":830,"local":"relay","remote":"srflx","relay":"tls","family":"ipv6","rtt_ms":48"#;
    web::request(&mut alice, &report(2, connected));
    web::request(&mut alice, &report(3, r#""state":"failed","errors":[{"url":"turn:x","code":701}]"#));
    // A connection that breaks without a word, and is resumed.
    drop(alice);
    poll(|| (value(&scrape(metrics), "ternd_room_sessions_away") == 1.0).then_some(())).expect("she is away");
    let mut again = web::socket(daemon.https());
    let (session, secret) = (&welcome["session"], &welcome["secret"]);
    let resume = format!(
        r#"{{"type":"hello","id":1,"client":"tests/1","resume":{{"session":{session},"secret":{secret},"seq":1}}}}"#
    );
    again.send(web::text(&resume)).unwrap();
    assert_eq!(web::next(&mut again)["resumed"], true);
    let mut bob = web::socket(daemon.https());
    web::hello(&mut bob);
    bob.send(web::text(r#"{"type":"join","id":1,"room":"demo","pin":"0000"}"#)).unwrap();
    assert_eq!(web::next(&mut bob)["code"], "bad_pin");
    daemon.ctl_json(&["credentials", "issue"]);

    let lines = scrape(metrics);
    for (name, expected) in [
        ("ternd_rooms", 1.0),
        ("ternd_room_members", 1.0),
        ("ternd_room_sessions_away", 0.0),
        ("ternd_websockets", 2.0),
        (r#"ternd_room_sessions_total{event="resumed"}"#, 1.0),
        (r#"ternd_room_errors_total{code="bad_pin"}"#, 1.0),
        (r#"ternd_credentials_issued_total{by="operator"}"#, 1.0),
        (r#"ternd_client_reports_total{state="connected"}"#, 1.0),
        (r#"ternd_client_reports_total{state="failed"}"#, 1.0),
        (r#"ternd_client_pairs_total{local="relay",remote="srflx",relay="tls",family="ipv6"}"#, 1.0),
        ("ternd_client_candidate_errors_total", 1.0),
        ("ternd_client_time_to_connected_seconds_sum", 0.83),
        ("ternd_client_round_trip_seconds_count", 1.0),
    ] {
        assert_eq!(value(&lines, name), expected, "{name}");
    }
    assert!(!lines.join("\n").contains("demo"), "a room's name");
}

/// Each `ternd_...` in a text, with the label matchers behind it.
fn queried(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("ternd_") {
        let rest = &text[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(l, _)| l);
        let labels = labels.split(',').filter_map(|label| {
            let (label, value) =
                label.split_once("=~").or(label.split_once("!=")).or(label.split_once('='))?;
            Some((label.trim().to_owned(), value.replace(['"', '\\'], "")))
        });
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// The dashboard, the alerts and the documentation know what there is, and nothing else.
#[test]
fn each_query_finds_its_metric() {
    let (setup, metrics) = Setup::new().with_admin();
    let daemon = setup.start();
    let lines = scrape(metrics);
    drop(daemon);
    let has = |name: &str, labels: &[(String, String)]| {
        lines.iter().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|(label, value)| {
                    // A value that nothing was counted for yet, such as a code of an error, shows by its label.
                    line.contains(&format!("{label}=\""))
                        && (value.contains(['|', '.', '5']) || line.contains(&format!("{label}=\"{value}\"")))
                })
        })
    };
    // They come with the first report of a client, or with the first certificate.
    let late = ["ternd_client_pairs_total", "ternd_certificate_expires_timestamp_seconds"];
    let dashboard: Value = serde_json::from_str(include_str!("../../etc/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut queries: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(queries.len() > 10, "{queries:?}");
    let alerts = include_str!("../../etc/alerts.yml");
    let exprs = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    queries.extend(exprs.map(String::from));
    assert!(alerts.matches("- alert:").count() > 4);
    for query in &queries {
        let queried = queried(query);
        assert!(!queried.is_empty() || query.contains("up{"), "{query:?} asks nothing of ternd");
        for (name, labels) in queried {
            assert!(has(&name, &labels) || late.contains(&&*name), "{query}: no {name} {labels:?}");
        }
    }

    let documented = include_str!("../../docs/operations.md");
    for name in lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(documented.contains(&format!("`{name}")), "docs/operations.md does not explain {name}");
    }
    for (name, _) in queried(documented) {
        let known = |suffix: &str| has(&format!("{name}{suffix}"), &[]);
        let known = ["", "_total", "_count"].into_iter().any(known);
        assert!(known || late.contains(&&*name) || name == "ternd_", "docs/operations.md: no {name}");
    }
}

/// A client behind a proxy: what the proxy says first, then what the client says.
fn through_proxy(at: SocketAddr, header: &[u8]) -> TcpStream {
    use std::io::Write;
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream.write_all(header).unwrap();
    stream
}

#[test]
fn a_trusted_proxy_says_whose_connection_it_is_and_nobody_else_does() {
    let v1 = b"PROXY TCP4 192.0.2.7 203.0.113.5 50000 3478\r\n";
    let v2 =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C"[..], &[192, 0, 2, 8, 203, 0, 113, 5, 0xC3, 0x50, 1, 0xBB]]
            .concat();
    let trusting = Setup::new().replace("[tls]", "proxy-protocol = [\"127.0.0.1\"]\n\n[tls]").with_admin().0;
    // It waits until the daemon answers over plain UDP and TCP, which need no header.
    let daemon = trusting.start();
    let login = alice(SECRET);
    let mut plain = Client::over(through_proxy(daemon.turn(), v1));
    assert_eq!(plain.binding(), "192.0.2.7:50000".parse().unwrap());
    let relayed = plain.allocate(&login).unwrap();
    plain.relay_both_ways(relayed);

    let mut tls = Client::over(https::wrap(through_proxy(daemon.https(), &v2), daemon.https(), &[]));
    assert_eq!(tls.binding(), "192.0.2.8:50000".parse().unwrap());
    let relayed = tls.allocate(&login).unwrap();
    tls.relay_both_ways(relayed);
    let list = daemon.ctl_json(&["allocations"]);
    let mut clients: Vec<_> =
        list.as_array().unwrap().iter().map(|a| a["client"].as_str().unwrap()).collect();
    clients.sort_unstable();
    assert_eq!(clients, ["192.0.2.7:50000", "192.0.2.8:50000"]);

    // Without the header it must send, a proxy gets nothing.
    assert_eq!(closed(through_proxy(daemon.turn(), &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42])), "closed");
    drop(daemon);

    let daemon = Daemon::start();
    assert_eq!(closed(through_proxy(daemon.turn(), v1)), "closed");
    assert_eq!(closed(through_proxy(daemon.https(), v1)), "closed");
    assert_eq!(closed(through_proxy(daemon.https(), &v2)), "closed");
}

/// How a connection ends that is not answered but, perhaps, with an alert of TLS or an explanation in HTTP.
fn closed(mut stream: TcpStream) -> &'static str {
    use std::io::{ErrorKind, Read};
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => "closed",
        Err(error) if error.kind() == ErrorKind::ConnectionReset => "closed",
        Err(error) => panic!("{error} after {bytes:?}"),
    }
}
