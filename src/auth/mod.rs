//! May this user name act, and with which key? (RFC 8489 section 9.2, draft-uberti-behave-turn-rest-00)
//!
//! What enters: a STUN request, where it came from, the time. What leaves: an [`Identity`] that signs and
//! verifies, or a [`Denied`] with its cause. Two kinds of user work side by side:
//!
//! ```text
//! time-limited   username = "1795347722:alice"                       issued by `ice`, or by anyone who has the secret
//!                password = base64(HMAC-SHA1(secret, username))
//! static         username = "alice", password from the configuration
//!
//! key = MD5(username ":" realm ":" password)                         both kinds, RFC 8489 section 9.2.2
//! ```
//!
//! No file, no clock, no randomness: the secret of the nonces is handed in.

mod nonce;
mod username;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::stun::{AttributeType, Message, hmac_sha1};
use crate::time::Now;

pub use nonce::Nonce;
use nonce::NonceKey;
pub use username::TimedUsername;

/// A secret shared with whoever issues time-limited credentials.
#[derive(Clone)]
pub struct Secret {
    /// Its name, for logs: the bytes never get there.
    pub id: String,
    /// The secret itself.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// A secret with a name for logs.
    pub fn new(id: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), bytes: Zeroizing::new(bytes.into()) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?}, redacted)", self.id)
    }
}

/// A user with a password that does not expire.
#[derive(Clone)]
pub struct StaticUser {
    /// What the client sends as USERNAME.
    pub name: String,
    /// The password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for StaticUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StaticUser({:?}, redacted)", self.name)
    }
}

/// Who may act.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The realm told to clients. Short: it is in each 401.
    pub realm: String,
    /// Secrets of time-limited credentials. The first one issues, all are accepted.
    pub secrets: Vec<Secret>,
    /// Users that do not expire. One of these names is never looked at as time-limited.
    pub users: Vec<StaticUser>,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    /// Refuse requests on a running allocation once its credential has expired. Otherwise running calls go on.
    pub strict_expiry: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            realm: "ternd".into(),
            secrets: Vec::new(),
            users: Vec::new(),
            nonce_lifetime: Duration::from_secs(3600),
            strict_expiry: false,
        }
    }
}

/// A time-limited credential, ready to be handed to a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `"<expires>:<user>"`, or `"<expires>"` for the empty user.
    pub username: String,
    /// `base64(HMAC-SHA1(secret, username))`, standard alphabet, padded.
    pub password: String,
    /// Seconds since the Unix epoch.
    pub expires: u64,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?}, redacted)", self.username)
    }
}

/// The HMAC key of a user: MD5 over user name, realm and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 16]>);

impl Key {
    /// RFC 8489 section 9.2.2. The parts are taken as they are: OpaqueString is the caller's affair.
    pub fn derive(username: &[u8], realm: &str, password: &str) -> Self {
        let mut hash = Md5::new();
        for part in [username, b":", realm.as_bytes(), b":", password.as_bytes()] {
            hash.update(part);
        }
        Self(Zeroizing::new(hash.finalize().into()))
    }

    /// The bytes to sign and verify with.
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// Who a request proved to be. Cheap to clone: an allocation keeps one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// USERNAME as sent.
    pub username: Arc<str>,
    /// The user behind it, without the time stamp: what quotas count.
    pub user: Arc<str>,
    /// Signs the responses.
    pub key: Key,
    /// When the credential ends, in seconds since the Unix epoch. `None`: a static user.
    pub expires: Option<u64>,
}

/// Why a request that was signed was not accepted. The client sees 401 for all of these; the operator sees which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The time stamp lies in the past.
    #[error("credential expired {ago} s ago (check both clocks)")]
    Expired {
        /// Seconds.
        ago: u64,
    },
    /// No secret makes a password that fits: another secret, or a forged name.
    #[error("signed with none of the configured secrets")]
    NoSuchSecret,
    /// Neither a static user nor a name with a time stamp.
    #[error("unknown user, and the name carries no time stamp")]
    UnknownUser,
    /// A static user with another password.
    #[error("wrong password")]
    WrongPassword,
    /// The name is not UTF-8 or longer than 508 bytes.
    #[error("malformed user name")]
    MalformedUsername,
}

/// Why a request may not act, in the order of RFC 8489 section 9.2.4.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// 401: it is not signed. The first step of each handshake, no failure.
    #[error("not signed")]
    Challenge,
    /// 400: it is signed, but USERNAME, REALM or NONCE is missing.
    #[error("signed, but USERNAME, REALM or NONCE is missing")]
    Incomplete,
    /// 401: signed by somebody who may not act.
    #[error("{cause}")]
    Unauthorized {
        /// USERNAME as sent, as far as it is text.
        username: String,
        /// Why.
        cause: Cause,
    },
    /// 438: all is well but the nonce.
    #[error("stale nonce")]
    StaleNonce,
}

/// Knows the secrets and users; issues and checks credentials and nonces. Immutable: a reload makes a new one.
#[derive(Debug)]
pub struct Authenticator {
    settings: Settings,
    nonces: NonceKey,
}

impl Authenticator {
    /// `nonce_key` must be random, and the same for all shards of a server.
    pub fn new(settings: Settings, nonce_key: [u8; 32]) -> Self {
        Self { nonces: NonceKey::new(nonce_key, settings.nonce_lifetime), settings }
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.settings.realm
    }

