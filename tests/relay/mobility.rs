//! A client that changes its address keeps its allocation (RFC 8016).

use ternd::stun::{Attribute, AttributeType as T, Method};
use ternd::turn::{Event, Output, Server, Settings, Transport, Verdict};

use crate::world::{Answer, Client, World, addr, assert_relayed, assert_to_client, auth_settings, settings};

const OLD: &str = "192.0.2.7:4000";
const NEW: &str = "203.0.113.7:4000";
const PEER: &str = "192.0.2.99:9";

fn world() -> World {
    World::with(Settings { mobility: true, ..settings() }, auth_settings())
}

fn ticket(answer: &Answer) -> Option<Vec<u8>> {
    match answer.get(T::MOBILITY_TICKET)? {
        Attribute::MobilityTicket(ticket) => Some(ticket.to_vec()),
        other => panic!("{other:?}"),
    }
}

/// An allocation with a channel to `PEER`, and its ticket.
fn mobile(world: &mut World, from: &str) -> (Client, Vec<u8>) {
    let mut client = Client::alice(from);
    let request = client.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let ticket = ticket(&client.allocate_with(world, request)).expect("a ticket");
    assert_eq!(client.bind(world, 0x4000, PEER).code(), 0);
    (client, ticket)
}

/// The same client at another address, with a nonce for it.
fn elsewhere(world: &mut World, client: &Client, from: &str) -> Client {
    let mut moved = client.clone();
    moved.flow = Client::alice(from).flow;
    moved.challenge(world);
    moved
}

fn refresh(world: &mut World, client: &mut Client, ticket: &[u8]) -> Answer {
    let request = client.request(Method::REFRESH).raw(T::MOBILITY_TICKET, ticket);
    client.ask(world, request)
}

fn assert_all_gone(mut world: World, mut client: Client) {
    assert_eq!(client.refresh(&mut world, Some(0)).code(), 0);
    world.assert_empty();
    assert!(!world.server.has_allocation(&Client::alice(OLD).flow));
    assert!(!world.server.has_allocation(&Client::alice(NEW).flow));
}

//= 8016-3.1.2-3 8016-3.2.2-5 8016-3.2.2-6
#[test]
fn a_call_goes_on_at_another_address() {
    let mut world = world();
    let (old, first) = mobile(&mut world, OLD);
    let relay = world.relay_of(&old);
    let mut new = elsewhere(&mut world, &old, NEW);

    // Without a ticket the new path is nobody's.
    assert_eq!(new.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
    assert_eq!(new.refresh(&mut world, None).code(), 437);

    let answer = refresh(&mut world, &mut new, &first);
    assert_eq!((answer.code(), answer.lifetime()), (0, Some(600)));
    let second = ticket(&answer).expect("a new ticket");
    assert_ne!(first, second);

    // Until the client is heard on the new path, the old one works as before, both ways.
    assert_relayed(old.channel(&mut world, 0x4000, b"x"), relay, PEER, 1);
    let verdict = world.peer_sends(&old, PEER, 5);
    assert_to_client(verdict, &old);
    assert_eq!(world.server.counters().moves, 0);

    // Then the old one is nobody's. Channel and permission have come along.
    assert_relayed(new.channel(&mut world, 0x4000, b"x"), relay, PEER, 1);
    let verdict = world.peer_sends(&new, PEER, 5);
    assert_to_client(verdict, &new);
    assert_eq!(old.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
    assert_eq!(world.server.counters().moves, 1);
    assert_eq!(
        world.events.last(),
        Some(&Event::AllocationMoved { from: old.flow, to: new.flow, user: "alice".into() })
    );

    // And on to a third address, with a Send indication this time.
    let mut third = elsewhere(&mut world, &new, "[2001:db8:7::1]:4000");
    assert_eq!(refresh(&mut world, &mut third, &second).code(), 0);
    assert_relayed(third.send(&mut world, PEER, b"hello"), relay, PEER, 5);
    let verdict = world.peer_sends(&third, PEER, 5);
    assert_to_client(verdict, &third);
    assert_all_gone(world, third);
}

//= 8016-3.2.2-4
#[test]
fn requests_work_on_both_paths_and_do_not_move_the_data() {
    let mut world = world();
    let (mut old, ticket) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 0);
    for client in [&mut new, &mut old] {
        assert_eq!(client.permit(&mut world, &["192.0.2.98:1"]).code(), 0);
        assert_eq!(client.refresh(&mut world, None).code(), 0);
    }
    let verdict = world.peer_sends(&old, PEER, 5);
    assert_to_client(verdict, &old);
    assert_all_gone(world, new);
}

#[test]
fn a_lost_answer_is_sent_again_and_a_ticket_works_once() {
    let mut world = world();
    let (old, first) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);
    let request = new.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &first);
    let bytes = new.sign(request);
    let answer = world.ask(new.flow, &bytes).unwrap();
    assert_eq!(answer.code(), 0);
    assert_eq!(world.ask(new.flow, &bytes).unwrap(), answer, "the same ticket, too");
    new.channel(&mut world, 0x4000, b"x");
    assert_eq!(world.ask(new.flow, &bytes).unwrap(), answer);

    // Another request with the used ticket, from here or elsewhere, gets nothing.
    assert_eq!(refresh(&mut world, &mut new, &first).code(), 400);
    let mut third = elsewhere(&mut world, &old, "203.0.113.8:1");
    assert_eq!(refresh(&mut world, &mut third, &first).code(), 437);
    assert_eq!(refresh(&mut world, &mut third, &ticket(&answer).unwrap()).code(), 0);
    assert_all_gone(world, third);
}

