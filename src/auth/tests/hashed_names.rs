//! USERHASH in the place of USERNAME.

use super::*;

fn hashed(name: &str, nonce: &[u8], key: &Key) -> Vec<u8> {
    let builder = unsigned().raw(T::USERHASH, &userhash(name.as_bytes(), "ternd")).raw(T::REALM, b"ternd");
    builder.raw(T::NONCE, nonce).message_integrity(key.as_bytes()).finish()
}

#[test]
fn a_static_user_is_found() {
    let auth = new();
    let nonce = auth.challenge(client(), at(UNIX), true).nonce;
    for (name, password) in [("alice", "wonderland"), ("1795347722", "not a time stamp")] {
        let identity = judge(&auth, &hashed(name, nonce.as_bytes(), &md5(name, password))).unwrap();
        assert_eq!(&*identity.username, name);
    }
    let unknown = hashed("mallory", nonce.as_bytes(), &md5("mallory", "?"));
    assert_eq!(judge(&auth, &unknown), Err(unauthorized("(hashed)", Cause::UnknownUser)));
    let wrong = hashed("alice", nonce.as_bytes(), &md5("alice", "?"));
    assert_eq!(judge(&auth, &wrong), Err(unauthorized("(hashed)", Cause::WrongPassword)));
}

//= 8489-9.2.4-5
#[test]
fn hashes_are_offered_only_where_all_users_can_be_found_by_them() {
    let cookie = |settings| {
        let nonce = authenticator(settings).challenge(client(), at(UNIX), true).nonce;
        String::from_utf8_lossy(&nonce.as_bytes()[..13]).into_owned()
    };
    // Bit 0: algorithms, bit 1: hashes; counted from the left (RFC 8489 section 9.2) and from the right (erratum 6290).
    assert_eq!(cookie(settings()), "obMatJos2gAAB");
    assert_eq!(cookie(Settings { secrets: vec![], ..settings() }), "obMatJos2wAAD");
    assert_eq!(cookie(Settings { secrets: vec![], users: vec![], ..settings() }), "obMatJos2gAAB");
}
