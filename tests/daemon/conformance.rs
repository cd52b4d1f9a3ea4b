//! A table of requests and the answers that the RFCs ask for, over UDP, TCP and TLS: the shortest of the cases of a
//! suite that was written from the RFCs alone. The bytes are made here, so that no codec of ours has a say.
//!
//! ```text
//! connect ─► 401 ─► (Allocate) ─► the request of the row, signed ─► its answer, or that of the Binding behind it
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use hmac::{KeyInit, Mac};
use md5::Digest;

use crate::client::Login;
use crate::harness::{Daemon, SECRET, Setup, poll, unix_now};
use crate::https;

/// Long enough for a busy machine: only what fails takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

const BINDING: u16 = 0x001;
const ALLOCATE: u16 = 0x003;
const REFRESH: u16 = 0x004;
const CREATE_PERMISSION: u16 = 0x008;
const CHANNEL_BIND: u16 = 0x009;
const CONNECT: u16 = 0x00A;
const CONNECTION_BIND: u16 = 0x00B;
const INDICATION: u16 = 0x010;
const SUCCESS: u16 = 0x100;

type Attribute = (u16, Vec<u8>);

fn a(kind: u16, value: &[u8]) -> Attribute {
    (kind, value.to_vec())
}

/// XOR-PEER-ADDRESS of an IPv4 peer.
fn peer(ip: [u8; 4], port: u16) -> Attribute {
    let mut value = vec![0, 1];
    value.extend((port ^ 0x2112).to_be_bytes());
    value.extend((u32::from_be_bytes(ip) ^ 0x2112_A442).to_be_bytes());
    (0x12, value)
}

fn lifetime(seconds: u32) -> Attribute {
    a(0x0D, &seconds.to_be_bytes())
}

fn channel(number: u16) -> Attribute {
    a(0x0C, &[&number.to_be_bytes()[..], &[0, 0]].concat())
}

fn udp() -> Attribute {
    a(0x19, &[17, 0, 0, 0])
}

fn tcp() -> Attribute {
    a(0x19, &[6, 0, 0, 0])
}

fn family(number: u8) -> Attribute {
    a(0x17, &[number, 0, 0, 0])
}

fn additional(number: u8) -> Attribute {
    a(0x8000, &[number, 0, 0, 0])
}

