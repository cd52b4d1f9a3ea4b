//! Who signs the requests, and what a refusal means.

use std::time::Duration;

use crate::auth::{Authenticator, Secret, Settings, TimedUsername};
use crate::cli::Hidden;
use crate::time::Now;

use super::report::{Advice, printable};

/// How long credentials made from a secret are good for.
const TTL: Duration = Duration::from_secs(600);
/// No time stamp is from before September 2001; a smaller number is a name.
const FIRST_TIMESTAMP: u64 = 1_000_000_000;
/// The clock of a server that takes these and not those of [`TTL`] is ahead.
const FAR: Duration = Duration::from_secs(366 * 86_400);

/// A user name and a password.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Hidden,
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    /// Made here.
    Secret { secret: Secret, user: String },
    /// From the command line.
    Given,
    /// From --ice-url.
    Endpoint,
}

impl Login {
    /// A credential as the server's REST API would make it; `user` may be empty.
    pub(super) fn from_secret(secret: Secret, user: &str, now: Now) -> Option<Self> {
        Self::made(secret, user, TTL, now)
    }

    fn made(secret: Secret, user: &str, ttl: Duration, now: Now) -> Option<Self> {
        let settings = Settings { secrets: vec![secret.clone()], ..Settings::default() };
        // No nonce is made here: their key does not matter.
        let credential = Authenticator::new(settings, [0; 32]).issue(user, ttl, now)?;
        let origin = Origin::Secret { secret, user: user.to_owned() };
        Some(Self { username: credential.username, password: Hidden(credential.password), origin })
    }

    pub(super) const fn given(username: String, password: Hidden) -> Self {
        Self { username, password, origin: Origin::Given }
    }

    pub(super) const fn from_endpoint(username: String, password: String) -> Self {
        Self { username, password: Hidden(password), origin: Origin::Endpoint }
    }

    /// The same, good for so long that only a wrong secret can be the cause of another refusal.
    pub(super) fn far_ahead(&self, now: Now) -> Option<Self> {
        match &self.origin {
            Origin::Secret { secret, user } => Self::made(secret.clone(), user, FAR, now),
            Origin::Given | Origin::Endpoint => None,
        }
    }

    /// When it ends by what its name says, in seconds since the Unix epoch.
    pub(super) fn expires(&self) -> Option<u64> {
        TimedUsername::parse(&self.username).map(|timed| timed.expires).filter(|at| *at >= FIRST_TIMESTAMP)
    }

    /// Why a signed request got a 401.
    pub(super) fn refused(&self, realm: &str, now: Now) -> Advice {
        let realm = printable(realm);
        if let Some(expires) = self.expires().filter(|expires| *expires < now.unix) {
            let ago = time_in_words(now.unix - expires);
            return Advice::new(
                format!("the credential expired {ago} ago by this machine's clock"),
                match self.origin {
                    Origin::Endpoint => {
                        "let the endpoint issue fresh ones (is its answer cached?), and compare the clocks: \
                         timedatectl on both machines"
                    }
                    _ => "make a new one; if it is new, compare the clocks: timedatectl on both machines",
                },
            );
        }
        match (&self.origin, self.expires().is_some()) {
            (Origin::Secret { .. }, _) => Advice::new(
                "the secret is not the one the server has, or the server knows no shared secret",
                "compare it with auth.secret (ternd) or static-auth-secret next to use-auth-secret (coturn); mind \
                 spaces and line ends, and restart the server after a change",
            ),
            (Origin::Endpoint, _) => Advice::new(
                "the endpoint signs with another secret than this server has, or the server's clock is ahead",
                "give both the same secret; compare the clocks: timedatectl on both machines",
            ),
            (Origin::Given, true) => Advice::new(
                "the password was made with another secret than this server has, or the server's clock is ahead",
                "make it as base64(HMAC-SHA1(secret, user name)), the whole user name with its time stamp; or let \
                 --secret do it",
            ),
            (Origin::Given, false) => Advice::new(
                format!("the server does not know this user in realm \"{realm}\", or the password is wrong"),
                "compare with [auth.users] (ternd) or user=name:password and realm (coturn); for a shared secret use \
                 --secret, without --password",
            ),
        }
    }
}

/// As "90 s", "3 min", "5 h", "12 days".
pub(super) fn time_in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    const T: u64 = 1_700_000_000;

    fn at(unix: u64) -> Now {
        Now { instant: Instant::default(), unix }
    }

    #[test]
    fn a_refusal_is_explained_by_what_is_known_of_the_credential() {
        let secret = Secret::new("test", "very secret indeed");
        let made = Login::from_secret(secret, "ann", at(T)).unwrap();
        assert_eq!(made.username, "1700000600:ann");
        assert!(made.refused("r", at(T)).cause.contains("the secret is not the one"));
        assert!(made.refused("r", at(T + 601)).cause.contains("expired 1 s ago"));
        assert_eq!(made.far_ahead(at(T)).unwrap().expires(), Some(T + 366 * 86_400));

        let given = |name: &str| Login::given(name.into(), Hidden("pw".into()));
        assert!(given("1700005000:bob").refused("r", at(T + 8_600)).cause.contains("expired 60 min ago"));
        assert!(given("1700005000:bob").refused("r", at(T)).cause.contains("clock is ahead"));
        let unknown = given("1042").refused("r\x1b[0m", at(T));
        assert!(unknown.cause.contains("realm \"r\\u{1b}[0m\""), "{}", unknown.cause);
        assert!(given("bob").far_ahead(at(T)).is_none());

        let fetched = Login::from_endpoint("1700005000".into(), "pw".into());
        assert!(fetched.refused("r", at(T)).cause.contains("the endpoint signs with another secret"));
        for login in [made, fetched] {
            let shown = format!("{login:?}");
            assert!(!shown.contains("very secret") && !shown.contains("pw"), "{shown}");
        }
    }

    #[test]
    fn times_in_words() {
        assert_eq!(
            [1, 119, 120, 7_199, 7_200, 172_800].map(time_in_words).join(", "),
            "1 s, 119 s, 2 min, 119 min, 2 h, 2 days"
        );
    }
}