#[test]
fn a_new_path_that_was_never_used_gives_way_to_the_next() {
    let mut world = world();
    let (old, first) = mobile(&mut world, OLD);
    let mut lost = elsewhere(&mut world, &old, NEW);
    let second = ticket(&refresh(&mut world, &mut lost, &first)).unwrap();
    let mut third = elsewhere(&mut world, &old, "203.0.113.8:1");
    assert_eq!(refresh(&mut world, &mut third, &second).code(), 0);
    assert!(!world.server.has_allocation(&lost.flow));
    assert!(world.server.has_allocation(&old.flow) && world.server.has_allocation(&third.flow));
    let verdict = world.peer_sends(&old, PEER, 5);
    assert_to_client(verdict, &old);
    assert_all_gone(world, third);
}

//= 8016-3.2.2-1
#[test]
fn a_ticket_is_worth_nothing_without_its_owners_credential() {
    let mut world = world();
    let (old, ticket) = mobile(&mut world, OLD);
    let mut bob = Client::bob(NEW);
    bob.challenge(&mut world);
    assert_eq!(refresh(&mut world, &mut bob, &ticket).code(), 441);

    let mut thief = Client::new(NEW, "alice", "guessed");
    thief.challenge(&mut world);
    assert_eq!(refresh(&mut world, &mut thief, &ticket).code(), 401);
    let bare = thief.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket).finish();
    assert_eq!(world.ask(thief.flow, &bare).unwrap().code(), 401);

    // A nonce is good for one address: whoever moves has to show that it is there.
    let mut blind = old.clone();
    blind.flow = Client::alice(NEW).flow;
    assert_eq!(refresh(&mut world, &mut blind, &ticket).code(), 438);

    let mut new = elsewhere(&mut world, &old, NEW);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 0, "none of these used it up");
    assert_all_gone(world, new);
}

#[test]
fn the_credential_may_have_expired_meanwhile() {
    let mut world = world();
    let credential = world.auth.issue("carol", std::time::Duration::from_secs(60), world.now).unwrap();
    let mut carol = Client::new(OLD, &credential.username, &credential.password);
    let request = carol.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let ticket = ticket(&carol.allocate_with(&mut world, request)).unwrap();
    world.wait(120);
    let mut new = elsewhere(&mut world, &carol, NEW);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 0);
    assert_all_gone(world, new);
}

