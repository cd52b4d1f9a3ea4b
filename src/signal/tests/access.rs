//! Who may do what: PINs, locks, kicks and bans, tokens and invites; state, history, and who is not ready.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{World, story, story_with};
use crate::signal::{Access, Claims, Role, RoomClaim, Settings, read_invite};

/// Opens, says hello, and takes the welcome as read.
fn greet(world: &mut World, name: &str, token: Option<Value>) {
    world.open(name, std::net::Ipv4Addr::LOCALHOST.into());
    let token = token.map(|token| match token {
        Value::String(token) => token,
        claims => claims.to_string(),
    });
    world.send(name, &json!({"type": "hello", "token": token}).to_string());
}

fn welcome(world: &mut World, name: &str, token: Option<Value>) {
    greet(world, name, token);
    assert_eq!(world.hear(name).unwrap()["type"], "welcome");
}

fn join(world: &mut World, name: &str, more: Value) -> Value {
    let mut join = json!({"type": "join", "room": "demo"});
    join.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.send(name, &join.to_string());
    world.hear(name).unwrap()
}

fn drain(world: &mut World, names: &[&str]) {
    for name in names {
        while world.hear(name).is_some() {}
    }
}

#[test]
fn a_pin_is_set_by_who_makes_the_room_and_asked_of_the_others() {
    story(
        r#"
        alice opens
        alice -> {"type":"hello"}
        alice <- "*"
        alice -> {"type":"join","id":1,"room":"demo","pin":""}
        alice <- {"type":"error","id":1,"code":"bad_message","message":"'pin' must have 1 to 64 characters","retry_ms":null,"fatal":false}
        alice -> {"type":"join","id":1,"room":"demo","pin":"1234"}
        alice <- {"type":"joined","id":1,"seq":1,"room":"demo","self":"p_alice","created":true,"capacity":2,"pin":true,"locked":false,"moderators":["p_alice"],"peers":[],"state":{},"history":[],"ice":"*"}
        bob opens
        bob -> {"type":"hello"}
        bob <- "*"
        bob -> {"type":"join","id":1,"room":"demo"}
        bob <- {"type":"error","id":1,"code":"bad_pin","message":"Room 'demo' has a PIN","retry_ms":null,"fatal":false}
        bob -> {"type":"join","id":2,"room":"demo","pin":"1235"}
        bob <- {"type":"error","id":2,"code":"bad_pin","message":"This is not the PIN of room 'demo'","retry_ms":null,"fatal":false}
        bob -> {"type":"join","id":3,"room":"demo","pin":"1234"}
        bob <- {"type":"joined","id":3,"seq":1,"room":"demo","self":"p_bob","created":false,"capacity":2,"pin":true,"locked":false,"moderators":["p_alice"],"peers":[{"peer":"p_alice","name":null,"state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        carol enters open
        dave opens
        dave -> {"type":"hello"}
        dave <- "*"
        dave -> {"type":"join","id":1,"room":"open","pin":"1"}
        dave <- {"type":"error","id":1,"code":"bad_pin","message":"Room 'open' has no PIN; join without 'pin', or make another room","retry_ms":null,"fatal":false}
        "#,
    );
}

#[test]
fn pins_can_not_be_tried_out() {
    let mut world = World::new(Settings { wrong_pins_per_minute: 3, ..Settings::default() });
    welcome(&mut world, "alice", None);
    assert_eq!(join(&mut world, "alice", json!({"pin": "1234"}))["type"], "joined");
    welcome(&mut world, "bob", None);
    for pin in ["1", "2", "3"] {
        assert_eq!(join(&mut world, "bob", json!({"pin": pin}))["code"], "bad_pin");
    }
    let refused = join(&mut world, "bob", json!({"pin": "1234"}));
    assert_eq!((&refused["code"], &refused["retry_ms"]), (&json!("rate_limited"), &json!(20_000)));
    world.pass(20_000);
    assert_eq!(join(&mut world, "bob", json!({"pin": "1234"}))["type"], "joined");
    assert_eq!(world.rooms.counters().bad_pins, 3);
    drain(&mut world, &["alice"]);
    world.end();
}

#[test]
fn joins_and_credentials_are_bounded_for_an_address() {
    let settings = Settings { joins_per_minute: 2, credentials_per_minute: 1, ..Settings::default() };
    let mut world = World::new(settings);
    welcome(&mut world, "alice", None);
    for _ in 0..2 {
        assert_eq!(join(&mut world, "alice", json!({}))["type"], "joined");
        world.send("alice", r#"{"type":"leave"}"#);
    }
    assert_eq!(join(&mut world, "alice", json!({}))["code"], "rate_limited");
    world.pass(30_000);
    assert_eq!(join(&mut world, "alice", json!({}))["type"], "joined");
    world.send("alice", r#"{"type":"ice"}"#);
    assert_eq!(world.hear("alice").unwrap()["type"], "ice");
    world.send("alice", r#"{"type":"ice"}"#);
    assert_eq!(world.hear("alice").unwrap()["code"], "rate_limited");
    world.end();
}

/// An IPv4 address is one client, and so is an IPv6 /64: its neighbours share what it may, others don't.
#[test]
fn bounds_are_of_an_ipv4_address_or_an_ipv6_64() {
    let settings = Settings {
        joins_per_minute: 1,
        credentials_per_minute: 1,
        wrong_pins_per_minute: 1,
        ..Settings::default()
    };
    let groups = [
        ["192.0.2.1", "192.0.2.1", "192.0.2.2"],
        ["2001:db8::1", "2001:db8:0:0:ffff::2", "2001:db8:0:1::1"],
        // As a socket for both families sees IPv4.
        ["::ffff:198.51.100.1", "198.51.100.1", "198.51.100.2"],
    ];
    for [first, neighbour, stranger] in groups {
        let mut world = World::new(settings.clone());
        for (name, from) in [("first", first), ("neighbour", neighbour), ("stranger", stranger)] {
            world.open(name, from.parse().unwrap());
            world.send(name, r#"{"type":"hello"}"#);
            assert_eq!(world.hear(name).unwrap()["type"], "welcome");
        }
        assert_eq!(join(&mut world, "first", json!({"room": "a"}))["type"], "joined");
        assert_eq!(
            join(&mut world, "neighbour", json!({"room": "b"}))["code"],
            "rate_limited",
            "{neighbour}"
        );
        assert_eq!(join(&mut world, "stranger", json!({"room": "c"}))["type"], "joined", "{stranger}");
        world.pass(60_000);
        assert_eq!(join(&mut world, "neighbour", json!({"room": "b"}))["type"], "joined");
        for (name, answer) in [("first", "ice"), ("neighbour", "error"), ("stranger", "ice")] {
            world.send(name, r#"{"type":"ice"}"#);
            assert_eq!(world.hear(name).unwrap()["type"], answer, "{name}");
        }
        world.end();
    }
}

#[test]
fn a_reload_takes_other_rates_and_another_secret_of_invites() {
    let secret = |bytes| Some(crate::auth::Secret::new("invites", bytes));
    let mut world =
        World::new(Settings { joins_per_minute: 0, invite_secret: secret("one"), ..Settings::default() });
    welcome(&mut world, "alice", None);
    join(&mut world, "alice", json!({}));
    world.send("alice", r#"{"type":"invite"}"#);
    let invite = world.hear("alice").unwrap()["token"].clone();
    let settings = Settings { joins_per_minute: 1, invite_secret: secret("one"), ..Settings::default() };
    world.rooms.set_settings(settings.clone());
    welcome(&mut world, "bob", Some(invite.clone()));
    assert_eq!(join(&mut world, "bob", json!({}))["type"], "joined");
    welcome(&mut world, "carol", None);
    assert_eq!(join(&mut world, "carol", json!({}))["code"], "rate_limited");
    world.rooms.set_settings(Settings { joins_per_minute: 0, ..settings.clone() });
    assert_eq!(join(&mut world, "carol", json!({}))["code"], "room_full", "no rate holds it up");
    world.rooms.set_settings(Settings { invite_secret: secret("two"), ..settings });
    greet(&mut world, "dave", Some(invite));
    assert_eq!(world.hear("dave").unwrap()["code"], "unauthorized");
    drain(&mut world, &["alice", "bob", "carol", "dave"]);
    world.end();
}

#[test]
fn bytes_are_bounded_beside_messages() {
    let mut world = World::new(Settings { bytes_per_second: 100, burst_bytes: 1000, ..Settings::default() });
    world.enter("alice", "demo");
    let message = format!(r#"{{"type":"message","id":1,"data":"{}"}}"#, "x".repeat(565));
    assert_eq!(message.len(), 600);
    world.send("alice", &message);
    assert_eq!(world.hear("alice").unwrap()["type"], "ok");
    world.send("alice", &message);
    let refused = world.hear("alice").unwrap();
    assert_eq!(refused["message"], "More than 100 bytes per second");
    world.pass(refused["retry_ms"].as_u64().unwrap());
    world.send("alice", &message);
    assert_eq!(world.hear("alice").unwrap()["type"], "ok");
    world.end();
}

#[test]
fn a_moderator_kicks_and_bans_and_the_credential_ends() {
    let mut world = World::new(Settings { capacity: 3, ..Settings::default() });
    world.play(
        r#"
        alice enters demo
        bob enters demo
        carol enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        alice <- {"type":"peer","seq":3,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        bob <- {"type":"peer","seq":2,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        alice -> {"type":"kick","id":1,"peer":"p_nobody"}
        alice <- {"type":"error","id":1,"code":"peer_not_found","message":"There is no other 'p_nobody' in room 'demo'","retry_ms":null,"fatal":false}
        alice -> {"type":"kick","id":2,"peer":"p_bob","ban_s":60}
        bob <- {"type":"error","code":"kicked","message":"A moderator has put you out of room 'demo'","retry_ms":null,"fatal":true}
        bob is closed with 4006
        carol <- {"type":"peer","seq":2,"event":"leave","peer":"p_bob","reason":"kicked"}
        alice <- {"type":"peer","seq":4,"event":"leave","peer":"p_bob","reason":"kicked"}
        alice <- {"type":"ok","id":2}
        10000 ms pass
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob","secret":"r_bob","seq":2}}
        bob <- {"type":"welcome","session":"s_bob2","secret":"r_bob2","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        bob -> {"type":"join","id":1,"room":"demo"}
        bob <- {"type":"error","id":1,"code":"forbidden","message":"A moderator has banned you from room 'demo'","retry_ms":50000,"fatal":false}
        50000 ms pass
        bob -> {"type":"join","id":2,"room":"demo"}
        bob <- "*"
        alice <- {"type":"peer","seq":5,"event":"join","peer":"p_bob2","name":null,"you":{"polite":false,"offerer":false}}
        carol <- {"type":"peer","seq":3,"event":"join","peer":"p_bob2","name":null,"you":{"polite":false,"offerer":false}}
        carol -> {"type":"kick","id":1,"peer":"p_alice"}
        carol <- {"type":"error","id":1,"code":"forbidden","message":"Only moderators may do this","retry_ms":null,"fatal":false}
        "#,
    );
    assert_eq!(world.revoked, [("p_bob".to_owned(), 1_795_347_722)]);
    assert!(world.rooms.kick_out(world.now, "demo", &world.real("p_carol"), Duration::ZERO));
    assert!(!world.rooms.kick_out(world.now, "demo", "p_carol", Duration::ZERO), "no such member");
    world.settle();
    assert_eq!(world.hear("carol").unwrap()["code"], "kicked");
    assert_eq!(world.hear("carol"), Some(4006.into()));
    drain(&mut world, &["alice", "bob"]);
    world.end();
}

#[test]
fn a_member_that_is_away_can_be_kicked() {
    let mut world = World::new(Settings::default());
    world.play(
        r#"
        alice enters demo
        bob enters demo
        alice <- "*"
        bob drops
        alice <- {"type":"peer","seq":3,"event":"away","peer":"p_bob"}
        alice -> {"type":"kick","peer":"p_bob"}
        alice <- {"type":"peer","seq":4,"event":"leave","peer":"p_bob","reason":"kicked"}
        "#,
    );
    assert_eq!(world.rooms.away(), 0);
    world.end();
}

#[test]
fn a_locked_room_lets_in_moderators_by_token_and_those_who_resume() {
    let mut world = World::new(Settings { capacity: 4, ..Settings::default() });
    world.play(
        r#"
        alice enters demo
        bob enters demo
        alice <- "*"
        alice -> {"type":"lock"}
        alice <- {"type":"room","seq":3,"locked":true,"moderators":["p_alice"],"by":"p_alice"}
        bob <- {"type":"room","seq":2,"locked":true,"moderators":["p_alice"],"by":"p_alice"}
        bob drops
        alice <- {"type":"peer","seq":4,"event":"away","peer":"p_bob"}
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob","secret":"r_bob","seq":2}}
        bob <- "*"
        alice <- {"type":"peer","seq":5,"event":"back","peer":"p_bob"}
        carol opens
        carol -> {"type":"hello"}
        carol <- "*"
        carol -> {"type":"join","room":"demo"}
        carol <- {"type":"error","code":"room_locked","message":"Room 'demo' is locked","retry_ms":null,"fatal":false}
        "#,
    );
    welcome(&mut world, "dave", Some(json!({"exp": u32::MAX, "role": "moderator"})));
    let joined = join(&mut world, "dave", json!({}));
    assert_eq!((&joined["locked"], &joined["moderators"]), (&json!(true), &json!(["p_alice", "p_dave"])));
    world.play(
        r#"
        alice <- {"type":"peer","seq":6,"event":"join","peer":"p_dave","name":null,"you":{"polite":false,"offerer":false}}
        alice <- {"type":"room","seq":7,"locked":true,"moderators":["p_alice","p_dave"],"by":null}
        bob <- {"type":"peer","seq":3,"event":"join","peer":"p_dave","name":null,"you":{"polite":false,"offerer":false}}
        bob <- {"type":"room","seq":4,"locked":true,"moderators":["p_alice","p_dave"],"by":null}
        "#,
    );
    world.end();
}

#[test]
fn tokens_are_verified_and_their_time_is_kept() {
    let mut world = World::new(Settings::default());
    for (token, code) in [
        (json!("nonsense"), "unauthorized"),
        (json!("i1.e30.e30"), "unauthorized"),
        (json!({"exp": 1_795_347_122}), "token_expired"),
        (json!({"exp": u32::MAX, "nbf": 1_795_347_123}), "unauthorized"),
        (json!({"exp": u32::MAX, "room": "no room"}), "unauthorized"),
    ] {
        greet(&mut world, "alice", Some(token));
        let error = world.hear("alice").unwrap();
        assert_eq!((&error["code"], &error["fatal"]), (&json!(code), &json!(true)));
        assert_eq!(world.hear("alice"), Some(4001.into()));
    }
    welcome(&mut world, "alice", Some(json!({"exp": 1_795_347_132})));
    world.pass(10_000);
    assert_eq!(join(&mut world, "alice", json!({}))["code"], "token_expired");
    assert_eq!(world.hear("alice"), Some(4001.into()));
    assert_eq!(world.rooms.counters().bad_tokens, 5);
    world.end();
}

#[test]
fn a_token_says_which_room_and_name() {
    let mut world = World::new(Settings::default());
    let claims = json!({"exp": u32::MAX, "room": ["red", "demo"], "name": "Alice", "may-relay": false});
    welcome(&mut world, "alice", Some(claims));
    assert_eq!(join(&mut world, "alice", json!({"room": "blue"}))["code"], "forbidden");
    let joined = join(&mut world, "alice", json!({"name": "Mallory", "pin": "1"}));
    assert_eq!((&joined["created"], &joined["ice"]), (&json!(true), &json!(null)), "may-relay");
    welcome(&mut world, "bob", Some(json!({"exp": u32::MAX, "room": "demo", "may-create": false})));
    let joined = join(&mut world, "bob", json!({}));
    assert_eq!(joined["peers"][0]["name"], "Alice", "and no PIN is asked for");
    world.send("bob", r#"{"type":"leave"}"#);
    world.close("alice");
    assert_eq!(join(&mut world, "bob", json!({}))["code"], "create_denied");
    drain(&mut world, &["alice", "bob"]);
    world.end();
}

#[test]
fn the_operator_says_who_may_make_rooms_and_enter_them_and_relay() {
    let closed = Settings {
        create: Access::Token,
        join: Access::Token,
        ice: Access::Token,
        capacity: 3,
        ..Settings::default()
    };
    let mut world = World::new(closed.clone());
    welcome(&mut world, "stranger", None);
    assert_eq!(join(&mut world, "stranger", json!({}))["code"], "forbidden");
    welcome(&mut world, "bob", Some(json!({"exp": u32::MAX})));
    assert_eq!(join(&mut world, "bob", json!({}))["code"], "create_denied");
    welcome(&mut world, "alice", Some(json!({"exp": u32::MAX, "may-create": true, "may-relay": true})));
    assert!(join(&mut world, "alice", json!({}))["ice"].is_object());
    assert!(join(&mut world, "bob", json!({}))["ice"].is_null());
    world.send("bob", r#"{"type":"ice"}"#);
    assert_eq!(world.hear("bob").unwrap()["code"], "forbidden");
    // A guest does not inherit what a token is needed for.
    drain(&mut world, &["bob"]);
    world.close("alice");
    assert_eq!(world.hear("bob").unwrap()["event"], "leave");
    assert_eq!(world.hear("bob").unwrap()["moderators"], json!([]));
    drain(&mut world, &["alice"]);
    world.end();

    let mut world = World::new(Settings { join: Access::Never, ..closed });
    welcome(&mut world, "alice", Some(json!({"exp": u32::MAX, "may-create": true})));
    assert_eq!(join(&mut world, "alice", json!({}))["code"], "forbidden");
    world.end();
}

#[test]
fn an_invite_lets_in_without_the_pin_and_where_a_token_is_needed() {
    let secret = crate::auth::Secret::new("invites", "a secret");
    let mut world = World::new(Settings {
        join: Access::Token,
        create: Access::Token,
        invite_secret: Some(secret),
        ..Settings::default()
    });
    welcome(&mut world, "alice", Some(json!({"exp": u32::MAX, "may-create": true})));
    join(&mut world, "alice", json!({"pin": "1234"}));
    world.send("alice", r#"{"type":"invite","id":1,"ttl_s":59}"#);
    assert_eq!(world.hear("alice").unwrap()["message"], "'ttl_s' must be from 60 to 2592000");
    world.send("alice", r#"{"type":"invite","id":1,"ttl_s":600,"name":"Bob","role":"moderator"}"#);
    let invite = world.hear("alice").unwrap();
    let token = invite["token"].as_str().unwrap();
    let claims = read_invite(b"a secret", token).unwrap();
    assert_eq!((claims.exp, claims.role), (world.now.unix + 600, Some(Role::Moderator)));
    assert_eq!((claims.room, claims.may_create), (Some(RoomClaim::One("demo".into())), Some(true)));
    welcome(&mut world, "bob", Some(json!(token)));
    let joined = join(&mut world, "bob", json!({}));
    assert_eq!(joined["moderators"], json!(["p_alice", "p_bob"]));
    assert_eq!(world.hear("alice").unwrap()["name"], "Bob");
    assert_eq!(world.hear("alice").unwrap()["type"], "room");
    world.pass(600_000);
    drain(&mut world, &["alice", "bob"]);
    greet(&mut world, "carol", Some(json!(token)));
    assert_eq!(world.hear("carol").unwrap()["code"], "token_expired");
    drain(&mut world, &["carol"]);
    world.end();
}

#[test]
fn a_ban_follows_who_the_token_says() {
    let mut world = World::new(Settings { capacity: 3, ..Settings::default() });
    welcome(&mut world, "alice", None);
    join(&mut world, "alice", json!({}));
    let bob = || Some(json!({"exp": u32::MAX, "sub": "bob@example.org"}));
    welcome(&mut world, "bob", bob());
    join(&mut world, "bob", json!({}));
    world.send("alice", r#"{"type":"kick","peer":"p_bob","ban_s":60}"#);
    drain(&mut world, &["alice", "bob"]);
    welcome(&mut world, "bob", bob());
    assert_eq!(join(&mut world, "bob", json!({}))["code"], "forbidden");
    welcome(&mut world, "carol", None);
    assert_eq!(join(&mut world, "carol", json!({}))["type"], "joined", "the same address");
    drain(&mut world, &["alice"]);
    world.end();
}

#[test]
fn the_room_remembers_its_state_and_the_last_messages_to_all() {
    let mut world = World::new(Settings { state_bytes: 20, ..Settings::default() });
    welcome(&mut world, "alice", None);
    join(&mut world, "alice", json!({"history": 2, "name": "Alice"}));
    world.play(
        r#"
        alice -> {"type":"message","data":1}
        alice -> {"type":"message","data":2}
        1500 ms pass
        alice -> {"type":"message","data":{"n":3}}
        alice -> {"type":"set","id":1,"key":"a","value":[1,2]}
        alice <- {"type":"state","seq":2,"from":"p_alice","key":"a","value":[1,2]}
        alice <- {"type":"ok","id":1}
        alice -> {"type":"set","id":2,"key":"b","value":"012345678901234567890"}
        alice <- {"type":"error","id":2,"code":"too_large","message":"The state of a room has at most 20 bytes; remove something first","retry_ms":null,"fatal":false}
        alice -> {"type":"set","id":3,"key":"c","value":true}
        alice <- {"type":"state","seq":3,"from":"p_alice","key":"c","value":true}
        alice <- {"type":"ok","id":3}
        alice -> {"type":"set","key":"c"}
        alice <- {"type":"state","seq":4,"from":"p_alice","key":"c","value":null}
        bob opens
        bob -> {"type":"hello"}
        bob <- "*"
        bob -> {"type":"join","room":"demo","history":99}
        bob <- {"type":"joined","seq":1,"room":"demo","self":"p_bob","created":false,"capacity":2,"pin":false,"locked":false,"moderators":["p_alice"],"peers":"*","state":{"a":[1,2]},"history":[{"from":"p_alice","name":"Alice","data":2,"ago_ms":1500},{"from":"p_alice","name":"Alice","data":{"n":3},"ago_ms":0}],"ice":"*"}
        alice <- "*"
        "#,
    );
    world.end();
}

#[test]
fn who_makes_a_room_says_how_many_may_come_within_the_bound() {
    for (asked, capacity) in [(json!(null), 2), (json!(3), 3), (json!(100), 8)] {
        let mut world = World::new(Settings::default());
        welcome(&mut world, "alice", None);
        assert_eq!(join(&mut world, "alice", json!({"capacity": asked}))["capacity"], capacity);
        world.end();
    }
    let mut world = World::new(Settings::default());
    welcome(&mut world, "alice", None);
    assert_eq!(join(&mut world, "alice", json!({"capacity": 1}))["message"], "'capacity' must be 2 or more");
    world.end();
}

#[test]
fn signals_wait_until_the_other_side_is_ready() {
    story_with(
        Settings { capacity: 3, held_bytes: 500, ..Settings::default() },
        r#"
        alice opens
        alice -> {"type":"hello"}
        alice <- "*"
        alice -> {"type":"join","room":"demo","ready":false}
        alice <- "*"
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        carol enters demo
        alice <- {"type":"peer","seq":3,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        bob <- "*"
        carol -> {"type":"signal","to":"p_alice","candidates":[null]}
        bob -> {"type":"signal","id":1,"to":"p_alice","description":{"type":"offer","sdp":"v=0"}}
        bob <- {"type":"ok","id":1}
        bob -> {"type":"message","data":"hi"}
        alice <- {"type":"message","seq":4,"from":"p_bob","to":null,"data":"hi"}
        carol <- "*"
        bob -> {"type":"signal","to":"p_alice","candidates":[{"candidate":"c"},null]}
        bob -> {"type":"signal","id":2,"to":"p_alice","description":{"type":"offer","sdp":"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"}}
        bob <- {"type":"error","id":2,"code":"rate_limited","message":"'p_alice' is not ready, and no more is held for it","retry_ms":1000,"fatal":false}
        carol closes
        alice <- {"type":"peer","seq":5,"event":"leave","peer":"p_carol"}
        bob <- "*"
        alice -> {"type":"ready","id":1}
        alice <- {"type":"signal","seq":6,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"description":{"type":"offer","sdp":"v=0"}}
        alice <- {"type":"signal","seq":7,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"candidates":[{"candidate":"c"},null]}
        alice <- {"type":"ok","id":1}
        alice -> {"type":"ready","id":2}
        alice <- {"type":"ok","id":2}
        bob -> {"type":"signal","to":"p_alice","candidates":[null]}
        alice <- {"type":"signal","seq":8,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"candidates":[null]}
        "#,
    );
}

#[test]
fn fresh_ice_servers_come_at_80_percent_of_their_ttl() {
    let mut world = World::new(Settings::default());
    world.play(
        r#"
        alice enters demo
        479000 ms pass
        1000 ms pass
        alice <- {"type":"ice","seq":2,"ice":{"iceServers":[{"urls":["turn:turn.example.org:3478"],"username":"1795348202:p_alice","credential":"..."}],"ttl":600}}
        alice -> {"type":"ice","id":1}
        alice <- {"type":"ice","id":1,"ice":"*"}
        450000 ms pass
        alice drops
        59000 ms pass
        alice opens
        alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":2}}
        alice <- "*"
        alice <- {"type":"ice","seq":3,"ice":"*"}
        alice -> {"type":"leave","id":2}
        alice <- {"type":"ok","id":2}
        600000 ms pass
        "#,
    );
    assert_eq!(world.revoked.len(), 1);
    assert_eq!(world.rooms.counters().credentials, 4);
    world.end();
}

#[test]
fn who_is_here_is_told_of_a_stop_and_nobody_new_comes() {
    let mut world = World::new(Settings::default());
    world.enter("alice", "demo");
    world.rooms.drain(Duration::from_secs(5));
    world.settle();
    world.play(
        r#"
        alice <- {"type":"draining","seq":2,"action":"reconnect","after_ms":5000}
        bob opens
        bob -> {"type":"hello","id":1}
        bob <- {"type":"error","id":1,"code":"draining","message":"The server is about to stop; come back later","retry_ms":10000,"fatal":true}
        bob is closed with 4007
        alice -> {"type":"message","id":1,"data":1}
        alice <- {"type":"ok","id":1}
        carol opens
        "#,
    );
    world.rooms.wrong_version(world.now, world.connection("carol"));
    world.settle();
    assert_eq!(world.hear("carol").unwrap()["code"], "unsupported_version");
    assert_eq!(world.hear("carol"), Some(4002.into()));
    world.end();
}

#[test]
fn reports_add_up_and_rooms_can_be_listed() {
    let mut world = World::new(Settings::default());
    world.play(
        r#"
        alice enters demo
        bob enters demo
        alice <- "*"
        alice -> {"type":"report","state":"connected","ms":830,"local":"relay","remote":"srflx","relay":"tls","family":"ipv6","rtt_ms":48}
        alice -> {"type":"report","state":"failed","errors":[{"url":"turn:x","code":701}]}
        alice -> {"type":"report","state":"checking","rtt_ms":1}
        bob drops
        alice <- "*"
        "#,
    );
    let reports = world.rooms.reports();
    let of = |name| reports.states().find(|(state, _)| *state == name).unwrap().1;
    assert_eq!((of("connected"), of("failed"), of("checking"), reports.candidate_errors), (1, 1, 1, 1));
    assert_eq!(reports.pairs().collect::<Vec<_>>(), [(["relay", "srflx", "tls", "ipv6"], 1)]);
    assert_eq!((reports.time_to_connected.sum, reports.round_trip.sum), (830, 48));
    world.enter("carol", "elsewhere");
    let all = world.rooms.list(None, 10);
    assert_eq!(all.iter().map(|room| &*room.name).collect::<Vec<_>>(), ["demo", "elsewhere"]);
    let demo: Vec<_> = all[0].members.iter().map(|m| (m.here, m.moderator)).collect();
    assert_eq!(demo, [(true, true), (false, false)]);
    assert_eq!(world.rooms.list(Some("demo"), 10).len(), 1);
    assert_eq!(world.rooms.list(None, 1).len(), 1);
    world.end();
}

#[test]
fn the_operator_locks_puts_out_and_closes_a_room() {
    let mut world = World::new(Settings { capacity: 3, ..Settings::default() });
    world.play(
        r#"
        alice enters demo
        bob enters demo
        alice <- "*"
        "#,
    );
    assert!(!world.rooms.lock_room("elsewhere", true));
    assert!(world.rooms.lock_room("demo", true));
    world.settle();
    world.play(
        r#"
        alice <- {"type":"room","seq":3,"locked":true,"moderators":["p_alice"],"by":null}
        bob <- {"type":"room","seq":2,"locked":true,"moderators":["p_alice"],"by":null}
        carol opens
        carol -> {"type":"hello"}
        carol <- "*"
        carol -> {"type":"join","id":1,"room":"demo"}
        carol <- {"type":"error","id":1,"code":"room_locked","message":"Room 'demo' is locked","retry_ms":null,"fatal":false}
        alice -> {"type":"lock","locked":false}
        alice <- {"type":"room","seq":4,"locked":false,"moderators":["p_alice"],"by":"p_alice"}
        bob <- {"type":"room","seq":3,"locked":false,"moderators":["p_alice"],"by":"p_alice"}
        "#,
    );
    let listed = world.rooms.room("demo").unwrap();
    assert_eq!((listed.members.len(), listed.locked, listed.capacity), (2, false, 3));
    assert_eq!(world.rooms.room("elsewhere"), None);

    let bob = world.real("p_bob");
    assert!(!world.rooms.kick_out(world.now, "elsewhere", &bob, Duration::ZERO));
    assert!(world.rooms.kick_out(world.now, "demo", &bob, Duration::ZERO));
    world.settle();
    world.play(
        r#"
        bob <- {"type":"error","code":"kicked","message":"The operator has put you out of room 'demo'","retry_ms":null,"fatal":true}
        bob is closed with 4006
        alice <- {"type":"peer","seq":5,"event":"leave","peer":"p_bob","reason":"kicked"}
        carol -> {"type":"join","id":2,"room":"demo"}
        carol <- "*"
        alice <- "*"
        carol drops
        alice <- {"type":"peer","seq":7,"event":"away","peer":"p_carol"}
        "#,
    );
    assert_eq!(
        (world.rooms.close_room(world.now, "demo"), world.rooms.close_room(world.now, "demo")),
        (2, 0)
    );
    world.settle();
    world.play(
        r#"
        alice <- {"type":"error","code":"kicked","message":"The operator has put you out of room 'demo'","retry_ms":null,"fatal":true}
        alice is closed with 4006
        "#,
    );
    assert_eq!(world.revoked.len(), 3, "the credentials of all three have ended");
    let claims = Claims { may_create: Some(true), ..Claims::for_room("demo", world.now.unix + 60) };
    let token = world.rooms.sign_invite(&claims);
    welcome(&mut world, "dave", Some(token.into()));
    assert_eq!(join(&mut world, "dave", json!({}))["created"], true);
    world.end();
}
