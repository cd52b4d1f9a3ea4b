//! A lost connection, as stories.

use std::time::Duration;

use super::world::{World, story, story_with};
use crate::signal::Settings;

fn welcome(who: &str, resumed: bool, last_id: &str) -> String {
    format!(
        r#"{{"type":"welcome","session":"s_{who}","secret":"r_{who}","resumed":{resumed},"last_id":{last_id},"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}}"#
    )
}

fn two(settings: Settings) -> World {
    let mut world = World::new(settings);
    world.play(
        r#"
        alice enters demo
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        "#,
    );
    world
}

#[test]
fn who_comes_back_gets_what_it_missed_once_and_keeps_its_place_and_roles() {
    let mut world = two(Settings::default());
    world.play(
        r#"
        alice drops
        bob <- {"type":"peer","seq":2,"event":"away","peer":"p_alice"}
        bob -> {"type":"signal","id":1,"to":"p_alice","description":{"type":"offer","sdp":"v=0"}}
        bob <- {"type":"ok","id":1}
        bob -> {"type":"message","data":1}
        59999 ms pass
        alice opens
        alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":1}}
        "#,
    );
    world.play(&format!("alice <- {}", welcome("alice", true, "null")));
    world.play(
        r#"
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        alice <- {"type":"signal","seq":3,"from":"p_bob","to":"p_alice","pc":"main","gen":0,"description":{"type":"offer","sdp":"v=0"}}
        alice <- {"type":"message","seq":4,"from":"p_bob","to":null,"data":1}
        bob <- {"type":"peer","seq":3,"event":"back","peer":"p_alice"}
        alice -> {"type":"message","id":1,"to":"p_bob","data":2}
        alice <- {"type":"ok","id":1}
        bob <- {"type":"message","seq":4,"from":"p_alice","to":"p_bob","data":2}
        "#,
    );
    assert_eq!(world.rooms.away(), 0);
    assert_eq!((world.rooms.counters().resumes, world.rooms.counters().resumes_failed), (1, 0));
    world.end();
}

#[test]
fn who_comes_too_late_begins_anew() {
    let mut world = two(Settings::default());
    world.play(
        r#"
        bob drops
        alice <- {"type":"peer","seq":3,"event":"away","peer":"p_bob"}
        60000 ms pass
        alice <- {"type":"peer","seq":4,"event":"leave","peer":"p_bob"}
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob","secret":"r_bob","seq":1}}
        "#,
    );
    world.play(&format!("bob <- {}", welcome("bob2", false, "null")));
    world.play(
        r#"
        bob -> {"type":"message","id":1,"data":1}
        bob <- {"type":"error","id":1,"code":"not_in_room","message":"*","retry_ms":null,"fatal":false}
        "#,
    );
    assert_eq!(world.rooms.counters().lapsed, 1);
    world.end();
}

#[test]
fn after_a_time_without_resumes_nobody_is_told_that_nothing_is_missing() {
    let mut world = two(Settings::default());
    world.rooms.set_settings(Settings { resume: Duration::ZERO, ..Settings::default() });
    world.play(
        r#"
        bob -> {"type":"message","data":"not kept"}
        alice <- {"type":"message","seq":3,"from":"p_bob","to":null,"data":"not kept"}
        "#,
    );
    world.rooms.set_settings(Settings::default());
    world.play(
        r#"
        bob -> {"type":"message","data":"kept"}
        alice <- {"type":"message","seq":4,"from":"p_bob","to":null,"data":"kept"}
        alice drops
        bob <- {"type":"peer","seq":2,"event":"away","peer":"p_alice"}
        alice opens
        alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":2}}
        bob <- {"type":"peer","seq":3,"event":"leave","peer":"p_alice"}
        bob <- {"type":"room","seq":4,"locked":false,"moderators":["p_bob"],"by":null}
        "#,
    );
    world.play(&format!("alice <- {}", welcome("alice2", false, "null")));
    world.end();
}

#[test]
fn another_secret_opens_nothing_and_ends_nothing() {
    let mut world = two(Settings::default());
    world.play(
        r#"
        mallory opens
        mallory -> {"type":"hello","resume":{"session":"s_alice","secret":"r_bob","seq":1}}
        "#,
    );
    world.play(&format!("mallory <- {}", welcome("mallory", false, "null")));
    world.play(
        r#"
        alice -> {"type":"message","to":"p_bob","data":"still here"}
        bob <- {"type":"message","seq":2,"from":"p_alice","to":"p_bob","data":"still here"}
        "#,
    );
    world.end();
}

