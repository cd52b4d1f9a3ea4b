//! Certificates that the daemon gets by itself, from an ACME server (RFC 8555).
//!
//! ```text
//! start: store.rs ─► what was kept is shown, else a self-signed one
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
mod store;

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
use crate::net::tls::{self, Certificates};
use certificate::Certificate;
use schedule::{Jitter, span};
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
    certificates: Arc<Certificates>,
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
        let (settings, challenges) = (settings.clone(), challenges.clone());
        if let Some(before) = before {
            let certificates = before.certificates.clone();
            return Ok(Some(Self { settings, store, certificates, challenges }));
        }
        let certificates = Certificates::new(tls::self_signed_pair(names)?);
        let plan = Self { settings, store, certificates, challenges };
        plan.show_kept();
        Ok(Some(plan))
    }

    /// The configuration of listeners that show its certificate.
    pub(super) fn tls(&self) -> Result<Arc<rustls::ServerConfig>, StartError> {
        Ok(self.certificates.configuration().map_err(tls::TlsError::from)?)
    }

    /// The file of the certificate.
    pub(super) fn path(&self) -> PathBuf {
        self.store.certificate_path()
    }

    /// Shows the certificate that is kept, if there is one.
    fn show_kept(&self) -> Option<Certificate> {
        let kept = self.store.certificate().unwrap_or_else(|why| {
            warn!("the certificate that is kept can't be used: {why}; a new one is ordered");
            None
        })?;
        self.certificates.exchange(kept.shown.clone());
        Some(kept)
    }

    /// A new certificate, kept.
    async fn order(&self, clock: Clock) -> Result<Certificate, String> {
        let order = timeout(PATIENCE, order::order(self));
        let new = order.await.unwrap_or_else(|_| Err("the ACME server takes too long".into()))?;
        if new.validity.not_after <= clock.now().unix {
            return Err("the CA's certificate has ended already; is the clock of this machine right?".into());
        }
        self.certificates.exchange(new.shown.clone());
        if let Err(why) = self.store.keep_certificate(&new) {
            error!(
                "{}: {why}; the new certificate is shown, and lost at the next start",
                self.path().display()
            );
        }
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
    fn look_forward(&mut self, held: Option<&Certificate>, next: u64) {
        self.names = held.map(|held| held.names.clone()).unwrap_or_default();
        self.expires = held.map(|held| held.validity.not_after);
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
        let mut held = plan.show_kept();
        let (mut failures, mut pause) = (0, Duration::ZERO);
        let mut jitter = jitter();
        self.change(|standing| standing.failure = None);
        loop {
            let now = self.clock.now().unix;
            let fits = held.as_ref().filter(|held| held.covers(&plan.settings.domains));
            let due = fits.map_or(now, |held| schedule::renewal(held.validity, jitter));
            let next = due.max(now + pause.as_secs());
            self.change(|standing| standing.look_forward(held.as_ref(), next));
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
                    self.tell_failure(why, held.as_ref(), pause);
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

    fn tell_failure(&self, why: String, held: Option<&Certificate>, pause: Duration) {
        let at = self.clock.now().unix;
        let stays = match held.map(|held| held.validity.not_after.saturating_sub(at)) {
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
