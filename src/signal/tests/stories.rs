//! What the protocol promises, one story each.

use serde_json::json;

use super::world::{World, story, story_with};
use crate::signal::{
    ErrorCode, Event, Report, ReportedCandidate, ReportedError, ReportedState, ReportedTransport, Settings,
};

#[test]
fn two_meet_and_negotiate() {
    story(
        r#"
        alice opens
        alice -> {"type":"hello","id":1,"client":"test/1"}
        alice <- {"type":"welcome","id":1,"session":"s_alice","secret":"r_alice","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"join","id":2,"room":"demo","create":"if-missing","name":"Alice"}
        alice <- {"type":"joined","id":2,"seq":1,"room":"demo","self":"p_alice","created":true,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[],"state":{},"history":[],"ice":{"iceServers":[{"urls":["turn:turn.example.org:3478"],"username":"1795347722:p_alice","credential":"..."}],"ttl":600}}

        bob opens
        bob -> {"type":"hello"}
        bob <- {"type":"welcome","session":"s_bob","secret":"r_bob","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        bob -> {"type":"join","room":"demo"}
        bob <- {"type":"joined","seq":1,"room":"demo","self":"p_bob","created":false,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[{"peer":"p_alice","name":"Alice","state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}

        bob -> {"type":"signal","id":3,"to":"p_alice","pc":"main","gen":1,"description":{"type":"offer","sdp":"v=0"}}
        bob <- {"type":"ok","id":3}
        alice <- {"type":"signal","seq":3,"from":"p_bob","to":"p_alice","pc":"main","gen":1,"description":{"type":"offer","sdp":"v=0"}}
        alice -> {"type":"signal","to":"p_bob","pc":"main","gen":1,"description":{"type":"answer","sdp":"v=0"}}
        bob <- {"type":"signal","seq":2,"from":"p_alice","to":"p_bob","pc":"main","gen":1,"description":{"type":"answer","sdp":"v=0"}}
        bob -> {"type":"signal","to":"p_alice","candidates":[{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"},null]}
        alice <- {"type":"signal","seq":4,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"candidates":[{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"},null]}

        alice -> {"type":"message","to":null,"data":{"text":"hi"}}
        bob <- {"type":"message","seq":3,"from":"p_alice","to":null,"data":{"text":"hi"}}

        bob -> {"type":"leave","id":4}
        bob <- {"type":"ok","id":4}
        alice <- {"type":"peer","seq":5,"event":"leave","peer":"p_bob"}
        alice -> {"type":"bye","id":3}
        alice <- {"type":"bye","id":3}
        alice is closed with 1000
        "#,
    );
}

#[test]
fn a_third_is_refused_and_can_send_nothing_in() {
    story(
        r#"
        alice enters demo
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        carol opens
        carol -> {"type":"hello"}
        carol <- {"type":"welcome","session":"*","secret":"*","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        carol -> {"type":"join","id":2,"room":"demo"}
        carol <- {"type":"error","id":2,"code":"room_full","message":"Room 'demo' has 2 of 2 participants","retry_ms":null,"fatal":false}
        carol -> {"type":"signal","id":3,"to":"p_alice","description":{"type":"offer","sdp":"v=0"}}
        carol <- {"type":"error","id":3,"code":"not_in_room","message":"You are in no room; join one first","retry_ms":null,"fatal":false}
        carol -> {"type":"message","id":4,"to":null,"data":1}
        carol <- {"type":"error","id":4,"code":"not_in_room","message":"*","retry_ms":null,"fatal":false}
        carol -> {"type":"ice","id":5}
        carol <- {"type":"error","id":5,"code":"not_in_room","message":"*","retry_ms":null,"fatal":false}
        carol -> {"type":"report","id":6,"state":"failed"}
        carol <- {"type":"error","id":6,"code":"not_in_room","message":"*","retry_ms":null,"fatal":false}
        carol -> {"type":"leave","id":7}
        carol <- {"type":"error","id":7,"code":"not_in_room","message":"*","retry_ms":null,"fatal":false}

        bob closes
        alice <- {"type":"peer","seq":3,"event":"leave","peer":"p_bob"}
        carol -> {"type":"join","id":8,"room":"demo"}
        carol <- {"type":"joined","id":8,"seq":1,"room":"demo","self":"p_carol","created":false,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[{"peer":"p_alice","name":null,"state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        alice <- {"type":"peer","seq":4,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        "#,
    );
}

#[test]
fn whoever_reloads_comes_back_as_the_later_one() {
    story(
        r#"
        alice enters demo
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}

        alice closes
        bob <- {"type":"peer","seq":2,"event":"leave","peer":"p_alice"}
        bob <- {"type":"room","seq":3,"locked":false,"moderators":["p_bob"],"by":null}
        alice opens
        alice -> {"type":"hello"}
        alice <- {"type":"welcome","session":"s_alice2","secret":"r_alice2","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"join","room":"demo"}
        alice <- {"type":"joined","seq":1,"room":"demo","self":"p_alice2","created":false,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[{"peer":"p_bob","name":null,"state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        bob <- {"type":"peer","seq":4,"event":"join","peer":"p_alice2","name":null,"you":{"polite":false,"offerer":false}}

        bob -> {"type":"leave"}
        alice <- {"type":"peer","seq":2,"event":"leave","peer":"p_bob"}
        alice <- {"type":"room","seq":3,"locked":false,"moderators":["p_alice2"],"by":null}
        bob -> {"type":"join","room":"demo"}
        bob <- {"type":"joined","seq":5,"room":"demo","self":"p_bob2","created":false,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[{"peer":"p_alice2","name":null,"state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        alice <- {"type":"peer","seq":4,"event":"join","peer":"p_bob2","name":null,"you":{"polite":false,"offerer":false}}

        alice -> {"type":"signal","id":1,"to":"p_bob","description":{"type":"offer","sdp":"late"}}
        alice <- {"type":"error","id":1,"code":"peer_not_found","message":"There is no other 'p_bob' in room 'demo'","retry_ms":null,"fatal":false}
        "#,
    );
}

#[test]
fn rooms_do_not_hear_each_other() {
    story_with(
        Settings { capacity: 3, ..Settings::default() },
        r#"
        alice enters red
        bob enters red
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        carol enters blue
        carol -> {"type":"signal","id":1,"to":"p_alice","description":{"type":"offer","sdp":"v=0"}}
        carol <- {"type":"error","id":1,"code":"peer_not_found","message":"There is no other 'p_alice' in room 'blue'","retry_ms":null,"fatal":false}
        carol -> {"type":"message","id":2,"to":"p_bob","data":"psst"}
        carol <- {"type":"error","id":2,"code":"peer_not_found","message":"There is no other 'p_bob' in room 'blue'","retry_ms":null,"fatal":false}
        carol -> {"type":"message","id":3,"to":null,"data":"anybody?"}
        carol <- {"type":"ok","id":3}
        carol -> {"type":"message","id":4,"to":"p_carol","data":"myself"}
        carol <- {"type":"error","id":4,"code":"peer_not_found","message":"There is no other 'p_carol' in room 'blue'","retry_ms":null,"fatal":false}
        dave enters red
        alice <- {"type":"peer","seq":3,"event":"join","peer":"p_dave","name":null,"you":{"polite":false,"offerer":false}}
        bob <- {"type":"peer","seq":2,"event":"join","peer":"p_dave","name":null,"you":{"polite":false,"offerer":false}}
        alice -> {"type":"message","to":"p_dave","data":"you only"}
        dave <- {"type":"message","seq":2,"from":"p_alice","to":"p_dave","data":"you only"}
        alice -> {"type":"message","data":"you all"}
        bob <- {"type":"message","seq":3,"from":"p_alice","to":null,"data":"you all"}
        dave <- {"type":"message","seq":3,"from":"p_alice","to":null,"data":"you all"}
        "#,
    );
}

#[test]
fn nobody_can_speak_as_another() {
    story(
        r#"
        alice enters demo
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        bob -> {"type":"message","from":"p_carol","seq":99,"to":"p_alice","data":{"from":"p_carol"},"future":[1]}
        alice <- {"type":"message","seq":3,"from":"p_bob","to":"p_alice","data":{"from":"p_carol"}}
        bob -> {"type":"signal","from":"p_carol","to":"p_alice","description":{"type":"rollback","from":"p_carol"}}
        alice <- {"type":"signal","seq":4,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"description":{"type":"rollback","from":"p_carol"}}
        "#,
    );
}

#[test]
fn payloads_pass_byte_for_byte() {
    let mut world = World::new(Settings::default());
    world.enter("alice", "demo");
    world.enter("bob", "demo");
    world.hear("alice");
    let data = r#"{ "n": 1.50e3, "u":"é\u00e9\ud83d\ude00", "deep":[[[{}]]] , "big":123456789012345678901234567890 }"#;
    let connection = world.connection("bob");
    world.rooms.received(
        world.now,
        connection,
        &format!(r#"{{"type":"message","data":{data}}}"#),
        &mut world.ice,
    );
    let Some(crate::signal::Output::Send { text, .. }) = world.rooms.poll_output() else {
        panic!("nothing sent")
    };
    let text = text.to_string();
    assert!(text.ends_with(&format!(r#""data":{data}}}"#)), "{text}");
}

#[test]
fn hello_comes_first_and_soon() {
    story(
        r#"
        alice opens
        4999 ms pass
        bob opens
        1 ms pass
        alice is closed with 4008
        bob -> {"type":"join","id":1,"room":"demo"}
        bob <- {"type":"error","id":1,"code":"bad_message","message":"The first message must be hello","retry_ms":null,"fatal":true}
        bob is closed with 4000
        carol opens
        carol -> hello
        carol <- {"type":"error","code":"bad_message","message":"Not a JSON object","retry_ms":null,"fatal":true}
        carol is closed with 4000
        dave opens
        dave -> {"type":"hello","client":"\u0007"}
        dave <- {"type":"error","code":"bad_message","message":"'client' must have at most 64 characters, none of them a control character","retry_ms":null,"fatal":true}
        dave is closed with 4000
        erin enters demo
        5000 ms pass
        erin -> {"type":"hello","id":2}
        erin <- {"type":"error","id":2,"code":"bad_message","message":"Hello was said already","retry_ms":null,"fatal":false}
        "#,
    );
}

#[test]
fn a_session_that_is_asked_to_be_resumed_begins_anew_and_says_so() {
    story(
        r#"
        alice opens
        alice -> {"type":"hello","id":1,"resume":{"session":"s_9f","secret":"r_1","seq":41}}
        alice <- {"type":"welcome","id":1,"session":"s_alice","secret":"r_alice","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        "#,
    );
}

#[test]
fn bad_requests_are_named_and_the_connection_goes_on() {
    let long = "x".repeat(65);
    let mut world = World::new(Settings { candidates: 2, ..Settings::default() });
    world.enter("alice", "demo");
    let room =
        "'room' must have 1 to 64 letters, digits, '-', '_', '.', '~', and begin with a letter or digit";
    let name = "'name' must have at most 64 characters, none of them a control character";
    let either = "signal: needs either 'description' or 'candidates'";
    let id = "'id' must be an integer from 0 to 9007199254740991";
    let pc = "'pc' must have 1 to 64 letters, digits, '-', '_', '.', '~', and begin with a letter or digit";
    let deep = format!(r#"{{"type":"message","data":{}{}}}"#, "[".repeat(32), "]".repeat(32));
    for (request, message) in [
        (
            r#"{"type":"dance"}"#,
            "Unknown type 'dance'; there are hello, join, ready, signal, message, set, ice, report, lock, kick, invite, leave, bye",
        ),
        (r#"{"type":"join"}"#, "join: missing field `room`"),
        (r#"{"type":"join","room":""}"#, room),
        (r#"{"type":"join","room":"a b"}"#, room),
        (&format!(r#"{{"type":"join","room":"{long}"}}"#), room),
        (r#"{"type":"join","room":"a","name":"\n"}"#, name),
        (r#"{"type":"join","room":5}"#, "join: invalid type: integer `5`, expected a string"),
        (
            r#"{"type":"join","room":"a","create":"maybe"}"#,
            "join: unknown variant `maybe`, expected `if-missing` or `never`",
        ),
        (r#"{"type":"signal","to":"p_x"}"#, either),
        (
            r#"{"type":"signal","to":"p_x","description":{"type":"offer","sdp":""},"candidates":[null]}"#,
            either,
        ),
        (r#"{"type":"signal","to":"p_x","pc":"","candidates":[null]}"#, pc),
        (
            r#"{"type":"signal","to":null,"candidates":[null]}"#,
            "signal: invalid type: null, expected a string",
        ),
        (r#"{"type":"signal","to":"p_x","description":["offer","v=0"]}"#, "description: not an object"),
        (
            r#"{"type":"signal","to":"p_x","description":{"type":"offer"}}"#,
            "description: missing field `sdp`",
        ),
        (
            r#"{"type":"signal","to":"p_x","description":{"type":"offer","type":"answer","sdp":""}}"#,
            "description: duplicate field `type`",
        ),
        (r#"{"type":"signal","to":"p_x","candidates":[]}"#, "candidates: 0 of them; a message has 1 to 2"),
        (
            r#"{"type":"signal","to":"p_x","candidates":[null,null,null]}"#,
            "candidates: 3 of them; a message has 1 to 2",
        ),
        (
            r#"{"type":"signal","to":"p_x","candidates":[{"sdpMid":"0"}]}"#,
            "candidate: missing field `candidate`",
        ),
        (r#"{"type":"signal","to":"p_x","candidates":["candidate:1"]}"#, "candidate: not an object"),
        (
            r#"{"type":"signal","to":"p_x","gen":-1,"candidates":[null]}"#,
            "signal: invalid value: integer `-1`, expected u32",
        ),
        (r#"{"type":"message"}"#, "message: missing field `data`"),
        (
            r#"{"type":"report","state":"fine"}"#,
            "report: unknown variant `fine`, expected one of `new`, `checking`, `connecting`, `connected`, `completed`, `disconnected`, `failed`, `closed`",
        ),
        (r#"{"type":"ice","id":-1}"#, id),
        (r#"{"type":"ice","id":"1"}"#, id),
        (r#"{"type":"ice","id":9007199254740992}"#, id),
        (r#"{"type":"message","data":"\ud800"}"#, "message: half a surrogate pair"),
        (r#"{"type":"message","data":[1e999]}"#, "message: number out of range"),
        (&deep, "message: nested deeper than 32"),
    ] {
        world.send("alice", request);
        let error = json!({"type": "error", "code": "bad_message", "message": message, "retry_ms": null, "fatal": false});
        assert_eq!(world.hear("alice"), Some(error), "{request}");
    }
    world.end();
}

#[test]
fn what_is_no_message_at_all_closes_the_connection_after_several() {
    let mut world = World::new(Settings { malformed: 8, ..Settings::default() });
    world.enter("alice", "demo");
    world.enter("bob", "demo");
    world.hear("alice");
    for (n, noise) in
        ["", "{", "[]", "\"hello\"", "{}", r#"{"type":5}"#, r#"{"type":"ice"}x"#].into_iter().enumerate()
    {
        world.send("bob", noise);
        let error = world.hear("bob").unwrap();
        assert_eq!((&error["code"], &error["fatal"]), (&json!("bad_message"), &json!(false)), "{n}: {noise}");
    }
    world.rooms.received_binary(world.now, world.connection("bob"));
    world.settle();
    assert_eq!(world.hear("bob").unwrap()["message"], "Binary frame; send JSON text frames");
    world.play(
        r#"
        bob is closed with 4000
        alice <- {"type":"peer","seq":3,"event":"leave","peer":"p_bob"}
        "#,
    );
    world.end();
}

#[test]
fn a_message_that_is_too_large_closes_the_connection() {
    let mut world = World::new(Settings { max_bytes: 60, ..Settings::default() });
    world.enter("alice", "demo");
    world.enter("bob", "demo");
    world.hear("alice");
    let fits = format!("{:60}", r#"{"type":"message","data":"12345678901234567890"}"#);
    world.send("bob", &fits);
    assert_eq!(world.hear("alice").unwrap()["data"], "12345678901234567890");
    world.send("bob", &format!("{fits} "));
    world.play(
        r#"
        bob <- {"type":"error","code":"too_large","message":"A message has at most 60 bytes","retry_ms":null,"fatal":true}
        bob is closed with 1009
        alice <- {"type":"peer","seq":4,"event":"leave","peer":"p_bob"}
        carol enters demo
        alice <- {"type":"peer","seq":5,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        "#,
    );
    world.rooms.too_large(world.now, world.connection("carol"));
    world.settle();
    assert_eq!(world.hear("carol").unwrap()["code"], "too_large");
    assert_eq!(world.hear("carol"), Some(1009.into()));
    assert_eq!(world.hear("alice").unwrap()["event"], "leave");
    world.end();
}

#[test]
fn too_many_messages_are_refused_and_in_the_end_the_connection_is() {
    story_with(
        Settings { messages_per_second: 10, burst: 3, ..Settings::default() },
        r#"
        alice enters demo
        alice -> {"type":"message","id":1,"data":1}
        alice <- {"type":"ok","id":1}
        alice -> {"type":"message","id":2,"data":1}
        alice <- {"type":"error","id":2,"code":"rate_limited","message":"More than 10 messages per second","retry_ms":200,"fatal":false}
        200 ms pass
        alice -> {"type":"message","id":3,"data":1}
        alice <- {"type":"ok","id":3}
        alice -> {"type":"ice"}
        alice <- {"type":"error","code":"rate_limited","message":"*","retry_ms":200,"fatal":false}
        alice -> {"type":"ice"}
        alice <- {"type":"error","code":"rate_limited","message":"*","retry_ms":300,"fatal":false}
        alice -> {"type":"ice"}
        alice <- {"type":"error","code":"rate_limited","message":"More than 10 messages per second","retry_ms":null,"fatal":true}
        alice is closed with 4003
        "#,
    );
}

#[test]
fn a_slow_reader_is_closed_and_holds_nobody_up() {
    let mut world = World::new(Settings::default());
    world.enter("alice", "demo");
    world.enter("bob", "demo");
    world.hear("alice");
    let bob = world.connection("bob");
    world.rooms.slow_consumer(world.now, bob);
    world.settle();
    world.rooms.slow_consumer(world.now, bob);
    world.rooms.disconnected(world.now, bob);
    world.rooms.received(world.now, bob, r#"{"type":"bye"}"#, &mut world.ice);
    world.settle();
    world.play(
        r#"
        bob is closed with 4004
        alice <- {"type":"peer","seq":3,"event":"away","peer":"p_bob"}
        "#,
    );
    let refused: Vec<_> = world.rooms.counters().refusals().filter(|(_, n)| *n > 0).collect();
    assert_eq!(refused, [(ErrorCode::SlowConsumer, 1)]);
    world.end();
}

#[test]
fn rooms_and_connections_are_bounded() {
    story_with(
        Settings { rooms: 1, connections: 3, connections_per_address: 2, ..Settings::default() },
        r#"
        alice opens from 2001:db8::1
        bob opens from 2001:db8::2
        carol opens from 2001:db8::3
        carol <- {"type":"error","code":"rate_limited","message":"Your address has 2 of 2 connections; try again later","retry_ms":10000,"fatal":true}
        carol is closed with 4003
        dave opens from 192.0.2.1
        carol opens from 192.0.2.2
        carol <- {"type":"error","code":"rate_limited","message":"Server has 3 of 3 connections; try again later","retry_ms":10000,"fatal":true}
        carol is closed with 4003
        bob closes
        carol opens from 2001:db8::3
        alice -> {"type":"hello"}
        alice <- {"type":"welcome","session":"*","secret":"*","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        carol -> {"type":"hello"}
        carol <- {"type":"welcome","session":"*","secret":"*","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"join","id":1,"room":"red","create":"never"}
        alice <- {"type":"error","id":1,"code":"room_not_found","message":"There is no room 'red'","retry_ms":null,"fatal":false}
        alice -> {"type":"join","room":"red"}
        alice <- {"type":"joined","seq":1,"room":"red","self":"p_alice","created":true,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[],"state":{},"history":[],"ice":"*"}
        alice -> {"type":"join","id":2,"room":"blue"}
        alice <- {"type":"error","id":2,"code":"already_joined","message":"You are in room 'red'; leave it first","retry_ms":null,"fatal":false}
        carol -> {"type":"join","id":3,"room":"blue"}
        carol <- {"type":"error","id":3,"code":"create_denied","message":"Server has 1 of 1 rooms","retry_ms":null,"fatal":false}
        carol -> {"type":"join","id":4,"room":"red","create":"never"}
        carol <- {"type":"joined","id":4,"seq":1,"room":"red","self":"p_carol","created":false,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[{"peer":"p_alice","name":null,"state":"here","you":{"polite":true,"offerer":true}}],"state":{},"history":[],"ice":"*"}
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        "#,
    );
}

#[test]
fn fresh_ice_servers_on_request_and_an_honest_null_if_there_are_none() {
    let mut world = World::new(Settings::default());
    world.play(
        r#"
        alice enters demo
        60000 ms pass
        alice -> {"type":"ice","id":5}
        alice <- {"type":"ice","id":5,"ice":{"iceServers":[{"urls":["turn:turn.example.org:3478"],"username":"1795347782:p_alice","credential":"..."}],"ttl":600}}
        "#,
    );
    world.ice.refuses = Some("No secret is configured");
    world.play(
        r#"
        alice -> {"type":"ice","id":6}
        alice <- {"type":"error","id":6,"code":"forbidden","message":"No secret is configured","retry_ms":null,"fatal":false}
        alice -> {"type":"leave"}
        alice -> {"type":"join","id":7,"room":"demo"}
        alice <- {"type":"joined","id":7,"seq":2,"room":"demo","self":"p_alice2","created":true,"capacity":2,"pin":false,"locked":false,"moderators":"*","peers":[],"state":{},"history":[],"ice":null}
        "#,
    );
    let refused = world.events.iter().filter(|event| matches!(event, Event::IceRefused { .. })).count();
    assert_eq!(refused, 2);
    world.end();
}

#[test]
fn the_log_can_tell_who_was_where() {
    let mut world = World::new(Settings::default());
    world.play(
        r#"
        alice enters demo
        alice -> {"type":"report","id":1,"pc":"main","peer":"p_3","state":"connected","ms":830,"local":"relay","remote":"srflx","relay":"tls","rtt_ms":48,"errors":[{"url":"turn:turn.example.org","code":701}]}
        alice <- {"type":"ok","id":1}
        alice -> {"type":"join","room":"x"}
        alice <- {"type":"error","code":"already_joined","message":"*","retry_ms":null,"fatal":false}
        alice closes
        "#,
    );
    let events = std::mem::take(&mut world.events);
    let [
        Event::Greeted { client: None, .. },
        Event::Joined { members: 1, .. },
        Event::Report { report, .. },
        Event::Refused { code: ErrorCode::AlreadyJoined, .. },
        Event::Left { members: 0, .. },
    ] = &events[..]
    else {
        panic!("{events:#?}");
    };
    let errors = vec![ReportedError { url: "turn:turn.example.org".into(), code: 701 }];
    let expected = Report {
        pc: "main".into(),
        peer: Some("p_3".into()),
        state: ReportedState::Connected,
        ms: Some(830),
        local: Some(ReportedCandidate::Relay),
        remote: Some(ReportedCandidate::Srflx),
        relay: Some(ReportedTransport::Tls),
        family: None,
        rtt_ms: Some(48),
        errors,
    };
    assert_eq!(*report, expected);
    world.end();
}