//= 8016-3.2.2-2 8016-3.2.2-3 8016-3.3-1
#[test]
fn tickets_that_are_none() {
    let mut world = world();
    let (mut old, ticket) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);
    assert_eq!(refresh(&mut world, &mut old, &ticket).code(), 400, "it has not moved");
    assert!(ticket.iter().all(u8::is_ascii_graphic), "clients may take it for text");
    for at in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(refresh(&mut world, &mut new, &forged).code(), 400, "another character {at}");
    }
    for bad in [&b""[..], b"short", &[0; 20], &[b'='; 20], &[b'/'; 20], &[b'A'; 21]] {
        assert_eq!(refresh(&mut world, &mut new, bad).code(), 400, "{bad:?}");
    }

    // The new address has an allocation of its own.
    new.allocate(&mut world);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 437);
    new.refresh(&mut world, Some(0));

    // A ticket ends with its allocation.
    assert_eq!(old.refresh(&mut world, Some(0)).code(), 0);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 437);
    world.assert_empty();
}

#[test]
fn an_allocation_is_deleted_from_elsewhere_without_moving() {
    let mut world = world();
    let (old, first) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);
    let request = new.request(Method::REFRESH).u32(T::LIFETIME, 0).raw(T::MOBILITY_TICKET, &first);
    let answer = new.ask(&mut world, request);
    assert_eq!((answer.code(), answer.lifetime(), ticket(&answer)), (0, Some(0), None));
    world.assert_empty();
}

#[test]
fn a_refused_refresh_moves_nothing() {
    let mut world = world();
    let (old, ticket) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);
    let request = new
        .request(Method::REFRESH)
        .raw(T::MOBILITY_TICKET, &ticket)
        .raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    assert_eq!(new.ask(&mut world, request).code(), 443);
    assert!(!world.server.has_allocation(&new.flow));
    let mut tunnelled = elsewhere(&mut world, &old, "[2002:cb00:7107::1]:4000");
    assert_eq!(refresh(&mut world, &mut tunnelled, &ticket).code(), 403);
    assert!(!world.server.has_allocation(&tunnelled.flow));
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 0);
}

//= 8016-3.1.2-1 8016-3.1.2-2
#[test]
fn allocate_asks_with_an_empty_ticket() {
    let ask = |world: &mut World, ticket: &[u8], transport| {
        let mut alice = Client::alice(OLD);
        alice.flow.transport = Transport::Tcp;
        let request = alice.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[transport, 0, 0, 0]);
        let answer = alice.ask(world, request.raw(T::MOBILITY_TICKET, ticket));
        alice.refresh(world, Some(0));
        world.assert_empty();
        answer.code()
    };
    let mut on = world();
    assert_eq!(ask(&mut on, b"", 17), 0);
    assert_eq!(ask(&mut on, b"something", 17), 400);
    assert_eq!(ask(&mut on, b"", 6), 405, "a TCP allocation's connections can't move");
    assert_eq!(ask(&mut World::new(), b"", 17), 405);
    assert_eq!(ask(&mut World::new(), b"something", 17), 400);

    // Who does not ask gets none, and stays where it is.
    let mut alice = Client::alice(OLD);
    assert_eq!(ticket(&alice.allocate(&mut on)), None);
    let mut off = World::new();
    alice.allocate(&mut off);
    let mut new = elsewhere(&mut off, &alice, NEW);
    assert_eq!(refresh(&mut off, &mut new, &[b'A'; 20]).code(), 405);
}

#[test]
fn a_retransmitted_allocate_gets_the_same_ticket() {
    let mut world = world();
    let mut alice = Client::alice(OLD);
    alice.challenge(&mut world);
    let request = alice.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let bytes = alice.sign(request);
    let answer = world.ask(alice.flow, &bytes).unwrap();
    assert!(ticket(&answer).is_some());
    assert_eq!(world.ask(alice.flow, &bytes).unwrap(), answer);
}

