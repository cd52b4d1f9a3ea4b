//! Requests for `iceServers`, and the answers in each format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};

use super::*;
use crate::auth::Secret;
use crate::time::Instant;

const NOW: Now = Now { instant: Instant::from_millis(0), unix: 1_795_347_122 };

fn authenticator() -> Authenticator {
    let secrets = vec![Secret::new("a", "north"), Secret::new("b", "south")];
    Authenticator::new(auth::Settings { secrets, ..auth::Settings::default() }, [0; 32])
}

fn issue(settings: &Settings, host: &str, ttl: Option<u64>, transport: Option<Transport>) -> Issued {
    let host = host.parse().unwrap();
    let ttl = ttl.map(Duration::from_secs);
    settings.issue(Request { host: &host, user: "k3f9", ttl, transport }, &authenticator(), NOW).unwrap()
}

fn urls(issued: &Issued) -> Vec<&str> {
    issued.ice_servers.iter().flat_map(|server| &server.urls).map(String::as_str).collect()
}

/// RFC 2104, by hand: not the code that issues.
fn hmac_sha1(secret: &str, text: &str) -> String {
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[test]
fn the_object_is_the_documented_superset_byte_for_byte() {
    let settings = Settings { tls: vec![443], ..Settings::default() };
    let password = hmac_sha1("north", "1795347722:k3f9");
    let expected = format!(
        concat!(
            r#"{{"iceServers":[{{"urls":["stun:h:3478"]}},"#,
            r#"{{"urls":["turn:h:3478?transport=udp","turn:h:3478?transport=tcp","turns:h:443?transport=tcp"],"#,
            r#""username":"1795347722:k3f9","credential":"{0}"}}],"#,
            r#""iceTransportPolicy":"all","username":"1795347722:k3f9","password":"{0}","ttl":600,"#,
            r#""uris":["turn:h:3478?transport=udp","turn:h:3478?transport=tcp","turns:h:443?transport=tcp"],"#,
            r#""lifetimeDuration":"600s","expires_at":"2026-11-22T11:42:02Z"}}"#,
        ),
        password
    );
    assert_eq!(issue(&settings, "h", Some(600), None).body(Format::Object), expected);
}

#[test]
fn the_array_is_the_ice_servers_alone() {
    let settings = Settings { tcp: vec![], tls: vec![], ..Settings::default() };
    let password = hmac_sha1("north", "1795347722:k3f9");
    let expected = format!(
        r#"[{{"urls":["stun:h:3478"]}},{{"urls":["turn:h:3478?transport=udp"],"username":"1795347722:k3f9","credential":"{password}"}}]"#
    );
    assert_eq!(issue(&settings, "h", Some(600), None).body(Format::Array), expected);
}

#[test]
fn callers_of_other_services_find_their_fields() {
    let issued =
        issue(&Settings { tcp: vec![], tls: vec![443], ..Settings::default() }, "h", Some(600), None);
    let name = "1795347722:k3f9";
    let password = hmac_sha1("north", name);
    let json = |format| -> serde_json::Value { serde_json::from_str(&issued.body(format)).unwrap() };
    let (udp, tls) = ("turn:h:3478?transport=udp", "turns:h:443?transport=tcp");
    assert_eq!(
        json(Format::Twilio),
        serde_json::json!({"username": name, "password": password, "ttl": "600", "ice_servers": [
            {"url": "stun:h:3478", "urls": "stun:h:3478"},
            {"url": udp, "urls": udp, "username": name, "credential": password},
            {"url": tls, "urls": tls, "username": name, "credential": password},
        ]})
    );
    assert_eq!(
        json(Format::Xirsys),
        serde_json::json!({"s": "ok", "v": {"iceServers":
            {"urls": ["stun:h:3478", udp, tls], "username": name, "credential": password}}})
    );
    assert_eq!(
        issued.body(Format::Curl),
        format!("stun:h:3478\n{udp} {name} {password}\n{tls} {name} {password}\n")
    );
    let signed = format!("username=\"{name}\"; credential=\"{password}\"; credential-type=\"password\"");
    assert_eq!(
        issued.links(Format::Link),
        [
            "<stun:h:3478>; rel=\"ice-server\"".to_owned(),
            format!("<{udp}>; rel=\"ice-server\"; {signed}"),
            format!("<{tls}>; rel=\"ice-server\"; {signed}"),
        ]
    );
    assert_eq!(issued.body(Format::Link), issued.body(Format::Object));
    assert!(issued.links(Format::Object).is_empty());
    assert_eq!(
        "telepathy".parse::<Format>().unwrap_err().to_string(),
        "Unknown format 'telepathy'; there are object (the default), array, twilio, xirsys, link, curl"
    );
}

#[test]
fn a_known_credential() {
    let issued = issue(&Settings::default(), "h", Some(600), None);
    // printf 1795347722:k3f9 | openssl dgst -sha1 -hmac north -binary | base64
    assert_eq!(issued.password, "t3rmPKtt1Cid1wLGyZ13EQUrbjA=");
}

#[test]
fn the_ttl_is_clamped_and_has_a_default() {
    let settings = Settings::default();
    for (asked, ttl) in [
        (None, 3600),
        (Some(0), 60),
        (Some(59), 60),
        (Some(600), 600),
        (Some(86_401), 86_400),
        (Some(u64::MAX), 86_400),
    ] {
        let issued = issue(&settings, "h", asked, None);
        assert_eq!(issued.ttl, ttl);
        assert_eq!(issued.username, format!("{}:k3f9", NOW.unix + ttl));
    }
}

#[test]
fn ipv6_stands_in_brackets_and_the_configured_host_wins() {
    let mut settings = Settings::default();
    assert_eq!(urls(&issue(&settings, "[2001:db8::1]", None, None))[0], "stun:[2001:db8::1]:3478");
    settings.host = Some("2001:db8::2".into());
    assert_eq!(urls(&issue(&settings, "h", None, None))[0], "stun:[2001:db8::2]:3478");
    settings.host = Some("turn.example.org".into());
    assert_eq!(urls(&issue(&settings, "h", None, None))[3], "turns:turn.example.org:8443?transport=tcp");
}

#[test]
fn a_transport_leaves_its_own_urls_and_no_empty_server() {
    let settings = Settings::default();
    let only = |transport| issue(&settings, "h", None, Some(transport));
    assert_eq!(urls(&only(Transport::Udp)), ["stun:h:3478", "turn:h:3478?transport=udp"]);
    assert_eq!(urls(&only(Transport::Tcp)), ["turn:h:3478?transport=tcp"]);
    assert_eq!(urls(&only(Transport::Tls)), ["turns:h:8443?transport=tcp"]);

    let none = Settings { udp: vec![], tcp: vec![], tls: vec![], ..Settings::default() };
    assert_eq!(issue(&none, "h", None, None).body(Format::Array), "[]");
}

#[test]
fn what_cannot_be_issued_is_said() {
    let host = "h".parse().unwrap();
    let request = |user| Request { host: &host, user, ttl: None, transport: None };
    let issue = |user, auth: &Authenticator| Settings::default().issue(request(user), auth, NOW);

    let none = Authenticator::new(auth::Settings::default(), [0; 32]);
    assert_eq!(issue("a", &none), Err(Error::NoSecret));
    let long = "a".repeat(MAX_USER + 1);
    for bad in ["a\nb", "\u{7f}", &long] {
        assert_eq!(issue(bad, &authenticator()), Err(Error::User));
    }
    assert!(issue(&long[1..], &authenticator()).is_ok());
    assert_eq!(issue("", &authenticator()).unwrap().username, "1795350722");

    assert_eq!("xml".parse::<Format>(), Err(Error::Format("xml".into())));
    assert_eq!("sctp".parse::<Transport>(), Err(Error::Transport("sctp".into())));
}

#[test]
fn the_password_does_not_show_in_debug_output() {
    let issued = issue(&Settings::default(), "h", None, None);
    assert!(!format!("{issued:?}").contains(&issued.password));
}
