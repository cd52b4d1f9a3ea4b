//! What a client needs to reach the relay: `iceServers`, with a credential of its own
//! (draft-uberti-behave-turn-rest-00, RFC 7064, RFC 7065).
//!
//! ```text
//! query, form, JSON, headers  ─►  Parameters: user, ttl, transport, format
//!
//! host, user, ttl, transport, time  ─►  Settings::issue  ─►  Issued  ─►  one of the formats
//!                                           │
//!                                    auth: the credential
//! ```
//!
//! The default body is one superset that browsers, Janus, Nextcloud, Matrix, apprtc and Cloudflare callers each find
//! their fields in:
//!
//! ```json
//! {"iceServers":[{"urls":["stun:h:3478"]},{"urls":["turn:h:3478?transport=udp"],"username":"...","credential":"..."}],
//!  "iceTransportPolicy":"all","username":"1795347722:k3f9","password":"...","ttl":600,
//!  "uris":["turn:h:3478?transport=udp"],"lifetimeDuration":"600s","expires_at":"2026-11-22T12:42:02Z"}
//! ```

mod formats;
mod host;
mod parameters;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::auth::{self, Authenticator, Credential};
use crate::time::{DateTime, Now};

pub use formats::Format;
pub use host::{Host, HostError};
pub use parameters::{Asked, Parameters, shown_key};

/// Who may ask for credentials, how long they are good for, and which URLs they come with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a credential is good for if the caller names no time.
    pub ttl: Duration,
    /// The shortest time a caller can ask for.
    pub min_ttl: Duration,
    /// The longest.
    pub max_ttl: Duration,
    /// The name in URLs. `None`: the `Host` the caller asked for.
    pub host: Option<String>,
    /// Ports of `stun:` and of `turn:?transport=udp`.
    pub udp: Vec<u16>,
    /// Ports of `turn:?transport=tcp`.
    pub tcp: Vec<u16>,
    /// Ports of `turns:?transport=tcp`.
    pub tls: Vec<u16>,
    /// Keys that callers may show. Their ids, not their bytes, get into logs.
    pub api_keys: Vec<auth::Secret>,
    /// Pages of the server's own origin get credentials without a key, at a limited rate.
    pub demo: bool,
    /// Credentials per minute that pages without a key, and those with a token, get for one address (IPv6: its /64).
    /// 0: no limit.
    pub credentials_per_minute: u32,
    /// Origins of other pages that may call, or `*`.
    pub origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            min_ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(86_400),
            host: None,
            udp: vec![3478],
            tcp: vec![3478],
            tls: vec![8443],
            api_keys: Vec::new(),
            demo: true,
            credentials_per_minute: 60,
            origins: Vec::new(),
        }
    }
}

/// Bytes of the longest user a caller can name. STUN's USERNAME has 508 (RFC 8489 section 14.3).
pub const MAX_USER: usize = 256;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The name in URLs, if the settings have none.
    pub host: &'a Host,
    /// Whom the credential is for; possibly empty.
    pub user: &'a str,
    /// How long it shall be good for; clamped to what the settings allow.
    pub ttl: Option<Duration>,
    /// Only URLs of this transport.
    pub transport: Option<Transport>,
}

/// How a client is to reach the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `stun:` and `turn:?transport=udp`.
    Udp,
    /// `turn:?transport=tcp`.
    Tcp,
    /// `turns:?transport=tcp`.
    Tls,
}

impl FromStr for Transport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            "tls" => Ok(Self::Tls),
            other => Err(Error::Transport(excerpt(other))),
        }
    }
}

/// Why nothing is issued. Displays as a sentence for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No secret is configured, so no credential can be made.
    #[error("This server has no secret to issue credentials with; its operator can set auth.secret")]
    NoSecret,
    /// Too long, or with control characters.
    #[error("'username' has at most {MAX_USER} bytes and no control characters")]
    User,
    /// Another transport than the three.
    #[error("Unknown transport '{0}'; there are udp, tcp, tls")]
    Transport(String),
    /// Another format than the six.
    #[error("Unknown format '{0}'; there are object (the default), array, twilio, xirsys, link, curl")]
    Format(String),
    /// Another service than TURN.
    #[error("The only 'service' there is is turn")]
    Service,
    /// No number of seconds.
    #[error("'ttl' is a whole number of seconds")]
    Ttl,
    /// A body of which nobody says what it is.
    #[error("A body is application/json or application/x-www-form-urlencoded, and its Content-Type says so")]
    ContentType,
    /// JSON of another kind, or none.
    #[error("The body is not a JSON object")]
    NoObject,
    /// A parameter in JSON that is a list, an object or a boolean.
    #[error("'{0}' is text or a number")]
    Value(String),
}

