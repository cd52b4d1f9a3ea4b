//! A client that comes with an access token (RFC 7635).

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use ternd::auth::{OAuth, Settings as AuthSettings, TokenAlgorithm, TokenKey};
use ternd::stun::{Attribute, AttributeType as T, Builder, Method};
use ternd::turn::{Settings, Transport};

use crate::world::{Answer, Client, REALM, START, World, auth_settings, settings};

const NAME: &str = "auth.example.org";
const KID: &str = "2026";
const ONE: &[u8] = b"abcdefghijklmnopqrst";
const OTHER: &[u8] = b"ABCDEFGHIJKLMNOPQRST";

fn world_with(settings: Settings) -> World {
    let key = TokenKey { id: KID.into(), algorithm: TokenAlgorithm::A256Gcm, bytes: vec![9; 32].into() };
    let oauth = Some(OAuth { server_name: NAME.into(), keys: vec![key] });
    World::with(settings, AuthSettings { oauth, ..auth_settings() })
}

fn world() -> World {
    world_with(settings())
}

/// What the authorization server does: seals a key, from `issued` on for `lifetime` seconds.
fn token(mac_key: &[u8], issued: u64, lifetime: u32) -> Vec<u8> {
    let len = (mac_key.len() as u16).to_be_bytes();
    let mut block = [&len[..], mac_key, &(issued << 16).to_be_bytes(), &lifetime.to_be_bytes()].concat();
    let cipher = Aes256Gcm::new_from_slice(&[9; 32]).unwrap();
    let nonce = b"nonce 567890".into();
    let tag = cipher.encrypt_inout_detached(nonce, NAME.as_bytes(), block.as_mut_slice().into()).unwrap();
    [&[0, 12], &b"nonce 567890"[..], &block, &tag].concat()
}

/// A client with a key that came with its token.
struct Bearer {
    client: Client,
    key: Vec<u8>,
}

impl Bearer {
    fn new(world: &mut World, from: &str, key: &[u8]) -> Self {
        let mut client = Client::new(from, KID, "");
        client.challenge(world);
        Self { client, key: key.to_vec() }
    }

    fn ask(&mut self, world: &mut World, builder: Builder, token: Option<&[u8]>) -> Answer {
        let builder = token.into_iter().fold(builder, |b, t| b.raw(T::ACCESS_TOKEN, t));
        let bytes = builder
            .raw(T::USERNAME, KID.as_bytes())
            .raw(T::REALM, REALM.as_bytes())
            .raw(T::NONCE, &self.client.nonce)
            .message_integrity(&self.key)
            .finish();
        let answer = world.ask(self.client.flow, &bytes).expect("requests are answered");
        if answer.code() != 401 {
            assert!(answer.message().verify_integrity(&self.key), "signed with the token's key");
        }
        answer
    }

    fn allocate(&mut self, world: &mut World, token: &[u8]) -> Answer {
        let request = self.client.allocate_request();
        let answer = self.ask(world, request, Some(token));
        self.client.relayed = answer.relayed().first().copied();
        answer
    }

    fn refresh(&mut self, world: &mut World, lifetime: u32, token: Option<&[u8]>) -> Answer {
        let request = self.client.request(Method::REFRESH).u32(T::LIFETIME, lifetime);
        self.ask(world, request, token)
    }

    fn permit(&mut self, world: &mut World, token: Option<&[u8]>) -> u16 {
        let request = self
            .client
            .request(Method::CREATE_PERMISSION)
            .xor_address(T::XOR_PEER_ADDRESS, crate::world::addr("192.0.2.99:9"));
        self.ask(world, request, token).code()
    }
}

//= 7635-6.1-1 7635-7-5
#[test]
fn a_call_with_a_token() {
    let mut world = world();
    let challenge = Client::alice("192.0.2.7:1").challenge(&mut world);
    assert_eq!(challenge.kinds(), [T::ERROR_CODE, T::REALM, T::NONCE, T::THIRD_PARTY_AUTHORIZATION]);
    assert_eq!(challenge.get(T::THIRD_PARTY_AUTHORIZATION), Some(Attribute::ThirdPartyAuthorization(NAME)));

    let mut bearer = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    let sealed = token(ONE, START, 3600);
    let answer = bearer.allocate(&mut world, &sealed);
    assert_eq!((answer.code(), answer.lifetime()), (0, Some(600)));
    // From here on the key is known: with the token or without.
    assert_eq!(bearer.permit(&mut world, None), 0);
    assert_eq!(bearer.permit(&mut world, Some(&sealed)), 0);
    assert_eq!(bearer.refresh(&mut world, 0, None).code(), 0);
    world.assert_empty();
}

//= 7635-9-1
#[test]
fn the_allocation_lives_no_longer_than_the_token() {
    let mut world = world();
    let mut bearer = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    let sealed = token(ONE, START, 100);
    world.wait(50);
    assert_eq!(bearer.allocate(&mut world, &sealed).lifetime(), Some(55), "5 seconds are for the clocks");
    world.wait(20);
    let answer = bearer.refresh(&mut world, 600, None);
    assert_eq!((answer.code(), answer.lifetime()), (0, Some(35)));
    world.wait(34);
    assert_eq!(world.server.allocations(), 1);
    world.wait(1);
    world.assert_empty();
    assert_eq!(bearer.allocate(&mut world, &sealed).code(), 401);
}

