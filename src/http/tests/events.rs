//! `/v1/events` and `/v1/send`: the rooms without WebSocket; and what WebSockets have besides: a clean close, tokens,
//! another version, a revoked credential.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

use super::*;

/// An event stream, and how to send.
struct Source {
    body: Incoming,
    text: String,
    name: String,
}

/// An event as an EventSource sees it.
#[derive(Debug)]
struct Heard {
    event: String,
    id: Option<String>,
    data: Value,
}

impl Source {
    async fn open(world: &World, headers: &[(&str, &str)]) -> Self {
        let stream = TcpStream::connect(world.plain).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = request(Method::GET, "/v1/events", headers, "");
        let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        // The connection lives as long as its sender.
        tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        let mut source = Self { body: answer.into_body(), text: String::new(), name: String::new() };
        let open = source.next().await.unwrap();
        assert_eq!((&*open.event, open.id), ("open", None));
        source.name = open.data["connection"].as_str().unwrap().to_owned();
        source
    }

    /// `None`: the stream has ended.
    async fn next(&mut self) -> Option<Heard> {
        let next = async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.text = rest;
                    if !event.starts_with(':') {
                        return Some(event);
                    }
                    continue;
                }
                let bytes = self.body.frame().await?.ok()?.into_data().unwrap();
                self.text.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        };
        let event = timeout(PATIENCE, next).await.expect("an event in time")?;
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        Some(Heard {
            event: field("event: ").unwrap_or_else(|| "message".into()),
            id: field("id: "),
            data: serde_json::from_str(&field("data: ").unwrap()).unwrap(),
        })
    }

    async fn hear(&mut self, kind: &str) -> Heard {
        let heard = self.next().await.expect("an open stream");
        assert_eq!(heard.data["type"], kind, "{heard:?}");
        assert!(is_of_the_server(&heard.data), "not in the schema: {heard:?}");
        heard
    }

    async fn send(&self, world: &World, messages: &[Value]) {
        send(world, &self.name, messages).await;
    }

    async fn join(&mut self, world: &World) -> Value {
        self.send(world, &[json!({"type": "hello"}), json!({"type": "join", "room": "demo"})]).await;
        assert_eq!(self.hear("welcome").await.data["resumed"], false);
        self.hear("joined").await.data
    }
}