#[test]
fn the_place_in_the_quotas_goes_along() {
    let mut limited = Settings { mobility: true, ..settings() };
    limited.limits.allocations_per_address = 1;
    limited.limits.allocations_per_user = 2;
    let mut world = World::with(limited, auth_settings());
    let (old, first) = mobile(&mut world, OLD);
    let mut new = elsewhere(&mut world, &old, NEW);

    // There is no room at the new address.
    let mut bob = Client::bob("203.0.113.7:1");
    bob.allocate(&mut world);
    assert_eq!(refresh(&mut world, &mut new, &first).code(), 486);
    bob.refresh(&mut world, Some(0));
    assert_eq!(refresh(&mut world, &mut new, &first).code(), 0);
    let request = bob.allocate_request();
    assert_eq!(bob.ask(&mut world, request).code(), 486, "it is taken");

    // The old one is free for others; the user still has one.
    let mut again = Client::alice("192.0.2.7:1");
    again.allocate(&mut world);
    let mut more = Client::alice("192.0.2.8:1");
    let request = more.allocate_request();
    assert_eq!(more.ask(&mut world, request).code(), 486);
    again.refresh(&mut world, Some(0));
    assert_all_gone(world, new);
}

#[test]
fn when_one_path_breaks_the_other_goes_on() {
    let tcp = |world: &mut World, client: &Client, from: &str| {
        let mut moved = client.clone();
        moved.flow = Client::alice(from).flow;
        moved.flow.transport = Transport::Tcp;
        moved.challenge(world);
        moved
    };
    // The old one breaks before the client was heard on the new one.
    let mut world = world();
    let mut old = Client::alice(OLD);
    old = tcp(&mut world, &old, OLD);
    let request = old.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let first = ticket(&old.allocate_with(&mut world, request)).unwrap();
    old.bind(&mut world, 0x4000, PEER);
    let mut new = tcp(&mut world, &old, NEW);
    let second = ticket(&refresh(&mut world, &mut new, &first)).unwrap();
    world.server.client_gone(world.now, old.flow);
    assert_eq!(world.drive(), []);
    let verdict = world.peer_sends(&new, PEER, 5);
    assert_to_client(verdict, &new);

    // The new one breaks: the client is where it was.
    let mut third = tcp(&mut world, &old, "203.0.113.8:1");
    assert_eq!(refresh(&mut world, &mut third, &second).code(), 0);
    world.server.client_gone(world.now, third.flow);
    assert_eq!(world.drive(), []);
    let verdict = world.peer_sends(&new, PEER, 5);
    assert_to_client(verdict, &new);

    assert_all_gone(world, new);
}

#[test]
fn a_stream_that_breaks_first_leaves_an_allocation_that_waits() {
    let mut world = world();
    let mut old = Client::alice(OLD);
    old.flow.transport = Transport::Tls;
    let request = old.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let first = ticket(&old.allocate_with(&mut world, request)).unwrap();
    old.bind(&mut world, 0x4000, PEER);
    world.server.client_gone(world.now, old.flow);
    assert_eq!(world.drive(), []);
    assert_eq!(world.peer_sends(&old, PEER, 5), Verdict::Nothing);
    assert_eq!(world.server.counters().no_path, 1);

    // Its path is anybody's: whoever comes from there gets nothing of it.
    let mut bob = Client::bob(OLD);
    bob.flow.transport = Transport::Tls;
    bob.allocate(&mut world);
    assert_eq!(bob.channel(&mut world, 0x4000, b"x"), Verdict::Nothing);
    assert_eq!(world.peer_sends(&old, PEER, 5), Verdict::Nothing);

    // Nothing is left to fall back on, so the new path counts at once.
    let mut new = elsewhere(&mut world, &old, NEW);
    let second = ticket(&refresh(&mut world, &mut new, &first)).unwrap();
    let verdict = world.peer_sends(&new, PEER, 5);
    assert_to_client(verdict, &new);
    assert_eq!(bob.refresh(&mut world, Some(0)).code(), 0, "bob's is where it was");

    // And once more, but nobody comes.
    let mut tcp = old.clone();
    tcp.flow = Client::alice("203.0.113.8:1").flow;
    tcp.flow.transport = Transport::Tcp;
    tcp.challenge(&mut world);
    assert_eq!(refresh(&mut world, &mut tcp, &second).code(), 0);
    tcp.channel(&mut world, 0x4000, b"x");
    world.server.client_gone(world.now, tcp.flow);
    world.drive();
    bob.allocate(&mut world);
    world.wait(599);
    assert_eq!(world.server.allocations(), 2);
    world.wait(1);
    world.assert_empty();
}