/// Before the request of a row.
#[derive(Clone)]
enum Given {
    /// The client knows realm and nonce, no more.
    Handshake,
    /// It has an allocation, asked for like this.
    Allocation(Vec<Attribute>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Success,
    Error(u16),
    /// Nothing: the next answer is that of the next request.
    Silence,
}

/// How a request is signed.
#[derive(Clone, Copy)]
enum Signed {
    Well,
    Not,
    /// With this attribute left out.
    Without(u16),
    WithAnotherKey,
    /// The attributes of the row come after MESSAGE-INTEGRITY.
    BeforeTheAttributes,
}

struct Row {
    name: &'static str,
    given: Given,
    signed: Signed,
    /// Method and class as on the wire.
    kind: u16,
    attributes: Vec<Attribute>,
    want: Want,
}

fn rows() -> Vec<Row> {
    use Signed::{BeforeTheAttributes, Not, Well, WithAnotherKey, Without};
    use Want::{Error, Silence, Success};
    let mut rows = Vec::new();
    let mut row = |name, given: &Given, signed, kind, attributes: &[Attribute], want| {
        rows.push(Row { name, given: given.clone(), signed, kind, attributes: attributes.to_vec(), want });
    };
    let none = &Given::Handshake;
    let ours = &Given::Allocation(vec![udp()]);
    let peer1 = || peer([127, 0, 0, 1], 9);

    // RFC 8489: the message.
    row("Binding", none, Not, BINDING, &[], Success);
    row("Binding, signed", none, Well, BINDING, &[], Success);
    row("unknown required attribute", none, Not, BINDING, &[a(0x7777, b"x")], Error(420));
    row("unknown optional attribute", none, Not, BINDING, &[a(0xC057, b"x")], Success);
    row(
        "known attributes out of place",
        none,
        Not,
        BINDING,
        &[lifetime(1), channel(1), udp(), peer1()],
        Success,
    );
    row("Binding indication", none, Not, BINDING | INDICATION, &[], Silence);
    row("indication with an unknown attribute", none, Not, BINDING | INDICATION, &[a(0x7777, b"")], Silence);
    row("a response", none, Not, BINDING | SUCCESS, &[], Silence);
    row("an error response", none, Not, BINDING | SUCCESS | INDICATION, &[], Silence);
    row("FINGERPRINT that is wrong", none, Not, BINDING, &[a(0x8028, b"nope")], Silence);
    row("SOFTWARE that is no text", none, Not, BINDING, &[a(0x8022, &[0xFF, 0xFE])], Success);
    row("CHANGE-REQUEST with one address", none, Not, BINDING, &[a(0x03, &[0, 0, 0, 6])], Error(420));

    // RFC 8489 section 9.2.4: the order of checks.
    row("unsigned, with an unknown attribute", none, Not, ALLOCATE, &[udp(), a(0x7777, b"")], Error(401));
    for method in [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
        row("unsigned", none, Not, method, &[], Error(401));
    }
    row("without USERNAME", none, Without(0x06), ALLOCATE, &[udp()], Error(400));
    row("without REALM", none, Without(0x14), ALLOCATE, &[udp()], Error(400));
    row("without NONCE", none, Without(0x15), ALLOCATE, &[udp()], Error(400));
    row("another password", none, WithAnotherKey, ALLOCATE, &[udp()], Error(401));
    row("unknown attribute, signed", none, Well, ALLOCATE, &[udp(), a(0x7777, b"")], Error(420));
    row("what counts is signed", none, BeforeTheAttributes, ALLOCATE, &[udp()], Error(400));
    row("only PASSWORD-ALGORITHM", none, Well, ALLOCATE, &[udp(), a(0x1D, &[0, 2, 0, 0])], Error(400));
    row("only PASSWORD-ALGORITHMS", none, Well, ALLOCATE, &[udp(), a(0x8002, &[0, 2, 0, 0])], Error(400));

    // RFC 8656 section 7.2: Allocate.
    row("Allocate", none, Well, ALLOCATE, &[udp()], Success);
    row("no transport", none, Well, ALLOCATE, &[], Error(400));
    row("short transport", none, Well, ALLOCATE, &[a(0x19, &[17])], Error(400));
    row("SCTP", none, Well, ALLOCATE, &[a(0x19, &[132, 0, 0, 0])], Error(442));
    row("IPv4", none, Well, ALLOCATE, &[udp(), family(1)], Success);
    row("a family there is not", none, Well, ALLOCATE, &[udp(), family(3)], Error(440));
    row("short family", none, Well, ALLOCATE, &[udp(), a(0x17, &[1])], Error(400));
    row("both kinds of family", none, Well, ALLOCATE, &[udp(), family(1), additional(2)], Error(400));
    row("IPv4 in addition", none, Well, ALLOCATE, &[udp(), additional(1)], Error(400));
    row("IPv6 in addition", none, Well, ALLOCATE, &[udp(), additional(2)], Success);
    row("DONT-FRAGMENT", none, Well, ALLOCATE, &[udp(), a(0x1A, b"")], Success);
    row("even port", none, Well, ALLOCATE, &[udp(), a(0x18, &[0])], Success);
    row("even port and the next", none, Well, ALLOCATE, &[udp(), a(0x18, &[0x80])], Success);
    row(
        "the next of two families",
        none,
        Well,
        ALLOCATE,
        &[udp(), a(0x18, &[0x80]), additional(2)],
        Error(400),
    );
    row("empty EVEN-PORT", none, Well, ALLOCATE, &[udp(), a(0x18, b"")], Error(400));
    row("a token never given", none, Well, ALLOCATE, &[udp(), a(0x22, b"12345678")], Error(508));
    row("half a token", none, Well, ALLOCATE, &[udp(), a(0x22, b"1234")], Error(400));
    row("token, even port", none, Well, ALLOCATE, &[udp(), a(0x22, b"12345678"), a(0x18, &[0])], Error(400));
    row("token, family", none, Well, ALLOCATE, &[udp(), a(0x22, b"12345678"), family(1)], Error(400));
    row(
        "token, two families",
        none,
        Well,
        ALLOCATE,
        &[udp(), a(0x22, b"12345678"), additional(2)],
        Error(400),
    );
    row("short lifetime", none, Well, ALLOCATE, &[udp(), a(0x0D, &[1])], Error(400));
    row("second allocation", ours, Well, ALLOCATE, &[udp()], Error(437));

    // Without an allocation (section 5), and section 8: Refresh.
    row("nothing to refresh", none, Well, REFRESH, &[], Error(437));
    row("nothing to permit", none, Well, CREATE_PERMISSION, &[peer1()], Error(437));
    row("nothing to bind", none, Well, CHANNEL_BIND, &[channel(0x4000), peer1()], Error(437));
    row("nothing to send with", none, Not, 0x006 | INDICATION, &[peer1(), a(0x13, b"x")], Silence);
    row("Refresh", ours, Well, REFRESH, &[lifetime(600)], Success);
    row("end", ours, Well, REFRESH, &[lifetime(0)], Success);
    row("Refresh of the other family", ours, Well, REFRESH, &[family(2)], Error(443));
    row("Refresh of three bytes", ours, Well, REFRESH, &[a(0x0D, &[0, 0, 1])], Error(400));

    // Sections 10 to 12.
    row("permission", ours, Well, CREATE_PERMISSION, &[peer1()], Success);
    row("two permissions", ours, Well, CREATE_PERMISSION, &[peer1(), peer([127, 0, 0, 2], 0)], Success);
    row("permission for none", ours, Well, CREATE_PERMISSION, &[], Error(400));
    row(
        "permission for half a peer",
        ours,
        Well,
        CREATE_PERMISSION,
        &[peer1(), a(0x12, &[0, 1])],
        Error(400),
    );
    row(
        "permission for IPv6",
        ours,
        Well,
        CREATE_PERMISSION,
        &[a(0x12, &[&[0, 2][..], &[0; 18]].concat())],
        Error(443),
    );
    row("private peer", ours, Well, CREATE_PERMISSION, &[peer([10, 0, 0, 1], 80)], Error(403));
    row("metadata", ours, Well, CREATE_PERMISSION, &[peer1(), peer([169, 254, 169, 254], 80)], Error(403));
    row("first channel", ours, Well, CHANNEL_BIND, &[channel(0x4000), peer1()], Success);
    row("last channel", ours, Well, CHANNEL_BIND, &[channel(0x4FFF), peer1()], Success);
    row("channel before the first", ours, Well, CHANNEL_BIND, &[channel(0x3FFF), peer1()], Error(400));
    row("channel after the last", ours, Well, CHANNEL_BIND, &[channel(0x5000), peer1()], Error(400));
    row("channel of none", ours, Well, CHANNEL_BIND, &[channel(0x4000)], Error(400));
    row("no channel", ours, Well, CHANNEL_BIND, &[peer1()], Error(400));
    row(
        "channel to a private peer",
        ours,
        Well,
        CHANNEL_BIND,
        &[channel(0x4000), peer([10, 0, 0, 1], 80)],
        Error(403),
    );
    row("Send to nobody", ours, Not, 0x006 | INDICATION, &[a(0x13, b"x")], Silence);
    row("Send of nothing", ours, Not, 0x006 | INDICATION, &[peer1()], Silence);
    row("Send without permission", ours, Not, 0x006 | INDICATION, &[peer1(), a(0x13, b"x")], Silence);
    row("Data from a client", ours, Not, 0x007 | INDICATION, &[peer1(), a(0x13, b"x")], Silence);

    // RFC 6062, as far as no peer is needed.
    row("TCP and an even port", none, Well, ALLOCATE, &[tcp(), a(0x18, &[0])], Error(400));
    row("TCP and DONT-FRAGMENT", none, Well, ALLOCATE, &[tcp(), a(0x1A, b"")], Error(400));
    row("Connect without allocation", none, Well, CONNECT, &[peer1()], Error(437));
    row("a connection there is not", none, Well, CONNECTION_BIND, &[a(0x2A, &[1, 2, 3, 4])], Error(400));
    row("no connection", none, Well, CONNECTION_BIND, &[], Error(400));
    rows
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

enum Wire {
    Udp(UdpSocket),
    Stream(Box<dyn ReadWrite>),
}

struct Tester {
    wire: Wire,
    login: Login,
    sent: u8,
    realm: Vec<u8>,
    nonce: Vec<u8>,
}

impl Tester {
    fn key(&self) -> Vec<u8> {
        let parts = [self.login.username.as_bytes(), &self.realm, self.login.password.as_bytes()];
        md5::Md5::digest(parts.join(&b':')).to_vec()
    }

    fn message(&mut self, kind: u16, attributes: &[Attribute], signed: Signed) -> Vec<u8> {
        self.sent += 1;
        let mut message =
            [&kind.to_be_bytes()[..], &[0, 0, 0x21, 0x12, 0xA4, 0x42], &[self.sent; 12]].concat();
        if !matches!(signed, Signed::BeforeTheAttributes) {
            append(&mut message, attributes);
        }
        if !matches!(signed, Signed::Not) {
            let mut who = vec![
                (0x06, self.login.username.clone().into_bytes()),
                (0x14, self.realm.clone()),
                (0x15, self.nonce.clone()),
            ];
            who.retain(|(kind, _)| !matches!(signed, Signed::Without(out) if out == *kind));
            append(&mut message, &who);
            let key = if matches!(signed, Signed::WithAnotherKey) { b"guess".to_vec() } else { self.key() };
            // The length counts the attribute that is made.
            set_length(&mut message, 24);
            let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
            mac.update(&message);
            append(&mut message, &[(0x08, mac.finalize().into_bytes().to_vec())]);
        }
        if matches!(signed, Signed::BeforeTheAttributes) {
            append(&mut message, attributes);
        }
        message
    }

    fn send(&mut self, message: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => assert_eq!(socket.send(message).unwrap(), message.len()),
            Wire::Stream(stream) => stream.write_all(message).unwrap(),
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut answer = vec![0; 2_048];
        match &mut self.wire {
            Wire::Udp(socket) => {
                let len = socket.recv(&mut answer).expect("an answer");
                answer.truncate(len);
            }
            Wire::Stream(stream) => {
                stream.read_exact(&mut answer[..20]).expect("an answer");
                let len = 20 + usize::from(u16::from_be_bytes([answer[2], answer[3]]));
                stream.read_exact(&mut answer[20..len]).unwrap();
                answer.truncate(len);
            }
        }
        answer
    }

    /// What comes of a request. A Binding behind it shows that nothing comes.
    fn ask(&mut self, kind: u16, attributes: &[Attribute], signed: Signed) -> (Want, Vec<u8>) {
        let request = self.message(kind, attributes, signed);
        let binding = self.message(BINDING, &[], Signed::Not);
        self.send(&request);
        self.send(&binding);
        let first = self.receive();
        if first[8..20] == binding[8..20] {
            return (Want::Silence, first);
        }
        assert_eq!(first[8..20], request[8..20], "the transaction id");
        assert_eq!(self.receive()[8..20], binding[8..20], "one answer, no more");
        let class = u16::from_be_bytes([first[0], first[1]]) & 0x110;
        let code = find(&first, 0x09).map(|v| u16::from(v[2]) * 100 + u16::from(v[3]));
        match (class, code) {
            (0x100, None) => (Want::Success, first),
            (0x110, Some(code)) => (Want::Error(code), first),
            _ => panic!("neither success nor error: {first:02x?}"),
        }
    }

    /// Is MESSAGE-INTEGRITY there, and right?
    fn is_signed(&self, answer: &[u8]) -> bool {
        let Some(at) = position(answer, 0x08) else { return false };
        let mut signed = answer[..at].to_vec();
        set_length(&mut signed, 24);
        let mut mac = hmac::Hmac::<sha1::Sha1>::new_from_slice(&self.key()).unwrap();
        mac.update(&signed);
        mac.verify_slice(&answer[at + 4..at + 24]).is_ok()
    }
}

fn append(message: &mut Vec<u8>, attributes: &[Attribute]) {
    for (kind, value) in attributes {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    set_length(message, 0);
}

fn set_length(message: &mut [u8], more: usize) {
    let len = (message.len() - 20 + more) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
}

fn position(message: &[u8], kind: u16) -> Option<usize> {
    let mut at = 20;
    while at + 4 <= message.len() {
        if message[at..at + 2] == kind.to_be_bytes() {
            return Some(at);
        }
        at += 4 + usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]])).next_multiple_of(4);
    }
    None
}

