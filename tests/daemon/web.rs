//! HTTPS, the endpoint for `iceServers`, and the rooms, as a browser uses them.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocket;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::client::{Client, Login, call};
use crate::harness::{API_KEY, Daemon, Setup};
use crate::https::{self, TlsStream, get};

#[test]
fn plain_http_on_the_turn_port_gets_an_explanation() {
    let daemon = Daemon::start();
    let page = https::request(TcpStream::connect(daemon.turn()).unwrap(), daemon.turn(), "/", &[]);
    for word in ["ternd", "STUN", "TURN"] {
        assert!(page.body.contains(word), "no {word:?} in {page:?}");
    }
}

#[test]
fn the_demo_page_is_served_under_a_strict_policy() {
    let daemon = Daemon::start();
    let page = get(daemon.https(), "/", &[]);
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(page.body.contains("<title>"), "{page:?}");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") || policy.contains("default-src 'self'"), "{policy:?}");
    assert!(!policy.contains("unsafe"), "{policy:?}");
    assert_eq!(page.header("x-content-type-options"), "nosniff");

    // Everything the page names is there.
    let mut parts = page.body.split(['"', '\'']).filter(|part| part.starts_with('/') && part.contains('.'));
    let first = parts.next().expect("the page has parts");
    for part in std::iter::once(first).chain(parts) {
        assert_eq!(get(daemon.https(), part, &[]).status, 200, "{part}");
    }
    assert_eq!(get(daemon.https(), "/no-such-page", &[]).status, 404);
}

#[test]
fn health_is_told() {
    let daemon = Daemon::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(daemon.https(), path, &[]).status, 200, "{path}");
    }
}

/// Header lines of a browser that asks from a page of the same origin.
fn same_origin(server: SocketAddr) -> Vec<(&'static str, String)> {
    vec![("Origin", format!("https://{server}")), ("Sec-Fetch-Site", "same-origin".into())]
}

fn get_with(server: SocketAddr, path: &str, headers: &[(&'static str, String)]) -> https::Response {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    get(server, path, &headers)
}

/// Uses every TURN server of an answer, as the URLs say.
pub fn call_through_all(ice: &Value) {
    let mut used = 0;
    for server in ice["iceServers"].as_array().expect("iceServers") {
        for url in server["urls"].as_array().expect("urls").iter().filter_map(Value::as_str) {
            let (scheme, rest) = url.split_once(':').unwrap();
            let (at, query) = rest.split_once('?').unwrap_or((rest, ""));
            let at: SocketAddr = at.parse().unwrap_or_else(|_| panic!("{url}"));
            let client = match (scheme, query) {
                ("stun", "") => {
                    Client::udp(at).binding();
                    continue;
                }
                ("turn", "" | "transport=udp") => Client::udp(at),
                ("turn", "transport=tcp") => Client::tcp(at),
                ("turns", "transport=tcp") => Client::tls(at),
                _ => panic!("{url}"),
            };
            let word = |name: &str| server[name].as_str().expect(name).to_owned();
            call(client, &Login { username: word("username"), password: word("credential") });
            used += 1;
        }
    }
    assert!(used >= 3, "UDP, TCP and TLS are offered: {ice}");
}

#[test]
fn a_page_of_the_same_origin_gets_ice_servers_that_work() {
    let daemon = Daemon::start();
    let answer = get_with(daemon.https(), "/v1/ice", &same_origin(daemon.https()));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let ice = answer.json();
    call_through_all(&ice);
    assert_eq!(ice["iceTransportPolicy"], "all");
    assert!(ice["ttl"].is_u64(), "{ice}");
    assert!(ice["username"].is_string() && ice["password"].is_string() && ice["uris"].is_array(), "{ice}");
}

#[test]
fn an_api_key_gets_ice_servers_that_work() {
    let daemon = Daemon::start();
    let bearer = ("Authorization", format!("Bearer {API_KEY}"));
    let answer = get_with(daemon.https(), "/v1/ice?ttl=120", &[bearer]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["ttl"], 120);
    call_through_all(&answer.json());

    let by_query = get(daemon.https(), &format!("/v1/ice?key={API_KEY}"), &[]);
    assert_eq!(by_query.status, 200, "{by_query:?}");
}

#[test]
fn nobody_else_gets_ice_servers() {
    let daemon = Daemon::start();
    let elsewhere = || ("Origin", "https://elsewhere.example".to_owned());
    let refusals = [
        (401, vec![]),
        (401, vec![("Authorization", "Bearer another-key-than-theirs".to_owned())]),
        (403, vec![elsewhere()]),
        (403, vec![elsewhere(), ("Sec-Fetch-Site", "cross-site".into())]),
    ];
    for (status, headers) in refusals {
        let answer = get_with(daemon.https(), "/v1/ice", &headers);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        let body = answer.json();
        assert!(body["error"].is_string() && body["message"].is_string(), "{body}");
        assert!(!answer.body.contains("credential\":"), "{body}");
    }

    let closed = Setup::new().replace("[ice]", "[ice]\ndemo = false").start();
    let answer = get_with(closed.https(), "/v1/ice", &same_origin(closed.https()));
    assert_eq!(answer.status, 401, "with demo = false: {answer:?}");
}

#[test]
fn turn_and_https_share_a_port() {
    let daemon = Daemon::start();
    let login = {
        let answer = get_with(daemon.https(), "/v1/ice", &same_origin(daemon.https())).json();
        let word = |name: &str| answer[name].as_str().expect(name).to_owned();
        Login { username: word("username"), password: word("password") }
    };
    let mut client = Client::tls(daemon.https());
    let relayed = client.allocate(&login).expect("an allocation");
    assert_eq!(get(daemon.https(), "/healthz", &[]).status, 200);
    client.relay_both_ways(relayed);
    client.release();
    // A client may say what it wants before it says anything else.
    call(Client::over(https::connect(daemon.https(), &["stun.turn"])), &login);
}

pub type Socket = WebSocket<TlsStream>;

/// A WebSocket of the demo page.
pub fn socket(server: SocketAddr) -> Socket {
    let mut request = format!("wss://{server}/v1/ws").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "ternd.v1".parse().unwrap());
    request.headers_mut().insert("Origin", format!("https://{server}").parse().unwrap());
    let (socket, response) = tungstenite::client(request, https::connect(server, &["http/1.1"])).unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "ternd.v1");
    socket
}

