//! Who may act: plain values from the configuration.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use super::opaque::opaque_string;
use super::token::TokenKey;

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

/// Tokens of authorization servers (RFC 7635).
#[derive(Clone, Debug)]
pub struct OAuth {
    /// This server's name: told to clients in THIRD-PARTY-AUTHORIZATION, and sealed into each token.
    pub server_name: String,
    /// The keys that open tokens.
    pub keys: Vec<TokenKey>,
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
    /// Take access tokens. `None`: ACCESS-TOKEN is an unknown attribute.
    pub oauth: Option<OAuth>,
    /// How long a nonce is good for.
    pub nonce_lifetime: Duration,
    /// Refuse requests on a running allocation once its credential has expired. Otherwise running calls go on.
    pub strict_expiry: bool,
}

impl Settings {
    pub(super) fn prepare(&mut self) {
        let prepared = |text: &str| opaque_string(text).map_or_else(|_| text.to_owned(), |t| t.into_owned());
        self.realm = prepared(&self.realm);
        for user in &mut self.users {
            user.name = prepared(&user.name);
            user.password = Zeroizing::new(prepared(&user.password));
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            realm: "ternd".into(),
            secrets: Vec::new(),
            users: Vec::new(),
            oauth: None,
            //= 8656-5-3
            nonce_lifetime: Duration::from_secs(3600),
            strict_expiry: false,
        }
    }
}
