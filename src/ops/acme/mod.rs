//! Certificates that the daemon gets by itself, from an ACME server (RFC 8555).
//!
//! ```text
//! start: store.rs ─► the best of what was kept is shown (shown.rs), else a self-signed one
//!          │
//!          ▼              schedule.rs                    order.rs ◄─► client.rs ◄─► ACME server
//!     wait until ◄─ renewal, or pause after a failure ◄─┬─ failed: the old one stays, a warning
//!        due ──────────────────► order ─────────────────┴─ done: kept (store.rs), shown from the next handshake on
//! ```
//! A reload begins anew with its plan, and so tries at once what had failed.

mod certificate;
mod client;
mod order;
mod schedule;
mod shown;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{error, info, warn};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{StartError, state};
use crate::config;
use crate::http::Challenges;
use crate::net::clock::Clock;
use crate::net::tls;
use certificate::Certificate;
use schedule::{Jitter, span};
use shown::Shown;
use store::Store;

/// For a whole order.
const PATIENCE: Duration = Duration::from_secs(600);
/// The longest sleep: the wall clock decides, and it may be set, or the machine be suspended.
const NAP: Duration = Duration::from_secs(600);

/// What to have a certificate for, where it is kept, and where it is shown.
#[derive(Clone)]
pub(super) struct Plan {
    settings: config::Acme,
    store: Arc<Store>,
    shown: Arc<Shown>,
    challenges: Challenges,
}

impl Plan {
    /// `None`: it is not wanted. `before`: the plan of the running daemon, whose listeners go on; else they show a
    /// certificate for `names` until there is one of the CA's.
    pub(super) fn new(
        settings: &config::Acme,
        before: Option<&Self>,
        challenges: &Challenges,
        names: Vec<String>,
    ) -> Result<Option<Self>, StartError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let root = settings.state_dir.clone().or_else(|| Some(state::directory()?.join("acme")));
        let root = root.ok_or(StartError::NoStateDirectory)?;
        let unusable = |error| StartError::Acme { path: root.clone(), error };
        let store = Arc::new(Store::open(&root, &settings.directory).map_err(unusable)?);
        // It knows what could not be written.
        let known = before.map(|before| before.store.clone()).filter(|known| known.is_same(&store));
        let shown = match before {
            Some(before) => before.shown.clone(),
            None => Arc::new(Shown::self_signed(names)?),
        };
        let (settings, challenges) = (settings.clone(), challenges.clone());
        Ok(Some(Self { settings, store: known.unwrap_or(store), shown, challenges }))
    }

    /// The configuration of listeners that show its certificate.
    pub(super) fn tls(&self) -> Result<Arc<rustls::ServerConfig>, StartError> {
        Ok(self.shown.listeners.configuration().map_err(tls::TlsError::from)?)
    }

    /// The file of the certificate.
    pub(super) fn path(&self) -> PathBuf {
        self.store.certificate_path()
    }

    /// Shows the best certificate there is: before its listeners do, so that the first handshake gets it.
    pub(super) fn begin(&self, now: u64) {
        self.take_up(now);
    }

    /// Shows the best certificate there is, and returns the one of this CA, if it is still good. Another CA's stays, or
    /// the newest one that is kept comes, until this CA has given one for the names.
    fn take_up(&self, now: u64) -> Option<Certificate> {
        self.tell_unwritten(self.store.write_again());
        let own = self.store.certificate().unwrap_or_else(|why| {
            warn!("the certificate that is kept can't be used: {why}; a new one is ordered");
            None
        });
        let lives = |certificate: &Certificate| certificate.validity.not_after > now;
        let fits =
            |certificate: &Certificate| lives(certificate) && certificate.covers(&self.settings.domains);
        if let Some(own) = own.as_ref().filter(|own| lives(own)) {
            self.shown.exchange(own);
            return Some(own.clone());
        }
        let current = self.shown.current();
        if current.as_ref().is_some_and(fits) {
            return None;
        }
        let others = self.store.of_others().filter(|(_, other)| fits(other));
        if let Some((path, other)) = others.max_by_key(|(_, other)| other.validity.not_after) {
            info!(
                "{} is shown until the ACME server of acme.directory has given a certificate",
                path.display()
            );
            self.shown.exchange(&other);
        } else if let (None, Some(expired)) = (current, own) {
            self.shown.exchange(&expired);
        }
        None
    }

    fn tell_unwritten(&self, written: io::Result<()>) {
        if let Err(why) = written {
            error!(
                "{}: {why}; the new certificate is shown, and lost at the next start: {}, and reload",
                self.path().display(),
                way_out(&why)
            );
        }
    }

    /// A new certificate, kept.
    async fn order(&self, clock: Clock) -> Result<Certificate, String> {
        let order = timeout(PATIENCE, order::order(self));
        let new = order.await.unwrap_or_else(|_| Err("the ACME server takes too long".into()))?;
        if new.validity.not_after <= clock.now().unix {
            return Err("the CA's certificate has ended already; is the clock of this machine right?".into());
        }
        self.shown.exchange(&new);
        self.tell_unwritten(self.store.keep_certificate(&new));
        Ok(new)
    }
}