pub fn text(text: &str) -> Message {
    Message::text(text)
}

/// The next message.
#[track_caller]
pub fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.read().expect("a message") {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Sends a request and gives its reply, which must come next and be no error.
#[track_caller]
pub fn request(socket: &mut Socket, request: &str) -> Value {
    socket.send(text(request)).unwrap();
    let reply = next(socket);
    let sent: Value = serde_json::from_str(request).unwrap();
    assert_eq!(reply["id"], sent["id"], "{reply}");
    assert_ne!(reply["type"], "error", "{reply}");
    reply
}

#[track_caller]
pub fn hello(socket: &mut Socket) -> Value {
    request(socket, r#"{"type":"hello","id":1,"client":"tests/1"}"#)
}

/// The code the server closes with.
#[track_caller]
pub fn closed_with(socket: &mut Socket) -> u16 {
    loop {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => return frame.code.into(),
            Ok(Message::Close(None)) => panic!("closed without a code"),
            Ok(_) => {}
            Err(error) => panic!("not closed properly: {error}"),
        }
    }
}

#[test]
fn two_members_of_a_room_talk_and_can_call() {
    let daemon = Daemon::start();
    let (mut alice, mut bob) = (socket(daemon.https()), socket(daemon.https()));
    assert_eq!(hello(&mut alice)["type"], "welcome");
    hello(&mut bob);
    let first =
        request(&mut alice, r#"{"type":"join","id":2,"room":"r","create":"if-missing","name":"Alice"}"#);
    assert_eq!(
        (&first["type"], &first["created"], &first["peers"]),
        (&json!("joined"), &json!(true), &json!([]))
    );
    call_through_all(&first["ice"]);

    let second = request(&mut bob, r#"{"type":"join","id":2,"room":"r","create":"if-missing","name":"Bob"}"#);
    let you = &second["peers"][0]["you"];
    assert_eq!(
        (&you["polite"], &you["offerer"]),
        (&json!(true), &json!(true)),
        "the later one offers: {second}"
    );
    let came = next(&mut alice);
    assert_eq!(
        (&came["type"], &came["event"], &came["name"]),
        (&json!("peer"), &json!("join"), &json!("Bob"))
    );

    let offer = json!({"type": "signal", "to": first["self"], "pc": "main", "gen": 1,
                       "description": {"type": "offer", "sdp": "v=0\r\n"}});
    bob.send(text(&offer.to_string())).unwrap();
    let got = next(&mut alice);
    assert_eq!(got["from"], second["self"], "{got}");
    assert_eq!(got["description"], offer["description"]);

    let mut third = socket(daemon.https());
    hello(&mut third);
    third.send(text(r#"{"type":"join","id":2,"room":"r","create":"if-missing"}"#)).unwrap();
    let full = next(&mut third);
    assert_eq!((&full["type"], &full["code"]), (&json!("error"), &json!("room_full")));

    drop(bob);
    let left = next(&mut alice);
    assert_eq!((&left["type"], &left["peer"]), (&json!("peer"), &second["self"]), "{left}");
}