#[test]
fn a_client_that_lost_its_stream_may_come_back_from_the_same_port() {
    let mut world = world();
    let mut alice = Client::alice(OLD);
    alice.flow.transport = Transport::Tcp;
    let request = alice.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let first = ticket(&alice.allocate_with(&mut world, request)).unwrap();
    alice.bind(&mut world, 0x4000, PEER);
    world.server.client_gone(world.now, alice.flow);
    assert_eq!(refresh(&mut world, &mut alice, &first).code(), 0);
    let relay = world.relay_of(&alice);
    assert_relayed(alice.channel(&mut world, 0x4000, b"x"), relay, PEER, 1);
    let verdict = world.peer_sends(&alice, PEER, 5);
    assert_to_client(verdict, &alice);
    assert_all_gone(world, alice);
}

#[test]
fn an_allocation_between_two_paths_expires_with_both() {
    let mut world = world();
    let (old, ticket) = mobile(&mut world, OLD);
    world.wait(300);
    let mut new = elsewhere(&mut world, &old, NEW);
    assert_eq!(refresh(&mut world, &mut new, &ticket).code(), 0);
    world.wait(599);
    assert_eq!(world.server.allocations(), 1);
    world.wait(1);
    world.assert_empty();
    assert!(!world.server.has_allocation(&old.flow) && !world.server.has_allocation(&new.flow));
}

#[test]
fn a_datagram_is_passed_to_the_shard_that_holds_the_allocation() {
    let mut limited = Settings { mobility: true, ..settings() };
    limited.limits.unauthenticated_answers = 1;
    let mut world = World::with(limited, auth_settings());
    let one = Server::new(world.settings.clone(), world.auth.clone(), world.shared.clone(), [1; 32], 1);
    let zero = std::mem::replace(&mut world.server, one);
    let (old, ticket) = mobile(&mut world, OLD);
    let one = std::mem::replace(&mut world.server, zero);

    let mut new = elsewhere(&mut world, &old, NEW);
    let bare = new.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket).finish();
    assert_eq!(world.ask(new.flow, &bare).unwrap().code(), 401, "whoever has not signed is asked here");
    let request = new.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    let bytes = new.sign(request);
    let passed = Output::Migrate { flow: new.flow, shard: 1, bytes: bytes.clone() };
    for _ in 0..9 {
        assert_eq!(world.ask(new.flow, &bytes), None);
    }
    assert_eq!(
        world.streams,
        [passed.clone(), passed.clone(), passed],
        "so many from strangers, and no more"
    );

    world.server = one;
    assert!(!world.server.has_allocation(&new.flow));
    assert_eq!(world.ask(new.flow, &bytes).unwrap().code(), 0);
    assert!(world.server.has_allocation(&new.flow), "so what follows is passed on, too");
    let relay = world.relay_of(&old);
    assert_relayed(new.channel(&mut world, 0x4000, b"x"), relay, PEER, 1);
    assert_all_gone(world, new);
}

#[test]
fn a_stream_is_led_to_the_shard_that_holds_the_allocation() {
    let mut world = world();
    let shard = |world: &World, n| {
        Server::new(world.settings.clone(), world.auth.clone(), world.shared.clone(), [n; 32], n)
    };
    let (zero, one) = (shard(&world, 0), shard(&world, 1));
    world.server = one;
    let (old, ticket) = mobile(&mut world, OLD);
    let one = std::mem::replace(&mut world.server, zero);

    let mut tcp = old.clone();
    tcp.flow = Client::alice(NEW).flow;
    tcp.flow.transport = Transport::Tls;
    tcp.challenge(&mut world);
    let request = tcp.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    let bytes = tcp.sign(request);
    assert_eq!(world.ask(tcp.flow, &bytes), None);
    let migrated = world.streams.pop();
    assert_eq!(migrated, Some(Output::Migrate { flow: tcp.flow, shard: 1, bytes: bytes.clone() }));

    world.server = one;
    assert_eq!(world.ask(tcp.flow, &bytes).unwrap().code(), 0);
    let relay = world.relay_of(&old);
    assert_relayed(tcp.channel(&mut world, 0x4000, b"x"), relay, PEER, 1);
    assert_eq!(old.relayed, Some(addr("198.51.100.1:50000")));
    assert_all_gone(world, tcp);
}
