//! Keys that an identity provider publishes: a real HTTPS server, whose answer changes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::harness::{Daemon, Setup, certificate, poll, said, unix_now};
use crate::web;

/// Publishes a set, over TLS or without.
struct Provider {
    at: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn start(secure: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::<AtomicUsize>::default());
        let (text, count) = (answer.clone(), asked.clone());
        let tls = tls();
        // It ends with the process of the tests.
        thread::spawn(move || {
            for tcp in listener.incoming().map(Result::unwrap) {
                tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                match secure {
                    true => answer_on(
                        StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), tcp),
                        &text,
                        &count,
                    ),
                    false => answer_on(tcp, &text, &count),
                }
            }
        });
        Self { at, answer, asked }
    }

    fn says(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    }

    fn publishes(&self, keys: &[&Signer]) {
        let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
        self.says("200 OK", "Cache-Control: public\r\n", &json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn tls() -> Arc<ServerConfig> {
    let (certificate, key) = certificate();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// One request, one answer. Who does not trust the certificate asks nothing.
fn answer_on(mut stream: impl Read + Write, answer: &Mutex<String>, asked: &AtomicUsize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /keys?of=tests HTTP/1.1\r\n"), "{head}");
    asked.fetch_add(1, Ordering::SeqCst);
    let answer = answer.lock().unwrap().clone();
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}

/// Signs tokens.
struct Signer {
    id: Option<&'static str>,
    key: rcgen::KeyPair,
}

impl Signer {
    fn new(id: &'static str) -> Self {
        Self::with(Some(id))
    }

    fn with(id: Option<&'static str>) -> Self {
        Self { id, key: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    /// RFC 7518 section 6.2: the two halves of the uncompressed point.
    fn public(&self) -> Value {
        let point = self.key.public_key_raw();
        let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": x, "y": y})
    }

    fn token(&self) -> String {
        let header = Header { kid: self.id.map(Into::into), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        encode(&header, &json!({"exp": unix_now() + 600, "name": "Alice", "may-relay": true}), &key).unwrap()
    }
}

fn daemon(provider: &Provider, scheme: &str, more: &str) -> Daemon {
    let url = format!("{scheme}://localhost:{}/keys?of=tests", provider.at.port());
    let jwt = format!("[rooms.jwt]\njwks-url = \"{url}\"\njwks-cooldown = \"1s\"\n{more}\n\n[log]");
    Setup::new().with_admin().0.replace("[log]", &jwt).start()
}

/// What a hello with this token is answered with: `welcome`, or the code of the error.
fn greeted(daemon: &Daemon, token: &str) -> String {
    let mut socket = web::socket(daemon.https());
    socket.send(web::text(&json!({"type": "hello", "token": token}).to_string())).unwrap();
    let answer = web::next(&mut socket);
    let code = answer["code"].as_str().or(answer["type"].as_str());
    code.unwrap().to_owned()
}

fn metric(daemon: &Daemon, outcome: &str) -> usize {
    let text = said(&daemon.ctl(&["metrics"]));
    let name = format!("ternd_jwks_fetches_total{{outcome=\"{outcome}\"}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&name))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap()
}

/// More than the cooldown.
fn cool_down() {
    thread::sleep(Duration::from_millis(1_300));
}

#[test]
fn keys_are_fetched_and_followed_when_they_change_and_old_ones_stay_when_they_cant_be_had() {
    let (first, second, third) = (Signer::new("1"), Signer::new("2"), Signer::new("3"));
    let provider = Provider::start(true);
    provider.publishes(&[&first]);
    let daemon = daemon(&provider, "https", "jwks-ca-file = \"cert.pem\"");
    daemon.logged(&["1 keys for tokens from https://localhost", "/keys"]);
    assert!(!daemon.log().contains("of=tests"), "a query may be a secret");
    assert_eq!(greeted(&daemon, &first.token()), "welcome");
    assert_eq!(provider.asked(), 1);

    // The keys change: whoever shows a token of the new one is let in at once, and the old one is out.
    provider.publishes(&[&second]);
    cool_down();
    assert_eq!(greeted(&daemon, &second.token()), "welcome");
    assert_eq!(provider.asked(), 2);
    assert_eq!(greeted(&daemon, &first.token()), "unauthorized");
    let bearer = |signer: &Signer| format!("Bearer {}", signer.token());
    let ice = |signer| crate::https::get(daemon.https(), "/v1/ice", &[("Authorization", &bearer(signer))]);
    assert_eq!((ice(&second).status, ice(&first).status), (200, 401));

    // Whoever makes up keys makes nobody look more often than once per cooldown.
    let before = provider.asked();
    for _ in 0..20 {
        assert_eq!(greeted(&daemon, &third.token()), "unauthorized");
    }
    assert!(provider.asked() <= before + 3, "{} looks", provider.asked() - before);
    assert!(metric(&daemon, "postponed") >= 10);

    // What can't be had, or is nonsense, leaves the keys as they are.
    let big = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000));
    let shared = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;
    for (status, headers, body, why) in [
        ("500 Internal Server Error", "", "", "the answer is 500"),
        ("302 Found", "Location: https://localhost/\r\n", "", "give the URL that it leads to"),
        ("200 OK", "", &*big, "more than 262144 bytes (rooms.jwt.jwks-bytes)"),
        ("200 OK", "", "<html>", "not a JWKS"),
        ("200 OK", "", r#"{"keys":[]}"#, "no key"),
        ("200 OK", "", shared, "no public key"),
    ] {
        provider.says(status, headers, body);
        cool_down();
        assert_eq!(greeted(&daemon, &third.token()), "unauthorized");
        daemon.logged(&["WARN", why, "the 1 of before stay in force"]);
        assert_eq!(greeted(&daemon, &second.token()), "welcome", "{why}");
    }
    assert!(metric(&daemon, "failed") >= 6);

    // A reload is an occasion to look, and keeps what is there.
    provider.publishes(&[&second, &third]);
    cool_down();
    assert!(daemon.ctl(&["reload"]).status.success());
    daemon.logged(&["2 keys for tokens"]);
    assert_eq!(greeted(&daemon, &third.token()), "welcome");

    // The endpoint waits for a look, too.
    let fourth = Signer::new("4");
    provider.publishes(&[&third, &fourth]);
    cool_down();
    assert_eq!((ice(&fourth).status, ice(&second).status), (200, 401));

    // A reload that changes how to look keeps what is there, too, though it can't be had now.
    provider.says("500 Internal Server Error", "", "");
    daemon.rewrite("jwks-cooldown = \"1s\"", "jwks-cooldown = \"2s\"");
    assert!(daemon.ctl(&["reload"]).status.success());
    daemon.logged(&["WARN", "the 2 of before stay in force"]);
    assert_eq!(greeted(&daemon, &fourth.token()), "welcome");
}

#[test]
fn a_stranger_s_certificate_is_not_trusted_and_the_daemon_runs_without_its_keys() {
    let signer = Signer::new("1");
    let provider = Provider::start(true);
    provider.publishes(&[&signer]);
    let daemon = daemon(&provider, "https", "");
    daemon.logged(&["WARN", "no keys for tokens", "no TLS", "certificate"]);
    assert_eq!(greeted(&daemon, &signer.token()), "unauthorized");
    assert_eq!(provider.asked(), 0);
    assert!(metric(&daemon, "failed") >= 1);
}

#[test]
fn on_this_machine_it_can_do_without_tls_and_comes_back_when_the_answer_says_so() {
    let (first, second) = (Signer::new("1"), Signer::new("2"));
    let provider = Provider::start(false);
    let publish = |keys: &[&Signer]| {
        let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
        provider.says("200 OK", "Cache-Control: max-age=2\r\n", &json!({ "keys": keys }).to_string());
    };
    publish(&[&first]);
    let daemon = daemon(&provider, "http", "");
    assert_eq!(greeted(&daemon, &first.token()), "welcome");
    publish(&[&first, &second]);
    assert!(poll(|| (provider.asked() >= 2).then_some(())).is_some(), "it looks again by itself");
    daemon.logged(&["2 keys for tokens"]);
    assert_eq!(greeted(&daemon, &second.token()), "welcome");
}

#[test]
fn keys_without_an_id_are_followed_when_they_change() {
    let (first, second, third, named) =
        (Signer::with(None), Signer::with(None), Signer::with(None), Signer::new("1"));
    let provider = Provider::start(false);
    provider.publishes(&[&first]);
    let daemon = daemon(&provider, "http", "");
    assert_eq!(greeted(&daemon, &first.token()), "welcome");
    assert_eq!(provider.asked(), 1, "the key is there");
    // Neither the token nor the key that is there has a name.
    provider.publishes(&[&second]);
    cool_down();
    assert_eq!(greeted(&daemon, &second.token()), "welcome");
    // The token names a key, and the one that is there has no name.
    provider.publishes(&[&second, &named]);
    cool_down();
    assert_eq!(greeted(&daemon, &named.token()), "welcome");
    // Nor is this a way to make it look more often.
    let before = provider.asked();
    for _ in 0..10 {
        assert_eq!(greeted(&daemon, &third.token()), "unauthorized");
    }
    assert!(provider.asked() <= before + 2, "{} looks", provider.asked() - before);
}
