//! Access tokens (RFC 7635).

use aes_gcm::aead::{AeadInOut, KeyInit};

use super::*;

const NAME: &str = "auth.example.org";
const MAC_KEY: &[u8] = b"abcdefghijklmnopqrst";

/// Made by turnutils_oauth of coturn: time stamp 1795000000, lifetime 3600, `MAC_KEY`, nonce `nonce1234567`.
const OF_COTURN: [(TokenAlgorithm, &str); 2] = [
    (
        TokenAlgorithm::A256Gcm,
        "AAxub25jZTEyMzQ1NjcMUDdsYlUv0tB9jJDJMePYDFKt52krt+zUnpP15gf15hile44CWqLlFNd7Hn049l4Zow==",
    ),
    (
        TokenAlgorithm::A128Gcm,
        "AAxub25jZTEyMzQ1NjeAwXZmJ3+VkQez/t36kkPGtQGA9mZGkyGAaD1DCtYkcU6+p9kPyN1t/f0Y4CiKfDMqHA==",
    ),
];
const ISSUED: u64 = 1_795_000_000;

fn key(algorithm: TokenAlgorithm) -> TokenKey {
    TokenKey { id: "kid".into(), algorithm, bytes: vec![b'k'; algorithm.key_len()].into() }
}

fn a256() -> TokenKey {
    key(TokenAlgorithm::A256Gcm)
}

fn oauth() -> Authenticator {
    let oauth = OAuth { server_name: NAME.into(), keys: vec![a256()] };
    authenticator(Settings { oauth: Some(oauth), ..settings() })
}

/// Seals any block, whether or not it is one.
fn seal(plain: &[u8]) -> Vec<u8> {
    let mut plain = plain.to_vec();
    let cipher = aes_gcm::Aes256Gcm::new_from_slice(&[b'k'; 32]).unwrap();
    let nonce = b"nonce1234567".into();
    let tag = cipher.encrypt_inout_detached(nonce, NAME.as_bytes(), plain.as_mut_slice().into()).unwrap();
    [&[0, 12], &b"nonce1234567"[..], &plain, &tag].concat()
}

fn block(mac_key: &[u8], issued: u64, lifetime: u32) -> Vec<u8> {
    let len = (mac_key.len() as u16).to_be_bytes();
    [&len[..], mac_key, &(issued << 16).to_be_bytes(), &lifetime.to_be_bytes()].concat()
}

fn request(auth: &Authenticator, username: &str, token: &[u8], key: &[u8]) -> Vec<u8> {
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let request = with_nonce(username.as_bytes(), nonce.as_bytes()).raw(T::ACCESS_TOKEN, token);
    request.message_integrity(key).finish()
}

//= 7635-6.2-1
#[test]
fn tokens_of_coturn_are_opened() {
    for (algorithm, token) in OF_COTURN {
        let sealed = STANDARD.decode(token).unwrap();
        let token = Token::open(&sealed, &key(algorithm), NAME).unwrap();
        assert_eq!(token.mac_key.as_slice(), MAC_KEY, "{algorithm:?}");
        assert_eq!(token.expires(at(ISSUED)), Ok(ISSUED + 3605));
    }
}

//= 7635-7-2
#[test]
fn a_token_is_for_one_key_and_one_server() {
    let sealed = STANDARD.decode(OF_COTURN[0].1).unwrap();
    let opens = |key: &TokenKey, name| Token::open(&sealed, key, name).is_some();
    assert!(opens(&a256(), NAME));
    assert!(!opens(&a256(), "other.example.org"));
    assert!(!opens(&key(TokenAlgorithm::A128Gcm), NAME));
    assert!(!opens(&TokenKey { bytes: vec![b'x'; 32].into(), ..a256() }, NAME));
    assert!(!opens(&TokenKey { bytes: vec![b'k'; 5].into(), ..a256() }, NAME), "no key at all");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(Token::open(&changed, &a256(), NAME).is_none(), "byte {at}");
        assert!(Token::open(&sealed[..at], &a256(), NAME).is_none(), "cut at {at}");
    }
    let longer = [&sealed[..], &[0]].concat();
    assert!(Token::open(&longer, &a256(), NAME).is_none());
}

