//! Keys for tokens that somebody else publishes, as identity providers do: a JWKS (RFC 7517) behind a URL.
//!
//! ```text
//!                        ┌── refresh, or sooner where the server says so; after a failure ever later ──┐
//!   JwksSource ─► Jwks ──┴─► fetch.rs: GET ─► good? ─► Keys ─► tokens.rs                               │
//!                  ▲                            no: the old keys stay, and the log says why            │
//!   a token of a key that is not there: look again, at most once per cooldown ─────────────────────────┘
//! ```
//! Whoever shows such a token waits for the look, a little while: nobody is turned away because keys have changed.

mod fetch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::decode_header;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::tokens::Keys;
use super::{Counters, Live};

/// How long a token waits for a look, at most.
const WAIT: Duration = Duration::from_secs(2);

/// Where keys are published, and how often to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSource {
    /// With TLS. Without it only this machine is asked.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// The authorities that its certificate may come from, in PEM; `None`: those that this machine trusts.
    pub ca: Option<Vec<u8>>,
    /// The longest time between two looks.
    pub refresh: Duration,
    /// The shortest time between two looks.
    pub cooldown: Duration,
    /// How long a look may take.
    pub timeout: Duration,
    /// Bytes of the set.
    pub max_bytes: usize,
}

impl JwksSource {
    /// As in the Host header.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    pub(super) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// For the log: without the query, which may hold a secret.
    fn shown(&self) -> String {
        let mut url = self.url();
        url.truncate(url.find('?').unwrap_or(url.len()));
        url
    }
}

/// Looks again and again, until it is dropped.
pub(super) struct Jwks {
    source: JwksSource,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    keys: ArcSwap<Keys>,
    /// How many looks have ended.
    looks: watch::Sender<u64>,
    /// Somebody needs a key that is not there.
    wanted: Notify,
    /// The last look is less than a cooldown ago.
    resting: AtomicBool,
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Jwks {
    /// Begins with a first look; until it brings others, these keys are good. Must be called in a tokio runtime.
    pub(super) fn follow(source: JwksSource, keys: Arc<Keys>, counters: Arc<Counters>) -> Self {
        let state = Arc::new(State {
            keys: ArcSwap::new(keys),
            looks: watch::Sender::new(0),
            wanted: Notify::new(),
            resting: AtomicBool::new(false),
        });
        let task = tokio::spawn(state.clone().run(source.clone(), counters));
        Self { source, state, task }
    }

    pub(super) fn source(&self) -> &JwksSource {
        &self.source
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.state.keys.load_full()
    }

    /// Looks again, now or after the cooldown.
    pub(super) fn refresh(&self) {
        self.state.wanted.notify_one();
    }

    /// If there is no key for a token, waits a little while for a look that may bring it: not as long as a client has for
    /// its hello. There is one if it has the id that the token names, or has signed it.
    pub(super) async fn prepare(&self, token: &str, live: &Live, counters: &Counters) {
        let Ok(header) = decode_header(token) else { return };
        let mut looks = self.state.looks.subscribe();
        let fetched = self.keys();
        let named = live.tokens.keys().has_named(&header) || fetched.has_named(&header);
        if named || live.tokens.verify(token, &fetched).is_ok() {
            return;
        }
        self.refresh();
        if self.state.resting.load(Ordering::Relaxed) {
            return counters.jwks_postponed.add();
        }
        let _ = timeout(WAIT.min(live.rooms.hello_timeout / 2), looks.changed()).await;
    }
}

impl State {
    async fn run(self: Arc<Self>, source: JwksSource, counters: Arc<Counters>) {
        let url = source.shown();
        let mut failures: u32 = 0;
        loop {
            let look = timeout(source.timeout, fetch::look(&source)).await;
            let look = look.unwrap_or_else(|_| Err(format!("no answer within {:?}", source.timeout)));
            let found = look.and_then(|page| {
                let keys = Keys::of_jwks(&page.body).and_then(Keys::public);
                Ok((keys.map_err(|error| error.to_string())?, page.max_age))
            });
            let pause = match found {
                Ok((keys, max_age)) => {
                    counters.jwks_looks.add();
                    failures = 0;
                    let (before, count) = (self.keys.load().len(), keys.len());
                    self.keys.store(Arc::new(keys));
                    match count == before {
                        true => log::debug!("{count} keys for tokens from {url}"),
                        false => log::info!("{count} keys for tokens from {url}"),
                    }
                    max_age.unwrap_or(source.refresh)
                }
                Err(why) => {
                    counters.jwks_failures.add();
                    failures += 1;
                    let consequence = match self.keys.load().len() {
                        0 => "tokens of its keys are refused until then".to_owned(),
                        count => format!("the {count} of before stay in force"),
                    };
                    log::warn!("no keys for tokens from {url}: {why}; {consequence}");
                    source.cooldown.saturating_mul(1 << failures.min(16))
                }
            };
            self.resting.store(true, Ordering::Relaxed);
            self.looks.send_modify(|looks| *looks += 1);
            sleep(source.cooldown).await;
            self.resting.store(false, Ordering::Relaxed);
            let pause = pause.min(source.refresh).saturating_sub(source.cooldown);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}
