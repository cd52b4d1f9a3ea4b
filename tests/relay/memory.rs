//! What the relay allocates: nothing for relayed data, and nothing that stays when all have gone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

use ternd::stun::ChannelNumber;
use ternd::turn::{ClientAddr, Framing, Transport, Verdict};

use crate::world::{Client, World, auth_settings, settings};

/// The system's allocator, counting what this thread does.
pub struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(calls: u64, bytes: i64) {
    // A thread that is being torn down counts no more.
    let _ = CALLS.try_with(|c| c.set(c.get() + calls));
    let _ = LIVE.try_with(|c| c.set(c.get() + bytes));
}

#[expect(unsafe_code, reason = "a global allocator has no safe form; this one only counts")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn calls(f: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(calls(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn relayed_data_allocates_nothing() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    alice.allocate(&mut world);
    alice.permit(&mut world, &["192.0.2.98:1"]);
    alice.bind(&mut world, 0x4000, "192.0.2.99:1");
    let relay = world.relay_of(&alice);
    let indication = alice.send_indication("192.0.2.98:1", &[7; 160]);
    let mut channel = ternd::stun::ChannelData::header(ChannelNumber(0x4000), 160).to_vec();
    channel.extend_from_slice(&[7; 160]);
    let mut room = [0; Framing::HEADROOM];
    let (bound, unbound) = ("192.0.2.99:1".parse().unwrap(), "192.0.2.98:1".parse().unwrap());

    let allocations = calls(|| {
        for _ in 0..1_000 {
            for bytes in [&channel, &indication] {
                assert!(matches!(
                    world.server.handle_client(world.now, alice.flow, bytes),
                    Verdict::Relay { .. }
                ));
            }
            for from in [bound, unbound] {
                match world.server.handle_peer(world.now, relay, from, 160) {
                    Verdict::ToClient { framing, .. } => {
                        assert_ne!(framing.header(&mut room, 160, Transport::Tcp), (0, 0))
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    assert_eq!(allocations, 0);
}

#[test]
fn a_million_strangers_cost_nothing() {
    let mut world = World::new();
    let request = Client::alice("192.0.2.7:4000").allocate_request().finish();
    let mut flow = Client::alice("192.0.2.7:4000").flow;
    let mut ask = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        flow.client = ClientAddr(SocketAddr::from(([198, 18 + a, b, c], 4000)));
        let answer = world.ask(flow, &request);
        assert!(answer.is_none_or(|a| a.code() == 401));
    };
    ask(0);
    let before = LIVE.get();
    (1..=1_000_000).for_each(&mut ask);
    assert_eq!(LIVE.get(), before, "bytes kept for a million sources that never prove who they are");
}

#[test]
fn when_all_have_gone_the_memory_has_too() {
    let mut limited = settings();
    limited.limits.allocations_per_user = 20_000;
    limited.limits.allocations_per_address = 20_000;
    limited.limits.unauthenticated_answers = 0;
    let mut world = World::with(limited, auth_settings());
    let mut round = |n: u16| {
        let mut clients: Vec<_> = (1..=n).map(|port| Client::alice(&format!("192.0.2.7:{port}"))).collect();
        world.next_port = 50_000;
        let before = LIVE.get();
        for client in &mut clients {
            client.allocate(&mut world);
            client.permit(&mut world, &["192.0.2.98:1", "192.0.2.97:1"]);
            client.bind(&mut world, 0x4000, "192.0.2.98:1");
        }
        world.events = Vec::new();
        let held = LIVE.get() - before;
        for client in &mut clients {
            client.refresh(&mut world, Some(0));
        }
        world.assert_empty();
        world.events = Vec::new();
        held
    };
    round(100);
    let before = LIVE.get();
    let each = round(10_000) / 10_000;
    let kept = LIVE.get() - before;
    assert!(kept < 64 * 1024, "{kept} bytes stay behind");
    // With two permissions and a channel; the nonces and socket numbers of the test are in it too.
    assert!(each <= 2_048, "{each} bytes for each allocation");
    println!("{each} bytes for each allocation, {kept} bytes stay behind");
}
