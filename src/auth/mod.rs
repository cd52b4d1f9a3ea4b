//! May this user name act, and with which key? (RFC 8489 section 9.2, draft-uberti-behave-turn-rest-00)
//!
//! What enters: a STUN request, where it came from, the time. What leaves: an [`Identity`] that signs and
//! verifies, or a [`Denied`] with its cause. Three kinds of user work side by side:
//!
//! ```text
//! time-limited   username = "1795347722:alice"                       issued by `ice`, or by anyone who has the secret
//!                password = base64(HMAC-SHA1(secret, username))
//! static         username = "alice", password from the configuration
//! access token   username = "<key id>", the key itself comes sealed in ACCESS-TOKEN (RFC 7635)        `token.rs`
//!
//! key = MD5(username ":" realm ":" password)                         the first two; SHA-256 where the client chooses it
//! ```
//!
//! No file, no clock, no randomness: the secret of the nonces is handed in.

mod key;
mod network;
mod nonce;
mod opaque;
mod settings;
mod token;
mod username;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::stun::{Attribute, AttributeType, INTEGRITY_SHA256_LEN, Message, hmac_sha1};
use crate::time::Now;

use key::mark;
pub use key::{Algorithm, Key, userhash};
pub use network::network_of;
pub use nonce::Nonce;
use nonce::{Features, NonceKey};
pub use opaque::{Forbidden, opaque_string};
pub use settings::{OAuth, Secret, Settings, StaticUser};
use token::Token;
pub use token::{TokenAlgorithm, TokenKey};
pub use username::TimedUsername;

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

/// Who a request proved to be. Cheap to clone: an allocation keeps one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// USERNAME as sent.
    pub username: Arc<str>,
    /// The user behind it, without the time stamp: what quotas count. A name that has nothing beside its time
    /// stamp is a user of its own, as in coturn; otherwise all who come without a name would share one quota. All who
    /// come with tokens share the name of the key, so each token is a user.
    pub user: Arc<str>,
    /// Signs the responses, and verifies what comes later.
    pub key: Key,
    /// When the credential ends, in seconds since the Unix epoch. `None`: a static user.
    pub expires: Option<u64>,
}

impl Identity {
    /// Is it the same one that acts, whatever it signs with?
    pub fn is(&self, other: &Self) -> bool {
        self.username == other.username && self.user == other.user
    }

    /// May `other`, who comes over the same path, be the same client with a fresh token (RFC 7635 section 9)?
    pub fn may_become(&self, other: &Self) -> bool {
        let by_token = |i: &Self| matches!(i.key, Key::Token(_));
        by_token(self) && by_token(other) && self.username == other.username
    }

    /// How long it may still act, if that bounds what it makes: a token's allocation ends with the token.
    pub fn bound(&self, now: Now) -> Option<Duration> {
        let Key::Token(_) = self.key else { return None };
        self.expires.map(|end| Duration::from_secs(end.saturating_sub(now.unix)))
    }
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
    /// REALM is that of another server.
    #[error("signed for another realm")]
    WrongRealm,
    /// Neither a static user nor a name with a time stamp.
    #[error("unknown user, and the name carries no time stamp")]
    UnknownUser,
    /// USERNAME names no key that opens tokens.
    #[error("unknown key of tokens (auth.oauth.keys)")]
    UnknownTokenKey,
    /// Sealed with another key or for another server, or no token.
    #[error("the access token can't be opened (another key, or another server name)")]
    BadToken,
    /// The token is right, and its sender has not got its key.
    #[error("not signed with the key of its access token")]
    NotTheTokensKey,
    /// Its member has left the room that it was issued for, or the operator took it back.
    #[error("revoked: its member has left the room, or the operator took it back")]
    Revoked,
    /// A static user with another password.
    #[error("wrong password")]
    WrongPassword,
    /// The name is not UTF-8 or longer than 763 bytes.
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
    /// 400: PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS do not repeat the offer that came with the nonce.
    #[error("PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS do not fit the offer")]
    WrongAlgorithms,
    /// 401: signed by somebody who may not act.
    #[error("{cause}")]
    Unauthorized {
        /// USERNAME as sent, as far as it is text; its first 763 bytes.
        username: String,
        /// Why.
        cause: Cause,
    },
    /// 438: all is well but the nonce.
    #[error("stale nonce")]
    StaleNonce,
}

