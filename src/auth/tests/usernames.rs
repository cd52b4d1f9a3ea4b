//! Names that carry their own end.

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
