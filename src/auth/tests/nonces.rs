//! A nonce is good for one client, for a time, and only as it is.

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

//= 8489-16-1
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

//= 8489-16-1
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
        assert!(!good(&[b"obMatJos2gAAB", nonce.as_bytes()].concat()));
    }
}

//= 8489-9.2.4-3 8489-14.10-1 8656-5-2
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
        let noise = if cookie { [b"obMatJos2gAAB", &noise[..]].concat() } else { noise };
        prop_assert!(!key(HOUR).verify(&noise, client(), UNIX));
    }
}