/// What a 401 or 438 asks the client to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// REALM.
    pub realm: &'a str,
    /// NONCE.
    pub nonce: Nonce,
    /// The value of PASSWORD-ALGORITHMS; `None`: the attribute is left out.
    pub algorithms: Option<&'static [u8]>,
    /// THIRD-PARTY-AUTHORIZATION, in a 401; `None`: tokens are not taken.
    pub server_name: Option<&'a str>,
}

/// The longest USERNAME that must be read (RFC 8489 section 14.3); what is longer never gets into a log either.
//= 8489-14.3-1
const MAX_USERNAME: usize = 763;

/// PASSWORD-ALGORITHMS as offered: SHA-256 is preferred to MD5.
//= 8489-18.5.1.1-1
const OFFER: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];

/// Knows the secrets and users; issues and checks credentials and nonces. Immutable: a reload makes a new one.
#[derive(Debug)]
pub struct Authenticator {
    settings: Settings,
    /// USERHASH of each of `settings.users`: whoever sends one must not make the server hash all names.
    userhashes: Vec<[u8; 32]>,
    nonces: NonceKey,
    features: Features,
}

impl Authenticator {
    /// `nonce_key` must be random, and the same for all shards of a server.
    ///
    /// Realm, names and passwords are put into the form that clients send ([`opaque_string`]); one that has no such
    /// form stays as it is, and fits nobody. Names from the wire have that form already: they are taken as they are.
    pub fn new(mut settings: Settings, nonce_key: [u8; 32]) -> Self {
        settings.prepare();
        // A time-limited name is not in any list that a USERHASH could be looked up in.
        let features = Features {
            algorithms: true,
            //= 8489-9.2.4-5
            anonymity: settings.secrets.is_empty() && !settings.users.is_empty(),
        };
        let hash = |user: &StaticUser| userhash(user.name.as_bytes(), &settings.realm);
        Self {
            userhashes: settings.users.iter().map(hash).collect(),
            nonces: NonceKey::new(nonce_key, settings.nonce_lifetime),
            settings,
            features,
        }
    }

    /// Are access tokens taken?
    pub fn takes_tokens(&self) -> bool {
        self.settings.oauth.is_some()
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

    /// A fresh challenge for a client. With `offer` it names the algorithms this server knows; without, it is
    /// as short as it can be, that of an RFC 5389 server.
    //= 8489-9.2.4-4
    pub fn challenge(&self, client: SocketAddr, now: Now, offer: bool) -> Challenge<'_> {
        Challenge {
            realm: &self.settings.realm,
            nonce: self.nonces.issue(client, now.unix, offer.then_some(self.features)),
            algorithms: offer.then_some(OFFER),
            server_name: self.settings.oauth.as_ref().map(|o| &*o.server_name),
        }
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
        let same_name = match signed.name {
            Name::Plain(name) => name == owner.username.as_bytes(),
            Name::Hash(hash) => *hash == userhash(owner.username.as_bytes(), &self.settings.realm),
        };
        // A token that is shown again need not be opened again.
        let other_key = match owner.key.algorithm() {
            Some(algorithm) => algorithm != signed.algorithm || self.token(request).is_some(),
            None => self.token(request).is_some() && !verify(request, &owner.key),
        };
        if !same_name || other_key {
            return self.authenticate(request, client, now);
        }
        if let Some(Duration::ZERO) = owner.bound(now) {
            let ago = now.unix.saturating_sub(owner.expires.unwrap_or(now.unix));
            return Err(signed.unauthorized(Cause::Expired { ago }));
        }
        if !verify(request, &owner.key) {
            let cause = match owner {
                Identity { key: Key::Token(_), .. } => Cause::NotTheTokensKey,
                Identity { expires: Some(_), .. } => Cause::NoSuchSecret,
                Identity { expires: None, .. } => Cause::WrongPassword,
            };
            return Err(signed.unauthorized(cause));
        }
        if let (true, Some(expires)) = (self.settings.strict_expiry, owner.expires) {
            still_valid(expires, now).map_err(|cause| signed.unauthorized(cause))?;
        }
        self.check_nonce(&signed, client, now)?;
        Ok(owner.clone())
    }

