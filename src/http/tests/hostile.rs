//! Clients that mean no good, byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A frame as clients send it, masked with zeros.
fn frame(head: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    match data.len() {
        0..126 => bytes.push(0x80 | data.len() as u8),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend((data.len() as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(data);
    bytes
}

async fn member(world: &World, room: &str) -> Client {
    let mut client = open_on(TcpStream::connect(world.plain).await.unwrap(), &[]).await.unwrap();
    client.join(room).await;
    client
}

async fn soon(world: &World, what: impl Fn(super::super::front::Figures) -> bool) {
    for _ in 0..500 {
        if what(world.handle.figures()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", world.handle.figures());
}

/// The server answers each ping; if nobody reads the answers, it must not keep them.
#[tokio::test]
async fn pings_of_who_never_reads_cost_no_memory() {
    const FLOOD: usize = 48 << 20;
    let world = World::new().await;
    let mut client = member(&world, "demo").await;
    let pings = frame(0x89, &[7; 125]).repeat(8192);
    let stream = client.0.get_mut();
    for _ in 0..FLOOD / pings.len() {
        timeout(PATIENCE, stream.write_all(&pings)).await.expect("the server reads on").unwrap();
    }

    // What the server kept, and the buffers of the kernel, up to 4 and 6 MiB.
    let mut kept = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(Ok(n)) = timeout(Duration::from_millis(500), stream.read(&mut buffer)).await {
        assert_ne!(n, 0, "it goes on");
        kept += n;
    }
    assert!(kept < FLOOD / 2, "{kept} bytes of pongs were kept");
    client.send(r#"{"type":"message","id":9,"data":1}"#).await;
    assert_eq!(client.json().await["type"], "ok");
}

/// The bound on what waits must not refuse what the rooms let pass.
#[tokio::test]
async fn the_longest_message_that_can_be_configured_passes() {
    let rooms = signal::Settings { max_bytes: 1 << 20, ..signal::Settings::default() };
    let world = World::with(settings(), ice_settings(), rooms).await;
    let mut alice = member(&world, "demo").await;
    let mut bob = member(&world, "demo").await;
    let message = |data: &str| format!(r#"{{"type":"message","id":9,"data":"{data}"}}"#);
    let data = "x".repeat((1 << 20) - message("").len());
    alice.send(&message(&data)).await;
    assert_eq!(bob.json().await["data"], data);
}

#[tokio::test]
async fn too_much_is_too_much_in_fragments_and_when_only_announced() {
    let world = World::new().await;
    let mut pieces = member(&world, "pieces").await;
    let stream = pieces.0.get_mut();
    stream.write_all(&frame(0x01, &[b'x'; 40_000])).await.unwrap();
    let _ = stream.write_all(&frame(0x80, &[b'x'; 40_000])).await;
    assert_eq!(pieces.closed().await, 1009);

    let mut announced = member(&world, "announced").await;
    let head = [&[0x81, 0x80 | 127][..], &(1u64 << 62).to_be_bytes(), &[0; 4]].concat();
    announced.0.get_mut().write_all(&head).await.unwrap();
    assert_eq!(announced.closed().await, 1009);
}

#[tokio::test]
async fn who_breaks_rfc_6455_is_closed_with_1002() {
    let world = World::new().await;
    for (what, bytes) in [
        ("no mask", vec![0x81, 0x02, b'h', b'i']),
        ("a reserved bit", frame(0xC1, b"hi")),
        ("a reserved opcode", frame(0x83, b"")),
        ("a ping in fragments", frame(0x09, b"")),
        ("a ping too long", frame(0x89, &[0; 126])),
        ("the end of nothing", frame(0x80, b"hi")),
    ] {
        let mut client = member(&world, "demo").await;
        client.0.get_mut().write_all(&bytes).await.unwrap();
        assert_eq!(client.closed().await, 1002, "{what}");
    }
    soon(&world, |figures| figures.connections == 0).await;
}

#[tokio::test]
async fn nothing_is_left_of_who_comes_and_goes() {
    let rooms = signal::Settings { resume: Duration::from_millis(50), ..signal::Settings::default() };
    let world = World::with(settings(), ice_settings(), rooms).await;
    for round in 0..40 {
        let mut client = member(&world, "demo").await;
        match round % 4 {
            0 => drop(client),
            1 => client.0.get_mut().shutdown().await.unwrap(),
            2 => client.0.close(None).await.unwrap(),
            _ => client.send(r#"{"type":"bye"}"#).await,
        }
        soon(&world, |figures| (figures.websockets, figures.rooms) == (0, 0)).await;
    }
    soon(&world, |figures| (figures.connections, figures.away) == (0, 0)).await;
}

#[tokio::test]
async fn a_long_first_flight_of_turn_loses_no_byte() {
    let world = World::new().await;
    let mut client = world.connect_tls(&[]).await;
    let mut flight = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
    flight.extend((0..40_000_u32).map(|i| i as u8));
    client.write_all(&flight).await.unwrap();
    client.flush().await.unwrap();
    let (mut socket, mut tls, early) = loop {
        if let Some(handed) = world.turn.lock().unwrap().pop() {
            break handed;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(flight.starts_with(&early));
    let mut rest = vec![0; flight.len() - early.len()];
    let rest = tokio::task::spawn_blocking(move || {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Read::read_exact(&mut rustls::Stream::new(&mut *tls, &mut socket), &mut rest).unwrap();
        rest
    });
    assert!(flight.ends_with(&rest.await.unwrap()));
}

/// A proxy may pass on a name of its own.
#[tokio::test]
async fn a_configured_host_needs_none_in_the_request() {
    let ice = ice::Settings { host: Some("turn.example.org".into()), ..ice_settings() };
    let world = World::with(settings(), ice, signal::Settings::default()).await;
    for host in ["back:end:", ""] {
        let answer = world.get("/v1/ice", &[("host", host), ("x-api-key", KEY)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["iceServers"][0]["urls"][0], "stun:turn.example.org:3478");
        let mut client = world.open(&[("host", host)]).await.unwrap();
        assert_eq!(client.join("demo").await["ice"]["uris"][0], "turn:turn.example.org:3478?transport=udp");
    }
}
