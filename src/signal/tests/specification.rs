//! `docs/signaling-protocol.md` tells the truth: its examples are one long story, and its tables are those of the code.

use super::world::{World, story};
use crate::signal::{ErrorCode, Fatal, SUBPROTOCOL, Settings, close};

const DOCUMENT: &str = include_str!("../../../docs/signaling-protocol.md");

#[test]
fn its_examples_happen_as_written() {
    let settings = Settings { server: "ternd/0.1.0".into(), ..Settings::default() };
    let mut world = World::new(settings);
    let mut blocks = 0;
    for block in DOCUMENT.split("```story\n").skip(1) {
        world.play(block.split("```").next().unwrap());
        blocks += 1;
    }
    assert!(blocks > 5, "the examples were not found");
    world.end();
}

/// `| `room_full` | never | ...`
#[test]
fn its_table_of_errors_is_that_of_the_code() {
    let written: Vec<_> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(_, rest)| ["never", "sometimes", "always"].iter().any(|word| rest.starts_with(word)))
        .map(|(code, rest)| format!("{code} {}", rest.split(" |").next().unwrap()))
        .collect();
    let coded: Vec<_> = ErrorCode::ALL
        .iter()
        .map(|code| match code.fatal() {
            Fatal::Never => format!("{} never", code.as_str()),
            Fatal::Sometimes(close) => format!("{} sometimes, {close}", code.as_str()),
            Fatal::Always(close) => format!("{} always, {close}", code.as_str()),
        })
        .collect();
    assert_eq!(written, coded);
    // The counters are in the order of the list.
    assert!(ErrorCode::ALL.iter().enumerate().all(|(n, code)| *code as usize == n));
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}

/// `| 4004 | read too slowly | ...`
#[test]
fn its_table_of_close_codes_is_that_of_the_code() {
    let (_, table) = DOCUMENT.split_once("## Close codes").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let row = |line: &str| line.strip_prefix("| ")?.split_once(' ')?.0.parse::<u16>().ok();
    let written: Vec<_> = table.lines().filter_map(row).collect();
    // Those of WebSocket itself are the driver's: it stops, or the client does not speak RFC 6455.
    let coded = [
        close::NORMAL,
        1001,
        1002,
        1007,
        close::TOO_BIG,
        close::PROTOCOL,
        close::AUTH,
        close::VERSION,
        close::RATE,
        close::SLOW,
        close::REPLACED,
        close::KICKED,
        close::DRAINING,
        close::HELLO_TIMEOUT,
    ];
    assert_eq!(written, coded);
}

/// Each bound is written with its default.
#[test]
fn its_table_of_limits_is_that_of_the_defaults() {
    let d = Settings::default();
    for (key, value) in [
        ("hello-timeout", format!("{} s", d.hello_timeout.as_secs())),
        ("ping", format!("{} s", d.ping.as_secs())),
        ("timeout", format!("{} s", d.timeout.as_secs())),
        ("max-bytes", d.max_bytes.to_string()),
        ("connections", d.connections.to_string()),
        ("connections-per-address", d.connections_per_address.to_string()),
        ("rooms", d.rooms.to_string()),
        ("capacity", d.capacity.to_string()),
        ("max-capacity", d.max_capacity.to_string()),
        ("resume", format!("{} s", d.resume.as_secs())),
        ("replay-messages", d.replay_messages.to_string()),
        ("replay-bytes", d.replay_bytes.to_string()),
        ("replay-bytes-total", d.replay_bytes_total.to_string()),
        ("held-bytes", d.held_bytes.to_string()),
        ("state-bytes", d.state_bytes.to_string()),
        ("history", d.history.to_string()),
        ("history-bytes", d.history_bytes.to_string()),
        ("queue-messages", d.queue_messages.to_string()),
        ("queue-bytes", d.queue_bytes.to_string()),
        ("bytes-per-second", d.bytes_per_second.to_string()),
        ("burst-bytes", d.burst_bytes.to_string()),
        ("joins-per-minute", format!("{}", d.joins_per_minute)),
        ("wrong-pins-per-minute", format!("{}", d.wrong_pins_per_minute)),
        ("credentials-per-minute", format!("{}", d.credentials_per_minute)),
        ("room-chars", d.room_chars.to_string()),
        ("name-chars", d.name_chars.to_string()),
        ("candidates", d.candidates.to_string()),
        ("messages-per-second", d.messages_per_second.to_string()),
        ("burst", d.burst.to_string()),
        ("malformed", d.malformed.to_string()),
    ] {
        let row = format!("| `{key}` | {value} |");
        assert!(DOCUMENT.contains(&row), "the document lacks: {row}");
    }
    assert!(DOCUMENT.contains(SUBPROTOCOL));
}

#[test]
#[should_panic(expected = "wanted")]
fn an_example_that_is_wrong_is_found() {
    story(
        r#"
        alice opens
        alice -> {"type":"hello","id":1}
        alice <- {"type":"welcome","id":2}
        "#,
    );
}

#[test]
#[should_panic(expected = "also received")]
fn an_example_that_leaves_something_out_is_found() {
    story(
        r#"
        alice opens
        alice -> {"type":"hello","id":1}
        "#,
    );
}
