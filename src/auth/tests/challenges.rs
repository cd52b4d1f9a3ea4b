//! What a 401 offers, and what may be chosen of it.

use super::*;

//= 8489-9.2.4-4
#[test]
fn an_offer_names_the_algorithms_in_nonce_and_list_alike() {
    let auth = new();
    let full = auth.challenge(client(), at(UNIX), true);
    assert_eq!((full.realm, full.algorithms), ("ternd", Some(&[0, 2, 0, 0, 0, 1, 0, 0][..])));
    assert_eq!(full.nonce.as_bytes().len(), 25);
    let short = auth.challenge(client(), at(UNIX), false);
    assert_eq!((short.realm, short.algorithms), ("ternd", None));
    assert_eq!(short.nonce.as_bytes().len(), 12);
    assert_eq!(auth.realm(), "ternd");
}

#[test]
fn what_is_chosen_must_have_been_offered() {
    let auth = new();
    let challenge = auth.challenge(client(), at(UNIX), true);
    let (nonce, offer) = (challenge.nonce.as_bytes(), challenge.algorithms.unwrap());
    let ask = |list: &[u8], chosen: &[u8], key: &Key| {
        let request = with_nonce(b"alice", nonce).raw(T::PASSWORD_ALGORITHMS, list);
        let request = request.raw(T::PASSWORD_ALGORITHM, chosen).message_integrity_sha256(key.as_bytes());
        judge(&auth, &request.finish()).map(|identity| identity.key.algorithm().unwrap())
    };
    let sha256 = Key::derive(Algorithm::Sha256, b"alice", "ternd", "wonderland");
    let md5 = md5("alice", "wonderland");
    assert_eq!(ask(offer, &[0, 2, 0, 0], &sha256), Ok(Algorithm::Sha256));
    assert_eq!(ask(offer, &[0, 1, 0, 0], &md5), Ok(Algorithm::Md5));
    assert_eq!(ask(offer, &[0, 2, 0, 0], &md5), Err(unauthorized("alice", Cause::WrongPassword)));
    let refused = [
        (offer, &[0, 3, 0, 0][..]),
        (offer, &[0, 0, 0, 0]),
        (offer, &[0, 2, 0, 4, 1, 2, 3, 4]),
        (offer, &[0, 2]),
        (&offer[4..], &[0, 1, 0, 0]),
        (&offer[..4], &[0, 2, 0, 0]),
        (&[0, 1, 0, 0, 0, 2, 0, 0], &[0, 1, 0, 0]),
        (&[], &[0, 1, 0, 0]),
    ];
    for (list, chosen) in refused {
        assert_eq!(ask(list, chosen, &md5), Err(Denied::WrongAlgorithms), "{list:?} {chosen:?}");
    }
}

#[test]
fn an_offer_that_was_never_made_is_none() {
    let auth = new();
    let (short, full) = (auth.challenge(client(), at(UNIX), false), auth.challenge(client(), at(UNIX), true));
    let sha256 = Key::derive(Algorithm::Sha256, b"alice", "ternd", "wonderland");
    let ask = |nonce: Nonce| {
        let request = with_nonce(b"alice", nonce.as_bytes())
            .raw(T::PASSWORD_ALGORITHMS, full.algorithms.unwrap())
            .raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
        judge(&auth, &request.message_integrity_sha256(sha256.as_bytes()).finish())
    };
    assert!(ask(full.nonce).is_ok());
    assert_eq!(ask(short.nonce), Err(Denied::WrongAlgorithms));
}
