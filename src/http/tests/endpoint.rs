//! `/v1/ice`.

use super::*;

const BEARER: (&str, &str) = ("authorization", "Bearer a key of sixteen");
const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

#[tokio::test]
async fn every_alias_and_every_way_to_show_the_key_gets_a_credential() {
    let world = World::new().await;
    for target in ["/v1/ice", "/turn", "/turn/", "/turn/credentials", "/v1alpha/iceconfig", "/?service=turn"]
    {
        let answer = world.get(target, &[BEARER]).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let urls = &answer.json()["iceServers"][0]["urls"];
        assert_eq!(urls[0], "stun:turn.example.org:3478", "the Host without its port");
    }
    for (target, headers) in [
        ("/v1/ice", &[("x-api-key", KEY)][..]),
        ("/v1/ice", &[("authorization", "bearer  a key of sixteen")]),
        ("/v1/ice?key=a%20key%20of%20sixteen", &[]),
        ("/v1/ice?api=a+key+of+sixteen", &[]),
    ] {
        assert_eq!(world.get(target, headers).await.status, 200, "{target} {headers:?}");
    }
    assert_eq!(world.handle.counters().credentials.get(), 10);
}

#[tokio::test]
async fn parameters_come_by_query_form_and_json() {
    let world = World::new().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let json = ("content-type", "application/json; charset=utf-8");
    for (target, kind, body) in [
        ("/v1/ice?username=al%C3%AFce&ttl=600&transport=tls", None, ""),
        ("/v1/ice", Some(form), "username=al%C3%AFce&ttl=600&transport=tls&service=turn"),
        (
            "/v1/ice?ttl=60",
            Some(json),
            r#"{"username":"alïce","ttl":600,"transport":"tls","more":[1],"key":null}"#,
        ),
        ("/v1/ice", Some(json), r#"{"username":"alïce","ttl":"600","transport":"tls"}"#),
    ] {
        let mut headers = vec![BEARER];
        headers.extend(kind);
        let answer = world.ask(request(Method::POST, target, &headers, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let json = answer.json();
        assert_eq!(json["ttl"], 600);
        assert_eq!(json["uris"], serde_json::json!(["turns:turn.example.org:8443?transport=tcp"]));
        let username = json["username"].as_str().unwrap();
        assert!(username.ends_with(":alïce"), "{username}");
    }
    let array = world.get("/v1/ice?format=array", &[BEARER]).await.json();
    assert_eq!(array.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn each_mistake_has_its_status_and_its_sentence() {
    let world = World::new().await;
    let json = ("content-type", "application/json");
    let post = |headers: &[(&str, &str)], body: &str| request(Method::POST, "/v1/ice", headers, body);

    for target in
        ["ttl=-1", "ttl=1.5", "ttl=ten", "format=xml", "transport=sctp", "service=mail", "username=a%00"]
    {
        let answer = world.get(&format!("/v1/ice?{target}"), &[BEARER]).await;
        answer.assert_error(400, "bad_request");
    }
    for body in ["[]", "{", r#"{"ttl":[1]}"#, "\u{1}"] {
        world.ask(post(&[BEARER, json], body)).await.assert_error(400, "bad_request");
    }
    world.ask(post(&[BEARER], "ttl=1")).await.assert_error(400, "bad_request");
    for host in ["", "a b", "user@host"] {
        world.get("/v1/ice", &[BEARER, ("host", host)]).await.assert_error(400, "bad_request");
    }

    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("x-api-key", "wrong")],
        &[SAME, ("x-api-key", "wrong")],
    ] {
        let answer = world.get("/v1/ice", headers).await;
        answer.assert_error(401, "unauthorized");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    let refused = world.ask(request(Method::DELETE, "/v1/ice", &[BEARER], "")).await;
    refused.assert_error(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, POST, OPTIONS"));

    world.ask(post(&[BEARER, json], &" ".repeat(4097))).await.assert_error(413, "too_large");
    world.get("/v1/nothing", &[]).await.assert_error(404, "not_found");
    world.get("/../Cargo.toml", &[]).await.assert_error(404, "not_found");
}

#[tokio::test]
async fn without_a_secret_there_is_nothing_to_issue() {
    let world = World::with_secrets(settings(), ice_settings(), signal::Settings::default(), vec![]).await;
    world.get("/v1/ice", &[BEARER]).await.assert_error(503, "unavailable");
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let settings = Settings { handshake_timeout: Duration::from_millis(200), ..settings() };
    let world = World::with(settings, ice_settings(), signal::Settings::default()).await;
    let mut stream = TcpStream::connect(world.plain).await.unwrap();
    stream.write_all(b"POST /v1/ice HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn own_pages_need_no_key_but_are_counted() {
    let world = World::new().await;
    for headers in [&[SAME][..], &[("origin", "https://turn.example.org:8443")]] {
        let answer = world.get("/v1/ice?username=alice", headers).await;
        assert_eq!(answer.status, 200);
        let json = answer.json();
        assert!(
            !json["username"].as_str().unwrap().contains("alice"),
            "quotas of others are not theirs to spend"
        );
    }
    let names: Vec<_> = [world.get("/v1/ice", &[SAME]).await, world.get("/v1/ice", &[SAME]).await]
        .iter()
        .map(|answer| answer.json()["username"].clone())
        .collect();
    assert_ne!(names[0], names[1]);
    assert_eq!(world.get("/v1/ice", &[SAME]).await.status, 200);

    let sixth = world.get("/v1/ice", &[SAME]).await;
    sixth.assert_error(429, "rate_limited");
    let seconds: u64 = sixth.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&seconds), "one in twelve seconds: {seconds}");
    assert_eq!(sixth.json()["retry_after"], seconds);
    assert_eq!(world.get("/v1/ice", &[BEARER]).await.status, 200, "a key has no such limit");
    assert_eq!(world.handle.counters().rate_limited.get(), 1);
}

#[tokio::test]
async fn other_pages_get_nothing_without_a_key() {
    let world = World::new().await;
    world.get("/v1/ice", &[("origin", "https://evil.example")]).await.assert_error(403, "forbidden");
    world.get("/v1/ice", &[("origin", "null")]).await.assert_error(403, "forbidden");
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "none")],
        &[("origin", "https://app.example")],
        &[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")],
    ] {
        world.get("/v1/ice", headers).await.assert_error(401, "unauthorized");
    }

    let ice = ice::Settings { demo: false, ..ice_settings() };
    let world = World::with(settings(), ice, signal::Settings::default()).await;
    world.get("/v1/ice", &[SAME]).await.assert_error(401, "unauthorized");
}

#[tokio::test]
async fn pages_on_the_list_are_told_that_they_may_see_the_answer() {
    let world = World::new().await;
    let listed = ("origin", "https://app.example");
    for (headers, status) in [(&[listed, BEARER][..], 200), (&[listed], 401)] {
        let answer = world.get("/v1/ice", headers).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    let stranger = world.get("/v1/ice", &[("origin", "https://app.example.evil"), BEARER]).await;
    stranger.assert_error(403, "forbidden");
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    assert_eq!(stranger.header("vary"), Some("origin"));

    let preflight = |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "x-api-key"),
        ];
        request(Method::OPTIONS, "/v1/ice", &headers, "")
    };
    let answer = world.ask(preflight("https://app.example")).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("x-api-key"));
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    assert!(answer.body.is_empty());

    let refused = world.ask(preflight("https://evil.example")).await;
    refused.assert_error(403, "forbidden");
    assert_eq!(refused.header("access-control-allow-origin"), None);
}
