//! `/socket.io/` by hand, and an operator's own pages. Real clients: tests/web/socketio.js.

use super::*;

const OPEN: &str = "/socket.io/?EIO=4&transport=polling";

async fn with(change: impl FnOnce(&mut Settings, &mut signal::Settings)) -> World {
    let (mut settings, mut rooms) = (settings(), signal::Settings::default());
    change(&mut settings, &mut rooms);
    World::with(settings, ice_settings(), rooms).await
}

/// Opens a session and enters the namespace; returns the address of the session.
async fn session(world: &World) -> String {
    let opened = world.get(OPEN, &[]).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let packet: Value = serde_json::from_str(opened.text().strip_prefix('0').unwrap()).unwrap();
    let at = format!("{OPEN}&sid={}", packet["sid"].as_str().unwrap());
    assert_eq!(post(world, &at, "40").await.text(), "ok");
    until(world, &at, "40{\"sid\":").await;
    at
}

async fn post(world: &World, at: &str, packets: &str) -> Answer {
    world.ask(request(Method::POST, at, &[], packets)).await
}

/// The packets that come, until one has this beginning.
async fn until(world: &World, at: &str, begin: &str) -> Vec<String> {
    let mut all = Vec::new();
    while !all.iter().any(|packet: &String| packet.starts_with(begin)) {
        let answer = world.get(at, &[]).await;
        assert_eq!(answer.status, 200, "{} after {all:?}", answer.text());
        all.extend(answer.text().split('\u{1e}').map(str::to_owned));
    }
    all
}

#[tokio::test]
async fn two_meet_and_the_third_finds_it_full() {
    let world = World::new().await;
    let sessions = [session(&world).await, session(&world).await, session(&world).await];
    let words = ["42[\"created\",\"foo\",", "42[\"joined\",\"foo\",", "42[\"full\",\"foo\"]"];
    for (at, word) in sessions.iter().zip(words) {
        assert_eq!(post(&world, at, "42[\"create or join\",\"foo\"]").await.status, 200);
        until(&world, at, word).await;
    }
    until(&world, &sessions[0], "42[\"ready\"]").await;
    post(&world, &sessions[2], "42[\"message\",\"from outside\"]").await;
    post(&world, &sessions[1], "42[\"message\",{\"type\":\"offer\"}]").await;
    let heard = until(&world, &sessions[0], "42[\"message\",{\"type\":\"offer\"}]").await;
    assert!(!heard.iter().any(|packet| packet.contains("outside")), "{heard:?}");
    post(&world, &sessions[1], "41").await;
    until(&world, &sessions[0], "42[\"message\",\"bye\"]").await;
    world.stop().await;
}

#[tokio::test]
async fn strangers_and_what_is_too_much_stay_outside() {
    let world = with(|_, rooms| (rooms.connections_per_address, rooms.max_bytes) = (2, 4096)).await;
    world.get(OPEN, &[("origin", "https://stranger.example")]).await.assert_error(403, "forbidden");
    let listed = world.get(OPEN, &[("origin", "https://app.example")]).await;
    assert_eq!(listed.header("access-control-allow-origin"), Some("https://app.example"));
    let at = session(&world).await;
    world.get(OPEN, &[]).await.assert_error(503, "unavailable");
    world.get(&format!("{OPEN}&sid=none"), &[]).await.assert_error(503, "unavailable");
    post(&world, &at, &"x".repeat(5000)).await.assert_error(413, "too_large");
    for binary in ["bAAAA", "451-[\"message\",{\"_placeholder\":true,\"num\":0}]", "2\u{1e}46100000-[]"] {
        post(&world, &at, binary).await.assert_error(400, "bad_request");
    }
    let refused = world.ask(request(Method::PUT, OPEN, &[], "")).await;
    refused.assert_error(405, "method_not_allowed");
    world.get(&at, &[("upgrade", "websocket")]).await.assert_error(426, "upgrade_required");
}

#[tokio::test]
async fn a_reload_takes_its_bounds() {
    let world = with(|_, rooms| rooms.connections_per_address = 1).await;
    let first = session(&world).await;
    world.get(OPEN, &[]).await.assert_error(503, "unavailable");
    let mut live = (**world.handle.0.live()).clone();
    live.rooms.connections_per_address = 9;
    live.socketio_capacity = 3;
    world.handle.reload(live, 100, 100);
    let sessions = [first, session(&world).await, session(&world).await, session(&world).await];
    let words = ["42[\"created\",", "42[\"joined\",", "42[\"joined\",", "42[\"full\","];
    for (at, word) in sessions.iter().zip(words) {
        post(&world, at, "42[\"create or join\",\"foo\"]").await;
        until(&world, at, word).await;
    }
    assert_eq!(world.handle.figures().socketio, 4);
}

#[tokio::test]
async fn where_rooms_need_a_token_or_an_origin_these_do_too() {
    use signal::Access::{Never, Token};
    for (create, join) in [(Token, Token), (signal::Access::Any, Token), (Never, signal::Access::Any)] {
        let world = with(|_, rooms| (rooms.create, rooms.join) = (create, join)).await;
        world.get(OPEN, &[]).await.assert_error(403, "forbidden");
    }
    let world = with(|_, rooms| rooms.native_clients = false).await;
    world.get(OPEN, &[]).await.assert_error(403, "forbidden");
    assert_eq!(world.get(OPEN, &[("sec-fetch-site", "same-origin")]).await.status, 200);
    assert_eq!(world.get(OPEN, &[("origin", "https://app.example")]).await.status, 200);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let world = with(|settings, _| settings.socketio = false).await;
    world.get(OPEN, &[]).await.assert_error(404, "not_found");
}

#[tokio::test]
async fn own_pages_come_before_the_built_in_ones_and_after_the_api() {
    let pages = tempfile::tempdir().unwrap();
    for (name, content) in [("index.html", "mine"), ("app.js", "mine"), ("healthz", "mine")] {
        std::fs::write(pages.path().join(name), content).unwrap();
    }
    let directory = pages.path().to_owned();
    let world = with(|settings, _| {
        settings.static_dir = Some(directory);
        settings.static_policy = "script-src 'self'".into();
    })
    .await;
    for path in ["/", "/app.js"] {
        let answer = world.get(path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "mine"), "{path}");
        assert_eq!(answer.header("content-security-policy"), Some("script-src 'self'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(world.get("/healthz", &[]).await.text(), "ok\n");
    assert_eq!(world.get("/r/demo", &[]).await.status, 200);
    assert!(world.get("/ternd.js", &[]).await.text().len() > 1000);
    for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "/nothing"] {
        world.get(path, &[]).await.assert_error(404, "not_found");
    }
}
