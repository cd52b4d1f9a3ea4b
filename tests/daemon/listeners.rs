//! Listeners that a reload adds and removes, with calls on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use crate::client::{Client, Refused};
use crate::harness::{Daemon, SECRET, Setup, free_port, poll, said};
use crate::operations::{alice, callers};
use crate::{https, web};

const OTHER: &str = "a secret that comes with other listeners";

/// A daemon with an admin socket, and one listener of each kind.
fn start() -> Daemon {
    let (setup, _) = Setup::new().with_admin();
    let listen = setup.toml.split("[listen]").nth(1).unwrap().split("[tls]").next().unwrap().to_owned();
    let ours = format!("\n{}\n", lists(setup.turn, setup.turn, setup.https, None));
    setup.replace(&listen, &ours).start()
}

fn lists(udp: SocketAddr, tcp: SocketAddr, tls: SocketAddr, http: Option<SocketAddr>) -> String {
    let http = http.map(|addr| format!("\"{addr}\"")).unwrap_or_default();
    format!("udp = [\"{udp}\"]\ntcp = [\"{tcp}\"]\ntls = [\"{tls}\"]\nhttp = [{http}]\n")
}

fn new_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

impl Daemon {
    /// Changes what it listens on, in the file.
    fn listen(&self, to: &str) {
        let text = std::fs::read_to_string(self.setup.folder.path().join("ternd.toml")).unwrap();
        let lists = text.split("[listen]\n").nth(1).unwrap().split("\n[").next().unwrap();
        self.rewrite(lists, to);
    }
}

#[test]
fn listeners_come_and_go_and_nobody_notices_who_is_there() {
    let mut daemon = start();
    let (old, old_tls) = (daemon.turn(), daemon.https());
    let mut callers = callers(&daemon, &alice(SECRET));
    let mut room = web::socket(old_tls);
    web::hello(&mut room);

    let [udp, tcp, tls, http] = [(); 4].map(|()| new_address());
    daemon.listen(&lists(udp, tcp, tls, Some(http)));
    let output = daemon.ctl(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    daemon.logged(&["no longer listening on", &old.to_string(), "UDP"]);
    daemon.logged(&["no longer listening on", &old_tls.to_string(), "HTTPS"]);

    // The new ones serve, and clients are told of them.
    let login = alice(SECRET);
    for mut client in [Client::udp(udp), Client::tcp(tcp), Client::tls(tls)] {
        let relayed = client.allocate(&login).unwrap();
        client.relay_both_ways(relayed);
        client.release();
    }
    let plain = |path: &str, headers: &[(&str, &str)]| {
        https::request(TcpStream::connect(http).unwrap(), http, path, headers)
    };
    assert_eq!(plain("/healthz", &[]).status, 200);
    let key = format!("Bearer {}", crate::harness::API_KEY);
    let ice = plain("/v1/ice", &[("Authorization", &key)]).json()["iceServers"].to_string();
    for port in [udp, tcp, tls].map(|addr| format!(":{}", addr.port())) {
        assert!(ice.contains(&port), "{port} in {ice}");
    }
    assert!(!ice.contains(&format!(":{}", old.port())), "{ice}");

    // The old ones are for nobody but those who are there.
    for addr in [old, old_tls] {
        assert!(TcpStream::connect(addr).is_err(), "{addr}");
    }
    assert_eq!(Client::udp(old).try_binding(), None);
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
    }
    web::request(&mut room, r#"{"type":"join","id":1,"room":"demo"}"#);

    // They come back, and close with the last call.
    daemon.listen(&lists(old, tcp, tls, None));
    assert!(daemon.ctl(&["reload"]).status.success());
    Client::udp(old).binding();
    assert!(TcpStream::connect(http).is_err());
    daemon.listen(&lists(udp, tcp, tls, None));
    assert!(daemon.ctl(&["reload"]).status.success());
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
        client.release();
    }
    poll(|| UdpSocket::bind(old).ok()).expect("the old UDP listener is closed");
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn a_listener_that_cannot_be_had_refuses_the_reload_and_nothing_has_changed() {
    let mut daemon = start();
    let (turn, https) = (daemon.turn(), daemon.https());
    let mut callers = callers(&daemon, &alice(SECRET));
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = held.local_addr().unwrap();
    daemon.rewrite(SECRET, OTHER);
    for (kind, words, at) in [
        ("tcp", "another program uses this port", taken),
        ("tls", "another program", taken),
        ("http", "another program", taken),
        ("udp", "no interface of this machine", "192.0.2.1:3478".parse().unwrap()),
        ("tls", "a port changes its kind with a restart only", turn),
        ("tcp", "a port changes its kind with a restart only", https),
    ] {
        // All but one could be had.
        let addr = |this: &str| if kind == this { at } else { new_address() };
        let (udp, http) = (addr("udp"), addr("http"));
        daemon.listen(&lists(udp, addr("tcp"), addr("tls"), Some(http)));
        let output = daemon.ctl(&["reload"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{kind} {at}: {said}");
        assert!(said.contains(words) && said.contains(&at.to_string()), "{kind} {at}: {said}");
        let last = daemon.ctl_json(&["status"])["last_reload"].clone();
        assert_eq!(last["ok"], false, "{last}");
        daemon.logged(&["ERROR", "reload refused", &at.to_string()]);
        if kind != "udp" {
            assert!(UdpSocket::bind(udp).is_ok(), "{udp} is not bound");
        }
        if kind != "http" {
            assert!(TcpStream::connect(http).is_err(), "{http} is not listened on");
        }
    }
    for (client, relayed) in &mut callers {
        client.relay_both_ways(*relayed);
    }
    for mut client in [Client::udp(turn), Client::tcp(turn), Client::tls(https)] {
        assert_eq!(client.allocate(&alice(OTHER)), Err(Refused(401)), "the old secret stays");
    }
    drop(held);
    daemon.listen(&lists(new_address(), taken, new_address(), None));
    let output = daemon.ctl(&["reload"]);
    assert!(output.status.success(), "{}", said(&output));
    Client::tcp(taken).allocate(&alice(OTHER)).unwrap();
    assert_eq!(daemon.terminate().code(), Some(0));
}
