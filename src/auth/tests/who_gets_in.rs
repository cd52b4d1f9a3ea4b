//! Names, secrets, expiry.

use super::*;

#[test]
fn every_form_under_every_secret() {
    for secret in ["north", "south"] {
        for (name, user) in [
            ("1795347800", "1795347800"),
            (":1795347800", ":1795347800"),
            ("1795347800:carol", "carol"),
            ("carol:1795347800", "carol"),
            ("a:b:1795347800", "a:b"),
        ] {
            let identity = ask(name, &timed(secret, name)).unwrap();
            assert_eq!((&*identity.username, &*identity.user), (name, user), "{secret}");
            assert_eq!(identity.expires, Some(1_795_347_800));
        }
    }
}

#[test]
fn another_secret_does_not() {
    let name = "1795347722:carol";
    for secret in ["west", "", "North", "north "] {
        assert_eq!(ask(name, &timed(secret, name)), Err(unauthorized(name, Cause::NoSuchSecret)));
    }
    // Nor the right one for another name, or in another realm.
    assert_eq!(ask(name, &timed("north", "1795347722:bob")), Err(unauthorized(name, Cause::NoSuchSecret)));
    let elsewhere = Key::derive(
        Algorithm::Md5,
        name.as_bytes(),
        "elsewhere",
        &password(&Secret::new("", "north"), name.as_bytes()),
    );
    assert_eq!(ask(name, &elsewhere), Err(unauthorized(name, Cause::NoSuchSecret)));
    let auth = authenticator(Settings { secrets: vec![], ..settings() });
    assert_eq!(
        ask_at(&auth, UNIX, name, &timed("north", name)),
        Err(unauthorized(name, Cause::NoSuchSecret)),
        "no secret at all"
    );
}

#[test]
fn static_users_beside_them() {
    let identity = ask("alice", &md5("alice", "wonderland")).unwrap();
    assert_eq!((&*identity.username, &*identity.user, identity.expires), ("alice", "alice", None));
    assert_eq!(
        ask("alice", &md5("alice", "looking glass")),
        Err(unauthorized("alice", Cause::WrongPassword))
    );
    assert_eq!(
        ask("mallory", &md5("mallory", "wonderland")),
        Err(unauthorized("mallory", Cause::UnknownUser))
    );
    assert_eq!(ask("", &md5("", "")), Err(unauthorized("", Cause::UnknownUser)));
}

#[test]
fn a_static_name_is_never_looked_at_as_a_time_stamp() {
    let name = "1795347722";
    let identity = ask_at(&new(), ENDS + 1, name, &md5(name, "not a time stamp")).unwrap();
    assert_eq!(identity.expires, None);
    assert_eq!(ask(name, &timed("north", name)), Err(unauthorized(name, Cause::WrongPassword)));
    // Only the very name.
    assert!(ask("1795347722:", &timed("north", "1795347722:")).is_ok());
}

#[test]
fn a_credential_is_good_through_the_second_it_names() {
    let name = "1795347722:carol";
    let ask = |unix| ask_at(&new(), unix, name, &timed("north", name));
    assert!(ask(ENDS - 1).is_ok() && ask(ENDS).is_ok());
    assert_eq!(ask(ENDS + 1), Err(unauthorized(name, Cause::Expired { ago: 1 })));
    assert_eq!(ask(ENDS + 42), Err(unauthorized(name, Cause::Expired { ago: 42 })));
    assert_eq!(
        ask(ENDS + 42).unwrap_err().to_string(),
        "credential expired 42 s ago (check both clocks)",
        "what the operator reads"
    );
    // Expiry is told even of a name that nobody signed.
    assert_eq!(
        ask_at(&new(), ENDS + 5, name, &timed("west", name)),
        Err(unauthorized(name, Cause::Expired { ago: 5 }))
    );
}

//= 8489-14.3-1
#[test]
fn malformed_names() {
    let auth = new();
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let ask = |name: &[u8]| {
        judge(&auth, &with_nonce(name, nonce.as_bytes()).message_integrity(b"any").finish()).unwrap_err()
    };
    assert_eq!(ask(b"\xFF"), unauthorized("\u{FFFD}", Cause::MalformedUsername));
    // RFC 8489 section 14.3: 763 bytes must be read.
    let longest = "a".repeat(763);
    assert_eq!(ask(longest.as_bytes()), unauthorized(&longest, Cause::UnknownUser));
    assert_eq!(ask("a".repeat(764).as_bytes()), unauthorized(&longest, Cause::MalformedUsername));
    assert_eq!(ask(&[b'a'; 60_000]), unauthorized(&longest, Cause::MalformedUsername), "the log is spared");
}

#[test]
fn longest_timed_name() {
    let name = format!("1795347722:{}", "c".repeat(763 - 11));
    assert!(ask(&name, &timed("north", &name)).is_ok());
}
