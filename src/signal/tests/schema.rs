//! `docs/ternd.v1.schema.json` tells the truth: the world holds every message of every story against it, what the
//! server sends against what it says of answers and events, and what it takes and refuses against requests.
//!
//! The validator knows what the schema uses of JSON Schema, and fails at whatever else it finds there.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::signal::wire::parse;
use crate::signal::{ErrorCode, Settings};

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/ternd.v1.schema.json")).unwrap());

/// Something the server has sent, answer or event.
pub(crate) fn is_of_the_server(frame: &Value) -> bool {
    is_valid(if frame.get("seq").is_some() { "event" } else { "answer" }, frame)
}

/// Is it what the definition says?
pub(super) fn is_valid(definition: &str, value: &Value) -> bool {
    holds(&SCHEMA["$defs"][definition], value)
}

/// The names of the messages of one kind: `request`, `answer` or `event`.
pub(super) fn names_of(kind: &str) -> BTreeSet<String> {
    let refs = SCHEMA["$defs"][kind]["oneOf"].as_array().unwrap();
    let name = |one: &Value| one["$ref"].as_str().unwrap().strip_prefix("#/$defs/").unwrap().to_owned();
    refs.iter().map(name).collect()
}

/// What stands at a JSON pointer.
pub(super) fn at(pointer: &str) -> Option<&'static Value> {
    SCHEMA.pointer(pointer)
}

fn holds(schema: &Value, value: &Value) -> bool {
    let schema = schema.as_object().unwrap();
    schema.iter().all(|(keyword, rule)| keyword_holds(schema, keyword, rule, value))
}

fn keyword_holds(schema: &Map<String, Value>, keyword: &str, rule: &Value, value: &Value) -> bool {
    let rules = || rule.as_array().unwrap();
    let number = || rule.as_f64().unwrap();
    match keyword {
        "$ref" => {
            let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
            holds(SCHEMA["$defs"].get(name).unwrap(), value)
        }
        "type" => match rule {
            Value::Array(types) => types.iter().any(|t| is_a(t.as_str().unwrap(), value)),
            one => is_a(one.as_str().unwrap(), value),
        },
        "const" => value == rule,
        "enum" => rules().contains(value),
        "oneOf" => rules().iter().filter(|rule| holds(rule, value)).count() == 1,
        "required" => value
            .as_object()
            .is_none_or(|object| rules().iter().all(|key| object.contains_key(key.as_str().unwrap()))),
        "properties" => value.as_object().is_none_or(|object| {
            let rule = rule.as_object().unwrap();
            object.iter().all(|(key, value)| rule.get(key).is_none_or(|rule| holds(rule, value)))
        }),
        "additionalProperties" => {
            assert_eq!(rule, false);
            let known = schema["properties"].as_object().unwrap();
            value.as_object().is_none_or(|object| object.keys().all(|key| known.contains_key(key)))
        }
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| holds(rule, item))),
        "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= number()),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 >= number()),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= number()),
        "minimum" => value.as_f64().is_none_or(|value| value >= number()),
        "maximum" => value.as_f64().is_none_or(|value| value <= number()),
        // Beginnings only.
        "pattern" => {
            let start = rule.as_str().unwrap().strip_prefix('^').unwrap().replace("\\.", ".");
            assert!(start.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c)));
            value.as_str().is_none_or(|text| text.starts_with(&start))
        }
        "description" if rule.is_string() => true,
        other => panic!("the validator does not know {other:?}"),
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the validator does not know the type {other:?}"),
    }
}

#[test]
fn its_codes_are_those_of_the_code() {
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(SCHEMA["$defs"]["error"]["properties"]["code"]["enum"], json!(codes));
}

/// JavaScript writes `null` where it has nothing to say: whatever may be absent may be that, and says the same.
#[test]
fn null_is_as_good_as_absent() {
    let description = json!({"type": "offer", "sdp": ""});
    let shortest = [
        json!({"type": "hello"}),
        json!({"type": "hello", "resume": {"session": "s_1", "secret": "r_1"}}),
        json!({"type": "join", "room": "demo"}),
        json!({"type": "ready"}),
        json!({"type": "signal", "to": "p_a", "description": description}),
        json!({"type": "signal", "to": "p_a", "candidates": [{"candidate": "", "sdpMid": null, "sdpMLineIndex": null, "usernameFragment": null}]}),
        json!({"type": "message", "data": 1}),
        json!({"type": "set", "key": "k"}),
        json!({"type": "ice"}),
        json!({"type": "report", "state": "failed"}),
        json!({"type": "lock"}),
        json!({"type": "kick", "peer": "p_a"}),
        json!({"type": "invite"}),
        json!({"type": "leave"}),
        json!({"type": "bye"}),
    ];
    let mut nulls = 0;
    for request in shortest {
        let definition = &SCHEMA["$defs"][request["type"].as_str().unwrap()];
        let mut with = request.clone();
        let keys = definition["properties"].as_object().unwrap().keys();
        for key in keys.filter(|key| request.get(key).is_none()) {
            with[key] = Value::Null;
            nulls += 1;
        }
        if let Some(resume) = with.get_mut("resume").filter(|resume| resume.is_object()) {
            resume["seq"] = Value::Null;
        }
        if request["type"] == "signal" {
            let other = if request.get("candidates").is_some() { "description" } else { "candidates" };
            with[other] = Value::Null;
        }
        let (request, with) = (request.to_string(), with.to_string());
        let settings = Settings::default();
        let (id, read) = parse(&with, &settings);
        let read = read.unwrap_or_else(|refusal| panic!("{refusal:?}: {with}"));
        assert!(is_valid("request", &serde_json::from_str(&with).unwrap()), "{with}");
        assert_eq!(id, None);
        assert_eq!(format!("{read:?}"), format!("{:?}", parse(&request, &settings).1.unwrap()), "{with}");
    }
    assert!(nulls > 30, "{nulls}");
}

/// Every definition is used and understood: a value that fits nothing meets each keyword.
#[test]
fn what_is_wrong_is_found() {
    for (definition, good, bad) in [
        ("request", json!({"type": "hello"}), json!({"type": "hallo"})),
        ("request", json!({"type": "join", "room": "a"}), json!({"type": "join", "room": 1})),
        (
            "request",
            json!({"type": "signal", "to": "p_a", "candidates": [null]}),
            json!({"type": "signal", "to": "p_a", "candidates": []}),
        ),
        ("request", json!({"type": "message", "data": null}), json!({"type": "message"})),
        ("request", json!({"type": "bye", "id": null}), json!({"type": "bye", "id": "1"})),
        (
            "request",
            json!({"type": "kick", "peer": "p"}),
            json!({"type": "kick", "peer": "p", "ban_s": 86401}),
        ),
        ("answer", json!({"type": "ok", "id": 1}), json!({"type": "ok", "id": 1, "seq": 1})),
        ("answer", json!({"type": "bye"}), json!({"type": "bye", "id": -1})),
        (
            "event",
            json!({"type": "peer", "seq": 1, "event": "away", "peer": "p_a"}),
            json!({"type": "peer", "seq": 0, "event": "away", "peer": "p_a"}),
        ),
    ] {
        assert!(is_valid(definition, &good), "{good}");
        assert!(!is_valid(definition, &bad), "{bad}");
    }
}