    //= 8489-9.2.4-14
    fn check_nonce(&self, signed: &Signed<'_>, client: SocketAddr, now: Now) -> Result<(), Denied> {
        if self.nonces.verify(signed.nonce, client, now.unix) { Ok(()) } else { Err(Denied::StaleNonce) }
    }

    /// ACCESS-TOKEN, where tokens are taken, and who can open them.
    fn token<'a>(&self, request: &Message<'a>) -> Option<(&'a [u8], &OAuth)> {
        let oauth = self.settings.oauth.as_ref()?;
        request.find(AttributeType::ACCESS_TOKEN).map(|a| (a.value, oauth))
    }

    /// The checks of RFC 7635 section 7.
    //= 7635-7-1 7635-7-4
    fn identify_by_token(
        &self,
        (sealed, oauth): (&[u8], &OAuth),
        signed: &Signed<'_>,
        request: &Message<'_>,
        now: Now,
    ) -> Result<Identity, Denied> {
        let named = |key: &&TokenKey| matches!(signed.name, Name::Plain(name) if name == key.id.as_bytes());
        let key = oauth.keys.iter().find(named).ok_or_else(|| signed.unauthorized(Cause::UnknownTokenKey))?;
        let token = Token::open(sealed, key, &oauth.server_name)
            .ok_or_else(|| signed.unauthorized(Cause::BadToken))?;
        let expires = token.expires(now).map_err(|ago| signed.unauthorized(Cause::Expired { ago }))?;
        let user = format!("{}/{}", key.id, mark(&token.mac_key));
        let mac_key = token.keys().map(Key::Token).find(|key| verify(request, key));
        let mac_key = mac_key.ok_or_else(|| signed.unauthorized(Cause::NotTheTokensKey))?;
        Ok(Identity {
            username: key.id.as_str().into(),
            user: user.into(),
            key: mac_key,
            expires: Some(expires),
        })
    }

    //= 8489-9.2.4-10 8489-9.2.4-12
    fn identify(&self, signed: &Signed<'_>, request: &Message<'_>, now: Now) -> Result<Identity, Denied> {
        let realm = &self.settings.realm;
        if signed.realm != realm.as_bytes() {
            return Err(signed.unauthorized(Cause::WrongRealm));
        }
        if let Some(token) = self.token(request) {
            return self.identify_by_token(token, signed, request, now);
        }
        let derive = |name: &[u8], password: &str| Key::derive(signed.algorithm, name, realm, password);

        let users = &self.settings.users;
        let user = match signed.name {
            Name::Plain(name) => users.iter().find(|user| user.name.as_bytes() == name),
            Name::Hash(hash) => {
                self.userhashes.iter().zip(users).find(|(known, _)| *known == hash).map(|(_, user)| user)
            }
        };
        if let Some(user) = user {
            let key = derive(user.name.as_bytes(), &user.password);
            if !verify(request, &key) {
                return Err(signed.unauthorized(Cause::WrongPassword));
            }
            let name: Arc<str> = user.name.as_str().into();
            return Ok(Identity { username: name.clone(), user: name, key, expires: None });
        }

        let Name::Plain(raw) = signed.name else { return Err(signed.unauthorized(Cause::UnknownUser)) };
        let name = std::str::from_utf8(raw)
            .ok()
            .filter(|n| n.len() <= MAX_USERNAME)
            .ok_or_else(|| signed.unauthorized(Cause::MalformedUsername))?;
        let timed = TimedUsername::parse(name).ok_or_else(|| signed.unauthorized(Cause::UnknownUser))?;
        // Expiry first: it needs no secret, and an expired name is told apart from a wrong secret.
        still_valid(timed.expires, now).map_err(|cause| signed.unauthorized(cause))?;
        self.settings
            .secrets
            .iter()
            .map(|secret| derive(raw, &password(secret, raw)))
            .find(|key| verify(request, key))
            .map(|key| Identity {
                username: name.into(),
                user: if timed.user.is_empty() { name } else { timed.user }.into(),
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
/// TURN does not allow it to be cut short, so it counts in full only (section 14.6).
fn verify(request: &Message<'_>, key: &Key) -> bool {
    match request.find(AttributeType::MESSAGE_INTEGRITY_SHA256) {
        //= 8489-14.6-1
        Some(a) => a.value.len() == INTEGRITY_SHA256_LEN && request.verify_integrity_sha256(key.as_bytes()),
        None => request.verify_integrity(key.as_bytes()),
    }
}

/// The attributes of a signed request.
struct Signed<'a> {
    name: Name<'a>,
    realm: &'a [u8],
    nonce: &'a [u8],
    algorithm: Algorithm,
}

/// USERNAME, or USERHASH in its place.
#[derive(Clone, Copy)]
enum Name<'a> {
    Plain(&'a [u8]),
    Hash(&'a [u8; 32]),
}

impl<'a> Signed<'a> {
    fn read(request: &Message<'a>) -> Result<Self, Denied> {
        use AttributeType as T;
        let value = |kind| request.find(kind).map(|a| a.value);
        if value(T::MESSAGE_INTEGRITY).or(value(T::MESSAGE_INTEGRITY_SHA256)).is_none() {
            //= 8489-9.2.4-1
            return Err(Denied::Challenge);
        }
        let hash = || value(T::USERHASH)?.try_into().ok().map(Name::Hash);
        let name = value(T::USERNAME).map(Name::Plain).or_else(hash);
        let (Some(name), Some(realm), Some(nonce)) = (name, value(T::REALM), value(T::NONCE)) else {
            //= 8489-9.2.4-7
            return Err(Denied::Incomplete);
        };
        let algorithm = algorithm(request, nonce).ok_or(Denied::WrongAlgorithms)?;
        Ok(Self { name, realm, nonce, algorithm })
    }

    fn unauthorized(&self, cause: Cause) -> Denied {
        let username = match self.name {
            Name::Plain(name) => String::from_utf8_lossy(&name[..name.len().min(MAX_USERNAME)]).into_owned(),
            Name::Hash(_) => "(hashed)".into(),
        };
        Denied::Unauthorized { username, cause }
    }
}

/// The algorithm a request chose. `None` if it does not repeat the offer that came with its nonce: somebody on
/// the path may have changed either (RFC 8489 section 9.2.1).
//= 8489-9.2.4-9
fn algorithm(request: &Message<'_>, nonce: &[u8]) -> Option<Algorithm> {
    let chosen = request.find(AttributeType::PASSWORD_ALGORITHM);
    let offer = request.find(AttributeType::PASSWORD_ALGORITHMS);
    let (Some(chosen), Some(offer)) = (chosen, offer) else {
        return (chosen.is_none() && offer.is_none()).then_some(Algorithm::Md5);
    };
    let offered = nonce::features(nonce).is_some_and(|f| f.algorithms);
    let Ok(Attribute::PasswordAlgorithm(chosen)) = chosen.decode(request.transaction_id()) else {
        return None;
    };
    Algorithm::from_number(chosen.number)
        .filter(|_| offered && offer.value == OFFER && chosen.parameters.is_empty())
}

#[cfg(test)]
mod tests;