#[test]
fn what_is_sealed_must_be_sensible_too() {
    let opens = |plain: &[u8]| Token::open(&seal(plain), &a256(), NAME).is_some();
    for (len, good) in
        [(0, false), (19, false), (20, true), (32, true), (64, true), (65, false), (3000, false)]
    {
        assert_eq!(opens(&block(&vec![7; len], UNIX, 60)), good, "key of {len} bytes");
    }
    let right = block(MAC_KEY, UNIX, 60);
    assert!(!opens(&right[..right.len() - 1]) && !opens(&[&right[..], &[0]].concat()));
    assert!(!opens(b"") && !opens(&[0xFF; 34]));
}

//= 7635-7-3
#[test]
fn a_token_lives_from_its_time_stamp_on_and_5_seconds_longer() {
    let token = Token::open(&seal(&block(MAC_KEY, UNIX, 60)), &a256(), NAME).unwrap();
    assert_eq!(token.expires(at(UNIX)), Ok(UNIX + 65));
    assert_eq!(token.expires(at(UNIX + 64)), Ok(UNIX + 65));
    assert_eq!(token.expires(at(UNIX + 65)), Err(0));
    assert_eq!(token.expires(at(UNIX + 100)), Err(35));
    assert_eq!(token.expires(at(UNIX - 3)), Ok(UNIX - 3 + 62), "the other clock is ahead");
    assert!(token.expires(at(UNIX - 65)).is_err());
    let longest = Token::open(&seal(&block(MAC_KEY, (1 << 48) - 1, u32::MAX)), &a256(), NAME).unwrap();
    assert!(longest.expires(at(u64::MAX)).is_err() && longest.expires(at(0)).is_err());
}

//= 7635-7-1 7635-7-4
#[test]
fn who_comes_with_a_token() {
    let auth = oauth();
    let sealed = seal(&block(MAC_KEY, UNIX, 60));
    let identity = judge(&auth, &request(&auth, "kid", &sealed, MAC_KEY)).unwrap();
    assert_eq!((&*identity.username, identity.expires), ("kid", Some(UNIX + 65)));
    assert_eq!(identity.key.as_bytes(), MAC_KEY);
    assert_eq!(identity.bound(at(UNIX)), Some(Duration::from_secs(65)));

    // As coturn's clients do it; and they are answered in kind.
    let short = judge(&auth, &request(&auth, "kid", &sealed, &MAC_KEY[..16])).unwrap();
    assert_eq!(short.key.as_bytes(), &MAC_KEY[..16]);
    assert!(short.is(&identity));

    let refused = |username: &str, token: &[u8], key: &[u8], cause| {
        let denied = judge(&auth, &request(&auth, username, token, key)).unwrap_err();
        assert_eq!(denied, unauthorized(username, cause));
    };
    refused("kid", &sealed, b"another key, as long", Cause::NotTheTokensKey);
    refused("kid", &sealed, &MAC_KEY[..15], Cause::NotTheTokensKey);
    refused("kid", b"", MAC_KEY, Cause::BadToken);
    refused("kit", &sealed, MAC_KEY, Cause::UnknownTokenKey);
    refused("alice", &sealed, md5("alice", "wonderland").as_bytes(), Cause::UnknownTokenKey);
    refused("kid", &seal(&block(MAC_KEY, UNIX - 100, 60)), MAC_KEY, Cause::Expired { ago: 35 });

    // The others get in beside them; without a token the name of a key is nobody's.
    assert!(ask_at(&auth, UNIX, "alice", &md5("alice", "wonderland")).is_ok());
    assert_eq!(ask_at(&auth, UNIX, "kid", &md5("kid", "")), Err(unauthorized("kid", Cause::UnknownUser)));
    // Nor are tokens looked at where they are not taken.
    let off = new();
    let denied = judge(&off, &request(&off, "kid", &sealed, MAC_KEY)).unwrap_err();
    assert_eq!(denied, unauthorized("kid", Cause::UnknownUser));
}

