//! Who gets in, who does not, and what the operator is told.

use proptest::prelude::*;

use super::nonce::NonceKey;
use super::*;
use crate::stun::{AttributeType as T, Builder, Class, Method, TransactionId, hmac_sha256};
use crate::time::Instant;

/// The moment of all tests.
const UNIX: u64 = 1_795_347_122;
/// A time stamp ten minutes on.
const ENDS: u64 = 1_795_347_722;

fn at(unix: u64) -> Now {
    Now { instant: Instant::default(), unix }
}

fn client() -> SocketAddr {
    "192.0.2.7:4000".parse().unwrap()
}

/// Secrets "north" and "south", and two users that do not expire; one has a name that looks like a time stamp.
fn settings() -> Settings {
    let user =
        |name: &str, password: &str| StaticUser { name: name.into(), password: password.to_owned().into() };
    Settings {
        secrets: vec![Secret::new("a", "north"), Secret::new("b", "south")],
        users: vec![user("alice", "wonderland"), user("1795347722", "not a time stamp")],
        ..Settings::default()
    }
}

fn authenticator(settings: Settings) -> Authenticator {
    Authenticator::new(settings, [7; 32])
}

fn new() -> Authenticator {
    authenticator(settings())
}

fn md5(username: &str, password: &str) -> Key {
    Key::derive(Algorithm::Md5, username.as_bytes(), "ternd", password)
}

/// The key of a time-limited name, as whoever shares the secret makes it.
fn timed(secret: &str, username: &str) -> Key {
    md5(username, &password(&Secret::new("", secret), username.as_bytes()))
}

fn unsigned() -> Builder {
    Builder::new(Class::Request, Method::ALLOCATE, TransactionId([7; 12]))
}

fn with_nonce(username: &[u8], nonce: &[u8]) -> Builder {
    unsigned().raw(T::USERNAME, username).raw(T::REALM, b"ternd").raw(T::NONCE, nonce)
}

fn signed(username: &str, nonce: &[u8], key: &Key) -> Vec<u8> {
    with_nonce(username.as_bytes(), nonce).message_integrity(key.as_bytes()).finish()
}

/// One request of `client()` at `unix`, with a nonce that was fetched at `UNIX`.
fn ask_at(auth: &Authenticator, unix: u64, username: &str, key: &Key) -> Result<Identity, Denied> {
    let nonce = auth.challenge(client(), at(UNIX), false).nonce;
    auth.authenticate(&Message::parse(&signed(username, nonce.as_bytes(), key)).unwrap(), client(), at(unix))
}

fn ask(username: &str, key: &Key) -> Result<Identity, Denied> {
    ask_at(&new(), UNIX, username, key)
}

fn judge(auth: &Authenticator, request: &[u8]) -> Result<Identity, Denied> {
    auth.authenticate(&Message::parse(request).unwrap(), client(), at(UNIX))
}

fn unauthorized(username: &str, cause: Cause) -> Denied {
    Denied::Unauthorized { username: username.into(), cause }
}

mod usernames {
    use super::*;

