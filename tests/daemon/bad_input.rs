//! What goes wrong on real machines: each gets its clear error, or is dropped, and the daemon goes on.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Output;
use std::time::Duration;

use crate::client::{Client, Login, Refused, call};
use crate::harness::{Daemon, SECRET, Setup, said, unix_now};
use crate::https;
use crate::web::{self, text};

#[test]
fn a_wrong_secret_is_refused_and_named_in_the_log() {
    let mut daemon = Daemon::start();
    let mallory = Login::new("another secret than theirs", format!("{}:mallory", unix_now() + 600));
    assert_eq!(Client::udp(daemon.turn()).allocate(&mallory), Err(Refused(401)));
    daemon.logged(&["mallory", "signed with none of the configured secrets"]);
    daemon.still_answers();
}

#[test]
fn an_expired_user_is_refused_and_the_log_says_since_when() {
    let mut daemon = Daemon::start();
    let late = Login::new(SECRET, format!("{}:late", unix_now() - 100));
    assert_eq!(Client::udp(daemon.turn()).allocate(&late), Err(Refused(401)));
    let line = daemon.logged(&["late", "credential expired ", " s ago"]);
    let ago = line.split("expired ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!((100..130).contains(&ago.parse::<u64>().unwrap()), "{line}");
    daemon.still_answers();
}

#[test]
fn the_first_401_of_a_good_handshake_is_no_failure() {
    let mut daemon = Daemon::start();
    call(Client::udp(daemon.turn()), &Login::new(SECRET, format!("{}:alice", unix_now() + 600)));
    assert!(daemon.terminate().success());
    let log = daemon.log();
    for word in ["none of the configured secrets", "expired", "unknown user", "not signed"] {
        assert!(!log.contains(word), "{word:?} in the log");
    }
}

#[test]
fn a_user_without_a_time_stamp_is_refused() {
    let daemon = Daemon::start();
    assert_eq!(Client::tcp(daemon.turn()).allocate(&Login::new(SECRET, "bob")), Err(Refused(401)));
    daemon.logged(&["bob", "no time stamp"]);
}

#[test]
fn peers_that_are_not_opened_stay_closed() {
    let setup = Setup::new().replace(r#"allow = ["127.0.0.0/8", "::1"]"#, "allow = []");
    let mut daemon = setup.start();
    let mut client = Client::udp(daemon.turn());
    client.allocate(&Login::new(SECRET, format!("{}:alice", unix_now() + 600))).unwrap();
    for peer in ["127.0.0.2:53", "169.254.169.254:80", "10.0.0.1:22", "0.0.0.0:1", "224.0.0.1:1"] {
        assert_eq!(client.permit(peer.parse().unwrap()), Err(Refused(403)), "{peer}");
    }
    daemon.logged(&["10.0.0.1", "peers.allow"]);

    // The server's own address is open where other clients' relayed addresses are. Its other ports are shut.
    let service = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(client.permit(service.local_addr().unwrap()), Err(Refused(403)));
    client.send_to(service.local_addr().unwrap(), b"?");
    client.binding(); // it was handled
    service.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let nothing = service.recv_from(&mut [0; 16]).unwrap_err();
    assert!(matches!(nothing.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{nothing}");
    daemon.still_answers();
}

/// The configuration is refused: exit code 78 (EX_CONFIG), and these words.
#[track_caller]
fn refused(setup: &Setup, words: &[&str]) {
    let output = setup.fail();
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    names(&output, words);
}

#[track_caller]
fn names(output: &Output, words: &[&str]) {
    let text = said(output);
    for word in words {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }
}

#[test]
fn malformed_toml_is_refused_with_its_line() {
    let setup = Setup::new().replace("[auth]", "[auth");
    let line = setup.toml.lines().position(|line| line == "[auth").unwrap() + 1;
    refused(&setup, &["ternd.toml", &format!(":{line}")]);
}

#[test]
fn an_unknown_key_is_refused_with_its_path() {
    refused(&Setup::new().replace("secret =", "secert ="), &["auth.secert", "secret"]);
    refused(&Setup::new().replace("[peers]", "[pears]"), &["pears", "peers"]);
}

#[test]
fn all_errors_are_shown_in_one_run() {
    let setup = Setup::new()
        .replace(r#"allow = ["127.0.0.0/8""#, r#"allow = ["127.0.0.0/99""#)
        .replace("format = ", "fromat = ")
        .replace("key.pem", "no-such-key.pem");
    refused(&setup, &["peers.allow", "127.0.0.0/99", "log.fromat", "no-such-key.pem"]);
}

#[test]
fn a_missing_configuration_is_named() {
    let output =
        crate::harness::run(crate::harness::ternd().args(["serve", "--config", "no-such-file.toml"]));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    names(&output, &["no-such-file.toml"]);
}

#[test]
fn an_unreadable_certificate_is_named() {
    let gone = Setup::new().replace("cert.pem", "gone.pem");
    refused(&gone, &["tls.certificate", "gone.pem"]);

    let folder = Setup::new();
    std::fs::create_dir(folder.folder.path().join("folder.pem")).unwrap();
    refused(&folder.replace("cert.pem", "folder.pem"), &["tls.certificate", "folder.pem"]);

    let garbage = Setup::new();
    garbage.folder.write("cert.pem", "this is no certificate\n");
    refused(&garbage, &["tls.certificate"]);
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let setup = Setup::new();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    setup.folder.write("key.pem", &other.signing_key.serialize_pem());
    refused(&setup, &["tls"]);
}

#[test]
fn a_port_in_use_is_named() {
    let setup = Setup::new();
    let taken = UdpSocket::bind(setup.turn).unwrap();
    let output = setup.fail();
    assert!(!output.status.success());
    names(&output, &[&setup.turn.to_string(), "in use"]);
    drop(taken);

    for at in [setup.turn, setup.https] {
        let taken = TcpListener::bind(at).unwrap();
        let output = setup.fail();
        assert!(!output.status.success());
        names(&output, &[&at.to_string(), "in use"]);
        drop(taken);
    }
    setup.start().still_answers();
}

/// Numbers that look random and are the same in each run.
fn noise() -> impl FnMut() -> u8 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    }
}

#[test]
fn a_thousand_random_datagrams_are_dropped() {
    let mut daemon = Daemon::start();
    let mut client = Client::udp(daemon.turn());
    let mut random = noise();
    for round in 1..=1000_usize {
        let datagram: Vec<u8> = (0..round).map(|_| random()).collect();
        client.send(&datagram);
        // The answer to this one is the next to come: none of the others was answered. And no buffer runs over.
        if round % 20 == 0 {
            client.binding();
        }
    }
    daemon.still_answers();
    assert!(daemon.terminate().success());
    daemon.logged(&["stopped:", " 1000 senseless messages dropped"]);
    let log = daemon.log();
    assert!(log.lines().count() < 100, "noise does not fill the log:\n{log}");
}

/// Sends bytes that nobody understands and waits until the other side has hung up.
fn hung_up(mut stream: impl Read + Write, bytes: &[u8]) {
    // The other side may hang up before it has all of it.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
            "not closed: {error}"
        ),
    }
}

#[test]
fn streams_of_noise_are_closed() {
    let mut daemon = Daemon::start();
    let mut random = noise();
    for first in [0x00, 0x3f, 0x7f, 0x80, 0xff] {
        let mut bytes: Vec<u8> = (0..4096).map(|_| random()).collect();
        bytes[0] = first;
        for at in [daemon.turn(), daemon.https()] {
            let tcp = TcpStream::connect(at).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
            hung_up(tcp, &bytes);
        }
        hung_up(https::connect(daemon.https(), &[]), &bytes);
    }
    daemon.still_answers();
    call(Client::tls(daemon.https()), &Login::new(SECRET, format!("{}:alice", unix_now() + 600)));
}

#[test]
fn a_websocket_message_of_a_mebibyte_closes_with_1009() {
    let mut daemon = Daemon::start();
    let mut other = web::socket(daemon.https());
    web::hello(&mut other);

    let mut socket = web::socket(daemon.https());
    web::hello(&mut socket);
    // The server may stop reading in the midst of it.
    let _ = socket.send(text(&"x".repeat(1 << 20)));
    assert_eq!(web::closed_with(&mut socket), 1009);

    web::request(&mut other, r#"{"type":"join","id":2,"room":"still-here","create":"if-missing"}"#);
    daemon.still_answers();
}
