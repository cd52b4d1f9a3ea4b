//! RFC 8489 section 9.2.4: each request here breaks several rules; the first broken one is told.

use super::*;

#[test]
fn no_signature_is_a_challenge_whatever_else_is_there() {
    let auth = new();
    assert_eq!(judge(&auth, &unsigned().finish()), Err(Denied::Challenge));
    assert_eq!(judge(&auth, &with_nonce(b"\xFF", b"stale").finish()), Err(Denied::Challenge));
    let behind = unsigned().fingerprint().message_integrity(b"key").finish();
    assert_eq!(judge(&auth, &behind), Err(Denied::Challenge), "a signature behind FINGERPRINT is none");
}

//= 8489-9.2.4-7
#[test]
fn then_what_is_missing() {
    let auth = new();
    let attributes = [(T::USERNAME, &b"\xFF"[..]), (T::REALM, b"ternd"), (T::NONCE, b"stale")];
    for missing in 0..3 {
        let mut builder = unsigned();
        for (i, (kind, value)) in attributes.iter().enumerate() {
            builder = if i == missing { builder } else { builder.raw(*kind, value) };
        }
        assert_eq!(judge(&auth, &builder.clone().message_integrity(b"?").finish()), Err(Denied::Incomplete));
        assert_eq!(judge(&auth, &builder.message_integrity_sha256(b"?").finish()), Err(Denied::Incomplete));
    }
    // Behind the signature they don't count.
    let late = unsigned()
        .raw(T::REALM, b"ternd")
        .raw(T::NONCE, b"n")
        .message_integrity(b"?")
        .raw(T::USERNAME, b"alice")
        .finish();
    assert_eq!(judge(&auth, &late), Err(Denied::Incomplete));
    // A USERHASH of another length is none.
    let short = unsigned().raw(T::USERHASH, &[1; 31]).raw(T::REALM, b"ternd").raw(T::NONCE, b"n");
    assert_eq!(judge(&auth, &short.message_integrity(b"?").finish()), Err(Denied::Incomplete));
}

#[test]
fn then_the_algorithms() {
    let auth = new();
    let half = with_nonce(b"\xFF", b"obMatJos2gAABstale").raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
    assert_eq!(judge(&auth, &half.message_integrity_sha256(b"?").finish()), Err(Denied::WrongAlgorithms));
}

#[test]
fn then_the_user_then_the_signature_then_the_nonce() {
    let auth = new();
    let unknown = signed("mallory", b"stale", &md5("mallory", "?"));
    assert_eq!(judge(&auth, &unknown), Err(unauthorized("mallory", Cause::UnknownUser)));
    let wrong = signed("alice", b"stale", &md5("alice", "looking glass"));
    assert_eq!(judge(&auth, &wrong), Err(unauthorized("alice", Cause::WrongPassword)));
    let stale = signed("alice", b"stale", &md5("alice", "wonderland"));
    assert_eq!(
        judge(&auth, &stale),
        Err(Denied::StaleNonce),
        "only somebody who may act learns of a stale nonce"
    );
}

#[test]
fn the_sha256_signature_decides_where_it_is_present() {
    let auth = new();
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let key = md5("alice", "wonderland");
    let start = || with_nonce(b"alice", nonce.as_bytes());
    let sha256 = start().message_integrity_sha256(key.as_bytes());
    assert!(judge(&auth, &sha256.finish()).is_ok());
    let both = start().message_integrity(b"wrong").message_integrity_sha256(key.as_bytes());
    assert!(judge(&auth, &both.finish()).is_ok());
    let both = start().message_integrity(key.as_bytes()).message_integrity_sha256(b"wrong");
    assert_eq!(judge(&auth, &both.finish()), Err(unauthorized("alice", Cause::WrongPassword)));
}

//= 8489-14.6-1
#[test]
fn a_signature_cut_short_is_none() {
    // RFC 8489 section 14.6: the full 32 bytes, unless a usage allows less, and TURN does not.
    let auth = new();
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let key = md5("alice", "wonderland");
    for len in [16, 20, 24, 28, 32] {
        let start = with_nonce(b"alice", nonce.as_bytes());
        let full = start.clone().raw(T::MESSAGE_INTEGRITY_SHA256, &vec![0; len]).finish();
        let hmac = hmac_sha256(key.as_bytes(), &[&full[..full.len() - 4 - len]]);
        let request = start.raw(T::MESSAGE_INTEGRITY_SHA256, &hmac[..len]).finish();
        assert!(Message::parse(&request).unwrap().verify_integrity_sha256(key.as_bytes()));
        assert_eq!(judge(&auth, &request).is_ok(), len == 32, "{len} bytes");
    }
}