fn find(message: &[u8], kind: u16) -> Option<&[u8]> {
    let at = position(message, kind)?;
    let len = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
    Some(&message[at + 4..at + 4 + len])
}

/// All rows over one transport; each failure is told, not only the first.
fn hold(connect: impl Fn() -> Wire) {
    let expiry = unix_now() + 600;
    let mut wrong = Vec::new();
    for (number, row) in rows().into_iter().enumerate() {
        // A user of its own, so that no quota is shared.
        let login = Login::new(SECRET, format!("{expiry}:row{number}"));
        let mut tester = Tester { wire: connect(), login, sent: 0, realm: Vec::new(), nonce: Vec::new() };
        let (refused, challenge) = tester.ask(ALLOCATE, &[udp()], Signed::Not);
        assert_eq!(refused, Want::Error(401));
        tester.realm = find(&challenge, 0x14).expect("REALM").to_vec();
        tester.nonce = find(&challenge, 0x15).expect("NONCE").to_vec();
        let mut allocated = matches!((row.kind, row.want), (ALLOCATE, Want::Success));
        if let Given::Allocation(attributes) = &row.given {
            let (answer, _) = tester.ask(ALLOCATE, attributes, Signed::Well);
            assert_eq!(answer, Want::Success, "before {}", row.name);
            allocated = true;
        }

        let (got, answer) = tester.ask(row.kind, &row.attributes, row.signed);
        let signed = tester.is_signed(&answer);
        // A Binding needs no credential, and these two are judged before the signature.
        let unjudged = row.kind == BINDING || row.name.starts_with("only PASSWORD-ALGORITHM");
        let authenticated = !unjudged && matches!(row.signed, Signed::Well | Signed::BeforeTheAttributes);
        if got != row.want {
            wrong.push(format!("{}: {got:?} instead of {:?}", row.name, row.want));
        } else if got != Want::Silence && signed != authenticated {
            wrong.push(format!("{}: {got:?}, signed: {signed}", row.name));
        }
        if allocated {
            tester.ask(REFRESH, &[lifetime(0)], Signed::Well);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_over_udp() {
    let daemon = Daemon::start();
    hold(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(daemon.turn()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::Udp(socket)
    });
}

#[test]
fn the_table_over_tcp() {
    let daemon = Daemon::start();
    hold(|| {
        let stream = TcpStream::connect(daemon.turn()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::Stream(Box::new(stream))
    });
}

#[test]
fn the_table_over_tls() {
    let daemon = Daemon::start();
    hold(|| Wire::Stream(Box::new(https::connect(daemon.https(), &[]))));
}

/// A client may name the protocol (RFC 7443), and the first that it says may be ChannelData.
#[test]
fn names_and_first_bytes_of_turn_over_tls() {
    let daemon = Daemon::start();
    for alpn in [&[][..], &["stun.turn"], &["stun.nat-discovery"]] {
        let mut stream = https::connect(daemon.https(), alpn);
        // A channel that nobody bound: dropped, and the connection goes on.
        stream.write_all(&[0x40, 0, 0, 4, 1, 2, 3, 4]).unwrap();
        stream.write_all(&[&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat()).unwrap();
        let mut answer = [0; 20];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((&answer[..2], &answer[8..]), (&[1, 1][..], &[7; 12][..]), "{alpn:?}");
    }
}

/// A client that says goodbye and waits for the server's, without closing its socket (RFC 8446 section 6.1).
#[test]
fn goodbye_over_tls_is_answered() {
    let daemon = Daemon::start();
    let mut stream = https::connect(daemon.https(), &[]);
    stream.write_all(&[&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat()).unwrap();
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let end = stream.read(&mut answer);
    assert!(!matches!(&end, Ok(1..)), "{end:?}");
    let waited = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!end.is_err_and(|error| waited(error.kind())), "the server says nothing");
}

/// A shell's limit of open files is no bound on allocations.
#[test]
fn the_limit_of_open_files_is_raised() {
    let setup = Setup::new();
    let config = setup.folder.write("ternd.toml", &setup.toml);
    let mut daemon = std::process::Command::new("prlimit")
        .args(["--nofile=64:128", env!("CARGO_BIN_EXE_ternd"), "serve", "--config"])
        .arg(config)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", daemon.id());
    let raised = poll(|| {
        let text = std::fs::read_to_string(&limits).ok()?;
        let line = text.lines().find(|line| line.starts_with("Max open files"))?;
        (line.split_whitespace().filter(|word| *word == "128").count() == 2).then_some(())
    });
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(raised.is_some());
}
