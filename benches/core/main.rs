//! What the codec and the core cost without sockets: `cargo bench --bench core`.
//!
//! Beside ours the crates `stun` and `turn` do the same work, as far as they offer it: a second opinion on what such a
//! thing may cost.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)] // a benchmark has no outside, and may panic

#[path = "../../tests/support/counting.rs"]
#[allow(dead_code)] // shared with tests, which use more of it
mod counting;
mod world;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use stun::message::{Getter, Setter};
use ternd::auth::{Algorithm, Key};
use ternd::stun::{
    AttributeType as T, Builder, ChannelData, Class, Message, Method, TransactionId, decode_xor_address,
};
use world::World;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const CLIENTS: usize = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    verdicts(&mut criterion);
    requests(&mut criterion);
    codec(&mut criterion);
    criterion.final_summary();
}

/// The core's word on relayed data, over 1,000 clients in turn.
fn verdicts(c: &mut Criterion) {
    let mut world = World::new(CLIENTS, 160);
    let (up, down) = (world.channel_data(0), world.peer_data(0));
    println!("verdicts: {up:?}, {down:?}");
    let calls = counting::calls(|| {
        for client in 0..CLIENTS {
            black_box(world.channel_data(client));
            black_box(world.peer_data(client));
        }
    });
    assert_eq!(calls, 0, "a verdict asks for no memory");

    let mut group = c.benchmark_group("verdict");
    group.throughput(Throughput::Elements(1));
    let mut client = 0;
    let mut next = move || {
        client = (client + 1) % CLIENTS;
        client
    };
    group.bench_function("ChannelData from a client", |b| b.iter(|| world.channel_data(next())));
    group.bench_function("data from a peer", |b| b.iter(|| world.peer_data(next())));
    group.finish();
}

/// Requests and their answers.
fn requests(c: &mut Criterion) {
    let mut world = World::new(CLIENTS, 160);
    let mut group = c.benchmark_group("request");
    let binding = Builder::new(Class::Request, Method::BINDING, TransactionId([3; 12])).finish();
    group.bench_function("Binding", |b| b.iter(|| world.binding(0, &binding)));
    // Both sides of it: the requests are made and signed here, too.
    let newcomer = world::flow(CLIENTS);
    group.bench_function("Allocate with its challenge, and Refresh to 0; the client's part included", |b| {
        b.iter(|| {
            world.allocate(newcomer);
            world.release(newcomer);
        });
    });
    group.finish();
}

/// The same bytes through our codec and through that of webrtc-rs.
fn codec(c: &mut Criterion) {
    let address = "192.0.2.1:4000".parse().unwrap();
    let key = Key::derive(Algorithm::Md5, b"alice", "ternd", "her password");
    let request = Builder::new(Class::Request, Method::ALLOCATE, TransactionId([3; 12]))
        .raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .raw(T::USERNAME, b"alice")
        .raw(T::REALM, b"ternd")
        .raw(T::NONCE, b"obMatJos2AAAAAAAAAA")
        .message_integrity(key.as_bytes())
        .finish();
    let answer = Builder::new(Class::Success, Method::BINDING, TransactionId([3; 12]))
        .xor_address(T::XOR_MAPPED_ADDRESS, address)
        .finish();
    let frame = World::new(1, 160).packet;
    let theirs = |bytes: &[u8]| {
        let mut message = stun::message::Message::new();
        message.write(bytes).unwrap();
        message
    };
    {
        // They agree about what it is before it matters how long it takes.
        let integrity = stun::integrity::MessageIntegrity(key.as_bytes().to_vec());
        integrity.check(&mut theirs(&request)).unwrap();
        assert!(Message::parse(&request).unwrap().verify_integrity(key.as_bytes()));
    }

    let mut group = c.benchmark_group("ChannelData parsed");
    group.bench_function("ternd", |b| b.iter(|| ChannelData::parse(black_box(&frame)).unwrap().data.len()));
    group.bench_function("turn crate", |b| {
        b.iter(|| {
            let mut data = turn::proto::chandata::ChannelData { raw: frame.clone(), ..Default::default() };
            data.decode().unwrap();
            data.data.len()
        });
    });
    group.finish();

    let mut group = c.benchmark_group("Binding answer parsed, with its address");
    group.bench_function("ternd", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(&answer)).unwrap();
            let address = message.find(T::XOR_MAPPED_ADDRESS).unwrap();
            decode_xor_address(address.value, message.transaction_id()).unwrap()
        });
    });
    group.bench_function("stun crate", |b| {
        b.iter(|| {
            let message = theirs(black_box(&answer));
            let mut address = stun::xoraddr::XorMappedAddress::default();
            address.get_from(&message).unwrap();
            address.port
        });
    });
    group.finish();

    let mut group = c.benchmark_group("Binding answer built");
    group.bench_function("ternd", |b| {
        b.iter(|| {
            Builder::new(Class::Success, Method::BINDING, TransactionId([3; 12]))
                .xor_address(T::XOR_MAPPED_ADDRESS, black_box(address))
                .finish()
        });
    });
    group.bench_function("stun crate", |b| {
        b.iter(|| {
            let mut message = stun::message::Message::new();
            message.set_type(stun::message::BINDING_SUCCESS);
            message.transaction_id = stun::agent::TransactionId([3; 12]);
            message.write_header();
            let address: std::net::SocketAddr = black_box(address);
            stun::xoraddr::XorMappedAddress { ip: address.ip(), port: address.port() }
                .add_to(&mut message)
                .unwrap();
            message.raw
        });
    });
    group.finish();

    let mut group = c.benchmark_group("Allocate request parsed, with MESSAGE-INTEGRITY");
    group.bench_function("ternd", |b| {
        b.iter(|| Message::parse(black_box(&request)).unwrap().verify_integrity(key.as_bytes()))
    });
    let integrity = stun::integrity::MessageIntegrity(key.as_bytes().to_vec());
    group.bench_function("stun crate", |b| {
        b.iter(|| integrity.check(&mut theirs(black_box(&request))).is_ok());
    });
    group.finish();
}
