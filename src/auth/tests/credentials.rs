//! Passwords and keys, as others make them.

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
        assert_eq!(key.algorithm(), Some(Algorithm::Md5));
    }
    let key = Key::derive(Algorithm::Sha256, b"user", "realm", "pass");
    assert_eq!((key.algorithm(), key.as_bytes().len()), (Some(Algorithm::Sha256), 32));
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
