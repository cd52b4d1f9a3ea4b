//! Requests on an allocation that somebody made.

use super::*;

const NAME: &str = "1795347722:carol";

fn carol(auth: &Authenticator) -> Identity {
    ask_at(auth, UNIX, NAME, &timed("north", NAME)).unwrap()
}

/// A request on carol's allocation, with a fresh nonce.
fn ask_on(auth: &Authenticator, unix: u64, username: &str, key: &Key) -> Result<Identity, Denied> {
    let nonce = auth.challenge(client(), at(unix), false).nonce;
    let request = signed(username, nonce.as_bytes(), key);
    let owner = carol(&new());
    auth.authenticate_on(&owner, &Message::parse(&request).unwrap(), client(), at(unix))
}

#[test]
fn the_owner_goes_on() {
    let identity = ask_on(&new(), UNIX + 60, NAME, &timed("north", NAME)).unwrap();
    assert_eq!(identity, carol(&new()));
}

#[test]
fn also_when_the_credential_has_run_out_unless_that_is_strict() {
    let key = timed("north", NAME);
    assert!(ask_on(&new(), ENDS + 1_000, NAME, &key).is_ok());
    let strict = authenticator(Settings { strict_expiry: true, ..settings() });
    assert!(ask_on(&strict, ENDS, NAME, &key).is_ok());
    assert_eq!(ask_on(&strict, ENDS + 7, NAME, &key), Err(unauthorized(NAME, Cause::Expired { ago: 7 })));
}

//= 8656-6-2
#[test]
fn also_when_the_secret_is_gone() {
    let reloaded = authenticator(Settings { secrets: vec![Secret::new("c", "west")], ..settings() });
    assert!(ask_on(&reloaded, UNIX, NAME, &timed("north", NAME)).is_ok());
}

#[test]
fn the_owners_name_with_another_key_does_not() {
    let denied = Err(unauthorized(NAME, Cause::NoSuchSecret));
    assert_eq!(ask_on(&new(), UNIX, NAME, &timed("west", NAME)), denied);
    assert_eq!(ask_on(&new(), UNIX, NAME, &timed("south", NAME)), denied, "the key it was made with decides");
}

#[test]
fn somebody_else_is_told_apart() {
    let auth = new();
    let bob = "1795347722:bob";
    assert_eq!(&*ask_on(&auth, UNIX, bob, &timed("north", bob)).unwrap().username, bob);
    assert_eq!(&*ask_on(&auth, UNIX, "alice", &md5("alice", "wonderland")).unwrap().username, "alice");
    // And has to prove who it is first, with a credential that holds.
    assert_eq!(
        ask_on(&auth, UNIX, "alice", &md5("alice", "?")),
        Err(unauthorized("alice", Cause::WrongPassword))
    );
    assert_eq!(
        ask_on(&auth, ENDS + 1, bob, &timed("north", bob)),
        Err(unauthorized(bob, Cause::Expired { ago: 1 }))
    );
    // The same user with a newer credential is somebody else, too: the allocation knows names, not users.
    let newer = "1795347800:carol";
    assert_eq!(&*ask_on(&auth, UNIX, newer, &timed("north", newer)).unwrap().username, newer);
}

#[test]
fn the_other_checks_are_the_same() {
    let auth = new();
    let on = |request: &[u8]| {
        auth.authenticate_on(&carol(&auth), &Message::parse(request).unwrap(), client(), at(UNIX))
    };
    assert_eq!(on(&unsigned().finish()), Err(Denied::Challenge));
    assert_eq!(on(&unsigned().message_integrity(b"?").finish()), Err(Denied::Incomplete));
    assert_eq!(on(&signed(NAME, b"stale", &timed("north", NAME))), Err(Denied::StaleNonce));
    assert_eq!(
        on(&signed(NAME, b"stale", &timed("west", NAME))),
        Err(unauthorized(NAME, Cause::NoSuchSecret)),
        "the signature before the nonce"
    );
}

#[test]
fn a_static_owner() {
    let auth = new();
    let owner = ask("alice", &md5("alice", "wonderland")).unwrap();
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let on = |key: &Key| {
        let request = signed("alice", nonce.as_bytes(), key);
        auth.authenticate_on(&owner, &Message::parse(&request).unwrap(), client(), at(UNIX))
    };
    assert_eq!(on(&owner.key), Ok(owner.clone()));
    assert_eq!(on(&md5("alice", "?")), Err(unauthorized("alice", Cause::WrongPassword)));
}

#[test]
fn the_owner_by_its_hash() {
    let auth = new();
    let nonce = auth.challenge(client(), at(UNIX), true).nonce;
    let owner = carol(&auth);
    // A time-limited name can't be looked up, but the owner of this allocation is known.
    let request = unsigned()
        .raw(T::USERHASH, &userhash(NAME.as_bytes(), "ternd"))
        .raw(T::REALM, b"ternd")
        .raw(T::NONCE, nonce.as_bytes())
        .message_integrity(owner.key.as_bytes())
        .finish();
    let request = Message::parse(&request).unwrap();
    assert_eq!(auth.authenticate_on(&owner, &request, client(), at(UNIX)), Ok(owner.clone()));
    assert_eq!(
        auth.authenticate(&request, client(), at(UNIX)),
        Err(unauthorized("(hashed)", Cause::UnknownUser))
    );
}