/// How things stand. Times are Unix time.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Standing {
    /// The names of the certificate that is shown; empty: it is self-signed.
    names: Vec<String>,
    pub expires: Option<u64>,
    /// When it is renewed, or the next attempt to.
    next_attempt: Option<u64>,
    /// Orders that succeeded, since the start.
    pub orders: u64,
    pub failed_orders: u64,
    /// The last order, if it failed.
    pub failure: Option<Failure>,
}

impl Standing {
    fn look_forward(&mut self, shown: Option<Certificate>, next: u64) {
        self.expires = shown.as_ref().map(|shown| shown.validity.not_after);
        self.names = shown.map(|shown| shown.names).unwrap_or_default();
        self.next_attempt = Some(next);
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    at: u64,
    pub why: String,
}

/// Keeps the certificate of the plan of the day good.
pub(super) struct Keeper {
    clock: Clock,
    plan: watch::Sender<Option<Plan>>,
    standing: Mutex<Standing>,
}

impl Keeper {
    pub(super) fn new(clock: Clock, plan: Option<Plan>) -> Self {
        Self { clock, plan: watch::Sender::new(plan), standing: Mutex::default() }
    }

    /// Goes on with this plan, at once.
    pub(super) fn adopt(&self, plan: Option<Plan>) {
        self.plan.send_replace(plan);
    }

    /// How things stand; `None`: nothing is to be kept.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.plan.borrow().as_ref()?;
        Some(self.change(|standing| standing.clone()))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        change(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Works for ever.
    pub(super) async fn run(&self) {
        let mut plans = self.plan.subscribe();
        loop {
            let plan = plans.borrow_and_update().clone();
            let work = async {
                match &plan {
                    Some(plan) => self.keep(plan).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = work => {}
                // The sender is part of self.
                _ = plans.changed() => {}
            }
        }
    }

    /// Orders and renews, for ever.
    async fn keep(&self, plan: &Plan) {
        let mut held = plan.take_up(self.clock.now().unix);
        let (mut failures, mut pause) = (0, Duration::ZERO);
        let mut jitter = jitter();
        self.change(|standing| standing.failure = None);
        loop {
            let now = self.clock.now().unix;
            let fits = held.as_ref().filter(|held| held.covers(&plan.settings.domains));
            let due = fits.map_or(now, |held| schedule::renewal(held.validity, jitter));
            let next = due.max(now + pause.as_secs());
            self.change(|standing| standing.look_forward(plan.shown.current(), next));
            self.sleep_until(next).await;
            match plan.order(self.clock).await {
                Ok(new) => {
                    self.tell_success(&new, plan);
                    pause = schedule::rest(new.validity, self.clock.now().unix);
                    (failures, jitter) = (0, self::jitter());
                    held = Some(new);
                }
                Err(why) => {
                    failures += 1;
                    pause = schedule::pause(failures, self::jitter());
                    self.tell_failure(why, plan.shown.current(), pause);
                }
            }
        }
    }

    async fn sleep_until(&self, unix: u64) {
        loop {
            let left = unix.saturating_sub(self.clock.now().unix);
            if left == 0 {
                return;
            }
            sleep(Duration::from_secs(left).min(NAP)).await;
        }
    }

    fn tell_success(&self, new: &Certificate, plan: &Plan) {
        let left = new.validity.not_after.saturating_sub(self.clock.now().unix);
        info!(
            "a new certificate for {}, good for {}: new connections get it; it is kept in {}",
            new.names.join(", "),
            span(left),
            plan.path().display()
        );
        self.change(|standing| {
            standing.orders += 1;
            standing.failure = None;
        });
    }

    fn tell_failure(&self, why: String, shown: Option<Certificate>, pause: Duration) {
        let at = self.clock.now().unix;
        let stays = match shown.map(|shown| shown.validity.not_after.saturating_sub(at)) {
            None => "the self-signed one stays".into(),
            Some(0) => "the old one stays, and has EXPIRED".into(),
            Some(left) => format!("the old one stays, good for {}", span(left)),
        };
        warn!("no new certificate: {why}; {stays}; the next attempt is in {}", span(pause.as_secs()));
        self.change(|standing| {
            standing.failed_orders += 1;
            standing.failure = Some(Failure { at, why });
        });
    }
}

fn jitter() -> Jitter {
    let mut bytes = [0; 2];
    // Without randomness nothing is spread; that is no reason to have no certificate.
    let _ = getrandom::fill(&mut bytes);
    Jitter(u16::from_ne_bytes(bytes))
}

/// Why what is to be kept can't be.
pub(super) fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "let the user that runs ternd read and write there, or set acme.state-dir to where it can"
        }
        _ => "set acme.state-dir to another place",
    }
}
