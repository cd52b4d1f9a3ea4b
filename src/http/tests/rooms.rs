//! `/v1/ws`.

use super::*;

#[tokio::test]
async fn two_clients_meet_and_exchange_a_signal() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    let mut bob = world.open(&[("origin", "https://turn.example.org:8443")]).await.unwrap();
    let alice_id = alice.join("demo").await["self"].as_str().unwrap().to_owned();
    let joined = bob.join("demo").await;
    assert_eq!(joined["peers"][0]["peer"], *alice_id);

    let ice = &joined["ice"];
    assert_eq!(ice["iceServers"][0]["urls"][0], "stun:turn.example.org:3478");
    let username = ice["username"].as_str().unwrap();
    assert!(username.ends_with(joined["self"].as_str().unwrap()), "{username}");
    assert_eq!(ice["ttl"], 3600);

    assert_eq!(alice.json().await["event"], "join");
    let offer = r#""description":{"type":"offer","sdp":"v=0 \u2603"}"#;
    bob.send(&format!(r#"{{"type":"signal","id":3,"to":"{alice_id}",{offer}}}"#)).await;
    assert_eq!(bob.json().await["type"], "ok");
    let signal = alice.next().await;
    assert!(signal.to_text().unwrap().contains(offer), "byte for byte: {signal}");

    let figures = world.handle.figures();
    assert_eq!((figures.websockets, figures.rooms, figures.signal.joins), (2, 1, 2));
    drop(bob);
    assert_eq!(alice.json().await["event"], "away");
}

#[tokio::test]
async fn the_opening_handshake_is_checked() {
    let world = World::new().await;
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let all = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat, ternd.v1"),
        key,
    ];
    let with = |name: &'static str, value: Option<&'static str>| {
        let mut headers: Vec<_> = all.into_iter().filter(|(n, _)| *n != name).collect();
        headers.extend(value.map(|value| (name, value)));
        headers
    };
    let good = world.get("/v1/ws", &all).await;
    assert_eq!(good.status, 101);
    assert_eq!(
        good.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "RFC 6455 section 1.3"
    );

    for (name, value, status, error) in [
        ("upgrade", None, 426, "upgrade_required"),
        ("connection", Some("close"), 426, "upgrade_required"),
        ("sec-websocket-version", Some("8"), 426, "upgrade_required"),
        ("sec-websocket-key", Some("short"), 400, "bad_request"),
        ("sec-websocket-protocol", None, 400, "bad_request"),
        ("sec-websocket-protocol", Some("ternd.vx"), 400, "bad_request"),
        ("origin", Some("https://evil.example"), 403, "forbidden"),
        ("origin", Some("null"), 403, "forbidden"),
    ] {
        let answer = world.get("/v1/ws", &with(name, value)).await;
        answer.assert_error(status, error);
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    world.ask(request(Method::POST, "/v1/ws", &all, "")).await.assert_error(405, "method_not_allowed");
    world.open(&[("origin", "https://app.example")]).await.unwrap();
}

#[tokio::test]
async fn a_message_of_a_mebibyte_is_refused_with_1009_and_others_go_on() {
    let settings = Settings { linger: PATIENCE, ..settings() };
    let world = World::with(settings, ice_settings(), signal::Settings::default()).await;
    let mut other = world.open(&[]).await.unwrap();
    other.join("demo").await;

    // The last one is more than the kernels' buffers hold: the client is in the middle of it.
    for size in [64 * 1024 + 1, 1 << 20, 32 << 20] {
        let mut big = world.open(&[]).await.unwrap();
        big.join("big").await;
        big.send(&"x".repeat(size)).await;
        let error = big.json().await;
        assert_eq!((&error["code"], &error["fatal"]), (&"too_large".into(), &true.into()));
        assert_eq!(big.closed().await, 1009);
    }
    other.send(r#"{"type":"message","id":9,"data":1}"#).await;
    assert_eq!(other.json().await["type"], "ok");

    let mut exact = world.open(&[]).await.unwrap();
    exact.join("exact").await;
    let frame = |data: &str| format!(r#"{{"type":"message","id":9,"data":"{data}"}}"#);
    exact.send(&frame(&"x".repeat(64 * 1024 - frame("").len()))).await;
    assert_eq!(exact.json().await["type"], "ok");
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_is_closed_with_its_code() {
    let world = World::new().await;
    let mut rude = world.open(&[]).await.unwrap();
    rude.send("how do you do").await;
    assert_eq!(rude.closed().await, 4000);

    let mut binary = world.open(&[]).await.unwrap();
    binary.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(binary.closed().await, 4000);

    let mut polite = world.open(&[]).await.unwrap();
    polite.join("demo").await;
    polite.send(r#"{"type":"bye","id":9}"#).await;
    assert_eq!(polite.json().await["type"], "bye");
    assert_eq!(polite.closed().await, 1000);

    let frame = tungstenite::protocol::frame::Frame::message(
        vec![0xFF, 0xFE],
        tungstenite::protocol::frame::coding::OpCode::Data(tungstenite::protocol::frame::coding::Data::Text),
        true,
    );
    let mut no_text = world.open(&[]).await.unwrap();
    no_text.0.send(Message::Frame(frame)).await.unwrap();
    assert_eq!(no_text.closed().await, 1007);
}

#[tokio::test]
async fn who_does_not_read_is_closed_with_4004_and_holds_up_nobody() {
    let rooms = signal::Settings {
        capacity: 3,
        messages_per_second: 100_000,
        burst: 100_000,
        bytes_per_second: 1 << 30,
        burst_bytes: 1 << 30,
        queue_messages: 32,
        ..signal::Settings::default()
    };
    let settings = Settings { linger: Duration::from_secs(5), ..settings() };
    let world = World::with(settings, ice_settings(), rooms).await;
    let mut deaf = open_on(TcpStream::connect(world.plain).await.unwrap(), &[]).await.unwrap();
    deaf.join("demo").await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    let mut bob = world.open(&[]).await.unwrap();
    bob.join("demo").await;

    // More than the buffers of both kernels hold.
    let data = "x".repeat(60_000);
    let mut to_bob = Value::Null;
    for _ in 0..1000 {
        alice.send(&format!(r#"{{"type":"message","data":"{data}"}}"#)).await;
        to_bob = bob.json().await;
        if to_bob["event"] == "away" {
            break;
        }
        assert_eq!(to_bob["type"], "message", "in order, and in time");
    }
    assert_eq!(to_bob["event"], "away");
    assert_eq!(world.handle.counters().slow_websockets.get(), 1);

    assert_eq!(deaf.closed().await, 4004);
    assert_eq!(bob.json().await["type"], "message", "the one that was too much for the other");
    alice.send(r#"{"type":"message","data":"bye"}"#).await;
    assert_eq!(bob.json().await["data"], "bye");
}

/// Each message is read by all others before the next one is sent, so whoever waited for the stuck one would show.
#[tokio::test]
async fn one_stuck_client_in_a_room_of_fifty_delays_nobody() {
    let rooms = signal::Settings {
        capacity: 50,
        messages_per_second: 100_000,
        burst: 100_000,
        bytes_per_second: 1 << 30,
        burst_bytes: 1 << 30,
        queue_messages: 64,
        ..signal::Settings::default()
    };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let mut stuck = open_on(TcpStream::connect(world.plain).await.unwrap(), &[]).await.unwrap();
    stuck.join("demo").await;
    let mut others = Vec::new();
    for _ in 0..49 {
        let mut client = open_on(TcpStream::connect(world.plain).await.unwrap(), &[]).await.unwrap();
        client.join("demo").await;
        for before in &mut others {
            let before: &mut Client = before;
            assert_eq!(before.json().await["event"], "join");
        }
        others.push(client);
    }
    let (speaker, listeners) = others.split_first_mut().unwrap();
    let message = format!(r#"{{"type":"message","data":"{}"}}"#, "x".repeat(60_000));
    let mut rounds = 0;
    while world.handle.counters().slow_websockets.get() == 0 {
        speaker.send(&message).await;
        for listener in &mut *listeners {
            let mut heard = listener.next().await;
            // When the stuck one is closed, all learn it.
            if heard.to_text().unwrap().contains(r#""event":"away""#) {
                heard = listener.next().await;
            }
            assert!(heard.to_text().unwrap().starts_with(r#"{"type":"message""#));
        }
        rounds += 1;
        assert!(rounds < 2000, "more than any kernel buffers");
    }
    assert_eq!(stuck.closed().await, 4004);
    assert_eq!(world.handle.figures().away, 1);
}

/// Forty messages at once are more than the queue takes in bytes, but the receiver reads.
#[tokio::test]
async fn a_burst_is_not_mistaken_for_a_slow_reader() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    let mut bob = world.open(&[]).await.unwrap();
    bob.join("demo").await;
    let message = format!(r#"{{"type":"message","data":"{}"}}"#, "x".repeat(60_000));
    let sending = async {
        for _ in 0..40 {
            alice.0.feed(Message::text(&*message)).await.unwrap();
        }
        alice.0.flush().await.unwrap();
    };
    let reading = async {
        for _ in 0..40 {
            assert_eq!(bob.json().await["type"], "message");
        }
    };
    tokio::join!(sending, reading);
}

#[tokio::test]
async fn who_never_reads_again_is_gone_after_a_while() {
    let rooms = signal::Settings {
        messages_per_second: 100_000,
        burst: 100_000,
        bytes_per_second: 1 << 30,
        burst_bytes: 1 << 30,
        queue_messages: 32,
        ..signal::Settings::default()
    };
    let settings = Settings { linger: Duration::from_millis(200), ..settings() };
    let world = World::with(settings, ice_settings(), rooms).await;
    let mut deaf = open_on(TcpStream::connect(world.plain).await.unwrap(), &[]).await.unwrap();
    deaf.join("demo").await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    let message = format!(r#"{{"type":"message","data":"{}"}}"#, "x".repeat(60_000));
    for _ in 0..1000 {
        alice.send(&message).await;
        if world.handle.counters().slow_websockets.get() > 0 {
            break;
        }
    }
    assert_eq!(world.handle.counters().slow_websockets.get(), 1);
    timeout(PATIENCE, async {
        while world.handle.figures().connections > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("its place is free, though the socket is open");
    drop(deaf);
}

#[tokio::test]
async fn the_silent_are_pinged_and_then_given_up_and_who_says_no_hello_is_closed() {
    let rooms = signal::Settings {
        ping: Duration::from_millis(50),
        timeout: Duration::from_secs(1),
        hello_timeout: Duration::from_secs(1),
        ..signal::Settings::default()
    };
    let world = World::with(settings(), ice_settings(), rooms).await;
    // Reading is what answers pings: this one reads all the time, the others don't.
    let mut alive = world.open(&[]).await.unwrap();
    alive.join("demo").await;
    let alive = tokio::spawn(async move {
        assert_eq!(alive.json().await["event"], "join");
        assert_eq!(alive.json().await["event"], "away");
        let ping = timeout(PATIENCE, alive.0.next()).await.unwrap().unwrap().unwrap();
        assert!(matches!(ping, Message::Ping(_)), "{ping}");
    });
    let mut silent = world.open(&[]).await.unwrap();
    silent.join("demo").await;
    let mut shy = world.open(&[]).await.unwrap();
    assert_eq!(shy.closed().await, 4008);
    timeout(PATIENCE, alive).await.unwrap().unwrap();
    assert_eq!(world.handle.counters().silent_websockets.get(), 1);
}

#[tokio::test]
async fn a_stop_closes_with_1001() {
    let world = World::new().await;
    let mut alice = world.open(&[]).await.unwrap();
    alice.join("demo").await;
    let stopping = tokio::spawn(world.stop());
    assert_eq!(alice.closed().await, 1001);
    assert!(alice.0.next().await.is_none_or(|message| message.is_err()));
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_bound_of_the_rooms_are_told_so() {
    let rooms = signal::Settings { connections_per_address: 1, ..signal::Settings::default() };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let mut first = world.open(&[]).await.unwrap();
    first.join("demo").await;
    let mut second = world.open(&[]).await.unwrap();
    assert_eq!(second.json().await["code"], "rate_limited");
    assert_eq!(second.closed().await, 4003);
}
