//! `docs/ternd.v1.asyncapi.json` keeps step with the schema: each message is there, once, with its direction; and it is
//! what AsyncAPI 3.0 wants of a document, as far as it uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::Value;

use super::schema::names_of;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/ternd.v1.asyncapi.json")).unwrap());

/// What stands behind `#/channels/rooms/messages/`, in a list of references.
fn messages(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().unwrap();
    let name = |reference: &Value| {
        let path = reference["$ref"].as_str().unwrap();
        path.strip_prefix("#/channels/rooms/messages/").unwrap_or_else(|| panic!("{path}")).to_owned()
    };
    let names: BTreeSet<_> = list.iter().map(name).collect();
    assert_eq!(names.len(), list.len(), "one is there twice: {names:?}");
    names
}

#[test]
fn each_message_of_the_schema_is_there_once_with_its_direction() {
    let [requests, answers, events] = ["request", "answer", "event"].map(names_of);
    let all: BTreeSet<_> = requests.iter().chain(&answers).chain(&events).cloned().collect();
    assert_eq!(all.len(), requests.len() + answers.len() + events.len());
    let described = DOCUMENT["components"]["messages"].as_object().unwrap();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), all);
    for (name, message) in described {
        assert_eq!(message["name"], **name);
        assert_eq!(message["payload"]["$ref"], format!("ternd.v1.schema.json#/$defs/{name}"));
    }

    let (mut received, mut replies, mut sent) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for (operation, what) in DOCUMENT["operations"].as_object().unwrap() {
        let of = messages(&what["messages"]);
        match what["action"].as_str().unwrap() {
            "receive" => {
                assert_eq!(of, BTreeSet::from([operation.clone()]), "a request has its own operation");
                let reply = messages(&what["reply"]["messages"]);
                assert!(reply.contains("error") && reply.len() == 2, "{operation}: {reply:?}");
                replies.extend(reply);
                received.insert(operation.clone(), ());
            }
            _ => sent.extend(of),
        }
    }
    assert_eq!(received.into_keys().collect::<BTreeSet<_>>(), requests);
    // The answer to join has a number, as events have; an error may come to who asked nothing.
    let with = |names: &BTreeSet<String>, more: &str| names.iter().cloned().chain([more.into()]).collect();
    assert_eq!(replies, with(&answers, "joined"));
    assert_eq!(sent, with(&events, "error"));
}

/// The keys that an object of the specification may have; those it must have end in `!`.
fn has_form(what: &str, object: &Value, keys: &[&str]) {
    let object = object.as_object().unwrap_or_else(|| panic!("{what} is no object"));
    let known: Vec<_> = keys.iter().map(|key| key.trim_end_matches('!')).collect();
    for key in object.keys() {
        assert!(known.contains(&key.as_str()), "{what} has {key:?}");
    }
    for key in keys.iter().filter_map(|key| key.strip_suffix('!')) {
        assert!(object.contains_key(key), "{what} lacks {key:?}");
    }
}

/// Every reference in it leads somewhere: here, or into the schema.
fn follow(value: &Value, seen: &mut usize) {
    match value {
        Value::Object(object) => {
            if let Some(path) = object.get("$ref").and_then(Value::as_str) {
                assert_eq!(object.len(), 1, "a reference has nothing beside it: {value}");
                let found = match path.strip_prefix("ternd.v1.schema.json#") {
                    Some(pointer) => super::schema::at(pointer).is_some(),
                    None => DOCUMENT.pointer(path.strip_prefix('#').unwrap()).is_some(),
                };
                assert!(found, "{path} leads nowhere");
                *seen += 1;
            }
            object.values().for_each(|value| follow(value, seen));
        }
        Value::Array(items) => items.iter().for_each(|item| follow(item, seen)),
        _ => {}
    }
}

/// <https://www.asyncapi.com/docs/reference/specification/v3.0.0>
#[test]
fn it_has_the_form_of_asyncapi_3() {
    let top =
        ["asyncapi!", "id", "info!", "servers", "defaultContentType", "channels", "operations", "components"];
    has_form("the document", &DOCUMENT, &top);
    assert_eq!(DOCUMENT["asyncapi"], "3.0.0");
    let info =
        ["title!", "version!", "description", "termsOfService", "contact", "license", "tags", "externalDocs"];
    has_form("info", &DOCUMENT["info"], &info);
    has_form("info.license", &DOCUMENT["info"]["license"], &["name!", "url"]);
    let each = |key: &str| DOCUMENT.pointer(key).and_then(Value::as_object).unwrap();
    let server = [
        "host!",
        "protocol!",
        "protocolVersion",
        "pathname",
        "description",
        "title",
        "summary",
        "variables",
        "security",
        "tags",
        "externalDocs",
        "bindings",
    ];
    each("/servers").iter().for_each(|(name, it)| has_form(name, it, &server));

    let channel = [
        "address",
        "messages",
        "title",
        "summary",
        "description",
        "servers",
        "parameters",
        "tags",
        "externalDocs",
        "bindings",
    ];
    for (name, it) in each("/channels") {
        has_form(name, it, &channel);
        assert!(it["address"].as_str().is_some_and(|address| address.starts_with('/')));
        has_form("ws", &it["bindings"]["ws"], &["method", "query", "headers", "bindingVersion"]);
    }
    let operation = [
        "action!",
        "channel!",
        "title",
        "summary",
        "description",
        "security",
        "tags",
        "externalDocs",
        "bindings",
        "traits",
        "messages",
        "reply",
    ];
    for (name, it) in each("/operations") {
        has_form(name, it, &operation);
        assert!(["send", "receive"].contains(&it["action"].as_str().unwrap()), "{name}");
        assert_eq!(it["channel"]["$ref"], "#/channels/rooms");
        if let Some(reply) = it.get("reply") {
            has_form(name, reply, &["address", "channel", "messages"]);
            assert_eq!(reply["channel"]["$ref"], "#/channels/rooms");
        }
    }
    let message = [
        "headers",
        "payload",
        "correlationId",
        "contentType",
        "name",
        "title",
        "summary",
        "description",
        "tags",
        "externalDocs",
        "bindings",
        "examples",
        "traits",
    ];
    each("/components/messages").iter().for_each(|(name, it)| has_form(name, it, &message));
    for (name, it) in each("/components/correlationIds") {
        has_form(name, it, &["description", "location!"]);
        // A runtime expression.
        assert!(it["location"].as_str().unwrap().starts_with("$message.payload#/"), "{name}");
    }
    // Names of components, channels and operations.
    for names in
        ["/servers", "/channels", "/operations", "/components/messages", "/components/correlationIds"]
    {
        for name in each(names).keys() {
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{name}");
        }
    }
    let channel = each("/channels/rooms/messages").iter().map(|(name, it)| (name, it["$ref"].as_str()));
    for (name, path) in channel {
        assert_eq!(path, Some(&*format!("#/components/messages/{name}")));
    }
    let mut references = 0;
    follow(&DOCUMENT, &mut references);
    assert!(references > 80, "{references}");
}

#[test]
#[should_panic(expected = "leads nowhere")]
fn a_reference_that_leads_nowhere_is_found() {
    follow(&serde_json::json!({"payload": {"$ref": "ternd.v1.schema.json#/$defs/nothing"}}), &mut 0);
}

#[test]
#[should_panic(expected = "lacks \"channel\"")]
fn a_key_that_is_missing_is_found() {
    has_form("an operation", &serde_json::json!({"action": "send"}), &["action!", "channel!"]);
}
