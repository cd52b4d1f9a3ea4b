//! The stronger algorithms of RFC 8489: SHA-256, USERHASH, and that nobody on the path can take them away.

use ternd::auth::{Algorithm, Settings, userhash};
use ternd::stun::{Attribute, AttributeType as T, Builder};

use crate::world::{Answer, Client, REALM, World, auth_settings, settings};

/// A first request that is long enough for an answer with all that the server offers.
fn long_challenge(world: &mut World, client: &mut Client) -> Answer {
    let request = client.allocate_request().raw(T::SOFTWARE, b"a client with much to say").finish();
    let answer = world.ask(client.flow, &request).unwrap();
    assert!(answer.0.len() <= 2 * request.len());
    if let Some(Attribute::Nonce(nonce)) = answer.get(T::NONCE) {
        client.nonce = nonce.to_vec();
    }
    answer
}

//= 8489-9.2-1 8489-18.5.1.1-1
#[test]
fn sha256_is_offered_where_there_is_room() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let answer = long_challenge(&mut world, &mut alice);
    assert_eq!(answer.kinds(), [T::ERROR_CODE, T::REALM, T::NONCE, T::PASSWORD_ALGORITHMS]);
    assert!(alice.nonce.starts_with(b"obMatJos2gAAB"), "bit 0 is set, from either end");

    // Over a connection the source is no lie: always offered.
    let mut tcp = Client::alice("192.0.2.7:4001");
    tcp.flow.transport = ternd::turn::Transport::Tcp;
    assert!(tcp.challenge(&mut world).kinds().contains(&T::PASSWORD_ALGORITHMS));
}

//= 8489-9.2.4-16
#[test]
fn a_call_with_sha256() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    long_challenge(&mut world, &mut alice);
    alice.algorithm = Algorithm::Sha256;
    alice.allocate(&mut world);
    assert_eq!(alice.permit(&mut world, &["192.0.2.99:1"]).code(), 0);
    // With the other algorithm it is still the same user.
    alice.algorithm = Algorithm::Md5;
    assert_eq!(alice.refresh(&mut world, Some(0)).code(), 0);
    world.assert_empty();
}

//= 8489-9.2.4-9
#[test]
fn a_bid_down_is_noticed() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    long_challenge(&mut world, &mut alice);
    let key = |algorithm| Client { algorithm, ..alice.clone() }.key();
    let (md5, sha256) = (key(Algorithm::Md5), key(Algorithm::Sha256));
    let signed = |nonce: &[u8]| {
        Builder::new(
            ternd::stun::Class::Request,
            ternd::stun::Method::ALLOCATE,
            ternd::stun::TransactionId([3; 12]),
        )
        .raw(T::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .raw(T::USERNAME, b"alice")
        .raw(T::REALM, REALM.as_bytes())
        .raw(T::NONCE, nonce)
    };
    let nonce = alice.nonce.clone();
    let mut ask = |builder: Builder| world.ask(alice.flow, &builder.finish()).unwrap().code();
    const OFFER: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];

    // The list was changed on the way to the client, which repeats what it saw.
    let changed =
        signed(&nonce).raw(T::PASSWORD_ALGORITHMS, &OFFER[4..]).raw(T::PASSWORD_ALGORITHM, &[0, 1, 0, 0]);
    assert_eq!(ask(changed.message_integrity_sha256(md5.as_bytes())), 400);
    // One of the two attributes is missing.
    let half = signed(&nonce).raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
    assert_eq!(ask(half.message_integrity_sha256(sha256.as_bytes())), 400);
    let half = signed(&nonce).raw(T::PASSWORD_ALGORITHMS, OFFER);
    assert_eq!(ask(half.message_integrity_sha256(sha256.as_bytes())), 400);
    // An algorithm that was not on offer.
    let other = signed(&nonce).raw(T::PASSWORD_ALGORITHMS, OFFER).raw(T::PASSWORD_ALGORITHM, &[0, 9, 0, 0]);
    assert_eq!(ask(other.message_integrity_sha256(sha256.as_bytes())), 400);
    // The cookie was taken off the nonce, or its bits were cleared: the nonce is broken.
    assert_eq!(ask(signed(&nonce[13..]).message_integrity(md5.as_bytes())), 438);
    let cleared = [b"obMatJos2AAAA", &nonce[13..]].concat();
    assert_eq!(ask(signed(&cleared).message_integrity(md5.as_bytes())), 438);
    // An offer that was never made.
    let short = world.auth.challenge(alice.flow.client.0, world.now, false).nonce;
    let mut ask = |builder: Builder| world.ask(alice.flow, &builder.finish()).unwrap().code();
    let invented =
        signed(short.as_bytes()).raw(T::PASSWORD_ALGORITHMS, OFFER).raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
    assert_eq!(ask(invented.message_integrity_sha256(sha256.as_bytes())), 400);
    // And untouched it works.
    let right = signed(&nonce).raw(T::PASSWORD_ALGORITHMS, OFFER).raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
    assert_eq!(ask(right.message_integrity_sha256(sha256.as_bytes())), 0);
}

#[test]
fn a_user_may_be_named_by_its_hash() {
    let mut world = World::with(settings(), Settings { secrets: Vec::new(), ..auth_settings() });
    let mut alice = Client::alice("192.0.2.7:4000");
    long_challenge(&mut world, &mut alice);
    assert!(alice.nonce.starts_with(b"obMatJos2wAAD"), "bits 0 and 1 are set, from either end");
    let request = alice
        .allocate_request()
        .raw(T::USERHASH, &userhash(b"alice", REALM))
        .raw(T::REALM, REALM.as_bytes())
        .raw(T::NONCE, &alice.nonce)
        .message_integrity(alice.key().as_bytes());
    assert_eq!(world.ask(alice.flow, &request.finish()).unwrap().code(), 0);
    // The allocation belongs to alice, however she is named.
    assert_eq!(alice.refresh(&mut world, None).code(), 0);

    let mut bob = Client::bob("192.0.2.7:4001");
    bob.challenge(&mut world);
    let request = bob
        .allocate_request()
        .raw(T::USERHASH, &userhash(b"nobody", REALM))
        .raw(T::REALM, REALM.as_bytes())
        .raw(T::NONCE, &bob.nonce)
        .message_integrity(bob.key().as_bytes());
    assert_eq!(world.ask(bob.flow, &request.finish()).unwrap().code(), 401);
}
