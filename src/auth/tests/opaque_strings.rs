//! Text that people type has one form (RFC 8265 section 4.2).

use super::*;

//= 8489-14.3-2
#[test]
fn the_profile() {
    for (text, prepared) in [
        ("alice", "alice"),
        ("cafe\u{301}", "caf\u{e9}"),
        ("a\u{a0}b\u{3000}c\u{2003}d", "a b c d"),
        (" two  spaces ", " two  spaces "),
        // Case and width stay.
        ("\u{ff21}Bc", "\u{ff21}Bc"),
        // RFC 8265 section 4.3, examples 10, 12 and 14.
        ("\u{3c0}\u{df}\u{e5}", "\u{3c0}\u{df}\u{e5}"),
        ("Jack of \u{2666}s", "Jack of \u{2666}s"),
        ("foo\u{1680}bar", "foo bar"),
        // A Greek sigma at the end is no other sigma.
        ("\u{3c2}", "\u{3c2}"),
    ] {
        assert_eq!(opaque_string(text).as_deref(), Ok(prepared), "{text:?}");
    }
    for (text, why) in [
        ("", Forbidden::Empty),
        ("my cat is a \u{9}by", Forbidden::Character(13)),
        ("\u{0}", Forbidden::Character(1)),
        ("\u{e9}\u{ad}", Forbidden::Character(2)),
        ("ab\u{fffe}", Forbidden::Character(3)),
        // The Greek one becomes the one that stands between two l's.
        ("\u{387}", Forbidden::Context),
    ] {
        assert_eq!(opaque_string(text).map(drop), Err(why), "{text:?}");
    }
}

//= 8489-14.3-2
#[test]
fn a_configured_name_and_password_are_met_in_the_form_that_clients_send() {
    let user =
        StaticUser { name: "rene\u{301}".into(), password: "mot\u{a0}de\u{a0}passe".to_owned().into() };
    let auth =
        authenticator(Settings { realm: "cafe\u{301}".into(), users: vec![user], ..Settings::default() });
    assert_eq!(auth.realm(), "caf\u{e9}");
    let key =
        |name: &str, password: &str| Key::derive(Algorithm::Md5, name.as_bytes(), "caf\u{e9}", password);

    let identity = ask_at(&auth, UNIX, "ren\u{e9}", &key("ren\u{e9}", "mot de passe")).unwrap();
    assert_eq!(&*identity.user, "ren\u{e9}");
    // A name from the wire is taken as it is.
    assert_eq!(
        ask_at(&auth, UNIX, "rene\u{301}", &key("rene\u{301}", "mot de passe")),
        Err(unauthorized("rene\u{301}", Cause::UnknownUser))
    );
}

#[test]
fn a_hashed_name_is_the_hash_of_the_prepared_one() {
    let user = StaticUser { name: "rene\u{301}".into(), password: "password".to_owned().into() };
    let auth = authenticator(Settings { users: vec![user], ..Settings::default() });
    let nonce = auth.challenge(client(), at(UNIX), true).nonce;
    let request = unsigned()
        .raw(T::USERHASH, &userhash("ren\u{e9}".as_bytes(), "ternd"))
        .raw(T::REALM, b"ternd")
        .raw(T::NONCE, nonce.as_bytes())
        .message_integrity(md5("ren\u{e9}", "password").as_bytes())
        .finish();
    assert_eq!(&*judge(&auth, &request).unwrap().username, "ren\u{e9}");
}

proptest! {
    #[test]
    fn what_is_prepared_stays_as_it_is(text in "\\PC{0,40}") {
        if let Ok(once) = opaque_string(&text) {
            let twice = opaque_string(&once).unwrap();
            prop_assert_eq!(twice, once.clone());
        }
    }

    #[test]
    fn plain_text_is_never_changed(text in "[ -~]{1,40}") {
        let prepared = opaque_string(&text).unwrap();
        prop_assert_eq!(&*prepared, text.as_str());
    }
}