    #[test]
    fn the_forms_and_what_is_none() {
        let table = [
            // The four forms of coturn.
            ("1795347722", Some((ENDS, ""))),
            ("1795347722:alice", Some((ENDS, "alice"))),
            ("alice:1795347722", Some((ENDS, "alice"))),
            (":1795347722", Some((ENDS, ""))),
            // What stands on both sides, and more than one colon: the first time stamp from the left, else the last part.
            ("1795347722:", Some((ENDS, ""))),
            ("1795347722:5", Some((ENDS, "5"))),
            ("1795347722:a:b", Some((ENDS, "a:b"))),
            ("a:b:1795347722", Some((ENDS, "a:b"))),
            ("a:1795347722:b", None),
            ("::1795347722", Some((ENDS, ":"))),
            ("1795347722::", Some((ENDS, ":"))),
            // Digits and nothing else.
            ("0", Some((0, ""))),
            ("0001795347722", Some((ENDS, ""))),
            ("+1795347722", None),
            ("-1795347722", None),
            (" 1795347722", None),
            ("1795347722 :alice", None),
            ("1_795_347_722", None),
            ("1795347722.5", None),
            ("0x6b027a4a", None),
            ("١٧٩٥", None),
            // As far as 64 bits go.
            ("18446744073709551615:a", Some((u64::MAX, "a"))),
            ("18446744073709551616", None),
            ("18446744073709551616:a", None),
            ("99999999999999999999999999999999999999:5", Some((5, "99999999999999999999999999999999999999"))),
            ("", None),
            (":", None),
            ("::", None),
            ("alice", None),
            ("alice:", None),
            (":alice", None),
        ];
        for (name, expected) in table {
            let parsed = TimedUsername::parse(name).map(|t| (t.expires, t.user));
            assert_eq!(parsed, expected, "{name:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_user_comes_back_from_an_issued_name(user in "\\PC{0,40}", ttl in 0..u64::MAX, unix in any::<u64>()) {
            let issued = new().issue(&user, Duration::from_secs(ttl), at(unix)).unwrap();
            let parsed = TimedUsername::parse(&issued.username).unwrap();
            prop_assert_eq!((parsed.expires, parsed.user), (unix.saturating_add(ttl), &user[..]));
            prop_assert_eq!(parsed.expires, issued.expires);
        }

        #[test]
        fn nothing_panics(name in "[0-9:+a ]{0,40}") {
            TimedUsername::parse(&name);
        }
    }
}

mod credentials {
    use super::*;

    #[test]
    fn passwords_are_padded_base64_of_the_hmac_over_the_whole_name() {
        // printf '%s' "$name" | openssl dgst -sha1 -hmac "$secret" -binary | base64
        let table = [
            ("north", "1795347722", "DeP6YrVwASEe3epnyeV5/5aRjGM="),
            ("north", "1795347722:alice", "VarQ+WVmviCqSbR7BozKUipRyv0="),
            ("north", "alice:1795347722", "rcr4P1aBkTBmmYWdisw/m6YZu0w="),
            ("north", ":1795347722", "ip4XZrIbzCscNPX1+YP7XCpOz58="),
            ("north", "1795347722:a:b", "bxATfOJCLXEKNXldrflPxxsHsvs="),
            ("north", "1795347722:ü", "jZZdbMUiEM1t+sBNGfU7SIf60Sg="),
            ("south", "1795347722:alice", "diuxA8FlOAts4vZH8jiGvAAO0vQ="),
            ("south", ":1795347722", "cRgcbYBIPLENA0j3gxSj0cTyeEw="),
        ];
        for (secret, name, expected) in table {
            assert_eq!(password(&Secret::new("", secret), name.as_bytes()), expected, "{secret} {name}");
        }
    }

    #[test]
    fn keys_are_those_of_coturn() {
        // turnadmin -k -u "$user" -r "$realm" -p "$password" (coturn 4.6.1)
        let table = [
            ("alice", "ternd", "secret", "89b31b2ce78f397221aa692132f8822c"),
            ("user", "realm", "pass", "8493fbc53ba582fb4c044c456bdc40eb"),
            ("1795347722:alice", "ternd", "VarQ+WVmviCqSbR7BozKUipRyv0=", "2180a6498ef71a72d46eae40d1444112"),
            ("a:b", "c:d", "e:f", "ba207e9427461f2d181da5b06512f5a0"),
            ("ü", "z.example", "pässword", "a20605cabef0473e8c5296ddc4eeb43a"),
        ];
        for (user, realm, password, expected) in table {
            let key = Key::derive(Algorithm::Md5, user.as_bytes(), realm, password);
            let hex: String = key.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected, "{user}:{realm}:{password}");
            assert_eq!(key.algorithm(), Algorithm::Md5);
        }
        let key = Key::derive(Algorithm::Sha256, b"user", "realm", "pass");
        assert_eq!((key.algorithm(), key.as_bytes().len()), (Algorithm::Sha256, 32));
        assert_eq!(key.as_bytes()[..4], [0x07, 0xe9, 0x34, 0x11]); // printf user:realm:pass | sha256sum
    }

    #[test]
    fn algorithms_have_the_numbers_of_the_registry() {
        assert_eq!([Algorithm::Md5, Algorithm::Sha256].map(Algorithm::number), [1, 2]);
        assert_eq!(
            [0, 1, 2, 3].map(Algorithm::from_number),
            [None, Some(Algorithm::Md5), Some(Algorithm::Sha256), None]
        );
    }