/// What a client gets.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Issued {
    #[serde(rename = "iceServers")]
    ice_servers: Vec<IceServer>,
    #[serde(rename = "iceTransportPolicy")]
    policy: &'static str,
    username: String,
    password: String,
    ttl: u64,
    uris: Vec<String>,
    #[serde(rename = "lifetimeDuration")]
    lifetime: String,
    expires_at: String,
}

/// One RTCIceServer.
#[derive(Clone, PartialEq, Eq, Serialize)]
struct IceServer {
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({:?} for {} s, {:?}, redacted)", self.username, self.ttl, self.uris)
    }
}

impl Settings {
    /// Makes a credential, and the URLs it is good for.
    ///
    /// # Errors
    /// [`Error::User`] or [`Error::NoSecret`].
    pub fn issue(
        &self,
        request: Request<'_>,
        authenticator: &Authenticator,
        now: Now,
    ) -> Result<Issued, Error> {
        let Request { host, user, ttl, transport } = request;
        if user.len() > MAX_USER || user.chars().any(char::is_control) {
            return Err(Error::User);
        }
        let ttl = self.ttl_for(ttl);
        let credential = authenticator.issue(user, ttl, now).ok_or(Error::NoSecret)?;
        Ok(self.describe(host, transport, credential, ttl))
    }

    /// The URLs that a credential is good for, and all that callers want to know about it.
    pub fn describe(
        &self,
        host: &Host,
        transport: Option<Transport>,
        credential: Credential,
        ttl: Duration,
    ) -> Issued {
        let (stun, turn) = self.urls(host, transport);

        let mut ice_servers = Vec::with_capacity(2);
        // A browser refuses a server without URLs, and with it the whole configuration.
        if !stun.is_empty() {
            ice_servers.push(IceServer { urls: stun, username: None, credential: None });
        }
        if !turn.is_empty() {
            ice_servers.push(IceServer {
                urls: turn.clone(),
                username: Some(credential.username.clone()),
                credential: Some(credential.password.clone()),
            });
        }
        Issued {
            ice_servers,
            policy: "all",
            username: credential.username,
            password: credential.password,
            ttl: ttl.as_secs(),
            uris: turn,
            lifetime: format!("{}s", ttl.as_secs()),
            expires_at: format!("{}Z", DateTime(credential.expires)),
        }
    }

    fn ttl_for(&self, asked: Option<Duration>) -> Duration {
        asked.map_or(self.ttl, |ttl| ttl.min(self.max_ttl).max(self.min_ttl))
    }

    /// `stun:` and `turn(s):` URLs, the quickest way first.
    fn urls(&self, asked_host: &Host, only: Option<Transport>) -> (Vec<String>, Vec<String>) {
        let configured = self.host.as_deref().and_then(|host| host.parse().ok());
        let host = configured.as_ref().unwrap_or(asked_host);
        let ports = |ports, transport| -> &[u16] {
            if only.is_none_or(|only| only == transport) { ports } else { &[] }
        };
        let udp = ports(&self.udp, Transport::Udp);
        let stun = udp.iter().map(|port| format!("stun:{host}:{port}")).collect();
        let turn = udp.iter().map(|port| format!("turn:{host}:{port}?transport=udp"));
        let tcp = ports(&self.tcp, Transport::Tcp).iter();
        let tls = ports(&self.tls, Transport::Tls).iter();
        let turn = turn
            .chain(tcp.map(|port| format!("turn:{host}:{port}?transport=tcp")))
            .chain(tls.map(|port| format!("turns:{host}:{port}?transport=tcp")));
        (stun, turn.collect())
    }
}

/// The head of what a caller sent, fit to be quoted back.
fn excerpt(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(32).collect()
}
