//! Who gets in, who does not, and what the operator is told.

mod challenges;
mod credentials;
mod hashed_names;
mod nonces;
mod on_an_allocation;
mod opaque_strings;
mod order_of_checks;
mod tokens;
mod usernames;
mod who_gets_in;

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
    let challenge = auth.challenge(client(), at(UNIX), false);
    let request = unsigned()
        .raw(T::USERNAME, username.as_bytes())
        .raw(T::REALM, challenge.realm.as_bytes())
        .raw(T::NONCE, challenge.nonce.as_bytes())
        .message_integrity(key.as_bytes())
        .finish();
    auth.authenticate(&Message::parse(&request).unwrap(), client(), at(unix))
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