    #[test]
    fn the_first_secret_issues() {
        let issued = new().issue("carol", Duration::from_secs(600), at(UNIX)).unwrap();
        assert_eq!((&issued.username[..], issued.expires), ("1795347722:carol", ENDS));
        assert_eq!(issued.password, password(&Secret::new("", "north"), b"1795347722:carol"));
        assert_eq!(new().issue("", Duration::ZERO, at(UNIX)).unwrap().username, UNIX.to_string());
    }

    #[test]
    fn without_a_secret_none_is_issued() {
        let auth = authenticator(Settings { secrets: vec![], ..settings() });
        assert_eq!(auth.issue("carol", Duration::from_secs(600), at(UNIX)), None);
    }

    #[test]
    fn what_is_issued_is_accepted() {
        for user in ["carol", "a:b", "ü", "5", ""] {
            let auth = authenticator(Settings { users: vec![], ..settings() });
            let issued = auth.issue(user, Duration::from_secs(600), at(UNIX)).unwrap();
            let key = md5(&issued.username, &issued.password);
            let identity = ask_at(&auth, UNIX, &issued.username, &key).unwrap();
            assert_eq!((&*identity.username, identity.expires), (&issued.username[..], Some(issued.expires)));
            assert_eq!(identity.key, key);
            assert_eq!(&*identity.user, if user.is_empty() { &issued.username } else { user });
        }
    }
}

mod who_gets_in {
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
        assert_eq!(
            ask(name, &timed("north", "1795347722:bob")),
            Err(unauthorized(name, Cause::NoSuchSecret))
        );
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
        assert_eq!(
            ask(&[b'a'; 60_000]),
            unauthorized(&longest, Cause::MalformedUsername),
            "the log is spared"
        );
    }

    #[test]
    fn longest_timed_name() {
        let name = format!("1795347722:{}", "c".repeat(763 - 11));
        assert!(ask(&name, &timed("north", &name)).is_ok());
    }
}

mod order_of_checks {
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

