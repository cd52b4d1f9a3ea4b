//! A request for `/v1/ice`, in parts: query, body, headers, the name the caller used for the server. Nothing panics; a
//! refusal is one line that quotes little; what is issued is whole, within its bounds, and good for the relay.
//!
//! ```text
//! packets: query | form | JSON | body and its Content-Type | Authorization | X-API-Key | Host
//! ```
#![no_main]

mod packets;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use ternd::auth::{Authenticator, Secret, Settings as AuthSettings, TimedUsername};
use ternd::ice::{Error, Format, Host, Parameters, Request, Settings, shown_key};
use ternd::time::{Instant, Now};

const NOW: Now = Now { instant: Instant::from_millis(0), unix: 1_795_347_122 };

fuzz_target!(|input: &[u8]| {
    let (mut parameters, mut body) = (Parameters::default(), Ok(()));
    let (mut authorization, mut x_api_key, mut content_type) = (None, None, None);
    let mut host = Host::from_authority("turn.example.org:8443").expect("a host");
    for (what, bytes) in packets::packets(input) {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match what % 8 {
            0 => parameters.read_form(bytes),
            1 => body = parameters.read_body(Some("application/x-www-form-urlencoded"), bytes),
            2 => {
                body = parameters.read_body(Some("application/json; charset=utf-8"), bytes);
                same_as_a_form(bytes);
            }
            3 => content_type = Some(text()),
            4 => body = parameters.read_body(content_type.as_deref(), bytes),
            5 => authorization = Some(text()),
            6 => x_api_key = Some(text()),
            _ => {
                if let Ok(named) = Host::from_authority(&text()) {
                    host = named;
                }
            }
        }
        if let Err(error) = std::mem::replace(&mut body, Ok(())) {
            refused(&error);
            return;
        }
    }
    if let Some(key) = shown_key(authorization.as_deref(), x_api_key.as_deref()) {
        let holds = |header: &Option<String>| header.as_ref().is_some_and(|text| text.contains(key));
        assert!(holds(&authorization) || holds(&x_api_key));
    }
    answer(&parameters, &host);
});

/// The same parameters in JSON and in a form say the same.
fn same_as_a_form(json: &[u8]) {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(json) else { return };
    let (mut from_json, mut from_form) = (Parameters::default(), Parameters::default());
    if from_json.read_body(Some("application/json"), json).is_err() {
        return;
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &fields {
        match value {
            Value::String(text) => form.append_pair(name, text),
            Value::Number(number) => form.append_pair(name, &number.to_string()),
            _ => continue,
        };
    }
    from_form.read_form(form.finish().as_bytes());
    assert_eq!(from_json, from_form);
}

fn answer(parameters: &Parameters, host: &Host) {
    let asked = match parameters.understand() {
        Ok(asked) => asked,
        Err(error) => return refused(&error),
    };
    let settings = Settings::default();
    let secrets = vec![Secret::new("a", "north")];
    let authenticator = Authenticator::new(AuthSettings { secrets, ..AuthSettings::default() }, [0; 32]);
    let user = asked.user.unwrap_or("k3f9");
    let request = Request { host, user, ttl: asked.ttl, transport: asked.transport };
    let issued = match settings.issue(request, &authenticator, NOW) {
        Ok(issued) => issued,
        Err(error) => return refused(&error),
    };

    let object: Value = serde_json::from_str(&issued.body(Format::Object)).expect("JSON");
    let array: Value = serde_json::from_str(&issued.body(Format::Array)).expect("JSON");
    assert_eq!(object["iceServers"], array);
    assert!(issued.body(asked.format).len() < 8 * 1024);

    let ttl = object["ttl"].as_u64().expect("seconds");
    assert!((settings.min_ttl..=settings.max_ttl).contains(&Duration::from_secs(ttl)));
    let name = object["username"].as_str().expect("text");
    let timed = TimedUsername::parse(name).expect("it has its time stamp");
    assert_eq!((timed.expires, timed.user), (NOW.unix + ttl, user));
    let credential = authenticator.issue(user, Duration::from_secs(ttl), NOW).expect("there is a secret");
    assert_eq!(object["password"], credential.password);

    for server in array.as_array().expect("a list") {
        let urls = server["urls"].as_array().expect("a list");
        assert!(!urls.is_empty());
        for url in urls {
            let url = url.as_str().expect("text");
            let (scheme, rest) = url.split_once(':').expect("a scheme");
            assert!(["stun", "turn", "turns"].contains(&scheme), "{url}");
            assert_eq!(server.get("credential").is_some(), scheme != "stun");
            let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
            assert!(["", "transport=udp", "transport=tcp"].contains(&query), "{url}");
            assert_eq!(Host::from_authority(authority).as_ref(), Ok(host), "{url}");
        }
    }
}

fn refused(error: &Error) {
    let text = error.to_string();
    assert!(text.len() < 256 && !text.contains(char::is_control), "{text:?}");
}