    /// Issues a credential for `user` that ends `ttl` from now; `None` if no secret is configured.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ternd::auth::{Authenticator, Secret, Settings};
    /// use ternd::time::{Instant, Now};
    ///
    /// let settings = Settings { secrets: vec![Secret::new("a", "north")], ..Settings::default() };
    /// let now = Now { instant: Instant::default(), unix: 1_795_347_122 };
    /// let credential = Authenticator::new(settings, [0; 32]).issue("alice", Duration::from_secs(600), now).unwrap();
    /// assert_eq!(credential.username, "1795347722:alice");
    /// assert_eq!(credential.password, "VarQ+WVmviCqSbR7BozKUipRyv0=");
    /// ```
    pub fn issue(&self, user: &str, ttl: Duration, now: Now) -> Option<Credential> {
        let secret = self.settings.secrets.first()?;
        let expires = now.unix.saturating_add(ttl.as_secs());
        let username = if user.is_empty() { expires.to_string() } else { format!("{expires}:{user}") };
        let password = password(secret, username.as_bytes());
        Some(Credential { username, password, expires })
    }

    /// A fresh nonce for a client.
    pub fn nonce(&self, client: SocketAddr, now: Now) -> Nonce {
        self.nonces.issue(client, now.unix)
    }

    /// The checks of RFC 8489 section 9.2.4, in its order.
    ///
    /// # Errors
    /// [`Denied`] names the first check that failed.
    pub fn authenticate(
        &self,
        request: &Message<'_>,
        client: SocketAddr,
        now: Now,
    ) -> Result<Identity, Denied> {
        let signed = Signed::read(request)?;
        let identity = self.identify(&signed, request, now)?;
        self.check_nonce(&signed, client, now)?;
        Ok(identity)
    }

    /// The same checks for a request on an allocation that `owner` made: with the owner's name, its key decides,
    /// whatever has become of the secret since.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate). A valid request of somebody else is `Ok` with another name:
    /// the caller compares (441, RFC 8656 section 5).
    pub fn authenticate_on(
        &self,
        owner: &Identity,
        request: &Message<'_>,
        client: SocketAddr,
        now: Now,
    ) -> Result<Identity, Denied> {
        let signed = Signed::read(request)?;
        if signed.username != owner.username.as_bytes() {
            return self.authenticate(request, client, now);
        }
        if !verify(request, &owner.key) {
            let cause = if owner.expires.is_some() { Cause::NoSuchSecret } else { Cause::WrongPassword };
            return Err(signed.unauthorized(cause));
        }
        if let (true, Some(expires)) = (self.settings.strict_expiry, owner.expires) {
            still_valid(expires, now).map_err(|cause| signed.unauthorized(cause))?;
        }
        self.check_nonce(&signed, client, now)?;
        Ok(owner.clone())
    }

    fn check_nonce(&self, signed: &Signed<'_>, client: SocketAddr, now: Now) -> Result<(), Denied> {
        if self.nonces.verify(signed.nonce, client, now.unix) { Ok(()) } else { Err(Denied::StaleNonce) }
    }

    fn identify(&self, signed: &Signed<'_>, request: &Message<'_>, now: Now) -> Result<Identity, Denied> {
        let name = std::str::from_utf8(signed.username)
            .ok()
            .filter(|n| n.len() <= 508)
            .ok_or_else(|| signed.unauthorized(Cause::MalformedUsername))?;

        if let Some(user) = self.settings.users.iter().find(|u| u.name == name) {
            let key = Key::derive(signed.username, &self.settings.realm, &user.password);
            if !verify(request, &key) {
                return Err(signed.unauthorized(Cause::WrongPassword));
            }
            return Ok(Identity { username: name.into(), user: name.into(), key, expires: None });
        }

        let timed = TimedUsername::parse(name).ok_or_else(|| signed.unauthorized(Cause::UnknownUser))?;
        // Expiry first: it needs no secret, and an expired name is told apart from a wrong secret.
        still_valid(timed.expires, now).map_err(|cause| signed.unauthorized(cause))?;
        self.settings
            .secrets
            .iter()
            .map(|secret| {
                Key::derive(signed.username, &self.settings.realm, &password(secret, signed.username))
            })
            .find(|key| verify(request, key))
            .map(|key| Identity {
                username: name.into(),
                user: timed.user.into(),
                key,
                expires: Some(timed.expires),
            })
            .ok_or_else(|| signed.unauthorized(Cause::NoSuchSecret))
    }
}

fn password(secret: &Secret, username: &[u8]) -> String {
    STANDARD.encode(hmac_sha1(&secret.bytes, &[username]))
}

fn still_valid(expires: u64, now: Now) -> Result<(), Cause> {
    // A credential is good through the second it names.
    if expires < now.unix { Err(Cause::Expired { ago: now.unix - expires }) } else { Ok(()) }
}

/// MESSAGE-INTEGRITY-SHA256 decides where it is present, else MESSAGE-INTEGRITY (RFC 8489 section 9.2.4).
fn verify(request: &Message<'_>, key: &Key) -> bool {
    match request.find(AttributeType::MESSAGE_INTEGRITY_SHA256) {
        Some(_) => request.verify_integrity_sha256(key.as_bytes()),
        None => request.verify_integrity(key.as_bytes()),
    }
}

/// The attributes of a signed request.
struct Signed<'a> {
    username: &'a [u8],
    nonce: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(request: &Message<'a>) -> Result<Self, Denied> {
        use AttributeType as T;
        let value = |kind| request.find(kind).map(|a| a.value);
        if value(T::MESSAGE_INTEGRITY).or(value(T::MESSAGE_INTEGRITY_SHA256)).is_none() {
            return Err(Denied::Challenge);
        }
        match (value(T::USERNAME), value(T::REALM), value(T::NONCE)) {
            (Some(username), Some(_), Some(nonce)) => Ok(Self { username, nonce }),
            _ => Err(Denied::Incomplete),
        }
    }

    fn unauthorized(&self, cause: Cause) -> Denied {
        Denied::Unauthorized { username: String::from_utf8_lossy(self.username).into_owned(), cause }
    }
}

#[cfg(test)]
mod tests;