    #[test]
    fn then_what_is_missing() {
        let auth = new();
        let attributes = [(T::USERNAME, &b"\xFF"[..]), (T::REALM, b"ternd"), (T::NONCE, b"stale")];
        for missing in 0..3 {
            let mut builder = unsigned();
            for (i, (kind, value)) in attributes.iter().enumerate() {
                builder = if i == missing { builder } else { builder.raw(*kind, value) };
            }
            assert_eq!(
                judge(&auth, &builder.clone().message_integrity(b"?").finish()),
                Err(Denied::Incomplete)
            );
            assert_eq!(
                judge(&auth, &builder.message_integrity_sha256(b"?").finish()),
                Err(Denied::Incomplete)
            );
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
        let half = with_nonce(b"\xFF", b"obMatJos2AAABstale").raw(T::PASSWORD_ALGORITHM, &[0, 2, 0, 0]);
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
}

mod hashed_names {
    use super::*;

    fn hashed(name: &str, nonce: &[u8], key: &Key) -> Vec<u8> {
        let builder =
            unsigned().raw(T::USERHASH, &userhash(name.as_bytes(), "ternd")).raw(T::REALM, b"ternd");
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

    #[test]
    fn hashes_are_offered_only_where_all_users_can_be_found_by_them() {
        let cookie = |settings| {
            let nonce = authenticator(settings).challenge(client(), at(UNIX), true).nonce;
            String::from_utf8_lossy(&nonce.as_bytes()[..13]).into_owned()
        };
        // Bit 0, the rightmost: algorithms. Bit 1: hashes (RFC 8489 erratum 6290).
        assert_eq!(cookie(settings()), "obMatJos2AAAB");
        assert_eq!(cookie(Settings { secrets: vec![], ..settings() }), "obMatJos2AAAD");
        assert_eq!(cookie(Settings { secrets: vec![], users: vec![], ..settings() }), "obMatJos2AAAB");
    }
}

mod challenges {
    use super::*;

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
            judge(&auth, &request.finish()).map(|identity| identity.key.algorithm())
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
}

mod nonces {
    use super::*;

    const HOUR: u64 = 3600;

    fn features(algorithms: bool, anonymity: bool) -> Features {
        Features { algorithms, anonymity }
    }

    /// Each kind of nonce there is.
    fn kinds() -> [Option<Features>; 4] {
        [None, Some(features(false, false)), Some(features(true, false)), Some(features(true, true))]
    }

    fn key(lifetime: u64) -> NonceKey {
        NonceKey::new([7; 32], Duration::from_secs(lifetime))
    }

    #[test]
    fn good_for_its_lifetime() {
        for kind in kinds() {
            let nonce = key(HOUR).issue(client(), UNIX, kind);
            for (age, good) in [(0, true), (1, true), (HOUR, true), (HOUR + 1, false), (10 * HOUR, false)] {
                assert_eq!(
                    key(HOUR).verify(nonce.as_bytes(), client(), UNIX + age),
                    good,
                    "{kind:?} after {age} s"
                );
            }
            // From the future: the clock was set back.
            assert!(!key(HOUR).verify(nonce.as_bytes(), client(), UNIX - 1));
        }
    }

    #[test]
    fn good_for_one_address_and_port() {
        let nonce = key(HOUR).issue(client(), UNIX, None);
        let good_for = |client: &str| key(HOUR).verify(nonce.as_bytes(), client.parse().unwrap(), UNIX);
        assert!(good_for("192.0.2.7:4000"));
        assert!(good_for("[::ffff:192.0.2.7]:4000"), "the same, as a socket for both families sees it");
        for other in ["192.0.2.7:4001", "192.0.2.8:4000", "[2001:db8::1]:4000", "[::192.0.2.7]:4000"] {
            assert!(!good_for(other), "{other}");
        }
    }

    #[test]
    fn good_under_one_key() {
        let nonce = key(HOUR).issue(client(), UNIX, None);
        assert!(!NonceKey::new([8; 32], Duration::from_secs(HOUR)).verify(nonce.as_bytes(), client(), UNIX));
    }

    #[test]
    fn where_the_time_in_it_wraps() {
        const WRAP: u64 = 1 << 24;
        let edge = UNIX.next_multiple_of(WRAP);
        for (issued, read, good) in [
            (edge - 1, edge, true),
            (edge - HOUR, edge, true),
            (edge - HOUR - 1, edge, false),
            (edge, edge + HOUR, true),
            // As old as a turn of the clock or nearly: only the whole time fits the MAC.
            (edge, edge + WRAP, false),
            (edge, edge + WRAP - 1, false),
            (edge + 1, edge, false),
        ] {
            let nonce = key(HOUR).issue(client(), issued, None);
            assert_eq!(key(HOUR).verify(nonce.as_bytes(), client(), read), good, "{issued} read at {read}");
        }
        // In the first turn, a time stamp that would lie before the epoch.
        let nonce = key(HOUR).issue(client(), 100, None);
        assert!(!key(HOUR).verify(nonce.as_bytes(), client(), 50));
        // However long it is meant to last: half a turn, so that young and old can be told apart.
        let nonce = key(u64::MAX).issue(client(), edge, None);
        assert!(key(u64::MAX).verify(nonce.as_bytes(), client(), edge + WRAP / 2));
        assert!(!key(u64::MAX).verify(nonce.as_bytes(), client(), edge + WRAP / 2 + 1));
    }

    #[test]
    fn no_character_can_be_changed() {
        for kind in kinds() {
            let nonce = key(HOUR).issue(client(), UNIX, kind);
            for at in 0..nonce.as_bytes().len() {
                for to in 0..=u8::MAX {
                    let mut changed = nonce.as_bytes().to_vec();
                    changed[at] = to;
                    let good = key(HOUR).verify(&changed, client(), UNIX);
                    assert_eq!(good, changed == nonce.as_bytes(), "{kind:?}, character {at} is {to}");
                }
            }
        }
    }

    #[test]
    fn nothing_can_be_taken_off_or_added() {
        for kind in kinds() {
            let nonce = key(HOUR).issue(client(), UNIX, kind);
            let good = |bytes: &[u8]| key(HOUR).verify(bytes, client(), UNIX);
            for len in 0..nonce.as_bytes().len() {
                assert!(!good(&nonce.as_bytes()[..len]) && !good(&nonce.as_bytes()[len + 1..]));
            }
            assert!(!good(&[nonce.as_bytes(), b"A"].concat()));
            assert!(!good(&[nonce.as_bytes(), b"AAAA"].concat()));
            assert!(!good(&[b"obMatJos2AAAB", nonce.as_bytes()].concat()));
        }
    }

    #[test]
    fn it_is_printable_and_differs_for_each_client_and_second() {
        let mut seen = std::collections::HashSet::new();
        for port in 0..100 {
            for second in 0..10 {
                let nonce = key(HOUR).issue(SocketAddr::new(client().ip(), port), UNIX + second, None);
                assert!(nonce.as_bytes().iter().all(u8::is_ascii_graphic));
                assert!(seen.insert(nonce.as_bytes().to_vec()));
            }
        }
    }

    #[test]
    fn a_request_with_an_old_or_borrowed_one() {
        let auth = new();
        let nonce = auth.challenge(client(), at(UNIX), false).nonce;
        let request = signed("alice", nonce.as_bytes(), &md5("alice", "wonderland"));
        let ask = |from: &str, unix| {
            auth.authenticate(&Message::parse(&request).unwrap(), from.parse().unwrap(), at(unix)).err()
        };
        assert_eq!(ask("192.0.2.7:4000", UNIX + HOUR), None);
        assert_eq!(ask("192.0.2.7:4000", UNIX + HOUR + 1), Some(Denied::StaleNonce));
        assert_eq!(ask("192.0.2.7:4001", UNIX), Some(Denied::StaleNonce));
        assert_eq!(ask("192.0.2.9:4000", UNIX), Some(Denied::StaleNonce));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn noise_is_no_nonce(noise in proptest::collection::vec(any::<u8>(), 0..40), cookie in any::<bool>()) {
            let noise = if cookie { [b"obMatJos2AAAB", &noise[..]].concat() } else { noise };
            prop_assert!(!key(HOUR).verify(&noise, client(), UNIX));
        }
    }
}

mod on_an_allocation {
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

    #[test]
    fn also_when_the_secret_is_gone() {
        let reloaded = authenticator(Settings { secrets: vec![Secret::new("c", "west")], ..settings() });
        assert!(ask_on(&reloaded, UNIX, NAME, &timed("north", NAME)).is_ok());
    }

    #[test]
    fn the_owners_name_with_another_key_does_not() {
        let denied = Err(unauthorized(NAME, Cause::NoSuchSecret));
        assert_eq!(ask_on(&new(), UNIX, NAME, &timed("west", NAME)), denied);
        assert_eq!(
            ask_on(&new(), UNIX, NAME, &timed("south", NAME)),
            denied,
            "the key it was made with decides"
        );
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
}

#[test]
fn no_secret_is_ever_printed() {
    let auth = new();
    let issued = auth.issue("carol", Duration::from_secs(600), at(UNIX)).unwrap();
    let identity = ask("1795347800:carol", &timed("north", "1795347800:carol")).unwrap();
    let sha256 = Key::derive(Algorithm::Sha256, b"alice", "ternd", "wonderland");
    let denied = ask("alice", &md5("alice", "?")).unwrap_err();
    let printed = format!(
        "{auth:?} {auth:#?} {:?} {issued:?} {:?} {identity:?} {identity:#?} {sha256:?} {denied:?} {denied}",
        settings(),
        settings().users,
    );
    for secret in ["north", "south", "wonderland", "not a time stamp", &issued.password] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
        let bytes = format!("{:?}", secret.as_bytes());
        assert!(!printed.contains(bytes.trim_matches(['[', ']'])), "{secret} as bytes in {printed}");
    }
    for key in [identity.key.as_bytes(), sha256.as_bytes(), &[7; 32]] {
        let (list, hex) = (format!("{key:?}"), key.iter().map(|b| format!("{b:02x}")).collect::<String>());
        assert!(!printed.contains(list.trim_matches(['[', ']'])) && !printed.contains(&hex), "{printed}");
    }
    // The names are, so that the operator knows what is meant.
    for name in ["1795347722:carol", "alice", "\"a\""] {
        assert!(printed.contains(name), "{name}");
    }
}