async fn send(world: &World, connection: &str, messages: &[Value]) {
    let body = json!({"connection": connection, "messages": messages}).to_string();
    let answer = world.ask(request(Method::POST, "/v1/send", &[], &body)).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn by_events_and_posts_the_rooms_are_the_same() {
    let world = World::new().await;
    let mut alice = Source::open(&world, &[]).await;
    alice.join(&world).await;
    let mut bob = world.open(&[]).await.unwrap();
    let me = bob.join("demo").await["self"].as_str().unwrap().to_owned();
    assert_eq!(alice.hear("peer").await.data["peer"], *me);

    let signal =
        json!({"type": "signal", "to": me, "description": {"type": "answer", "sdp": "v=0 \u{2603}"}});
    alice.send(&world, &[signal, json!({"type": "message", "id": 3, "data": "line\nbreak"})]).await;
    assert_eq!(bob.json().await["description"]["sdp"], "v=0 \u{2603}");
    assert_eq!(bob.json().await["data"], "line\nbreak");
    alice.hear("ok").await;
    bob.send(r#"{"type":"message","data":"line\nbreak"}"#).await;
    assert_eq!(alice.hear("message").await.data["data"], "line\nbreak");

    bob.send("{\"type\":\"message\",\"data\":{\r\n\n\"a\":\n1}}").await;
    assert_eq!(
        alice.hear("message").await.data["data"],
        json!({"a": 1}),
        "line breaks are JSON's, not the stream's"
    );

    alice.send(&world, &[]).await;
    alice.send(&world, &[json!({"type": "bye"})]).await;
    alice.hear("bye").await;
    let close = alice.next().await.unwrap();
    assert_eq!((&*close.event, &close.data["code"]), ("close", &json!(1000)));
    assert!(alice.next().await.is_none());
    assert_eq!(bob.json().await["event"], "leave");
    let body = json!({"connection": alice.name, "messages": []}).to_string();
    world.ask(request(Method::POST, "/v1/send", &[], &body)).await.assert_error(410, "session_expired");
}

#[tokio::test]
async fn the_id_of_the_last_event_resumes_the_session() {
    let world = World::new().await;
    let mut alice = Source::open(&world, &[]).await;
    alice.send(&world, &[json!({"type": "hello"}), json!({"type": "join", "room": "demo"})]).await;
    assert!(alice.hear("welcome").await.id.is_some());
    let last = alice.hear("joined").await.id.unwrap();
    let mut bob = world.open(&[]).await.unwrap();
    bob.join("demo").await;
    drop(alice);
    assert_eq!(bob.json().await["event"], "away");
    bob.send(r#"{"type":"message","data":1}"#).await;

    let mut alice = Source::open(&world, &[("last-event-id", &last)]).await;
    assert_eq!(alice.hear("welcome").await.data["resumed"], true);
    assert_eq!(alice.hear("peer").await.data["event"], "join");
    assert_eq!(alice.hear("message").await.data["data"], 1);
    assert_eq!(bob.json().await["event"], "back");
}

/// It may need a token, which no `Last-Event-ID` has.
#[tokio::test]
async fn where_there_is_nothing_to_resume_a_hello_is_due() {
    let rooms = signal::Settings {
        join: signal::Access::Token,
        invite_secret: Some(crate::auth::Secret::new("invites", "a secret")),
        ..signal::Settings::default()
    };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let token = signal::invite(b"a secret", &signal::Claims::for_room("demo", 4_000_000_000));
    let mut lost = Source::open(&world, &[("last-event-id", "s_x.r_x.1")]).await;
    lost.send(&world, &[json!({"type": "hello", "token": token})]).await;
    assert_eq!(lost.hear("welcome").await.data["resumed"], false);
    lost.send(&world, &[json!({"type": "join", "room": "demo"})]).await;
    lost.hear("joined").await;
}

#[tokio::test]
async fn a_page_that_closes_its_stream_first_may_still_say_that_it_goes() {
    let world = World::new().await;
    let mut alice = Source::open(&world, &[]).await;
    alice.join(&world).await;
    let mut bob = world.open(&[]).await.unwrap();
    bob.join("demo").await;
    alice.hear("peer").await;
    let name = alice.name.clone();
    drop(alice);
    // The server hears of it first.
    tokio::time::sleep(Duration::from_millis(100)).await;
    send(&world, &name, &[json!({"type": "bye"})]).await;
    assert_eq!(bob.json().await["event"], "leave", "and not away");
}

#[tokio::test]
async fn requests_of_strangers_and_without_sense_are_refused() {
    let world = World::new().await;
    let post = |headers: &[(&str, &str)], body: &str| request(Method::POST, "/v1/send", headers, body);
    for (request, status, error) in [
        (post(&[], "{"), 400, "bad_request"),
        (post(&[], r#"{"messages":[]}"#), 400, "bad_request"),
        (post(&[], r#"{"connection":"c_x","messages":[]}"#), 410, "session_expired"),
        (post(&[("origin", "https://evil.example")], "{}"), 403, "forbidden"),
        (post(&[], &" ".repeat(200_000)), 413, "too_large"),
        (request(Method::GET, "/v1/send", &[], ""), 405, "method_not_allowed"),
        (request(Method::POST, "/v1/events", &[], ""), 405, "method_not_allowed"),
        (request(Method::GET, "/v1/events", &[("origin", "https://evil.example")], ""), 403, "forbidden"),
    ] {
        world.ask(request).await.assert_error(status, error);
    }
    let listed = [("origin", "https://app.example")];
    let preflight = world.ask(request(Method::OPTIONS, "/v1/send", &listed, "")).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://app.example"));

    let rooms = signal::Settings { native_clients: false, ..signal::Settings::default() };
    let world = World::with(settings(), ice_settings(), rooms).await;
    world.get("/v1/events", &[]).await.assert_error(403, "forbidden");
    assert!(world.open(&[]).await.is_err());
    world.open(&[("origin", "https://app.example")]).await.unwrap();
}

#[tokio::test]
async fn a_stream_whose_client_sends_nothing_any_more_is_given_up() {
    let rooms = signal::Settings { timeout: Duration::from_millis(300), ..signal::Settings::default() };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let mut alice = Source::open(&world, &[]).await;
    alice.join(&world).await;
    assert!(alice.next().await.is_none());
    assert_eq!(world.handle.counters().silent_websockets.get(), 1);
    assert_eq!(world.handle.figures().away, 1);
}

#[tokio::test]
async fn who_does_not_read_its_stream_is_closed_and_holds_up_nobody() {
    let rooms = signal::Settings {
        capacity: 3,
        queue_messages: 32,
        messages_per_second: 100_000,
        burst: 100_000,
        bytes_per_second: 1 << 30,
        burst_bytes: 1 << 30,
        ..signal::Settings::default()
    };
    let settings = Settings { linger: Duration::from_millis(200), ..settings() };
    let world = World::with(settings, ice_settings(), rooms).await;
    let mut deaf = Source::open(&world, &[]).await;
    deaf.join(&world).await;
    let [mut alice, mut bob] = [world.open(&[]).await.unwrap(), world.open(&[]).await.unwrap()];
    alice.join("demo").await;
    bob.join("demo").await;
    assert_eq!(alice.json().await["event"], "join");
    let message = format!(r#"{{"type":"message","data":"{}"}}"#, "x".repeat(60_000));
    let mut rounds = 0;
    loop {
        alice.send(&message).await;
        let heard = bob.json().await;
        if heard["event"] == "away" {
            break;
        }
        assert_eq!(heard["type"], "message", "in order, and in time");
        rounds += 1;
        assert!(rounds < 1000, "more than any kernel buffers");
    }
    assert_eq!(world.handle.counters().slow_websockets.get(), 1);
    // Its stream ends, so that it can come back, and nothing is kept for it but its place in the room.
    while timeout(PATIENCE, deaf.body.frame()).await.unwrap().is_some_and(|frame| frame.is_ok()) {}
    assert_eq!(world.handle.figures().away, 1);
    assert_eq!(world.handle.figures().websockets, 2);
}

#[tokio::test]
async fn a_token_gets_credentials_at_the_rate_of_an_address_and_from_no_url() {
    let rooms = signal::Settings {
        ice: signal::Access::Token,
        invite_secret: Some(crate::auth::Secret::new("invites", "a secret")),
        ..signal::Settings::default()
    };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let exp = 4_000_000_000;
    let invite = |may_relay| {
        let claims = signal::Claims { may_relay, ..signal::Claims::for_room("demo", exp) };
        signal::invite(b"a secret", &claims)
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let good = invite(Some(true));
    let with = async |token: &str| world.get("/v1/ice", &[("authorization", &bearer(token))]).await;
    for _ in 0..3 {
        assert_eq!(with(&good).await.status, 200);
    }
    // Those that get nothing count, too: their signatures have cost as much.
    with(&invite(None)).await.assert_error(403, "forbidden");
    with("i1.e30.forged").await.assert_error(401, "unauthorized");
    for token in [&good, "i1.e30.forged"] {
        with(token).await.assert_error(429, "rate_limited");
    }
    assert_eq!(world.handle.counters().rate_limited.get(), 2);
    let target = format!("/v1/ice?key={good}");
    world.get(&target, &[]).await.assert_error(401, "unauthorized");
    assert_eq!(world.get("/v1/ice", &[("x-api-key", KEY)]).await.status, 200, "a key is no matter of rates");
}

#[tokio::test]
async fn a_clean_close_leaves_at_once_and_takes_the_credential_back() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    let mut bob = world.open(&[]).await.unwrap();
    let me = bob.join("demo").await["self"].as_str().unwrap().to_owned();
    assert_eq!(alice.json().await["event"], "join");
    let frame = tungstenite::protocol::CloseFrame { code: 1001.into(), reason: "".into() };
    bob.0.close(Some(frame)).await.unwrap();
    assert_eq!(alice.json().await["event"], "leave");
    let revoked = world.revoked.lock().unwrap().clone();
    assert_eq!((revoked.len(), &*revoked[0].0), (1, &*me));
}

#[tokio::test]
async fn a_lost_websocket_is_resumed_by_events() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.send(r#"{"type":"hello"}"#).await;
    let welcome = alice.json().await;
    alice.send(r#"{"type":"join","room":"demo"}"#).await;
    assert_eq!(alice.json().await["seq"], 1);
    let mut newer = Source::open(&world, &[]).await;
    let resume = json!({"session": welcome["session"], "secret": welcome["secret"], "seq": 1});
    newer.send(&world, &[json!({"type": "hello", "resume": resume})]).await;
    assert_eq!(newer.hear("welcome").await.data["resumed"], true);
    assert_eq!(alice.json().await["code"], "session_replaced");
    assert_eq!(alice.closed().await, 4005);
}

#[tokio::test]
async fn tokens_are_verified_with_the_keys_of_the_server() {
    let world = World::new().await;
    let claims = json!({"exp": 4_000_000_000_u64, "name": "Alice"});
    let sign = |key: &[u8]| {
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(key)).unwrap()
    };
    let mut alice = world.open(&[]).await.unwrap();
    alice.send(&json!({"type": "hello", "token": sign(KEY.as_bytes())}).to_string()).await;
    assert_eq!(alice.json().await["type"], "welcome");
    let mut mallory = world.open(&[]).await.unwrap();
    mallory.send(&json!({"type": "hello", "token": sign(b"another secret")}).to_string()).await;
    assert_eq!(mallory.json().await["code"], "unauthorized");
    assert_eq!(mallory.closed().await, 4001);

    let bearer = format!("Bearer {}", sign(KEY.as_bytes()));
    assert_eq!(world.get("/v1/ice", &[("authorization", &bearer)]).await.status, 200);
    let forged = format!("Bearer {}", sign(b"another secret"));
    world.get("/v1/ice", &[("authorization", &forged)]).await.assert_error(401, "unauthorized");
}

#[tokio::test]
async fn another_version_is_told_so_on_the_websocket() {
    let world = World::new().await;
    let mut request = "ws://turn.example.org:8443/v1/ws".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "ternd.v9".parse().unwrap());
    let stream: Box<dyn Stream> = Box::new(TcpStream::connect(world.plain).await.unwrap());
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let mut client = Client(socket);
    assert_eq!(client.json().await["code"], "unsupported_version");
    assert_eq!(client.closed().await, 4002);
}

#[tokio::test]
async fn a_stop_that_was_announced_closes_with_4007() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    world.handle.drain_rooms(Duration::from_secs(3));
    assert_eq!(alice.json().await["after_ms"], 3000);
    let stopping = tokio::spawn(world.stop());
    assert_eq!(alice.closed().await, 4007);
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}