#[test]
fn the_newest_connection_wins() {
    let mut world = two(Settings::default());
    world.play(
        r#"
        alice -> {"type":"message","id":7,"data":1}
        alice <- {"type":"ok","id":7}
        bob <- {"type":"message","seq":2,"from":"p_alice","to":null,"data":1}
        "#,
    );
    let old = world.connection("alice");
    let hello = r#"{"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":2}}"#;
    world.open_beside("alice", "newer");
    world.send("newer", hello);
    world.play(
        r#"
        alice <- {"type":"error","code":"session_replaced","message":"A newer connection has this session","retry_ms":null,"fatal":true}
        alice is closed with 4005
        "#,
    );
    world.play(&format!("newer <- {}", welcome("alice", true, "7")));
    world.rooms.disconnected(world.now, old);
    world.settle();
    world.play(
        r#"
        newer -> {"type":"message","data":2}
        bob <- {"type":"message","seq":3,"from":"p_alice","to":null,"data":2}
        bob -> {"type":"message","data":3}
        newer <- {"type":"message","seq":3,"from":"p_bob","to":null,"data":3}
        "#,
    );
    world.end();
}

#[test]
fn the_newest_connection_wins_even_if_it_begins_anew() {
    let mut world = two(Settings::default());
    world.open_beside("alice", "newer");
    world.send("newer", r#"{"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":9}}"#);
    world.play(
        r#"
        alice <- {"type":"error","code":"session_replaced","message":"*","retry_ms":null,"fatal":true}
        alice is closed with 4005
        bob <- {"type":"peer","seq":2,"event":"leave","peer":"p_alice"}
        bob <- {"type":"room","seq":3,"locked":false,"moderators":["p_bob"],"by":null}
        "#,
    );
    world.play(&format!("newer <- {}", welcome("newer", false, "null")));
    world.end();
}

/// Nobody saw it `away`, so nobody hears `back`: the test of the newest connection reads all.
#[test]
fn who_missed_too_much_begins_anew_and_its_old_place_is_free() {
    for (settings, data) in [
        (Settings { replay_messages: 3, ..Settings::default() }, "1"),
        (Settings { replay_bytes: 1000, ..Settings::default() }, &*format!("\"{}\"", "x".repeat(260))),
        // What the other one got counts, too.
        (Settings { replay_bytes_total: 1650, ..Settings::default() }, &*format!("\"{}\"", "x".repeat(260))),
    ] {
        for (count, resumed) in [(3, true), (4, false)] {
            let mut world = two(settings.clone());
            world.drop("alice");
            assert_eq!(world.hear("bob").unwrap()["event"], "away");
            for _ in 0..count {
                world.send("bob", &format!(r#"{{"type":"message","data":{data}}}"#));
            }
            world.play(
                r#"
                alice opens
                alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":2}}
                "#,
            );
            let welcome = world.hear("alice").unwrap();
            assert_eq!(welcome["resumed"], resumed, "{count}");
            if resumed {
                for _ in 0..count {
                    assert_eq!(world.hear("alice").unwrap()["type"], "message");
                }
                assert_eq!(world.hear("bob").unwrap()["event"], "back");
            } else {
                assert_eq!(world.hear("bob").unwrap()["event"], "leave");
                assert_eq!(world.hear("bob").unwrap()["type"], "room");
                assert_eq!(world.rooms.counters().resumes_failed, 1);
            }
            world.end();
        }
    }
}

#[test]
fn a_number_from_the_future_is_no_number_of_this_session() {
    let mut world = two(Settings::default());
    world.play(
        r#"
        bob drops
        alice <- {"type":"peer","seq":3,"event":"away","peer":"p_bob"}
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob","secret":"r_bob","seq":2}}
        "#,
    );
    world.play(&format!("bob <- {}", welcome("bob2", false, "null")));
    world.play(r#"alice <- {"type":"peer","seq":4,"event":"leave","peer":"p_bob"}"#);
    world.end();
}

#[test]
fn a_clean_close_a_fault_and_a_session_without_a_room_are_not_kept() {
    story(
        r#"
        alice enters demo
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        bob closes
        alice <- {"type":"peer","seq":3,"event":"leave","peer":"p_bob"}
        bob enters demo
        alice <- {"type":"peer","seq":4,"event":"join","peer":"p_bob2","name":null,"you":{"polite":false,"offerer":false}}
        bob -> {"type":"leave"}
        alice <- {"type":"peer","seq":5,"event":"leave","peer":"p_bob2"}
        bob drops
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob2","secret":"r_bob2","seq":1}}
        bob <- {"type":"welcome","session":"s_bob3","secret":"r_bob3","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        "#,
    );
}

#[test]
fn without_resume_a_lost_connection_is_a_lost_member() {
    let mut world = two(Settings { resume: std::time::Duration::ZERO, ..Settings::default() });
    world.play(
        r#"
        bob drops
        alice <- {"type":"peer","seq":3,"event":"leave","peer":"p_bob"}
        bob opens
        bob -> {"type":"hello","resume":{"session":"s_bob","secret":"r_bob","seq":1}}
        bob <- {"type":"welcome","session":"s_bob2","secret":"r_bob2","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":0,"max_bytes":65536,"server":"*","features":["state","history","pin","moderation","ready","tokens","sse"]}
        "#,
    );
    world.end();
}

#[test]
fn those_who_wait_to_come_back_are_bounded_too_and_keep_their_place_in_the_room() {
    story_with(
        Settings { connections_per_address: 2, capacity: 3, ..Settings::default() },
        r#"
        alice opens from 192.0.2.1
        alice -> {"type":"hello"}
        alice <- {"type":"welcome","session":"*","secret":"*","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"join","room":"demo"}
        alice <- {"type":"joined","seq":1,"room":"demo","self":"p_alice","created":true,"capacity":3,"pin":false,"locked":false,"moderators":["p_alice"],"peers":[],"state":{},"history":[],"ice":"*"}
        bob enters demo
        alice <- {"type":"peer","seq":2,"event":"join","peer":"p_bob","name":null,"you":{"polite":false,"offerer":false}}
        bob drops
        alice <- {"type":"peer","seq":3,"event":"away","peer":"p_bob"}
        carol enters demo
        alice <- {"type":"peer","seq":4,"event":"join","peer":"p_carol","name":null,"you":{"polite":false,"offerer":false}}
        carol drops
        alice <- {"type":"peer","seq":5,"event":"away","peer":"p_carol"}
        dave opens
        dave -> {"type":"hello"}
        dave <- {"type":"welcome","session":"*","secret":"*","resumed":false,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        dave -> {"type":"join","id":1,"room":"demo"}
        dave <- {"type":"error","id":1,"code":"room_full","message":"Room 'demo' has 3 of 3 participants","retry_ms":null,"fatal":false}
        dave closes
        1000 ms pass
        carol opens
        carol -> {"type":"hello","resume":{"session":"s_carol","secret":"r_carol","seq":1}}
        carol <- {"type":"welcome","session":"s_carol","secret":"r_carol","resumed":true,"last_id":null,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice <- {"type":"peer","seq":6,"event":"back","peer":"p_carol"}
        "#,
    );
}

#[test]
fn a_new_connection_is_no_new_burst_and_a_refused_request_is_not_among_those_that_came() {
    story_with(
        Settings { messages_per_second: 1, burst: 4, ..Settings::default() },
        r#"
        alice enters demo
        alice -> {"type":"message","id":1,"data":1}
        alice <- {"type":"ok","id":1}
        alice -> {"type":"message","id":2,"data":1}
        alice <- {"type":"ok","id":2}
        alice drops
        alice opens
        alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":1}}
        alice <- {"type":"welcome","session":"s_alice","secret":"r_alice","resumed":true,"last_id":2,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"message","id":3,"data":1}
        alice <- {"type":"error","id":3,"code":"rate_limited","message":"More than 1 messages per second","retry_ms":2000,"fatal":false}
        2000 ms pass
        alice drops
        alice opens
        alice -> {"type":"hello","resume":{"session":"s_alice","secret":"r_alice","seq":1}}
        alice <- {"type":"welcome","session":"s_alice","secret":"r_alice","resumed":true,"last_id":2,"ping_ms":20000,"timeout_ms":45000,"resume_ms":60000,"max_bytes":65536,"server":"*","features":"*"}
        alice -> {"type":"message","id":3,"data":1}
        alice <- {"type":"ok","id":3}
        "#,
    );
}
