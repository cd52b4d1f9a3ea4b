//! What the relay allocates: nothing for relayed data, and nothing that stays when all have gone.

use std::net::SocketAddr;

use ternd::stun::ChannelNumber;
use ternd::turn::{ClientAddr, Framing, Transport, Verdict};

use crate::counting::{calls, live};
use crate::world::{Client, World, auth_settings, settings};

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
    let before = live();
    (1..=1_000_000).for_each(&mut ask);
    assert_eq!(live(), before, "bytes kept for a million sources that never prove who they are");
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
        let before = live();
        for client in &mut clients {
            client.allocate(&mut world);
            client.permit(&mut world, &["192.0.2.98:1", "192.0.2.97:1"]);
            client.bind(&mut world, 0x4000, "192.0.2.98:1");
        }
        (world.events, world.grants) = (Vec::new(), Vec::new());
        let held = live() - before;
        for client in &mut clients {
            client.refresh(&mut world, Some(0));
        }
        world.assert_empty();
        (world.events, world.grants) = (Vec::new(), Vec::new());
        held
    };
    round(100);
    let before = live();
    let each = round(10_000) / 10_000;
    let kept = live() - before;
    assert!(kept < 64 * 1024, "{kept} bytes stay behind");
    // With two permissions and a channel; the nonces and socket numbers of the test are in it too.
    assert!(each <= 2_048, "{each} bytes for each allocation");
    println!("{each} bytes for each allocation, {kept} bytes stay behind");
}
