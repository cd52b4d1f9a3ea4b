//! Connections before they are requests.

use std::io::{Read, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::tls::ACME_TLS_1;

/// The header of an Allocate request, and the beginning of its first attribute.
const STUN: [u8; 24] =
    [0, 3, 0, 8, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0x19, 0, 4];

async fn until<T>(mut what: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = what() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came")
}

#[tokio::test]
async fn turn_behind_tls_is_handed_over_with_its_first_bytes_and_goes_on() {
    let world = World::new().await;
    for alpn in [&[][..], &["stun.turn"]] {
        let mut client = world.connect_tls(alpn).await;
        // In two TLS records, cut in the middle of the cookie.
        client.write_all(&STUN[..6]).await.unwrap();
        client.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.write_all(&STUN[6..]).await.unwrap();
        client.flush().await.unwrap();

        let (mut socket, mut tls, early) = until(|| world.turn.lock().unwrap().pop()).await;
        assert!(STUN.starts_with(&early) && early.len() >= 8, "{early:?}");
        assert_eq!(world.handle.figures().connections, 0, "its place is free");

        // The other end goes on, without tokio.
        let rest = STUN.len() - early.len();
        let answer = std::thread::spawn(move || {
            socket.set_nonblocking(false).unwrap();
            let mut stream = rustls::Stream::new(&mut *tls, &mut socket);
            let mut more = vec![0; rest + 4];
            stream.read_exact(&mut more).unwrap();
            stream.write_all(b"pong").unwrap();
            more
        });
        client.write_all(b"ping").await.unwrap();
        let mut pong = [0; 4];
        timeout(PATIENCE, client.read_exact(&mut pong)).await.unwrap().unwrap();
        assert_eq!(&pong, b"pong");
        let more = answer.join().unwrap();
        assert_eq!([&early[..], &more[..]].concat(), [&STUN[..], b"ping"].concat());
    }
    assert_eq!(world.handle.counters().turn.get(), 2);
}

/// Whoever takes over waits for the socket: what is decrypted already must not stay behind.
#[tokio::test]
async fn all_that_was_decrypted_is_handed_over() {
    let world = World::new().await;
    let mut client = world.connect_tls(&[]).await;
    let record = [&STUN[..], &[7; 5000]].concat();
    client.write_all(&record).await.unwrap();
    client.flush().await.unwrap();
    let (_, _, early) = until(|| world.turn.lock().unwrap().pop()).await;
    assert_eq!(early, record);
}

#[tokio::test]
async fn what_is_not_tls_or_neither_protocol_is_dropped_and_the_server_goes_on() {
    let world = World::new().await;
    let counters = world.handle.counters();

    let mut garbage = TcpStream::connect(world.tls).await.unwrap();
    garbage.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, garbage.read_to_end(&mut rest)).await.expect("it is closed");
    assert_eq!(counters.failed_handshakes.get(), 1);

    let mut other = world.connect_tls(&[]).await;
    other.write_all(&[0xFF; 40]).await.unwrap();
    let _ = timeout(PATIENCE, other.read_to_end(&mut rest)).await.expect("it is closed");
    let mut stun = TcpStream::connect(world.plain).await.unwrap();
    stun.write_all(&STUN).await.unwrap();
    let _ = timeout(PATIENCE, stun.read_to_end(&mut rest)).await.expect("it is closed");
    until(|| (counters.unknown_protocol.get() == 2).then_some(())).await;

    assert_eq!(world.get("/healthz", &[]).await.status, 200);
    assert!(world.turn.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_says_nothing_is_dropped_at_each_stage() {
    let settings = Settings { handshake_timeout: Duration::from_millis(200), ..settings() };
    let world = World::with(settings, ice_settings(), signal::Settings::default()).await;
    let mut before_tls = TcpStream::connect(world.tls).await.unwrap();
    let mut after_tls = world.connect_tls(&[]).await;
    let mut plain = TcpStream::connect(world.plain).await.unwrap();
    let mut headers = world.connect_tls(&[]).await;
    headers.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nx: ").await.unwrap();
    let mut preface = world.connect_tls(&[]).await;
    preface.write_all(b"PRI * HT").await.unwrap();

    let mut waste = Vec::new();
    for stream in [
        &mut before_tls as &mut (dyn AsyncRead + Unpin),
        &mut after_tls,
        &mut plain,
        &mut headers,
        &mut preface,
    ] {
        let _ = timeout(PATIENCE, stream.read_to_end(&mut waste)).await.expect("it is closed");
    }
    until(|| (world.handle.figures().connections == 0).then_some(())).await;
}

#[tokio::test]
async fn a_kept_connection_serves_again_and_idle_it_is_closed() {
    let settings = Settings { handshake_timeout: Duration::from_millis(300), ..settings() };
    let world = World::with(settings, ice_settings(), signal::Settings::default()).await;
    let mut stream = TcpStream::connect(world.plain).await.unwrap();
    let mut answer = [0; 4096];
    for _ in 0..2 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let n = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 200 OK"));
    }
    let n = timeout(PATIENCE, stream.read(&mut answer)).await.expect("it is closed").unwrap();
    assert_eq!(n, 0, "{:?}", String::from_utf8_lossy(&answer[..n]));
}

#[tokio::test]
async fn plain_http_works() {
    let world = World::new().await;
    let stream = TcpStream::connect(world.plain).await.unwrap();
    let answer = ask_http1(stream, request(Method::GET, "/healthz", &[], "")).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok\n"));

    let stream = TcpStream::connect(world.plain).await.unwrap();
    assert_eq!(open_on(stream, &[]).await.unwrap().join("plain").await["room"], "plain");
}

#[tokio::test]
async fn http2_works_with_its_authority_as_host() {
    let world = World::new().await;
    let stream = world.connect_tls(&["h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let ask = |method: Method, target: &str| {
        Request::builder()
            .method(method)
            .uri(format!("https://turn.example.org:8443{target}"))
            .header("x-api-key", KEY)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    let answer = sender.send_request(ask(Method::GET, "/v1/ice")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let json: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["iceServers"][0]["urls"][0], "stun:turn.example.org:3478");

    let head = sender.send_request(ask(Method::HEAD, "/")).await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.headers().contains_key("content-length"));
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_finds_the_place_again() {
    let settings = Settings { max_connections: 2, ..settings() };
    let world = World::with(settings, ice_settings(), signal::Settings::default()).await;
    let first = world.connect_tls(&[]).await;
    let _second = world.connect_tls(&[]).await;
    let mut third = TcpStream::connect(world.tls).await.unwrap();
    let n = timeout(PATIENCE, third.read(&mut [0; 8])).await.unwrap().unwrap_or(0);
    assert_eq!(n, 0);
    assert_eq!(world.handle.counters().crowded_out.get(), 1);
    drop(first);
    until(|| (world.handle.figures().connections == 1).then_some(())).await;
    assert_eq!(world.get("/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = super::super::listen::bind(address, &[], false).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    assert!(error.contains("ss -ltnp"), "{error}");

    let elsewhere =
        super::super::listen::bind("192.0.2.1:0".parse().unwrap(), &[], false).unwrap_err().to_string();
    assert!(elsewhere.contains("ip address"), "{elsewhere}");
}

#[tokio::test]
async fn ipv4_and_ipv6_share_a_port() {
    let both = || {
        let six = super::super::listen::bind("[::]:0".parse().unwrap(), &[], false).unwrap();
        let port = six.local_addr().unwrap().port();
        super::super::listen::bind(SocketAddr::from(([0, 0, 0, 0], port)), &[], false)
    };
    // A port that is free for the one may be another program's for the other; hardly ten times.
    let tries: Vec<_> = (0..10).map(|_| both()).take_while(Result::is_err).collect();
    assert!(tries.len() < 10, "{tries:?}");
}

#[tokio::test]
async fn a_stop_closes_listeners_and_idle_connections_at_once() {
    let world = World::new().await;
    let stream = TcpStream::connect(world.plain).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    sender.send_request(request(Method::GET, "/healthz", &[], "")).await.unwrap();
    let plain = world.plain;
    timeout(Duration::from_secs(1), world.stop()).await.expect("nothing to wait for");
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(plain).await.is_err());
}

#[tokio::test]
async fn a_challenge_is_answered_by_the_handshake_and_nothing_follows() {
    let world = World::new().await;
    let (challenge, der) = pair("turn.example.org");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ACME_TLS_1.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async || {
        let stream = TcpStream::connect(world.tls).await.unwrap();
        connector.connect(ServerName::try_from("turn.example.org").unwrap(), stream).await
    };
    assert!(connect().await.is_err(), "no challenge is on");

    world.certificates.answer([("turn.example.org".to_owned(), challenge)].into());
    let mut stream = connect().await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: turn.example.org\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, b"", "it carries no HTTP");
    let counters = world.handle.counters();
    assert_eq!((counters.challenges.get(), counters.requests.get()), (1, 0));
    assert_eq!(world.get("/healthz", &[]).await.status, StatusCode::OK, "others see no difference");
}

#[tokio::test]
async fn port_80_answers_challenges_and_leads_to_https() {
    let world = World::new().await;
    let ask = async |at: SocketAddr, method: Method, path: &str| {
        ask_http1(TcpStream::connect(at).await.unwrap(), request(method, path, &[], "")).await
    };
    let path = "/.well-known/acme-challenge/token-1";
    assert_eq!(ask(world.redirect, Method::GET, path).await.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(ask(world.plain, Method::GET, path).await.status, StatusCode::NOT_FOUND);

    world.challenges.answer([("token-1".to_owned(), "token-1.thumb".to_owned())].into());
    for at in [world.redirect, world.plain] {
        let answer = ask(at, Method::GET, path).await;
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"token-1.thumb"[..]));
    }
    assert_eq!(ask(world.plain, Method::POST, path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(world.handle.counters().challenges.get(), 2);

    for path in ["/r/room?a=b", "/v1/ice", "/.well-known/acme-challenge/token-2"] {
        let answer = ask(world.redirect, Method::GET, path).await;
        assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
        let target = format!("https://turn.example.org:{}{path}", world.tls.port());
        assert_eq!(answer.headers["location"], target.as_str());
    }
    assert_eq!(world.handle.counters().credentials.get(), 0, "none without TLS");
}
