//! Writes the first inputs of each target into `fuzz/corpus`: real messages of real calls.
//! `cd fuzz && cargo +nightly run --example seeds`
#![allow(dead_code, unused_imports)] // the stories' harness can do more than is needed here

#[path = "../../tests/relay/model/mod.rs"]
mod model;
#[path = "../fuzz_targets/packets.rs"]
mod packets;
#[path = "../../tests/relay/world.rs"]
mod world;

use std::path::Path;

use model::{Op, Setup};
use ternd::auth::Algorithm;
use ternd::stun::{AttributeType as T, Builder, ChannelData, ChannelNumber, Class, Method, TransactionId};
use ternd::turn::Transport;
use world::{Client, World, addr};

type Said = (&'static str, &'static [(u8, &'static str)]);

/// Requests for iceServers as there are in the world; see `fuzz_targets/rest.rs`.
const REST: &[Said] = &[
    ("browser", &[(0, "ttl=600&transport=udp"), (5, "Bearer key"), (7, "h.example:8443")]),
    ("uberti", &[(0, "service=turn&username=alice&key=k")]),
    ("form", &[(1, "username=a%20b&ttl=86400&format=array"), (6, "key"), (7, "[2001:db8::1]:443")]),
    ("json", &[(2, r#"{"service":"turn","username":"alice","ttl":600,"format":null,"other":[1]}"#)]),
    ("typed", &[(3, "application/json"), (4, r#"{"ttl":"60","transport":"tls"}"#)]),
    ("errors", &[(0, "ttl=-1&format=xml&transport=sctp&service=x")]),
];

/// Talk in rooms; see `fuzz_targets/rooms.rs`.
const ROOMS: &[Said] = &[
    (
        "call",
        &[
            (0, r#"{"type":"hello","id":1,"client":"demo/1"}"#),
            (0, r#"{"type":"join","id":2,"room":"demo","create":"if-missing","name":"Alice"}"#),
            (1, r#"{"type":"hello","id":1,"token":"t"}"#),
            (1, r#"{"type":"join","id":2,"room":"demo"}"#),
            (
                1,
                r#"{"type":"signal","id":3,"to":"@0","pc":"main","gen":1,"description":{"type":"offer","sdp":"v=0"}}"#,
            ),
            (
                0,
                r#"{"type":"signal","to":"@1","candidates":[{"candidate":"c","sdpMid":"0","sdpMLineIndex":0},null]}"#,
            ),
            (0, r#"{"type":"message","id":4,"to":null,"data":{"text":"hi"}}"#),
            (
                1,
                r#"{"type":"report","pc":"main","peer":"@0","state":"connected","ms":8,"local":"relay","remote":"srflx"}"#,
            ),
            (1, r#"{"type":"report","state":"failed","relay":"tls","errors":[{"url":"turn:x","code":701}]}"#),
            (0x80, r#"{"type":"ice","id":5}"#),
            (0, r#"{"type":"ice","id":6}"#),
            (1, r#"{"type":"leave","id":7}"#),
            (0, r#"{"type":"bye","id":8}"#),
            (14 << 3, "\u{1}\0\0"),
        ],
    ),
    (
        "lost",
        &[
            (0, r#"{"type":"hello"}"#),
            (0, r#"{"type":"join","id":1,"room":"a"}"#),
            (1, r#"{"type":"hello"}"#),
            (1, r#"{"type":"join","id":1,"room":"a","pin":"1234"}"#),
            (1, r#"{"type":"join","id":1,"room":"a"}"#),
            (2, r#"{"type":"hello"}"#),
            (2, r#"{"type":"join","room":"b"}"#),
            (2, r#"{"type":"message","id":9,"to":"@0","data":1}"#),
            (3, r#"{"type":"hello"}"#),
            (3, r#"{"type":"join","room":"c"}"#),
            (12 << 3, ""),
            (14 << 3, "\u{1}"),
            (0, r#"{"type":"hello","id":1,"resume":{"session":"%0","secret":"$0","seq":1}}"#),
            (11 << 3 | 1, ""),
            (9 << 3 | 2, ""),
            (10 << 3 | 2, ""),
            (4, "not JSON"),
            (4, "[]"),
        ],
    ),
];

/// A call: what the client sent, and what it was answered.
#[derive(Default)]
struct Call {
    sent: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

impl Call {
    fn ask(&mut self, world: &mut World, client: &mut Client, request: Builder) {
        let bytes = if client.nonce.is_empty() { request.finish() } else { client.sign(request) };
        self.raw(world, client, bytes);
    }

    fn raw(&mut self, world: &mut World, client: &mut Client, bytes: Vec<u8>) {
        world.server.handle_client(world.now, client.flow, &bytes);
        self.sent.push(bytes);
        for (_, answer) in world.drive() {
            let nonce = ternd::stun::Message::parse(&answer)
                .ok()
                .and_then(|m| m.find(T::NONCE).map(|a| a.value.to_vec()));
            client.nonce = nonce.unwrap_or(std::mem::take(&mut client.nonce));
            self.answers.push(answer);
        }
    }
}

/// Each kind of request there is, over this transport.
fn call(transport: Transport, algorithm: Algorithm) -> Call {
    let (mut world, mut call) = (World::new(), Call::default());
    let mut client = Client::alice("192.0.2.7:4000");
    client.flow.transport = transport;
    let c = &mut client;
    let w = &mut world;

    let binding = c.request(Method::BINDING).fingerprint().finish();
    call.raw(w, c, binding);
    let r = c.allocate_request().raw(T::SOFTWARE, b"a client with much to say");
    call.ask(w, c, r);
    c.algorithm = algorithm;
    let protocol = if transport.is_stream() { 6 } else { 17 };
    let r = c.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0]);
    let r = r.u32(T::LIFETIME, 1800).raw(T::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    call.ask(w, c, r);
    let r = c.request(Method::CREATE_PERMISSION).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:1"));
    call.ask(w, c, r.xor_address(T::XOR_PEER_ADDRESS, addr("[2001:db8:2::99]:1")));
    let r = c.request(Method::CHANNEL_BIND).raw(T::CHANNEL_NUMBER, &[0x40, 0, 0, 0]);
    call.ask(w, c, r.xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.98:1")));
    let send = Builder::new(Class::Indication, Method::SEND, TransactionId([5; 12]));
    let send = send.xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:1")).raw(T::DATA, b"hello");
    call.raw(w, c, send.raw(T::DONT_FRAGMENT, b"").finish());
    let channel = [&ChannelData::header(ChannelNumber(0x4000), 5)[..], b"hello\0\0\0"].concat();
    call.raw(w, c, channel);
    if transport.is_stream() {
        let r = c.request(Method::CONNECT).xor_address(T::XOR_PEER_ADDRESS, addr("192.0.2.99:80"));
        call.ask(w, c, r);
        if let Some(ternd::turn::Output::ConnectPeer { connection, .. }) = w.streams.pop() {
            w.server.peer_connected(w.now, connection, true);
            call.answers.extend(w.drive().into_iter().map(|(_, bytes)| bytes));
            let r = c.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
            call.ask(w, c, r);
        }
    }
    let r = c.request(Method::REFRESH).u32(T::LIFETIME, 0).raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    call.ask(w, c, r);
    let r = c.request(Method::REFRESH).raw(T(0x7FFF), b"unknown");
    call.ask(w, c, r);
    let r = c.request(Method::REFRESH).u32(T::LIFETIME, 0);
    call.ask(w, c, r);

    let pair =
        c.allocate_request().raw(T::EVEN_PORT, &[0x80]).raw(T::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    call.ask(w, c, pair);
    let token = call.answers.last().and_then(|a| {
        let message = ternd::stun::Message::parse(a).ok()?;
        message.find(T::RESERVATION_TOKEN).map(|t| t.value.to_vec())
    });
    let r = c.allocate_request().raw(T::RESERVATION_TOKEN, &token.unwrap_or(vec![0; 8]));
    call.ask(w, c, r);
    call
}

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let write = |target: &str, name: String, bytes: &[u8]| {
        std::fs::create_dir_all(corpus.join(target))?;
        std::fs::write(corpus.join(target).join(name), bytes)
    };
    let calls = [
        ("udp", 0, call(Transport::Udp, Algorithm::Md5)),
        ("tcp", 1, call(Transport::Tcp, Algorithm::Md5)),
        ("sha256", 2, call(Transport::Tls, Algorithm::Sha256)),
    ];
    for (name, who, call) in &calls {
        for (n, message) in call.sent.iter().chain(&call.answers).enumerate() {
            write("codec", format!("{name}-{n}"), message)?;
        }
        let mut input = Vec::new();
        call.sent.iter().for_each(|m| packets::push(&mut input, 12 | who, m));
        write("server", (*name).into(), &input)?;

        let mut input = Vec::new();
        for message in &call.sent {
            packets::push(&mut input, *who, message);
            packets::push(&mut input, 12 << 2, b""); // peers answer
        }
        packets::push(&mut input, 14 << 2, b"from a peer");
        packets::push(&mut input, 10 << 2, &[200]); // time
        write("session", (*name).into(), &input)?;

        let stream = call.sent.concat();
        let pieces = [7, 1, 20, 4, 100, 0, 3, 250];
        write("framing", (*name).into(), &[&[pieces.len() as u8][..], &pieces, &stream].concat())?;
    }
    // Any bytes are operations.
    for seed in 1..=12_u64 {
        let mut state = seed;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let input: Vec<u8> = (0..Setup::BYTES + 40 * Op::BYTES).map(|_| byte()).collect();
        write("operations", format!("random-{seed}"), &input)?;
    }
    for (name, parts) in REST {
        let mut input = Vec::new();
        parts.iter().for_each(|(what, text)| packets::push(&mut input, *what, text.as_bytes()));
        write("rest", (*name).into(), &input)?;
    }
    for (name, said) in ROOMS {
        let mut input = Vec::new();
        said.iter().for_each(|(what, text)| packets::push(&mut input, *what, text.as_bytes()));
        write("rooms", (*name).into(), &input)?;
    }
    for (name, how, age, key, lifetime) in [
        ("call", 0b10, 60_i16, 20, 3600_u32),
        ("call256", 0b11, 0, 64, 600),
        ("coturn", 0b1_0010, 0, 32, 600),
        ("wrong-key", 0b10_0010, 0, 32, 600),
        ("other-server", 0b110, 0, 20, 600),
        ("expired", 0b11, 700, 20, 600),
        ("short-key", 0b11, 0, 19, 600),
        ("long-key", 0b11, 0, 65, 600),
    ] {
        let mac_key: Vec<u8> = (1..=key).collect();
        let block = [&[0, key][..], &mac_key, &[0; 8], &lifetime.to_be_bytes()].concat();
        write("tokens", name.into(), &[&[how][..], &age.to_be_bytes(), &block].concat())?;
    }
    write("tokens", "no-token".into(), &[&[0b1000, 0, 0, 0, 12][..], &[7; 60]].concat())?;
    Ok(())
}