//= 7635-9-2
#[test]
fn a_fresh_token_makes_it_live_longer() {
    let mut world = world();
    let mut bearer = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    assert_eq!(bearer.allocate(&mut world, &token(ONE, START, 100)).lifetime(), Some(105));
    world.wait(90);
    bearer.key = OTHER.to_vec();
    let fresh = token(OTHER, START + 90, 3600);
    assert_eq!(bearer.permit(&mut world, Some(&fresh)), 441, "only a Refresh takes over");
    assert_eq!(bearer.refresh(&mut world, 3600, Some(&fresh)).lifetime(), Some(3600));
    assert_eq!(bearer.permit(&mut world, None), 0, "the key is the new one");
    bearer.key = ONE.to_vec();
    assert_eq!(bearer.permit(&mut world, None), 401);
    bearer.key = OTHER.to_vec();
    world.wait(3500);
    assert_eq!(bearer.refresh(&mut world, 0, None).code(), 0);
    world.assert_empty();
}

#[test]
fn a_refused_refresh_takes_nothing_over() {
    let mut world = world();
    let mut bearer = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    bearer.allocate(&mut world, &token(ONE, START, 3600));
    let mut other = Bearer { client: bearer.client.clone(), key: OTHER.to_vec() };
    let fresh = token(OTHER, START, 3600);
    let request = other.client.request(Method::REFRESH).raw(T::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    assert_eq!(other.ask(&mut world, request, Some(&fresh)).code(), 443);
    assert_eq!(bearer.permit(&mut world, None), 0);
}

#[test]
fn tokens_of_one_server_are_not_each_others() {
    let mut world = world_with(Settings { mobility: true, ..settings() });
    let mut one = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    let request = one.client.allocate_request().raw(T::MOBILITY_TICKET, b"");
    let answer = one.ask(&mut world, request, Some(&token(ONE, START, 3600)));
    let ticket = match answer.get(T::MOBILITY_TICKET) {
        Some(Attribute::MobilityTicket(ticket)) => ticket.to_vec(),
        other => panic!("{other:?}"),
    };

    // Neither does a ticket pass from one to the other, nor what its path has.
    let mut other = Bearer::new(&mut world, "203.0.113.7:4000", OTHER);
    let sealed = token(OTHER, START, 3600);
    let request = other.client.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    assert_eq!(other.ask(&mut world, request, Some(&sealed)).code(), 441);
    let request = other.client.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    assert_eq!(other.ask(&mut world, request, None).code(), 401);
    let mut here = Bearer { client: one.client.clone(), key: OTHER.to_vec() };
    assert_eq!(here.permit(&mut world, None), 401);
    let request = here.client.allocate_request();
    assert_eq!(here.ask(&mut world, request, Some(&sealed)).code(), 437);

    let mut alice = Client::alice("192.0.2.7:4000");
    alice.challenge(&mut world);
    assert_eq!(alice.refresh(&mut world, None).code(), 441);

    let mut new = Bearer::new(&mut world, "203.0.113.8:1", ONE);
    let request = new.client.request(Method::REFRESH).raw(T::MOBILITY_TICKET, &ticket);
    assert_eq!(new.ask(&mut world, request, None).code(), 0, "it was its own all the time");
}

#[test]
fn each_token_has_a_quota_of_its_own() {
    let mut limited = settings();
    limited.limits.allocations_per_user = 1;
    let mut world = world_with(limited);
    let (one, other) = (token(ONE, START, 3600), token(OTHER, START, 3600));
    for (port, key, sealed, code) in [(1, ONE, &one, 0), (2, ONE, &one, 486), (3, OTHER, &other, 0)] {
        let mut bearer = Bearer::new(&mut world, &format!("192.0.2.7:{port}"), key);
        assert_eq!(bearer.allocate(&mut world, sealed).code(), code, "{port}");
    }
}

#[test]
fn a_peer_connection_is_bound_by_its_own_token() {
    let mut world = world();
    let mut one = Bearer::new(&mut world, "192.0.2.7:4000", ONE);
    one.client.flow.transport = Transport::Tcp;
    one.client.challenge(&mut world);
    let request = one.client.request(Method::ALLOCATE).raw(T::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    let answer = one.ask(&mut world, request, Some(&token(ONE, START, 3600)));
    one.client.relayed = answer.relayed().first().copied();
    assert_eq!(one.permit(&mut world, None), 0);
    let relay = world.relay_of(&one.client);
    let peer = crate::world::addr("192.0.2.99:9");
    let connection = world.server.peer_accepted(world.now, relay, peer).expect("it has a permission");
    world.drive();

    for (port, key, code) in [(4001, OTHER, 441), (4002, ONE, 0)] {
        let mut data = Bearer::new(&mut world, &format!("192.0.2.7:{port}"), key);
        data.client.flow.transport = Transport::Tcp;
        data.client.challenge(&mut world);
        let request = data.client.request(Method::CONNECTION_BIND).u32(T::CONNECTION_ID, connection.0);
        assert_eq!(data.ask(&mut world, request, Some(&token(key, START, 3600))).code(), code, "{port}");
    }
}

//= 7635-7-6
#[test]
fn where_tokens_are_not_taken_they_are_an_unknown_attribute() {
    let mut world = World::new();
    let mut alice = Client::alice("192.0.2.7:4000");
    let request = alice.allocate_request().raw(T::ACCESS_TOKEN, &token(ONE, START, 3600));
    let answer = alice.ask(&mut world, request);
    assert_eq!(answer.code(), 420);
    assert_eq!(answer.get(T::UNKNOWN_ATTRIBUTES), Some(Attribute::UnknownAttributes(&[0x00, 0x1B])));
    world.assert_empty();
}