#[test]
fn each_token_is_a_user_and_what_it_made_is_its_own() {
    let auth = oauth();
    let other_key = b"another key, as long";
    let (one, other) = (seal(&block(MAC_KEY, UNIX, 60)), seal(&block(other_key, UNIX, 60)));
    let owner = judge(&auth, &request(&auth, "kid", &one, MAC_KEY)).unwrap();
    let on_it = |bytes: &[u8], unix| {
        auth.authenticate_on(&owner, &Message::parse(bytes).unwrap(), client(), at(unix))
    };
    // Its own token need not be shown again, and a fresh one is told apart.
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    let bare = |key: &[u8]| with_nonce(b"kid", nonce.as_bytes()).message_integrity(key).finish();
    assert_eq!(on_it(&bare(MAC_KEY), UNIX).unwrap(), owner);
    assert_eq!(on_it(&request(&auth, "kid", &one, MAC_KEY), UNIX).unwrap(), owner);
    assert_eq!(on_it(&bare(other_key), UNIX), Err(unauthorized("kid", Cause::NotTheTokensKey)));
    let fresh = on_it(&request(&auth, "kid", &other, other_key), UNIX).unwrap();
    assert!(!owner.is(&fresh) && owner.may_become(&fresh));
    // Its end is the end, strict or not.
    assert!(on_it(&bare(MAC_KEY), UNIX + 64).is_ok());
    assert_eq!(on_it(&bare(MAC_KEY), UNIX + 66), Err(unauthorized("kid", Cause::Expired { ago: 1 })));

    // A static user of the same name is somebody else.
    let user = StaticUser { name: "kid".into(), password: "password".to_owned().into() };
    let oauth = OAuth { server_name: NAME.into(), keys: vec![a256()] };
    let auth = authenticator(Settings { users: vec![user], oauth: Some(oauth), ..settings() });
    let user = ask_at(&auth, UNIX, "kid", &md5("kid", "password")).unwrap();
    let bytes = request(&auth, "kid", &one, MAC_KEY);
    let token = auth.authenticate_on(&user, &Message::parse(&bytes).unwrap(), client(), at(UNIX)).unwrap();
    assert!(!user.is(&token) && !user.may_become(&token) && !token.may_become(&user));
}

#[test]
fn no_key_is_printed() {
    let auth = oauth();
    let sealed = seal(&block(MAC_KEY, UNIX, 60));
    let identity = judge(&auth, &request(&auth, "kid", &sealed, MAC_KEY)).unwrap();
    let printed = format!("{auth:?} {identity:?}");
    for secret in [MAC_KEY, &[b'k'; 32]] {
        let list = format!("{secret:?}");
        assert!(!printed.contains(std::str::from_utf8(secret).unwrap()));
        assert!(!printed.contains(list.trim_matches(['[', ']'])));
    }
    assert!(printed.contains("TokenKey(\"kid\", A256Gcm, redacted)"), "{printed}");
}

proptest! {
    #[test]
    fn anybodys_bytes_are_no_token(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for algorithm in [TokenAlgorithm::A128Gcm, TokenAlgorithm::A256Gcm] {
            prop_assert!(Token::open(&bytes, &key(algorithm), NAME).is_none());
        }
        // Nor with the form of one.
        let formed = [&[0, 12][..], &bytes].concat();
        prop_assert!(Token::open(&formed, &a256(), NAME).is_none());
    }

    #[test]
    fn whatever_was_sealed_is_read_within_its_bounds(
        len in any::<u16>(),
        plain in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let plain = [&len.to_be_bytes()[..], &plain].concat();
        let opened = Token::open(&seal(&plain), &a256(), NAME);
        let right = usize::from(len) + 14 == plain.len() && (20..=64).contains(&len);
        prop_assert_eq!(opened.is_some(), right);
    }

    #[test]
    fn a_token_that_was_sealed_is_opened(
        mac_key in proptest::collection::vec(any::<u8>(), 20..=64),
        issued in 0u64..1 << 48,
        lifetime in any::<u32>(),
    ) {
        let token = Token::open(&seal(&block(&mac_key, issued, lifetime)), &a256(), NAME).unwrap();
        prop_assert_eq!(token.mac_key.as_slice(), &mac_key[..]);
        prop_assert_eq!(token.expires(at(issued)), Ok(issued + u64::from(lifetime) + 5));
    }
}
